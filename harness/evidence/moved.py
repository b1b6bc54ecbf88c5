"""The number that moved: what a run that went wrong measured first that had to be something else, in one line.

"waiting: 8, must be 9" is what whoever looks for a defect wants to read before anything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.evidence.types import Judgement, Outcome, Result, Run, Verdict, is_wrong

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.evidence.types import Comparison

# A value longer than this is cut: what a program printed is no number.
LONGEST = 80
# How a reason begins where the error's kind says less than its text.
_KINDS = ("NotReady: ", "AssertionError: ", "WorkerLost: ")


def moved(run: Run, wanted: Verdict | None = None) -> str:
    """What a run measured otherwise than it had to; "" for one that went as it should.

    `wanted` is the verdict that it had to come to, where that is not the one that its claim expects of the kernel. What
    was not measured, because the run ended before, is told by the error that ended it.
    """
    wanted = wanted or run.expected
    if run.outcome is Outcome.UNSETTLED or (run.outcome is Outcome.EXPECTED and run.verdict is wanted):
        return ""
    wrong = next((_line(comparison, wanted) for comparison in _comparisons(run) if is_wrong(comparison)), "")
    if wrong or run.verdict is None or run.verdict is wanted:
        return wrong or _reason(run)
    return next(_deciding(run), "") or _verdicts(run.verdict, wanted)


def attempts(run: Run) -> list[str]:
    """What became of the attempts before the last, of a test that was run again; a line each."""
    number = len(run.earlier) + 1
    return [
        f"attempt {place} of {number}, {attempt.said}: {moved(attempt)}" for place, attempt in enumerate(run.earlier, 1)
    ]


def _comparisons(run: Run) -> Iterator[Comparison]:
    return (comparison for phase in run.phases for comparison in phase.comparisons)


def _deciding(run: Run) -> Iterator[str]:
    """The comparisons with the document that made a verdict which is not the wanted one."""
    for comparison in _comparisons(run):
        if not isinstance(comparison, Judgement) or comparison.document == comparison.kernel:
            continue
        if run.verdict is Verdict.REFUTED and comparison.result is Result.KERNEL:
            yield _line(comparison, Verdict.HOLDS)
        elif run.verdict is Verdict.HOLDS and comparison.result is Result.DOCUMENT:
            yield _line(comparison, Verdict.REFUTED)


def _line(comparison: Comparison, wanted: Verdict | None) -> str:
    return f"{comparison.what}: {_short(comparison.measured)}, must be {_had_to_be(comparison, wanted)}"


def _had_to_be(comparison: Comparison, wanted: Verdict | None) -> str:
    """What a comparison wants: with a document, what goes with the verdict that is wanted."""
    if not isinstance(comparison, Judgement):
        return _short(comparison.wanted)
    document, kernel = _short(comparison.document), _short(comparison.kernel)
    by_verdict = {Verdict.HOLDS: document, Verdict.REFUTED: kernel}
    either = document if document == kernel else f"{document} or {kernel}"
    return either if wanted is None else by_verdict.get(wanted, either)


def _verdicts(seen: Verdict, wanted: Verdict | None) -> str:
    """Where no number says it: the verdicts themselves."""
    return f"verdict: {seen.words}, {'must be ' + wanted.words if wanted else 'and nothing is expected'}"


def _reason(run: Run) -> str:
    """The first line of why a run failed, without the kind of an error that says less than its text."""
    line = run.reason.strip().partition("\n")[0]
    for kind in _KINDS:
        line = line.removeprefix(kind)
    return line[: 3 * LONGEST]


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
