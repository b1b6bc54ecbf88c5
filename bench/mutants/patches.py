"""The defects: a patch each, with a head that says what is wrong, and where the scenarios should notice.

    A full accept queue has room for one connection less.

    Group: accept-queue
    Kind: one off
    Family: ipv4
    Claims: capacity, tw-reuse.default

    --- a/net/ipv4/tcp_ipv4.c
    +++ b/net/ipv4/tcp_ipv4.c
    @@ …

`Claims` are asked first: those of the group need no group's name. `Family` is ipv6 where only IPv6 is wrong.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BadInput

PATCHES = Path(__file__).parent / "patches"
KINDS = (
    "behaviour",
    "counter",
    "timer",
    "one off",
    "knob ignored",
    "knob inverted",
    "default",
    "rare order",
    "display",
)
FAMILIES = ("ipv4", "ipv6")
# Where a defect may be.
PLACES = ("net/ipv4/", "net/ipv6/", "net/core/")


@dataclass(frozen=True)
class Change:
    """A patch to the kernel's source: its name, what it does in a sentence, and the changes as `patch` takes them."""

    name: str
    path: Path
    title: str
    changes: str

    @property
    def digest(self) -> str:
        """What identifies the change."""
        return hashlib.sha256(self.changes.encode()).hexdigest()[:16]

    @property
    def files(self) -> tuple[str, ...]:
        """The files of the kernel's source that it changes."""
        return tuple(re.findall(r"^\+\+\+ b/(\S+)", self.changes, re.MULTILINE))


@dataclass(frozen=True)
class Mutant(Change):
    """A defect. `family` is the one to try; `claims` are those that should notice, by their full names."""

    group: str
    kind: str
    family: str
    claims: tuple[str, ...]


def read_all(directory: Path = PATCHES) -> list[Mutant]:
    """Every patch of a directory, by name."""
    return [read(path) for path in sorted(directory.glob("*.patch"))]


def read(path: Path) -> Mutant:
    """A patch with its head; BadInput where the head lacks something, or has what nothing knows."""
    change, rest = read_change(path)
    fields = dict(re.findall(r"^(\w+): (.+)$", rest, re.MULTILINE))
    for field, known in (("Group", None), ("Kind", KINDS), ("Family", FAMILIES)):
        if field not in fields or (known and fields[field] not in known):
            raise BadInput(f"{path}: {field}: must say {'the group of claims' if known is None else ', '.join(known)}")
    group = fields["Group"]
    claims = [name.strip() for name in fields.get("Claims", "").split(",") if name.strip()]
    return Mutant(
        name=change.name,
        path=path,
        title=change.title,
        changes=change.changes,
        group=group,
        kind=fields["Kind"],
        family=fields["Family"],
        claims=tuple(name if "." in name else f"{group}.{name}" for name in claims),
    )


def read_change(path: Path) -> tuple[Change, str]:
    """A patch whose first line says what it does, and the rest of its head; BadInput for a file without a change."""
    head, _, changes = path.read_text(encoding="utf-8").partition("\n--- a/")
    if not changes:
        raise BadInput(f"{path}: no change in it: a line `--- a/FILE` begins one")
    title, _, rest = head.partition("\n")
    return Change(path.stem, path, title.strip(), f"--- a/{changes}"), rest


def choose(words: list[str], mutants: list[Mutant]) -> list[Mutant]:
    """Those whose name, or group, is or begins with one of the words; all, without words. BadInput where none does."""
    if not words:
        return mutants
    for word in words:
        if not any(_is_meant(word, mutant) for mutant in mutants):
            raise BadInput(f"{word}: no mutant of that name, and no group: python -m bench.mutants --list")
    return [mutant for mutant in mutants if any(_is_meant(word, mutant) for word in words)]


def spread(mutants: list[Mutant]) -> list[Mutant]:
    """The first of each group, the second of each, and so on: whoever stops early has seen something of all."""
    taken: Counter[str] = Counter()
    rounds = []
    for mutant in mutants:
        rounds.append((taken[mutant.group], mutant))
        taken[mutant.group] += 1
    return [mutant for _, mutant in sorted(rounds, key=lambda numbered: numbered[0])]


def _is_meant(word: str, mutant: Mutant) -> bool:
    return mutant.name.startswith(word) or mutant.group == word
