"""Nothing that the documents say is left out: each statement has a claim, a document, a heading and a scenario."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from harness.claims.documents import load_documents
from harness.claims.files import load
from harness.errors import ClaimError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from harness.claims.documents import Document
    from harness.evidence.types import Claim

ROOT = Path(__file__).parents[2]
CLAIMS = load(ROOT / "scenarios" / "claims")
DOCUMENTS = load_documents(ROOT / "scenarios" / "documents.toml")
# The list that the register was read out of, where it lies beside the clone.
BRIEF = ROOT.parent / "shared" / "CLAIMS.md"


def register() -> list[str]:
    """The full names of all statements."""
    table: dict[str, list[str]] = tomllib.loads((Path(__file__).parent / "register.toml").read_text())
    return [f"{group}.{id_}" for group, ids in table.items() for id_ in ids]


def marked() -> Iterator[str]:
    """The claims that the functions of scenarios/ are marked with; those in full size apart."""
    for file in (ROOT / "scenarios").rglob("test_*.py"):
        for function in ast.walk(ast.parse(file.read_text())):
            marks = [
                mark
                for mark in getattr(function, "decorator_list", ())
                if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Attribute)
            ]
            if not any(mark.func.attr == "full_size" for mark in marks if isinstance(mark.func, ast.Attribute)):
                yield from (
                    mark.args[0].value
                    for mark in marks
                    if isinstance(mark.func, ast.Attribute)
                    and mark.func.attr == "claim"
                    and isinstance(mark.args[0], ast.Constant)
                    and isinstance(mark.args[0].value, str)
                )


def misplaced(claims: Mapping[str, Claim], documents: Mapping[str, Document]) -> list[str]:
    """A line for each claim that names a document or heading that does not exist."""
    problems = []
    for name, claim in claims.items():
        for source in claim.sources:
            document = documents.get(source.document)
            if document is None:
                problems.append(f"{name}: there is no document {source.document!r}")
            elif source.heading not in document.headings:
                problems.append(f"{name}: document {source.document} has no heading {source.heading!r}")
    return problems


def unsettled(register: Iterable[str], claims: Mapping[str, Claim], tested: Iterable[str]) -> list[str]:
    """A line for each statement of the documents without a claim or a scenario, and for each claim that is not one.

    `register` has the full names of all statements, `tested` those that scenarios are marked with.
    """
    wanted = list(register)
    tested = set(tested)
    problems = [f"{name}: stands in the register twice" for name in sorted(set(wanted)) if wanted.count(name) > 1]
    problems += [f"{name}: no claim file has it" for name in wanted if name not in claims]
    problems += [f"{name}: no scenario settles it" for name in wanted if name in claims and name not in tested]
    problems += [f"{name}: is not in the register" for name in claims if name not in wanted]
    return problems


def test_every_statement_is_settled() -> None:
    assert unsettled(register(), CLAIMS, marked()) == []


def test_every_claim_stands_under_a_heading_of_its_document() -> None:
    assert misplaced(CLAIMS, DOCUMENTS) == []


# What the brief names twice is one claim; what it mixes is several.
ELSEWHERE = {
    "syn-queue.defences-compared": {"syn-queue.longer-queue-defends", "syn-queue.fewer-retries-defend"},
    "time-wait.by-port": {"commands.ss-timer-by-port"},
    "time-wait.count": {"commands.ss-time-wait"},
    "time-wait.histogram": {"commands.awk-histogram"},
    "time-wait.per-peer": {"commands.awk-per-peer"},
}


@pytest.mark.skipif(not BRIEF.is_file(), reason="the list of statements does not lie beside this clone")
def test_the_register_has_what_the_brief_names() -> None:
    """Groups with a table; that of the ports is named limits."""
    named: set[str] = set()
    group = ""
    for line in BRIEF.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            group = {"ports": "limits"}.get(line.split()[1], line.split()[1])
        elif line.startswith("| ") and not line.startswith(("| id", "|--")):
            named.update(f"{group}.{id_}" for id_ in re.split(r",\s*", line.split("|")[1].strip()))
    # The register has claims beside these: what else the documents say, and what the kernel does besides.
    settled = set(register())
    assert sorted(name for name in named if not ELSEWHERE.get(name, {name}) <= settled) == []


# That the check can fail.


def test_a_missing_statement_is_noticed() -> None:
    name, *others = register()
    without = {claim: CLAIMS[claim] for claim in others}
    assert unsettled(register(), without, marked()) == [f"{name}: no claim file has it"]
    assert unsettled(register(), CLAIMS, set(marked()) - {name}) == [f"{name}: no scenario settles it"]


def test_a_statement_or_claim_too_many_is_noticed() -> None:
    name, *others = register()
    assert unsettled([*register(), name], CLAIMS, marked()) == [f"{name}: stands in the register twice"]
    assert unsettled(others, CLAIMS, marked()) == [f"{name}: is not in the register"]


def test_a_claim_that_stands_twice_is_noticed(tmp_path: Path) -> None:
    text = (ROOT / "scenarios" / "claims" / "syncookies.toml").read_text()
    for copy in ("a.toml", "b.toml"):
        (tmp_path / copy).write_text(text)
    with pytest.raises(ClaimError, match=r"b.toml: claim syncookies.off stands in .*a.toml already"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("document", "heading", "problem"),
    [("005", "h", "there is no document '005'"), ("000", "nothing", "document 000 has no heading 'nothing'")],
)
def test_a_claim_without_its_place_is_noticed(document: str, heading: str, problem: str) -> None:
    name, claim = next(iter(CLAIMS.items()))
    source = msgspec.structs.replace(claim.sources[0], document=document, heading=heading)
    broken = {name: msgspec.structs.replace(claim, sources=(source,))}
    assert misplaced(broken, DOCUMENTS) == [f"{name}: {problem}"]


def test_a_claim_without_document_or_heading_is_not_loaded(tmp_path: Path) -> None:
    text = (ROOT / "scenarios" / "claims" / "syncookies.toml").read_text()
    for cut in (r"^source = (\[$.*?^\]$|\[.*?\]$)", r'document = "\d+", ', r', heading = "[^"]*"'):
        file = tmp_path / "claims.toml"
        file.write_text(re.sub(cut, "", text, count=1, flags=re.MULTILINE | re.DOTALL))
        with pytest.raises(ClaimError, match=r"source|document|heading"):
            load(file)
