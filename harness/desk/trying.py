"""Remedies tried: each alone, then those that helped together, against the experiment as it is and its control."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from harness.desk.table import SCHEMA, RemedyTable, Row, Worth
from harness.diagnosis.advice import table as advice
from harness.errors import HarnessError
from harness.evidence.codec import harness_version
from harness.lab import Lab
from harness.laws.kernel import running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.desk.catalogue import Case
    from harness.desk.experiment import Experiment, Outcome, Remedy

AS_IT_IS, CONTROL, TOGETHER = "as it is", "without the cause", "together"
# A remedy takes away at least half of the symptom.
ENOUGH = 0.5
# How much more of an effect is more, and no accident of a measurement.
MORE = 0.5


def try_remedies(case: Case) -> RemedyTable:
    """The whole table, in labs on the running kernel, which has to be able to show the symptom: case_of(here=True)."""
    began = time.monotonic()
    experiment = case.experiment
    remedies = experiment.remedies()
    missing = _without_knob(remedies)
    tried = [remedy for remedy in remedies if remedy.title not in missing]
    outcomes = experiment.trials(
        {AS_IT_IS: experiment, CONTROL: experiment.without_cause()}
        | {remedy.title: remedy.change(experiment) for remedy in tried}
    )
    before, control = _there(outcomes[AS_IT_IS]), _there(outcomes[CONTROL])
    rows = [_row(remedy, outcomes.get(remedy.title), before, control) for remedy in remedies]
    return RemedyTable(
        schema=SCHEMA,
        harness=harness_version(),
        diagnosis=case.finding.diagnosis,
        what=case.what,
        place=case.place,
        kernel=str(running()),
        machine=case.kernel,
        symptom=experiment.SYMPTOM.what,
        unit=experiment.SYMPTOM.unit,
        before=before.symptom,
        control=control.symptom,
        effects=before.effects,
        rows=tuple(rows),
        together=_together(experiment, remedies, rows, before, control),
        scale=experiment.scale,
        notes=experiment.notes,
        others=case.others,
        seconds=round(time.monotonic() - began, 1),
    )


def _there(outcome: Outcome | HarnessError) -> Outcome:
    """What was measured; without the symptom and its control there is nothing to compare with."""
    if isinstance(outcome, HarnessError):
        raise outcome
    return outcome


def _without_knob(remedies: Sequence[Remedy]) -> set[str]:
    """The remedies whose sysctl the running kernel does not have."""
    with Lab() as lab:
        host = lab.host("anybody")
        return {remedy.title for remedy in remedies if remedy.knob and remedy.knob not in host.sysctl}


def _row(remedy: Remedy, outcome: Outcome | HarnessError | None, before: Outcome, control: Outcome) -> Row:
    void, claim = bool(remedy.vain), advice().useless[remedy.vain].claim if remedy.vain else ""
    if outcome is None:
        why = f"Linux {running()} has no {remedy.knob}"
        return Row(remedy.title, remedy.type_in, Worth.NO_SUCH_KNOB, why, void=void, claim=claim)
    if isinstance(outcome, HarnessError):
        return Row(remedy.title, remedy.type_in, Worth.NOT_TRIED, str(outcome), void=void, claim=claim)
    worth, why = judged(outcome, before, control)
    if worth is Worth.USELESS and remedy.vain:
        why = f"{why}: {advice().useless[remedy.vain].why_on(running())}"
    return Row(remedy.title, remedy.type_in, worth, why, outcome.symptom, outcome.effects, void, claim)


def judged(after: Outcome, before: Outcome, control: Outcome) -> tuple[Worth, str]:
    """What a remedy is worth: harmful if something bad is more than before, safe if half of the symptom is gone."""
    harms = [
        effect.harm for effect in after.effects if effect.harm and effect.value > before.effect(effect.what) + MORE
    ]
    gone = share_gone(after, before, control)
    if gone < -ENOUGH:
        harms.insert(0, "there is more of the symptom than before")
    if harms:
        return Worth.HARMFUL, "; ".join(harms)
    if before.symptom <= control.symptom:
        return Worth.USELESS, "there is nothing to mend"
    if gone >= 1:
        return Worth.SAFE, "the symptom is gone"
    if gone >= ENOUGH:
        return Worth.SAFE, f"{gone:.0%} of the symptom is gone"
    return Worth.USELESS, "the symptom stays" if gone < ENOUGH / 5 else f"only {gone:.0%} of the symptom is gone"


def share_gone(after: Outcome, before: Outcome, control: Outcome) -> float:
    """How much of what the cause makes is gone: 1 for all, 0 for nothing, less where there is more than before."""
    return (before.symptom - after.symptom) / max(before.symptom - control.symptom, 1e-9)


def _together(
    experiment: Experiment, remedies: Sequence[Remedy], rows: Sequence[Row], before: Outcome, control: Outcome
) -> Row | None:
    """The safe ones at once; None where there are not two."""
    best = [remedy for remedy, row in zip(remedies, rows, strict=True) if row.worth is Worth.SAFE and not row.void]
    if len(best) < 2:
        return None
    variant = experiment
    for remedy in best:
        variant = remedy.change(variant)
    title = " + ".join(remedy.title for remedy in best)
    type_in = "; ".join(remedy.type_in for remedy in best)
    outcome = experiment.trials({TOGETHER: variant})[TOGETHER]
    if isinstance(outcome, HarnessError):
        return Row(title, type_in, Worth.NOT_TRIED, str(outcome))
    worth, why = judged(outcome, before, control)
    return Row(title, type_in, worth, why, outcome.symptom, outcome.effects)
