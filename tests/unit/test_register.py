"""The register has every sentence of the five documents, and what becomes of it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from harness.claims.documents import load_documents
from harness.claims.files import load
from harness.errors import ClaimError
from tests.unit import register as registered
from tests.unit.register import Entry, Place, Register, Section, read

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
CLAIMS = load(ROOT / "scenarios" / "claims")
DOCUMENTS = load_documents(ROOT / "scenarios" / "documents.toml")
REGISTER = read(ROOT / "scenarios" / "register.toml")
# The documents are not part of this repository; they may lie beside the clone.
SEEDS = ROOT.parent / "shared" / "seeds"

# What is still to be done. Each of these numbers goes down as claims are written, merged and given their sources, and
# is 0 in the end.
CLAIMS_WANTED = 0
CLAIMS_TO_GO = 0
SOURCES_TO_ADD = 0


def test_the_register_is_well_formed() -> None:
    assert registered.malformed(REGISTER) == []
    assert registered.misplaced(REGISTER) == []


def test_no_sentence_is_left_out() -> None:
    assert registered.left_out(REGISTER) == []


def test_the_sections_are_the_headings() -> None:
    assert registered.other_headings(REGISTER, DOCUMENTS) == []


def test_every_claim_named_exists() -> None:
    assert registered.unknown(REGISTER, CLAIMS) == []


def test_every_source_of_a_claim_has_a_line() -> None:
    assert registered.unregistered(REGISTER, CLAIMS) == []


def test_a_statement_is_settled_in_one_way() -> None:
    assert registered.at_odds(REGISTER) == []


def test_what_is_still_to_be_done() -> None:
    wanted, to_go = sorted(REGISTER.wanted()), sorted(REGISTER.superseded())
    to_add = sorted(registered.without_source(REGISTER, CLAIMS))
    assert len(wanted) == CLAIMS_WANTED, f"claims to write: {wanted}"
    assert len(to_go) == CLAIMS_TO_GO, f"claims that another replaces: {to_go}"
    assert len(to_add) == SOURCES_TO_ADD, f"(claim, document, heading) to add to claim files: {to_add}"


@pytest.mark.skipif(
    not SEEDS.is_dir(), reason="the documents do not lie beside this clone: their recorded shape is used"
)
@pytest.mark.parametrize("name", REGISTER.document)
def test_the_register_fits_the_documents(name: str) -> None:
    (document,) = SEEDS.glob(f"{name}_*")
    assert registered.misread(REGISTER.document[name], document) == []


def test_every_heading_has_its_english() -> None:
    for row in tomllib.loads((ROOT / "scenarios" / "documents.toml").read_text(encoding="utf-8"))["document"]:
        assert row["title_english"]
        assert len(row["headings_english"]) == len(row["headings"]), row["id"]
        assert all(heading.isascii() for heading in row["headings_english"])


# That the checks can fail.


def changed(change: Callable[[Entry], Entry | None]) -> Register:
    """The register with some entries changed, or left out."""
    documents = {}
    for name, text in REGISTER.document.items():
        sections = [
            msgspec.structs.replace(section, says=tuple(new for entry in section.says if (new := change(entry))))
            for section in text.section
        ]
        documents[name] = msgspec.structs.replace(text, section=tuple(sections))
    return Register(documents)


def an_entry(**wanted: str) -> Entry:
    """The first entry with these values."""
    return next(
        entry
        for _, _, entry in REGISTER.entries()
        if all(getattr(entry, key) == value for key, value in wanted.items())
    )


def replaced(old: Entry, **changes: str) -> Register:
    """The register with one entry changed."""
    return changed(lambda entry: msgspec.structs.replace(entry, **changes) if entry is old else entry)


def test_a_sentence_left_out_is_noticed() -> None:
    entry = an_entry(statement="NAT changes addresses and hardly ever timestamps.")
    without = changed(lambda each: None if each is entry else each)
    assert registered.left_out(without) == ["003:25.6: nothing is said of it"]


def test_a_line_left_out_is_noticed() -> None:
    entry = an_entry(statement="1 switches timestamps on and adds a random offset.")
    assert registered.left_out(changed(lambda each: None if each is entry else each)) == [
        "004:53.1: nothing is said of it"
    ]


def test_what_is_said_of_a_blank_line_is_noticed() -> None:
    entry = an_entry(statement="1 switches timestamps on and adds a random offset.")
    assert "004:51: is blank" in registered.left_out(replaced(entry, at="51"))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"statement": "", "claim": ""}, "needs `nothing` or `statement`, and not both"),
        ({"nothing": "an image"}, "needs `nothing` or `statement`, and not both"),
        ({"claim": ""}, "a statement needs one of claim, wanted and reason, not []"),
        ({"reason": "none"}, "a statement needs one of claim, wanted and reason, not ['claim', 'reason']"),
        ({"instead_of": "timestamps.modes"}, "timestamps.modes cannot stand instead of itself"),
    ],
)
def test_a_malformed_entry_is_noticed(changes: dict[str, str], problem: str) -> None:
    entry = an_entry(statement="1 switches timestamps on and adds a random offset.")
    assert registered.malformed(replaced(entry, **changes)) == [f"004:53: {problem}"]


@pytest.mark.parametrize("at", ["46", "50-60", "113", "39", "53.2", "54-53"])
def test_an_entry_out_of_its_place_is_noticed(at: str) -> None:
    moved = replaced(an_entry(statement="1 switches timestamps on and adds a random offset."), at=at)
    assert [problem for problem in registered.misplaced(moved) if problem.startswith(f"004:{at}: ")]


def test_a_claim_that_does_not_exist_is_noticed() -> None:
    entry = an_entry(statement="1 switches timestamps on and adds a random offset.")
    assert registered.unknown(replaced(entry, claim="timestamps.offset"), CLAIMS) == [
        "004:53: there is no claim timestamps.offset"
    ]
    assert registered.unknown(replaced(entry, claim="", wanted="timestamps.modes"), CLAIMS) == [
        "004:53: timestamps.modes is written: name it as `claim`"
    ]
    assert registered.unknown(replaced(entry, claim="", wanted="stamps.offset"), CLAIMS) == [
        "004:53: stamps.offset is of no group that there is"
    ]


def test_a_claim_without_a_line_is_noticed() -> None:
    without = changed(lambda each: None if each.claim == "timestamps.per-peer-granularity" else each)
    assert registered.unregistered(without, CLAIMS) == [
        "timestamps.per-peer-granularity: no line of document 004, '3.2. timestamp', has it"
    ]


def test_a_statement_settled_in_two_ways_is_noticed() -> None:
    entry = an_entry(statement="Timestamps are on by default.")
    assert registered.at_odds(replaced(entry, claim="timestamps.modes")) == [
        "'Timestamps are on by default.': is settled by ['timestamps.default-on', 'timestamps.modes']"
    ]


def test_a_place_without_a_source_is_noticed() -> None:
    entry = an_entry(statement="NAT changes addresses and hardly ever timestamps.")
    more = replaced(entry, claim="timestamps.modes")
    new = registered.without_source(more, CLAIMS) - registered.without_source(REGISTER, CLAIMS)
    assert new == {("timestamps.modes", "003", "快速回收Time_wait:")}


def test_another_heading_is_noticed() -> None:
    text = REGISTER.document["003"]
    first, second, *others = text.section
    swapped = msgspec.structs.replace(text, section=(first, Section((), "another", 2), *others))
    problems = registered.other_headings(Register(REGISTER.document | {"003": swapped}), DOCUMENTS)
    assert len(problems) == 1
    assert second.heading in problems[0]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text + "\n", "is another file"),
        (lambda text: text.replace("b。", "\n"), "has 4 lines, not 3"),
        (lambda text: text.replace("# h", "# H"), "line 1 is not 'h'"),
        (lambda text: text.replace("c", " "), "blank or not: lines [3]"),
        (lambda text: text.replace("a。", "a"), "other numbers of sentences"),
    ],
)
def test_another_document_is_noticed(tmp_path: Path, change: Callable[[str], str], problem: str) -> None:
    import hashlib

    original = "# h\na。b。\nc"
    document = tmp_path / "009_x.txt"
    text = registered.Text(
        hashlib.sha256(original.encode()).hexdigest(), 3, {2: 2}, "", (Section((Entry("2", "x"),), "h", 1),)
    )
    document.write_text(original)
    assert registered.misread(text, document) == []
    document.write_text(change(original))
    assert any(problem in each for each in registered.misread(text, document))


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("37", Place(37, 37)),
        ("20-23", Place(20, 23)),
        ("37.2", Place(37, 37, (2, 2))),
        ("37.2-3", Place(37, 37, (2, 3))),
    ],
)
def test_places(words: str, place: Place) -> None:
    assert Place.parse(words) == place


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match=r"'a' is no place: write it like 37, 20-23, 37\.2 or 37\.2-3"):
        Place.parse("a")
    file = tmp_path / "register.toml"
    file.write_text('[document.000]\nsha256 = "0"\n')
    with pytest.raises(ClaimError, match=r"register\.toml: .*lines"):
        read(file)
    file.write_text("[[")
    with pytest.raises(ClaimError, match=r"register\.toml: "):
        read(file)
