"""`harness compare`: do two runs agree?"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.report.agreement import Result, Said, evidence, verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.report.agreement import Agreement, Verdicts

DIFFERENCES_SHOWN = 3
LONGEST = 70


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--verdicts", "only_verdicts", is_flag=True, help="compare the verdicts alone, not what was measured")
@click.option("--json", "as_json", is_flag=True, help="for machines: everything that differs")
@click.option("--all", "every", is_flag=True, help=f"show every difference, not only {DIFFERENCES_SHOWN} of a claim")
@click.pass_context
def compare(context: click.Context, *, a: Path, b: Path, only_verdicts: bool, as_json: bool, every: bool) -> None:
    """Do two runs on the same kernel agree? A and B are directories with evidence; no kernel is run.

    Compares evidence and captured packets byte for byte, but for the stamps that harness/claims/canonical.py names.
    Exit code 0 if they agree, 1 if not, 2 for bad input.
    """
    from harness.report.stored import read

    table = read([a, b])
    for notice in table.notices:
        click.echo(f"harness: {notice}", err=True)
    if only_verdicts:
        said = verdicts(table, a, b)
        agreed = all(one.result is Said.SAME for one in said)
        _print(as_json, lambda: _verdicts_as_dict(said), lambda: verdict_lines(said))
    else:
        found = evidence(table, a, b)
        agreed = not any(one.differences for one in found)
        shown = None if every else DIFFERENCES_SHOWN
        _print(as_json, lambda: _evidence_as_dict(found), lambda: evidence_lines(found, shown))
    # Of what could not be read nobody knows whether it agrees.
    context.exit(0 if agreed and not table.notices else 1)


def _print(as_json: bool, document: Callable[[], dict[str, Any]], lines: Callable[[], Iterator[str]]) -> None:
    if as_json:
        click.echo(json.dumps(document(), ensure_ascii=False, indent=1))
        return
    for line in lines():
        click.echo(_printable(line))


def _printable(line: str) -> str:
    """A line without what a terminal would obey: evidence may be anybody's."""
    return "".join(letter if letter.isprintable() else "�" for letter in line)


def evidence_lines(found: Sequence[Agreement], shown: int | None) -> Iterator[str]:
    """A line for each claim, those that differ last with their first differences, and what there is in all."""
    width = max(len(one.claim) for one in found)
    for one in sorted(found, key=lambda each: (bool(each.differences), each.release, each.claim)):
        yield from _claim_lines(one, width, shown)
    counts = Counter(str(one.result) for one in found)
    same = f"{counts[Result.IDENTICAL]} identical, {counts[Result.STAMPS]} the same but for stamps"
    alone = f"{counts[Result.ONLY_A]} only in A, {counts[Result.ONLY_B]} only in B"
    yield ""
    yield f"{_kernels(found)}: {len(found)} claims: {same}, {counts[Result.DIFFERS]} differ, {alone}"
    kinds = Counter(kind for one in found if one.result is Result.DIFFERS for kind in _kinds(one))
    if kinds:
        yield f"claims that differ, by what differs: {_counted(kinds)}"


def _claim_lines(one: Agreement, width: int, shown: int | None) -> Iterator[str]:
    differs = one.result is Result.DIFFERS
    about = _counted(_kinds(one) if differs else one.stamps)
    yield f"{one.claim:<{width}}  {one.result:<14}  {about}".rstrip()
    listed = one.differences if differs else []
    for difference in listed[:shown]:
        yield f"  {difference.run}  {difference.path}: {_cut(difference.a)} -> {_cut(difference.b)}"
    if more := len(listed) - len(listed[:shown]):
        yield f"  … {more} more"


def _kinds(one: Agreement) -> Counter[str]:
    return Counter(difference.reason for difference in one.differences)


def verdict_lines(said: Sequence[Verdicts]) -> Iterator[str]:
    """A line for each claim on which the two sides do not agree, and how many do."""
    other = [one for one in said if one.result is not Said.SAME]
    width = max((len(one.claim) for one in other), default=0)
    for one in other:
        yield f"{one.claim:<{width}}  {' -> '.join(one.told)}"
        yield from (f"  {line}" for line in one.measured)
    if other:
        yield ""
    counts = Counter(str(one.result) for one in said)
    yield f"{_kernels(said)}: {len(said)} claims: {', '.join(f'{counts[one]} {one}' for one in Said)}"


def _kernels(found: Sequence[Agreement | Verdicts]) -> str:
    return "Linux " + ", ".join(dict.fromkeys(one.release for one in found))


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {many}" for name, many in counts.most_common())


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _evidence_as_dict(found: Sequence[Agreement]) -> dict[str, Any]:
    return {
        "claims": [
            {"claim": one.claim, "kernel": one.release, "result": str(one.result), "stamps": dict(one.stamps),
             "differences": [asdict(each) for each in one.differences]}
            for one in found
        ],
        "counts": Counter(str(one.result) for one in found),
    }  # fmt: skip


def _verdicts_as_dict(said: Sequence[Verdicts]) -> dict[str, Any]:
    return {
        "claims": [
            {"claim": one.claim, "kernel": one.release, "result": str(one.result), "a": one.a, "b": one.b,
             "measured": list(one.measured)}
            for one in said
        ],
        "counts": Counter(str(one.result) for one in said),
    }  # fmt: skip
