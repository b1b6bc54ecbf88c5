"""What stands on the desk for a finding: one experiment, with its knobs, its workload, its measure and its control.

Two things are made of it: a scenario that one can keep (harness/desk/scenario.py), and a table of remedies, each of
which is the same experiment with something changed (harness/desk/trying.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import msgspec

from harness.errors import BadInput, HarnessError, SysctlRefused, Unsupported
from harness.lab import Lab

if TYPE_CHECKING:
    from harness.diagnosis.findings import Finding
    from harness.diagnosis.view import View
    from harness.lab import Host

Sysctls = Mapping[str, object]


class Symptom(NamedTuple):
    """What an experiment measures of the trouble: less is better, and 0 is none."""

    what: str
    unit: str


class Setting(msgspec.Struct, frozen=True):
    """A number of the machine's, and what stands for it on the desk; `there` is empty where no file has it."""

    what: str
    there: str
    here: str


class Effect(msgspec.Struct, frozen=True, omit_defaults=True):
    """What else was measured. `harm` says what is bad about it where there is more of it than before the remedy."""

    what: str
    value: float
    unit: str
    harm: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """What an experiment came to: how much of the symptom, and what else."""

    symptom: float
    effects: tuple[Effect, ...] = ()

    def effect(self, what: str) -> float:
        """How much there was of an effect, 0 where it was not measured."""
        return next((effect.value for effect in self.effects if effect.what == what), 0.0)


@dataclass(frozen=True)
class Remedy:
    """Something that one does, or is told to do, about the trouble.

    `type_in` is what an operator would type or change. `change` makes of the experiment the one with the remedy.
    `knob` is the sysctl that it needs. `vain` names what harness/diagnosis/advice.toml has about advice that does not
    help; such a remedy is tried as well, and never part of the best ones together.
    """

    title: str
    type_in: str
    change: Callable[[Any], Any]
    knob: str = ""
    vain: str = ""


class CannotStand(BadInput):
    """A finding has no experiment on a desk, or not by these files; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Experiment(ABC):
    """An experiment, by the numbers of a machine: `seen` is what they come from, for a reader.

    A variant of an experiment is made by dataclasses.replace().
    """

    SYMPTOM: ClassVar[Symptom]
    # The file name, without its endings, of the template of the scenario.
    TEMPLATE: ClassVar[str]
    # The boundary (harness.laws) that a kernel has to be before to show it.
    BEFORE: ClassVar[str] = ""

    scale: tuple[Setting, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    @abstractmethod
    def of(cls, finding: Finding, view: View) -> Experiment:
        """The experiment for a finding of a machine; CannotStand if these files do not allow one."""

    @abstractmethod
    def trial(self) -> Outcome:
        """Run it in a lab of its own."""

    @abstractmethod
    def without_cause(self) -> Experiment:
        """The control: the same without the cause."""

    @abstractmethod
    def remedies(self) -> tuple[Remedy, ...]:
        """What is known to help, and what is said to and does not; the likeliest first."""

    @abstractmethod
    def words(self) -> dict[str, object]:
        """What the template of the scenario takes: numbers, and texts of ours."""

    @classmethod
    def trials(cls, variants: Mapping[str, Any]) -> dict[str, Outcome | HarnessError]:
        """Run several variants; what could not be run has its error in place of an outcome.

        One after the other, unless an experiment has long waits that can run side by side.
        """
        return {name: attempted(variant) for name, variant in variants.items()}


def attempted(experiment: Experiment) -> Outcome | HarnessError:
    """What an experiment came to, or why it could not be run."""
    try:
        return experiment.trial()
    except HarnessError as error:
        return error


class SideBySide(Experiment):
    """An experiment with long waits, of which several run at once, in one lab."""

    @classmethod
    @abstractmethod
    def side_by_side(cls, lab: Lab, variants: Mapping[str, Any]) -> dict[str, Outcome]:
        """Run them all, and what each came to."""

    def trial(self) -> Outcome:
        """Run it alone."""
        with Lab() as lab:
            return self.side_by_side(lab, {"": self})[""]

    @classmethod
    def trials(cls, variants: Mapping[str, Any]) -> dict[str, Outcome | HarnessError]:
        """Run them at once; where that cannot be, one after the other, so that it is known which cannot be run."""
        try:
            with Lab() as lab:
                return {**cls.side_by_side(lab, variants)}
        except (Unsupported, SysctlRefused, BadInput):
            return super().trials(variants)


def put(host: Host, sysctls: Sysctls) -> None:
    """Put sysctls in force on a host; those that the running kernel does not have stay away."""
    for name, value in sysctls.items():
        if name in host.sysctl:
            host.sysctl[name] = value
