"""Small evidence for unit tests: one claim, one run, one phase, each as little as a test needs."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.evidence.types import (
    Check,
    Claim,
    Expectation,
    Kernel,
    Note,
    Outcome,
    Phase,
    PhaseKind,
    Run,
    Source,
    Verdict,
    wanted_of,
)
from harness.evidence.values import value_of
from harness.laws.ranges import matches


def a_claim(verdict: Verdict | None = Verdict.HOLDS) -> Claim:
    """queue.limit, which is expected to come out so on every kernel from 3.0 on."""
    every = (((3, 0, 0), None),)
    expectations = (Expectation(">=3.0", every, verdict, "so"),) if verdict else ()
    return Claim("queue", "limit", "ten wait", (Source("000", "h"),), expectations)


def a_run(nodeid: str = "test_queue.py::test_limit[ipv4]", release: str = "6.1", **parts: Any) -> Run:
    """A run of it that came out as expected."""
    run = Run(Kernel(release, release, "x86_64"), nodeid, Outcome.EXPECTED, 100.0, 1.0, params="ipv4")
    return msgspec.structs.replace(run, **parts)


def a_phase(*comparisons: Check, **parts: Any) -> Phase:
    """An effect."""
    return msgspec.structs.replace(Phase(PhaseKind.EFFECT, "cause", comparisons), **parts)


def noted(value: object, label: str = "seen") -> Phase:
    """An effect in which something was seen."""
    return a_phase(notes=(Note(label, value_of(value)),))


def checked(measured: object, wanted: object, what: str = "it", *, met: bool | None = None) -> Phase:
    """An effect in which something was compared."""
    was_met = matches(wanted, measured) if met is None else met
    seen = value_of(measured)
    return a_phase(Check(what, seen, wanted_of(wanted, seen), was_met))
