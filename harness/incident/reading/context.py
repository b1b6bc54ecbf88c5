"""What a reader knows of the place it reads in, and the protocol of readers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from harness.incident.counters import LeftOut, Sample
from harness.incident.facts import Fact, Moment, Source

if TYPE_CHECKING:
    from harness.incident.draft import Draft, SpaceDraft


@dataclass
class Context:
    """A file or a part of one: whose it is, when it was taken, and which command printed it, where that is known.

    `before` is the last line above the part that no reader took: a comment above settings, say.
    """

    draft: Draft
    file: str
    namespace: str = ""
    taken: Moment | None = None
    command: str = ""
    before: str = ""
    path: str = ""
    notices: list[str] = field(default_factory=list)

    @property
    def space(self) -> SpaceDraft:
        """The namespace that the part speaks of."""
        return self.draft.space(self.namespace)

    def source(self, number: int) -> Source:
        """A line of the file."""
        return Source(self.file, number)

    def fact(self, value: str, number: int) -> Fact[str]:
        """A text that stands in a line."""
        return Fact(value, self.source(number))

    def say(self, name: str, fact: Fact[Any]) -> None:
        """A fact of the machine: a field of Machine by its name."""
        self.draft.say(name, fact, self.taken)

    def gauges(self, number: int, numbers: dict[str, int], group: str) -> None:
        """Numbers that go up and down, all of one group, as one line has them."""
        source = self.source(number)
        facts = {name: Fact(value, source) for name, value in numbers.items()}
        self.space.gauges.append(Sample(source, facts, (group,), LeftOut.NOTHING, self.taken))


class Reader:
    """Reads one kind of output, fed line by line."""

    kind: ClassVar[str]
    # What the first line of such an output begins with, as a pattern: looked at before starts(), for all kinds at once.
    opening: ClassVar[str] = ""

    def __init__(self, context: Context) -> None:
        self.context = context

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        """Whether an output of this kind begins with this line."""
        raise NotImplementedError

    def feed(self, number: int, line: str) -> bool:
        """Take a line; False for one that does not belong to this output."""
        raise NotImplementedError

    def finish(self) -> None:
        """Hand over what was read."""
