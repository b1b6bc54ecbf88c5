"""Which kernel does what stands in the table of boundaries and nowhere else: scenarios and claim files name it.

Comments and the sentences of a claim may mention a release; code may not compare with one. And what made a change,
commit and subject, is written once.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.laws import BOUNDARIES

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SCENARIOS = sorted((ROOT / "scenarios").rglob("*.py"))
CODE = SCENARIOS + sorted((ROOT / "harness").rglob("*.py"))
CLAIM_FILES = sorted((ROOT / "scenarios" / "claims").glob("*.toml"))
RELEASE = re.compile(r"\d+\.\d+(\.\d+)?(-rc\d+)?(\.\*|\+)?|[<>=]=?\s*\d+\.\d+.*")
VERSIONS = {"running", "KernelVersion"}
QUESTIONS = {"since", "before", "uncertain", "boundary"}
WRITTEN_OUT = {"kernels", "commit", "subject", "release", "tool"}


def releases_in(code: str) -> Iterator[int]:
    """The lines of code that have a kernel's release as text, or ask which kernel runs in order to compare."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and RELEASE.fullmatch(node.value):
            yield node.lineno
        if isinstance(node, ast.Compare) and any(names_version(side) for side in (node.left, *node.comparators)):
            yield node.lineno


def names_version(node: ast.expr) -> bool:
    """Whether an operand of a comparison is a kernel's version: running(), running().release[:2] …"""
    return any(isinstance(part, ast.Name) and part.id in VERSIONS for part in ast.walk(node))


def written_out_in(claims: str) -> Iterator[str]:
    """The claims whose expectations give ranges and commits, in place of naming boundaries."""
    for claim in tomllib.loads(claims)["claim"]:
        if any(WRITTEN_OUT & expected.keys() for expected in claim["expect"]):
            yield claim["id"]


def told_again_in(code: str) -> Iterator[str]:
    """The boundaries whose commit and subject a file repeats, over the ends of lines too."""
    text = re.sub(r"\s*\n\s*(# )?", " ", code)
    for entry in BOUNDARIES.values():
        if entry.commit and re.search(rf"{entry.commit}\w*\W+{re.escape(entry.subject)}", text):
            yield entry.name


def asked_in(code: str) -> Iterator[str]:
    """The names that code asks the table of boundaries for."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in QUESTIONS and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield name.value


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.name)
def test_a_scenario_names_boundaries_and_no_releases(file: Path) -> None:
    lines = sorted(set(releases_in(file.read_text(encoding="utf-8"))))
    assert not lines, f"{file}: lines {lines} have a kernel's release; give the change a name in boundaries.toml"


@pytest.mark.parametrize("file", CLAIM_FILES, ids=lambda file: file.stem)
def test_a_claim_names_boundaries(file: Path) -> None:
    assert list(written_out_in(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("file", CODE, ids=lambda file: file.stem)
def test_what_made_a_change_is_told_once(file: Path) -> None:
    names = list(told_again_in(file.read_text(encoding="utf-8")))
    assert not names, f"{file}: has commit and subject of {names} again: boundaries.toml has them"


def test_every_boundary_that_is_asked_for_is_in_the_table() -> None:
    asked = {name: file.name for file in CODE for name in asked_in(file.read_text(encoding="utf-8"))}
    assert {name: file for name, file in asked.items() if name not in BOUNDARIES} == {}


def test_every_boundary_is_needed() -> None:
    needed = {name for file in CODE for name in asked_in(file.read_text(encoding="utf-8"))}
    for file in CLAIM_FILES:
        needed.update(re.findall(r'^(?:since|before|cause) = "(.+)"$', file.read_text(encoding="utf-8"), re.MULTILINE))
    assert sorted(BOUNDARIES.keys() - needed) == []


# That the checks can fail.


def test_a_name_that_is_not_in_the_table_is_seen() -> None:
    assert list(asked_in('x = 1 if before("tw-recycle-is-gon", kernel) else 2')) == ["tw-recycle-is-gon"]


@pytest.mark.parametrize(
    "code",
    [
        'always = running() >= "4.10"',
        'always = kernel >= "4.10"',
        'hasty = ("4.19.77", "4.19.209")',
        "old = running().release[:2] in OLD",
        'pytest.mark.kernels(">=4.10")',
        "if KernelVersion.parse(text) < first: pass",
    ],
)
def test_a_release_in_code_is_seen(code: str) -> None:
    assert list(releases_in(code))


@pytest.mark.parametrize(
    "code", ['since("tw-recycle-is-gone")', "late = 4.10", "# before 4.10\nlate = 1", 'ip = "10.0.0.1"', '"since 4.10"']
)
def test_other_numbers_are_not(code: str) -> None:
    assert not list(releases_in(code))


def test_a_range_in_a_claim_file_is_seen() -> None:
    claims = '[[claim]]\nid = "a"\n[[claim.expect]]\nkernels = ">=4.10"\n[[claim]]\nid = "b"\n[[claim.expect]]\n'
    assert list(written_out_in(claims)) == ["a"]


def test_a_commit_told_again_is_seen() -> None:
    split = '# 4396e46187ca "tcp: remove\n    # tcp_tw_recycle"\nOLD = 1\n'
    assert list(told_again_in(split)) == ["tw-recycle-is-gone"]
    assert not list(told_again_in("# 4396e46187ca took it away\n"))
