"""From a machine's picture to its diagnosis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from harness.diagnosis.advice import advise
from harness.diagnosis.catalogue import CATALOGUE, NAMES
from harness.diagnosis.findings import SCHEMA, Diagnosis, Missing
from harness.diagnosis.needs import Need
from harness.diagnosis.order import in_order
from harness.diagnosis.remarks import remarks
from harness.diagnosis.view import View
from harness.evidence.codec import harness_version
from harness.incident.facts import Fact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.diagnosis.findings import Finding, Remark
    from harness.evidence.types import Claim
    from harness.incident.machine import Machine


def diagnose(machine: Machine, claims: Mapping[str, Claim] | None = None) -> Diagnosis:
    """All that is wrong with a machine, by its files; `claims` explain it, as far as they are given."""
    views = [View(machine, space) for space in machine.namespaces]
    findings = in_order([finding for view in views for finding in found(view)])
    return Diagnosis(
        schema=SCHEMA,
        harness=harness_version(),
        files=tuple(dict.fromkeys(file.source.file for file in machine.files)),
        findings=tuple(advise(finding, claims or {}, machine.version) for finding in findings),
        looked_for=NAMES,
        kernel=machine.kernel.value if isinstance(machine.kernel, Fact) else "",
        distribution=machine.distribution.value if isinstance(machine.distribution, Fact) else "",
        missing=tuple(missing(views[0])),
        remarks=tuple(remark for view in views for remark in _remarks_of(view)),
        notices=machine.notices,
    )


def found(view: View) -> Iterator[Finding]:
    """The findings of all diagnoses in a namespace, in the catalogue's order."""
    for entry in CATALOGUE:
        yield from entry.find(view)


def _remarks_of(view: View) -> Iterator[Remark]:
    """The remarks about a namespace, which each of them names unless it is the machine's own."""
    for remark in remarks(view):
        where = f"in network namespace {view.space.name}: " if view.space.name else ""
        yield msgspec.structs.replace(remark, says=where + remark.says)


def missing(view: View) -> Iterator[Missing]:
    """What the machine's own namespace lacks, and what could not be looked for."""
    for need in Need:
        why = need.value.lacks(view)
        if why:
            names = tuple(name for entry in CATALOGUE if need in entry.needs for name in entry.names)
            yield Missing(need.value.what, why, need.value.give, names)
