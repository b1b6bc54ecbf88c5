"""What `harness compare` is asked, and what its words mean: directories with evidence, or kernels."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness import files
from harness.cli.notes import note
from harness.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.cli.machine import Machine
    from harness.kernels.selection import Selection
    from harness.kernels.targets import Target

SCENARIOS = Path("scenarios")
SAME, DIFFERENT, USAGE = 0, 1, 2


@dataclass(frozen=True)
class Question:
    """What is to be compared, and how the answer is to look."""

    words: tuple[str, str]
    mode: str = "changes"
    evidence: tuple[Path, ...] = ()
    scenarios: Path = SCENARIOS
    claims: tuple[str, ...] = ()
    as_json: bool = False
    page: str | None = None
    every: bool = False
    selection: Selection | None = field(default=None, compare=False)
    machine: Machine | None = None


def is_evidence(word: str) -> bool:
    """Whether a word is a directory with evidence, and no kernel's tree: that has arch/, and JSON perhaps."""
    place = Path(word)
    return files.is_directory(place) and not files.is_directory(place / "arch")


def target(word: str, question: Question) -> Target:
    """The one kernel that a word means, brought if it is not here; BadInput if it means several."""
    from harness.kernels.bzimage import NotAnImage

    try:
        return the_kernel(word, question.selection)
    except NotAnImage as error:
        raise BadInput(f"{error}; of evidence name the directory: unpack an archive first") from None
    except BadInput as error:
        if files.there_is(word) or isinstance(error, Several):
            raise
        raise BadInput(f"{word} is no directory with evidence, and {error}") from None


@contextmanager
def as_named() -> Iterator[None]:
    """Other rooms name the option of pytest that takes a kernel: here it is a word by itself."""
    try:
        yield
    except BadInput as error:
        raise type(error)(str(error).removeprefix("--kernel ")) from None


class Several(BadInput):
    """A word means several kernels, or none, where one is wanted."""


def the_kernel(word: str, selection: Selection | None) -> Target:
    """The one kernel that a word means, whatever --kernel takes; Several if it is not one, BadInput if it is no word.

    `selection` is where kernels of the archive come from, the machine's own if it is None.
    """
    from harness.kernels.targets import Ways, meant
    from harness.vagrant import reach

    def chosen() -> Selection:
        from harness.kernels.selection import Selection

        return selection or Selection(None, (), None, say=note)

    with as_named():
        targets = meant([word], Ways(chosen, lambda machine, python: reach.host(machine, Path.cwd(), python)))
    if len(targets) != 1:
        names = ", ".join(each.name for each in targets)
        raise Several(f"{word} means {names or 'no kernel'}: name one of them")
    return targets[0]
