"""python -m bench.bisect [claim] [boot]: does `git bisect run harness check` find the commit? docs/trees.md.

The kernel of bench/mutants gets a history of eleven commits in net/ipv4: harmless ones, defects that other claims are
about, one that does not compile, one that dies as it boots, and one that breaks accept-queue.capacity. git bisect has
to find that one, and among those before it the one that does not boot. Each commit is built as far as it differs, and
boots once. Exits with 1 if another commit was found.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.mutants import patches
from bench.mutants.source import Tree
from harness.errors import HarnessError
from harness.kernels import places

if TYPE_CHECKING:
    from collections.abc import Sequence

PROJECT = Path(__file__).parents[1]
CLAIM = "accept-queue.capacity"
# One file, for on an emulated processor it takes a minute to import all.
SCENARIOS = PROJECT / "scenarios" / "test_accept_queue_length.py"
WHO = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "bench"), ("EMAIL", "bench@example.invalid"), ("DATE", "2026-01-01T00:00:00Z"))
}
# No repository but the one that is named, and nobody's settings.
ALONE = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}


@dataclass(frozen=True)
class Commit:
    """A commit: its subject, and a mutant's patch, or text that is put at the end of a file, or both taken back."""

    subject: str
    mutant: str = ""
    file: str = ""
    text: str = ""
    takes_back: bool = False


UNFINISHED = "tcp: half of a change of the retransmission timer"
PANICS = "tcp: check at boot that TCP is ready"
BREAKS = "tcp: an accept queue of one connection less"
HISTORY = (
    Commit("tcp: a comment", file="net/ipv4/tcp_output.c", text="\n/* What is above sends. */\n"),
    Commit("tcp: TIME-WAIT is reused within a second", mutant="0702-reuse-within-a-second"),
    Commit(UNFINISHED, file="net/ipv4/tcp_timer.c", text="\nint tcp_half(void)\n{\n\treturn not_written_yet;\n}\n"),
    Commit(f'Revert "{UNFINISHED}"', takes_back=True),
    Commit(
        PANICS,
        file="net/ipv4/tcp.c",
        text='\nstatic int __init tcp_is_ready(void)\n{\n\tpanic("TCP: not ready");\n}\nlate_initcall(tcp_is_ready);\n',
    ),
    Commit(f'Revert "{PANICS}"', takes_back=True),
    Commit("tcp: what PAWS drops is not counted", mutant="0607-paws-uncounted"),
    Commit(BREAKS, mutant="0101-accept-queue-one-less"),
    Commit("inet: a comment", file="net/ipv4/inet_hashtables.c", text="\n/* What is above finds. */\n"),
    Commit("tcp: TIME-WAIT's first number is one less", mutant="0703-first-number-one-less"),
    Commit("tcp: another comment", file="net/ipv4/tcp_minisocks.c", text="\n/* What is above waits. */\n"),
)


@dataclass(frozen=True)
class Question:
    """What git bisect is asked: the range, by places of commits, words for the check, and what it has to find."""

    name: str
    what: str
    good: int
    bad: int
    words: tuple[str, ...]
    answer: str


QUESTIONS = (
    Question("claim", "the claim broke", 0, len(HISTORY), ("--skip-unbootable",), BREAKS),
    # The first commit that is looked at is the one that does not compile.
    Question("boot", "it does not boot any more", 1, 5, (), PANICS),
)


class Repository:
    """A kernel's source as a git repository of net/, and where its kernels are built."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.commits: list[str] = []

    def git(self, *words: str, check: bool = True) -> str:
        """Run git; what it printed, both streams."""
        ran = subprocess.run(
            ["git", "-c", "advice.detachedHead=false", *words], cwd=self.tree.source, env=os.environ | WHO | ALONE,
            check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if check and ran.returncode:
            raise HarnessError(f"git {' '.join(words)}: {ran.stdout.strip()}")
        return ran.stdout

    def make(self) -> None:
        """The history, the same each time; the newest commit is checked out."""
        self.git("init", "-q")
        if self.git("tag", "--list", "v0"):
            self.git("bisect", "reset", check=False)
            self.git("checkout", "-qf", "v0")
        else:
            self.git("add", "-f", "net")  # Debian's .gitignore takes all but debian/
            self.git("commit", "-q", "-m", f"Linux {self.tree.version}")
            self.git("tag", "v0")
        self.commits = [self._head()]
        for commit in HISTORY:
            if commit.takes_back:
                self.git("revert", "--no-edit", "HEAD")
                self.git("commit", "-q", "--amend", "-m", commit.subject)
            else:
                self._change(commit)
                self.git("commit", "-qam", commit.subject)
            self.commits.append(self._head())

    def _head(self) -> str:
        return self.git("rev-parse", "HEAD").strip()

    def _change(self, commit: Commit) -> None:
        if commit.mutant:
            change, _ = patches.read_change(patches.PATCHES / f"{commit.mutant}.patch")
            subprocess.run(
                ["git", "apply", "--recount", "-C1"], cwd=self.tree.source, input=change.changes, text=True, check=True
            )
        if commit.file:
            with (self.tree.source / commit.file).open("a") as file:
                file.write(commit.text)

    def bisect(self, question: Question, script: Path) -> tuple[str, str]:
        """The subject of the commit that git finds, "" if it finds none, and all that was said."""
        script.write_text(self._script(question.words))
        script.chmod(0o755)
        self.git("bisect", "start", self.commits[question.bad], self.commits[question.good])
        try:
            said = self.git("bisect", "run", str(script), check=False)
        finally:
            self.git("bisect", "reset", check=False)
        found = re.search(r"^([0-9a-f]{40}) is the first bad commit$", said, re.MULTILINE)
        return (self.git("log", "-1", "--format=%s", found[1]).strip() if found else ""), said

    def _script(self, words: Sequence[str]) -> str:
        # LOCALVERSION that is set keeps "+" out of the release of commits that have no tag.
        make = f"nice make -s -j{self.tree.jobs} LOCALVERSION= O={self.tree.objects} bzImage"
        check = [
            str(Path(sys.executable).with_name("harness")), "check", str(self.tree.objects),
            "--claim", CLAIM, "--scenarios", str(SCENARIOS), *words,
        ]  # fmt: skip
        stamps = "export KBUILD_BUILD_TIMESTAMP=1970-01-01 KBUILD_BUILD_USER=bench KBUILD_BUILD_HOST=here"
        return f"#!/bin/sh\n{stamps}\n{make} || exit 125\nexec {' '.join(check)}\n"


def main(words: list[str]) -> int:
    """Make the history, ask the questions; 0 if git found what it had to, 1 if not, 2 if the source cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m bench.bisect", description=__doc__)
    parser.add_argument("--build", type=Path, default=places.cache() / "bisect", help="where to build (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="how many programs build at a time (%(default)s)")
    names = [question.name for question in QUESTIONS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(names)} (all)")
    asked = parser.parse_args(words)
    if unknown := set(asked.names) - set(names):
        parser.error(f"nothing is asked by the name {', '.join(sorted(unknown))}: {', '.join(names)}")
    tree = Tree(asked.build.absolute(), asked.jobs)
    try:
        tree.prepare()
        repository = Repository(tree)
        repository.make()
        chosen = [question for question in QUESTIONS if question.name in (asked.names or names)]
        return max([_ask(repository, question) for question in chosen])
    except (HarnessError, OSError) as error:
        print(f"bisect: {error}", file=sys.stderr)
        return 2


def _ask(repository: Repository, question: Question) -> int:
    began = time.monotonic()
    found, said = repository.bisect(question, repository.tree.directory / "run.sh")
    print(f"--- {question.what}: {question.bad - question.good} commits\n{said}")
    right = found == question.answer
    verdict = "as it had to" if right else f"and had to find {question.answer!r}"
    print(f"bisect: {question.what}: found {found!r}, {verdict}; {time.monotonic() - began:.0f} s", flush=True)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
