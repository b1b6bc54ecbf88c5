"""What was measured of a claim, in words: what refutes it or bears it out, and the control's number beside it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.evidence.types import NOT_SETTLED, SAID, Check, Judgement, PhaseKind, Result
from harness.evidence.values import Kind
from harness.report.edition.model import Measured, Seen
from harness.report.edition.prose import differs, label, tell, tell_all, title

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.evidence.types import Run
    from harness.evidence.values import Value

# The runs of a kernel, by claim; and those of all kernels.
Runs = dict[str, dict[str, list["Run"]]]
MOST_EFFECTS = 3
MOST_CONTROLS = 2
_BRACKETS = re.compile(r"\(([^()]+)\)\s*(.*)", re.DOTALL)


def verdict_of(runs: Sequence[Run]) -> str:
    """What the runs of a claim on a kernel say, the loudest of it; not settled, if none came to a verdict."""
    said = {run.verdict.words for run in runs if run.verdict}
    return next((word for word in SAID if word in said), NOT_SETTLED)


def verdicts_by_kernel(runs: Mapping[str, Sequence[Run]]) -> dict[str, list[str]]:
    """The kernels that have each verdict, in their order; those that settled nothing are left out."""
    found: dict[str, list[str]] = {}
    for kernel, of_it in runs.items():
        if (verdict := verdict_of(of_it)) != NOT_SETTLED:
            found.setdefault(verdict, []).append(kernel)
    return found


def measured_by(runs: Sequence[Run], kernel: str) -> Measured | None:
    """What the verdict rests on: of each thing measured one, those that refute if any do; None without any."""
    judgements = [each for each in _gathered(runs, PhaseKind.EFFECT, Judgement) if not differs(each.values)]
    telling = [each for each in judgements if each.result is Result.KERNEL] or judgements
    by_what: dict[str, _Gathered] = {}
    for each in telling:
        so_far = by_what.get(each.what)
        by_what[each.what] = each if so_far is None or each.says_more(so_far) else so_far
    chosen = list(by_what.values())[:MOST_EFFECTS]
    if not chosen:
        return None
    return Measured(kernel, _by_phase(chosen), _by_phase(_controls(runs, chosen)))


def _controls(runs: Sequence[Run], chosen: list[_Gathered]) -> list[_Gathered]:
    """The controls that say most: those of the same thing first."""
    found = {each.what: each for each in _gathered(runs, PhaseKind.CONTROL, Check)}
    same = [found[each.what] for each in chosen if each.what in found]
    return (same or list(found.values()))[:MOST_CONTROLS]


class _Gathered:
    """One comparison, as all runs that made it have it."""

    def __init__(self, phase: str, comparison: Judgement | Check) -> None:
        self.phase, self.what, self.comparison = phase, comparison.what, comparison
        self.values: list[Value] = []
        self.runs: set[str] = set()

    @property
    def result(self) -> Result | None:
        return self.comparison.result if isinstance(self.comparison, Judgement) else None

    def says_more(self, other: _Gathered) -> bool:
        """Whether it is the larger number of the two; where something is refuted the first is as good as any."""
        return self.result is not Result.KERNEL and self.size > other.size

    @property
    def size(self) -> float:
        """Of what was measured: the numbers in it."""
        value = self.values[0]
        parts = value.parts or tuple(value.fields.values()) or (value,)
        return sum(part.value for part in parts if isinstance(part.value, (int, float)) and part.kind is Kind.COUNT)

    def told(self) -> str:
        """In words: what, measured, and what the document says if it is something else."""
        comparison = self.comparison
        refutes = isinstance(comparison, Judgement) and comparison.result is Result.KERNEL
        document = f" (the document: {tell(comparison.document)})" if refutes else ""  # type: ignore[union-attr]
        of = "runs" if len(self.runs) == len(self.values) else "values"
        return _labelled(self.what, self.values, of) + document


def _gathered(runs: Sequence[Run], kind: PhaseKind, role: type[Judgement | Check]) -> Iterable[_Gathered]:
    found: dict[tuple[str, str, object], _Gathered] = {}
    for run in runs:
        for phase in run.phases:
            for each in phase.comparisons if phase.kind is kind else ():
                if isinstance(each, role):
                    key = (phase.title, each.what, getattr(each, "result", None))
                    gathered = found.setdefault(key, _Gathered(phase.title, each))
                    gathered.values.append(each.measured)
                    gathered.runs.add(run.nodeid)
    return found.values()


def _by_phase(gathered: list[_Gathered]) -> tuple[Seen, ...]:
    phases: dict[str, list[str]] = {}
    for each in gathered:
        phases.setdefault(title(each.phase), []).append(each.told())
    return tuple(Seen(phase, tuple(told)) for phase, told in phases.items())


def _labelled(what: str, values: Sequence[Value], of: str) -> str:
    """A label with what was measured; several things in brackets, (Recv-Q, Send-Q), are told one by one."""
    bracketed = _BRACKETS.fullmatch(what)
    names = re.split(r",\s+", bracketed[1]) if bracketed else []
    parts = [value.parts or tuple(value.fields.values()) for value in values]
    if bracketed and len(names) > 1 and all(len(each) == len(names) for each in parts):
        told = (f"{name} **{tell_all(column, of)}**" for name, *column in zip(names, *parts, strict=True))
        rest = title(bracketed[2])
        return f"{rest}: {', '.join(told)}" if rest else ", ".join(told)
    told_all = tell_all(values, of)
    words = label(what, values)
    if words.startswith("bytes"):
        told_all = told_all.replace(" bytes", "")
    if all(value.kind is Kind.FLAG for value in values) or not re.search(r"[\w)]$", words):
        words += ":" if words and words[-1] != ":" else ""
    return f"{words} **{told_all}**".strip()
