"""Examples at the end of each command's --help; tests/docs lets the command parse each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

# By the words of the command. `scenarios` and `matrix` have theirs in their own text.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "claims": ("harness claims -o claims.md --also runs/5.10",),
    "report": ("harness report", "harness report runs/5.10 runs/6.12 -o both.html", "harness report --format ktap"),
    "compare": (
        "harness compare 6.1 7.3",
        "harness compare last/ out/evidence --page diff.html",
        "harness compare 6.1 7.3 --facts",
    ),
    "vagrant box": ("harness vagrant box 6.12",),
    "vagrant up": ("harness vagrant up 5.10 6.12",),
    "vagrant exec": ("harness vagrant exec vagrant ssh k6.12",),
    "vagrant ssh-config": ("harness vagrant ssh-config 6.12",),
    "vagrant down": ("harness vagrant down",),
    "vagrant run": ("harness vagrant run 5.10 6.12",),
    "kernels list": ("harness kernels list", "harness kernels list --all"),
    "kernels fetch": ("harness kernels fetch 6.12 '>=7.0'",),
    "kernels config": (
        "harness kernels config > harness.config",
        "harness kernels config ~/linux",
    ),
    "cache list": ("harness cache list",),
    "cache prune": ("harness cache prune --keep 5G", "harness cache prune --all --kernels"),
    "shell": ("harness shell 6.12", "harness shell 6.12 -- uname -r"),
    "check": (
        "harness check . --claim accept-queue",
        "git bisect run sh -c 'make -j8 bzImage || exit 125; harness check . --claim tw-reuse.default'",
    ),
    "bisect": (
        "harness bisect tw-reuse.after-one-second --from 6.1 --to 7.3",
        "harness bisect --all --evidence out/evidence",
    ),
    "history": ("harness history runs/ --claim accept-queue",),
    "snapshot": ("harness snapshot -o snapshot.py", "harness snapshot | ssh web1 python3 - > web1.json"),
    "diagnose": ("harness diagnose web1.json", "harness diagnose web1/ --page diagnosis.html"),
    "reproduce": ("harness reproduce web1.json -o test_web1.py",),
    "remedy": ("harness remedy web1.json --page remedies.html",),
}


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command below a group that does something, by its words."""
    for name, command in group.commands.items():
        words = f"{prefix} {name}".strip()
        if isinstance(command, click.Group):
            yield from commands(command, words)
        elif not command.hidden:
            yield words, command


def add(group: click.Group) -> None:
    """Put the examples at the end of the help of the commands below a group."""
    for words, command in commands(group):
        if lines := EXAMPLES.get(words):
            command.epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
