"""Claim files: what is read, and that each mistake is named with its file, its claim and its cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.claims.files import find, load
from harness.errors import ClaimError
from harness.evidence.types import Change, Claim, Source, Verdict
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
    assert (older.ranges, older.verdict) == ((((0, 0, 0), (5, 4, 0)),), Verdict.HOLDS)
    assert (newer.ranges, newer.kernels) == ((((5, 4, 0), None),), ">=5.4")
    assert newer.change == Change("64a146513f8f", "[NET]: Revert incorrect accept queue backlog changes.", "5.4")


def of_tool(tmp_path: Path, rows: str, kernels: str = ">=2.6") -> Change | None:
    """The change of a refuted claim with these rows in place of a kernel's commit."""
    text = GOOD.replace(EXPECTATIONS, expect(kernels, "refuted", commit=False) + rows)
    return load(claims_file(tmp_path, text))["accept-queue.capacity"].expectations[0].change


def test_what_a_tool_makes_so_names_the_tool(tmp_path: Path) -> None:
    with_commit = of_tool(
        tmp_path, 'tool = "iproute2"\nrelease = "4.8"\ncommit = "7a4559f67c8c"\nsubject = "ss: Add"\n'
    )
    assert with_commit == Change("7a4559f67c8c", "ss: Add", "4.8", "iproute2")
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
        ("<5.10.250 or >=5.11,<6.1", "5.10.250+ or >=6.1"),
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
        (('verdict = "holds"', 'verdict = "refuted"'), "it is refuted, so it needs commit, subject and release of"),
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


ONE_MORE = "syn-queue-holds-one-more"


def named(tmp_path: Path, *rows: str, verdict: str = "holds") -> Claim:
    """A claim whose expectations are for kernels between boundaries."""
    expectations = "".join(f'[[claim.expect]]\n{row}\nverdict = "{verdict}"\nbecause = "so"\n' for row in rows)
    return load(claims_file(tmp_path, GOOD.replace(EXPECTATIONS, expectations)))["accept-queue.capacity"]


def test_a_boundary_moves_the_verdict_in_every_series_that_it_went_to(tmp_path: Path) -> None:
    claim = named(tmp_path, f'before = "{ONE_MORE}"', f'since = "{ONE_MORE}"')
    older, newer = claim.expectations
    assert newer.kernels == "5.4.290+ or 5.10.234+ or 5.15.177+ or 6.1.125+ or 6.6.72+ or >=6.12.10"
    assert older.kernels.startswith("<5.4.290 or >=5.5,<5.10.234 or ")
    assert older.change is None
    assert newer.change is not None
    assert (newer.change.commit, newer.change.boundary) == ("3479c7549fb1", ONE_MORE)
    assert newer.change.release == "5.4.290, 5.10.234, 5.15.177, 6.1.125, 6.6.72, 6.12.10, 6.13"
    for kernel, expected in (("5.10.233", older), ("5.10.234", newer), ("6.12.9", older), ("6.12.10", newer)):
        assert claim.expected_on(KernelVersion.parse(kernel)) is expected


def test_between_two_boundaries(tmp_path: Path) -> None:
    hasty, mended = "user-timeout-ends-a-syn", "syn-patience-counts-whole-timeouts"
    claim = named(tmp_path, f'before = "{hasty}"', f'since = "{hasty}"\nbefore = "{mended}"', f'since = "{mended}"')
    assert [expected.kernels for expected in claim.expectations] == [
        "<4.19.77 or >=4.20,<5.2.19 or >=5.3,<5.3.4",
        ">=4.19.77,<4.19.209 or >=5.2.19,<5.2.20 or >=5.3.4,<5.3.5",
        "4.19.209+ or 5.2.20+ or >=5.3.5",
    ]


def test_without_a_boundary_it_is_so_on_every_kernel(tmp_path: Path) -> None:
    (expected,) = named(tmp_path, "").expectations
    assert (expected.kernels, expected.change) == ("all", None)
    (refuted,) = named(tmp_path, 'cause = "always"', verdict="refuted").expectations
    assert (refuted.kernels, str(refuted.change)) == ("all", "commit 1da177e4c3f4 in 2.6.12")


def test_the_cause_can_be_what_a_program_does(tmp_path: Path) -> None:
    wide = "diag-reads-wide-protocols"
    older, _ = named(
        tmp_path, f'before = "{wide}"\ncause = "ss-asks-for-mptcp"', f'since = "{wide}"', verdict="refuted"
    ).expectations
    assert (older.kernels, str(older.change)) == ("<5.9", "commit 9c3be2c0eee0 in iproute2 5.9")


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (
            ['since = "syn-queue-holds-one-mor"'],
            "expect since 'syn-queue-holds-one-mor': since: no boundary of harness/laws/boundaries.toml is named "
            "'syn-queue-holds-one-mor'; the nearest: syn-queue-holds-one-more",
        ),
        (['since = "zzz"'], "is named 'zzz'; see there what there is, or add it"),
        (["since = 7"], "since must be given, as text"),
        (['since = "ss-prints-a-header"'], "is a change of iproute2, no boundary of kernels: use `cause`"),
        (['before = "always"'], "nothing is expected from 3.0 on"),
        (['since = "tw-recycle-is-gone"\nbefore = "tw-recycle-is-gone"'], "no kernel is in this range"),
        (['since = "tw-recycle-is-gone"'], "nothing is expected from 3.0 up to 4.12"),
        (['since = "tw-recycle-is-gone"', ""], "expectations 'all' and '>=4.12' overlap"),
        (
            ['since = "tw-recycle-is-gone"\nkernels = ">=4.12"'],
            "has `since` and `kernels`: a boundary by its name, or kernels with a commit, not both",
        ),
        (['since = "tw-recycle-is-gone"\ncommit = "4396e46187ca"'], "has `since` and `commit`"),
        (['cause = "always"\ntool = "sh"'], "has `cause` and `tool`"),
        (['commit = "4396e46187ca"'], "kernels must be given"),
        (['sinc = "tw-recycle-is-gone"'], "does not know 'sinc'; the nearest: since"),
    ],
)
def test_a_mistake_with_boundaries_is_named(tmp_path: Path, rows: list[str], complaint: str) -> None:
    with pytest.raises(ClaimError) as raised:
        named(tmp_path, *rows)
    assert str(raised.value).startswith(f"{tmp_path / 'queue.toml'}: claim accept-queue.capacity:")
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "row",
    ["", 'before = "tw-recycle-is-gone"', 'since = "tw-reuse-said-to-be-on"'],
    ids=["all", "before", "document"],
)
def test_a_refuted_without_a_commit(tmp_path: Path, row: str) -> None:
    complaint = "it is refuted, so it needs the name of a boundary, as `since` or `cause`, of what made it so"
    with pytest.raises(ClaimError, match=complaint):
        named(tmp_path, row, verdict="refuted")


def test_a_commit_whose_hash_nobody_has_is_known_by_its_subject(tmp_path: Path) -> None:
    rows = ('before = "timestamps-per-namespace"\ncause = "always"', 'since = "timestamps-per-namespace"')
    change = named(tmp_path, *rows, verdict="refuted").expectations[-1].change
    assert change is not None
    assert (change.commit, str(change)) == ("", "“tcp: Namespaceify sysctl_tcp_timestamps” in 4.13")


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
