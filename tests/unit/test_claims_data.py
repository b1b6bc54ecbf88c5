"""Claim files: what is read, and that each mistake is named with its file, its claim and its cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.claims.data import Boundary, Source, Verdict, find, load
from harness.errors import ClaimError
from harness.laws.kernel import KernelVersion

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """
group = "accept-queue"

[[claim]]
id = "capacity"
statement = "the most that may wait is min(somaxconn, backlog)"
source = [
    { document = "000", heading = "如何增大 TCP 全连接队列呢？" },
    { document = "001", heading = "如何增加TCP全连接队列?" },
]
[[claim.expect]]
kernels = ">=5.4"
verdict = "refuted"
because = "one more than the limit waits"
commit = "64a146513f8f"
subject = "[NET]: Revert incorrect accept queue backlog changes."
release = "5.4"
[[claim.expect]]
kernels = "<5.4"
verdict = "holds"
because = "so it was"
"""
EXPECTATIONS = GOOD[GOOD.index("[[claim.expect]]") :]


def claims_file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "queue.toml"
    file.write_text(text)
    return file


def expect(kernels: str, verdict: str = "holds", commit: bool = True) -> str:
    row = f'[[claim.expect]]\nkernels = "{kernels}"\nverdict = "{verdict}"\nbecause = "so"\n'
    return row + ('commit = "64a146513f8f"\nsubject = "s"\nrelease = "5.4"\n' if commit else "")


def test_a_claim_is_read_whole(tmp_path: Path) -> None:
    claim = load(claims_file(tmp_path, GOOD))["accept-queue.capacity"]
    assert claim.statement == "the most that may wait is min(somaxconn, backlog)"
    assert claim.sources[1] == Source("001", "如何增加TCP全连接队列?")
    older, newer = claim.expectations
    assert (older.first, older.end, older.verdict) == ((0, 0, 0), (5, 4, 0), Verdict.HOLDS)
    assert (newer.first, newer.end) == ((5, 4, 0), None)
    assert newer.boundary == Boundary("64a146513f8f", "[NET]: Revert incorrect accept queue backlog changes.", "5.4")


def of_tool(tmp_path: Path, rows: str, kernels: str = ">=2.6") -> Boundary | None:
    """The boundary of a refuted claim with these rows in place of a kernel's commit."""
    text = GOOD.replace(EXPECTATIONS, expect(kernels, "refuted", commit=False) + rows)
    return load(claims_file(tmp_path, text))["accept-queue.capacity"].expectations[0].boundary


def test_what_a_tool_makes_so_names_the_tool(tmp_path: Path) -> None:
    with_commit = of_tool(
        tmp_path, 'tool = "iproute2"\nrelease = "4.8"\ncommit = "7a4559f67c8c"\nsubject = "ss: Add"\n'
    )
    assert with_commit == Boundary("7a4559f67c8c", "ss: Add", "4.8", "iproute2")
    assert str(with_commit) == "commit 7a4559f67c8c in iproute2 4.8"
    without = of_tool(tmp_path, 'tool = "sh"\nrelease = "POSIX.2"\n')
    assert str(without) == "sh POSIX.2"


@pytest.mark.parametrize(
    ("rows", "kernels", "complaint"),
    [
        ('tool = "sh"\n', ">=2.6", "release must be given"),
        ('tool = "ss"\nrelease = "4.8"\nsubject = "s"\n', ">=2.6", "commit must be given"),
        ('tool = "ss"\nrelease = "4.8"\ncommit = "7a4559f67c8c"\n', ">=2.6", "subject must be given"),
        ('tool = "ss"\nrelease = "4.8"\n', ">=4.8", "a commit of ss is no boundary of kernels"),
    ],
)
def test_a_tool_without_its_release(tmp_path: Path, rows: str, kernels: str, complaint: str) -> None:
    with pytest.raises(ClaimError, match=complaint):
        of_tool(tmp_path, rows, kernels)


@pytest.mark.parametrize(
    ("kernel", "verdict"),
    [("3.0", "holds"), ("5.3.18", "holds"), ("5.4-rc1", "refuted"), ("5.4", "refuted"), ("6.18.44-fc-v669", "refuted")],
)
def test_the_expectation_is_that_of_the_kernel(tmp_path: Path, kernel: str, verdict: str) -> None:
    claim = load(claims_file(tmp_path, GOOD))["accept-queue.capacity"]
    expected = claim.expected_on(KernelVersion.parse(kernel))
    assert expected is not None
    assert expected.verdict == verdict


def test_nothing_is_expected_before_the_first_range(tmp_path: Path) -> None:
    text = GOOD.replace(EXPECTATIONS, expect(">=2.6.21"))
    claim = load(claims_file(tmp_path, text))["accept-queue.capacity"]
    assert claim.expected_on(KernelVersion.parse("2.6.20")) is None


@pytest.mark.parametrize(
    "ranges",
    [
        (">=3.0",),
        (">=2.6.21",),
        ("<2.6.20", ">=2.6.21"),
        ("==3.*", ">=4.0"),
        ("<4.19", "==4.19.*", ">=4.20"),
        ("<5.10.250", ">=5.10.250,<5.11", ">=5.11,<6.1", ">=6.1"),
    ],
)
def test_ranges_that_cover_everything_once(tmp_path: Path, ranges: tuple[str, ...]) -> None:
    text = GOOD.replace(EXPECTATIONS, "".join(map(expect, ranges)))
    assert len(load(claims_file(tmp_path, text))["accept-queue.capacity"].expectations) == len(ranges)


@pytest.mark.parametrize(
    ("ranges", "complaint"),
    [
        ((">=4.0",), "nothing is expected from 3.0 up to 4.0"),
        (("<4.0",), "nothing is expected from 4.0 on"),
        (("<4.0", ">=4.1"), "nothing is expected from 4.0 up to 4.1"),
        (("<4.1", ">=4.0"), "expectations '<4.1' and '>=4.0' overlap"),
        ((">=3.0", ">=3.0"), "expectations '>=3.0' and '>=3.0' overlap"),
        ((">=3.0", ">=5.0,<5.1"), "overlap"),
        ((">=5.0,<4.0",), "the range is empty"),
        (("newer",), "not a range of versions"),
        (("<=4.0", ">4.0"), "write a range with >= and <"),
        ((">=7.0rc3",), "'7.0rc3' is not a release"),
    ],
)
def test_ranges_that_do_not(tmp_path: Path, ranges: tuple[str, ...], complaint: str) -> None:
    file = claims_file(tmp_path, GOOD.replace(EXPECTATIONS, "".join(map(expect, ranges))))
    with pytest.raises(ClaimError) as raised:
        load(file)
    assert str(raised.value).startswith(f"{file}: claim accept-queue.capacity:")
    assert complaint in str(raised.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('group = "accept-queue"', ""), "group must be given"),
        (('group = "accept-queue"', "group = 7"), "group must be given, as text"),
        (('id = "capacity"', 'id = "Ca pacity"'), "id 'Ca pacity' must be lower-case words joined by hyphens"),
        (("statement", "statment"), "does not know 'statment'; the nearest: statement"),
        (('statement = "the most that may wait is min(somaxconn, backlog)"', 'statement = " "'), "statement must be"),
        (('document = "000", ', ""), "source: document must be given"),
        (("source = [", "sourc = ["), "does not know 'sourc'; the nearest: source"),
        (('verdict = "holds"', 'verdict = "true"'), "verdict 'true' is none of holds, refuted, not-applicable"),
        (('because = "so it was"', ""), "expect '<5.4': because must be given"),
        (('verdict = "holds"', 'verdict = "refuted"'), "it is refuted, so it needs commit, subject and release"),
        (('commit = "64a146513f8f"', 'commit = "64a1"'), "commit '64a1' is not 12 to 40 hexadecimal digits"),
        (('commit = "64a146513f8f"', ""), "commit must be given"),
        (('release = "5.4"', 'release = "soon"'), "release: 'soon' is not a kernel version"),
        (("group", "group = = 1 #"), "not a TOML file"),
        ((EXPECTATIONS, ""), "needs at least one [[expect]] table"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    assert change[0] in GOOD
    file = claims_file(tmp_path, GOOD.replace(*change, 1))
    with pytest.raises(ClaimError) as raised:
        load(file)
    assert str(raised.value).startswith(f"{file}:")
    assert complaint in str(raised.value)


def test_a_range_that_begins_later_needs_its_commit(tmp_path: Path) -> None:
    text = GOOD.replace(EXPECTATIONS, expect("<4.12", commit=False) + expect(">=4.12", commit=False))
    with pytest.raises(ClaimError, match=r"the range begins after 3\.0, so it needs commit"):
        load(claims_file(tmp_path, text))


def test_a_directory_is_read_whole_and_a_name_stands_once(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(GOOD)
    (tmp_path / "b.toml").write_text(GOOD.replace("capacity", "other"))
    assert list(load(tmp_path)) == ["accept-queue.capacity", "accept-queue.other"]
    (tmp_path / "c.toml").write_text(GOOD)
    with pytest.raises(ClaimError, match=r"c\.toml: claim accept-queue\.capacity stands in .*a\.toml already"):
        load(tmp_path)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match="no claim file here"):
        load(tmp_path)
    with pytest.raises(ClaimError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ClaimError, match=r"bytes\.toml: not a TOML file"):
        load(tmp_path)


def test_an_unknown_name_brings_the_nearest(tmp_path: Path) -> None:
    claims = load(claims_file(tmp_path, GOOD))
    assert find("accept-queue.capacity", claims).id == "capacity"
    with pytest.raises(ClaimError, match=r"no claim is named 'accept-queue.capcity'; the nearest: accept-queue\.cap"):
        find("accept-queue.capcity", claims)
