"""python -m bench.repeat [--times 20] [--under alone,busy,…] [--write] [--] ARGUMENT…: how often do tests fail?

ARGUMENT… is what pytest gets: `scenarios/ -n 8`, `scenarios/ --tcp-kernel 6.12`. The circumstances:

    alone     nothing of ours runs beside
    shared    other work runs beside, whatever that is
    busy      a process for each processor that never rests
    twice     two runs at once, each counts
    one-core  the run has the first processor alone
    memory    a process has all memory but --left (2 GB)

A round is a whole run of pytest. A test that failed counts by its name, a run without an end as a failure of its own.
What was seen is kept in docs/reliability.json by arguments, circumstance, kernel and commit; --write puts the table
into docs/reliability.md. A round does not count whose circumstance ended before it, as the process with the memory
does where the run needs more than it was left. Ends with 1 if anything failed, with 2 where the rounds cannot begin or
do not count, with 130 after Ctrl-C; rounds before that are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import mmap
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness import files
from harness.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parents[1]
SEEN = HERE / "docs" / "reliability.json"
PAGE = HERE / "docs" / "reliability.md"
BEGIN, END = "<!-- measured by bench.repeat -->\n", "<!-- end -->\n"
UNDER = ("alone", "shared", "busy", "twice", "one-core", "memory")
# What a round is that did not run what the others ran.
OTHER_TESTS = "other tests"
# How sure: the share of failures that so many rounds without any would have shown with this probability.
SURE = 0.95
# util-linux: the kernel ends what follows when the thread that started it ends, whatever way.
ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL")
# Pages are touched, so that they are the process's own; the parent ends it.
HOG = """import mmap, sys, time
room = mmap.mmap(-1, int(sys.argv[1]))
for at in range(0, len(room), mmap.PAGESIZE):
    room[at] = 1
print(flush=True)
time.sleep(1e9)
"""


class Round(msgspec.Struct, frozen=True):
    """A run of pytest: tests that ran and were skipped, what failed and what it said, seconds."""

    ran: int
    skipped: int
    failed: dict[str, str]
    seconds: float


class Seen(msgspec.Struct, omit_defaults=True):
    """Rounds of the same tests, circumstance, kernel and commit.

    `tests` is how many ran in a round, `seconds` has a number for each round, `failed` for each test the rounds in
    which it failed and what it said last.
    """

    arguments: str
    under: str
    kernel: str
    commit: str
    rounds: int = 0
    failed_rounds: int = 0
    tests: int = 0
    skipped: int = 0
    seconds: list[float] = []
    failed: dict[str, tuple[int, str]] = {}

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What rounds have in common that are counted together."""
        return self.arguments, self.under, self.kernel, self.commit

    def add(self, new: Round) -> dict[str, str]:
        """Count a round more; what failed in it. One in which other tests ran than before has failed."""
        failed = dict(new.failed)
        if self.tests and new.ran != self.tests:
            failed[OTHER_TESTS] = f"{new.ran} ran, and {self.tests} before"
        self.rounds += 1
        self.failed_rounds += bool(failed)
        self.tests, self.skipped = max(self.tests, new.ran), max(self.skipped, new.skipped)
        self.seconds = [*self.seconds, round(new.seconds, 1)]
        for name, said in failed.items():
            self.failed[name] = (self.failed.get(name, (0, ""))[0] + 1, said)
        return failed


def could_be(rounds: int, failed: int) -> str:
    """The share of rounds that fail: as it was seen; where none has failed, the upper bound 1 - (1 - SURE)^(1/n)."""
    if not rounds:
        return ""
    return f"{failed / rounds:.0%}" if failed else f"less than {1 - (1 - SURE) ** (1 / rounds):.1%}"


def read_junit(file: Path, seconds: float, status: int, said: str) -> Round:
    """A round, of what pytest wrote and how it ended; a run without results is a failure of its own."""
    try:
        cases = list(ET.parse(file).iter("testcase"))
    except (OSError, ET.ParseError):
        cases = []
    failed, skipped = {}, 0
    for case in cases:
        name = f"{case.get('classname', '').replace('.', '/')}::{case.get('name', '')}"
        for part in case:
            if part.tag in ("failure", "error"):
                failed[name] = first_line(part.get("message") or part.text or "")
            skipped += part.tag == "skipped"
    ran = len(cases) - skipped
    if not ran or status not in (0, 1) or (status == 1 and not failed):
        last = [line for line in said.splitlines() if line.strip()][-1:]
        failed[f"pytest ended with {status}"] = first_line("".join(last))
    return Round(ran, skipped, failed, seconds)


def first_line(text: str) -> str:
    """The first line of a text that says something, shortened; no | in it, which would end a table's cell."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = line.replace("|", "/")
    return line if len(line) <= 160 else line[:159] + "…"


def started(arguments: Sequence[str], place: Path, processors: set[int] | None = None) -> subprocess.Popen[str]:
    """A run of pytest, with evidence, files of tests and JUnit's XML in a directory of its own."""
    place.mkdir(parents=True)
    on = ["taskset", "--cpu-list", ",".join(map(str, sorted(processors)))] if processors else []
    command = [
        *(*ENDS_WITH_US, *on, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments),
        *(f"--junitxml={place / 'junit.xml'}", f"--tcp-evidence={place / 'evidence'}", f"--basetemp={place / 'tests'}"),
    ]
    return subprocess.Popen(
        command, cwd=HERE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace",
    )  # fmt: skip


def one_round(arguments: Sequence[str], under: str, place: Path) -> list[Round]:
    """The runs of a round: two where they run at once."""
    processors = {min(os.sched_getaffinity(0))} if under == "one-core" else None
    began = time.monotonic()
    runs = [started(arguments, place / str(n), processors) for n in range(2 if under == "twice" else 1)]
    found = []
    for n, run in enumerate(runs):
        said, _ = run.communicate()
        found.append(read_junit(place / str(n) / "junit.xml", time.monotonic() - began, run.returncode, said))
    return found


def available() -> int:
    """Bytes of memory that programs can have (Documentation/filesystems/proc.rst, MemAvailable)."""
    found = re.search(r"^MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    if found is None:
        raise BadInput("/proc/meminfo has no MemAvailable: --under memory needs Linux 3.14")
    return int(found[1]) * 1024


@contextlib.contextmanager
def beside(under: str, left: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """What a circumstance has beside the run, its processes; they end with it."""
    commands: list[list[str]] = []
    if under == "busy":
        commands = [[sys.executable, "-c", "while True: pass"] for _ in os.sched_getaffinity(0)]
    elif under == "memory":
        room = available() - left
        if room < mmap.PAGESIZE:
            raise BadInput(f"--left {left >> 20} MB: there are only {available() >> 20} MB")
        commands = [[sys.executable, "-c", HOG, str(room)]]
    running = [
        subprocess.Popen([*ENDS_WITH_US, *each], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) for each in commands
    ]
    try:
        if under == "memory":
            stdout = running[0].stdout
            assert stdout is not None
            if not stdout.readline():
                raise BadInput(f"memory of {available() >> 20} MB cannot be taken but for --left {left >> 20} MB")
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@dataclass
class Book:
    """All that was seen, in a file."""

    file: Path
    entries: list[Seen] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> Book:
        """What is kept; nothing where there is no file. BadInput where it cannot be read."""
        try:
            return cls(file, msgspec.json.decode(file.read_bytes(), type=list[Seen]))
        except FileNotFoundError:
            return cls(file)
        except (OSError, msgspec.DecodeError) as error:
            raise BadInput(f"{file}: {error}") from None

    def count(self, seen: Seen, rounds: Sequence[Round]) -> list[dict[str, str]]:
        """Add rounds to what is kept of the same tests, and write the file; what failed in each."""
        kept = next((each for each in self.entries if each.key == seen.key), seen)
        if kept is seen:
            self.entries.append(seen)
        failed = [kept.add(each) for each in rounds]
        files.write(self.file, msgspec.json.format(msgspec.json.encode(self.entries), indent=1) + b"\n")
        return failed


def table(entries: Sequence[Seen]) -> str:
    """The page's tables: a row for each, then what failed."""
    head = ["tests", "circumstance", "kernel", "commit", "rounds", "of them failed", "of all rounds, at 95 %"]
    head += ["tests in a round", "seconds of a round"]
    rows = [f"| {' | '.join(head)} |", "|---|---|---|---|---:|---:|---|---:|---:|"]
    rows += [
        f"| `{each.arguments}` | {each.under} | {each.kernel} | {each.commit} | {each.rounds} | {each.failed_rounds} | "
        f"{could_be(each.rounds, each.failed_rounds)} | {each.tests} | {statistics.median(each.seconds):.0f} |"
        for each in sorted(entries, key=lambda each: each.key)
    ]
    failed = [
        f"| `{name}` | {each.under}, {each.kernel}, {each.commit} | {times} of {each.rounds} | {said} |"
        for each in entries
        for name, (times, said) in each.failed.items()
    ]
    if failed:
        rows += ["", "| what failed | where | rounds | what it said |", "|---|---|---|---|", *failed]
    return "\n".join(rows) + "\n"


def written(page: str, new: str, marks: tuple[str, str] = (BEGIN, END)) -> str:
    """The page with new tables between the marks. BadInput without the marks."""
    before, begin, rest = page.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise BadInput(f"{PAGE.relative_to(HERE)} has no {' … '.join(map(str.strip, marks))}")
    return before + begin + new + end + after


def commit(place: Path = HERE) -> str:
    """The commit that is checked out, with a + where files of it are changed, what is kept here apart."""
    # Also in a clone that is somebody else's.
    git = ["git", "-c", f"safe.directory={place}", "-C", str(place)]
    kept = [f":(exclude){file.relative_to(HERE)}" for file in (SEEN, PAGE)]

    def said(*words: str) -> str:
        return subprocess.run([*git, *words], check=True, capture_output=True, text=True).stdout.strip()

    is_changed = said("status", "--porcelain", "--untracked-files=no", "--", ".", *kept)
    return said("describe", "--always", "--exclude=*") + ("+" if is_changed else "")


def kernel_of(arguments: Sequence[str]) -> str:
    """Which kernels the tests run on."""
    named = [
        words[at + 1] if word in ("--tcp-kernel", "--kernel") and at + 1 < len(words) else word.partition("=")[2]
        for words in [list(arguments)]
        for at, word in enumerate(words)
        if re.match(r"--(tcp-)?kernel\b", word)
    ]
    return ", ".join(named) or os.uname().release.partition("-")[0]


def options() -> argparse.ArgumentParser:
    """What can be typed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.repeat", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("arguments", nargs="*", metavar="ARGUMENT", help="what pytest gets, after --")
    parser.add_argument("--times", type=int, default=20, help="rounds of each circumstance (%(default)s)")
    parser.add_argument(
        "--under", default="alone", help=f"circumstances, with commas: {', '.join(UNDER)} (%(default)s)"
    )
    parser.add_argument("--left", type=int, default=2048, help="megabytes that --under memory leaves (%(default)s)")
    parser.add_argument("--keep", type=Path, help="where the files of rounds that failed are kept")
    parser.add_argument("--seen", type=Path, default=SEEN, help="where counts are kept (%(default)s)")
    parser.add_argument("--write", action="store_true", help="the table goes into docs/reliability.md as well")
    return parser


def rounds_of(asked: argparse.Namespace, under: str, book: Book, keep: Path) -> bool:
    """The rounds of a circumstance, a line for each; whether all passed."""
    words = shlex.join(asked.arguments)
    good = True
    with beside(under, asked.left << 20) as running:
        for number in range(asked.times):
            place = keep / f"{under}-{number:03}-{os.getpid()}"
            rounds = one_round(asked.arguments, under, place)
            if ended := [each.returncode for each in running if each.poll() is not None]:
                # The kernel ends the process that has most of the memory when there is no more.
                more = "; a larger --left leaves the run more memory" if under == "memory" else ""
                raise BadInput(
                    f"{under} {number + 1} of {asked.times}: what ran beside ended with {ended[0]} before the run did: "
                    f"the round does not count{more}"
                )
            failed = book.count(Seen(words, under, kernel_of(asked.arguments), commit()), rounds)
            for each, wrong in zip(rounds, failed, strict=True):
                print(
                    f"{under} {number + 1} of {asked.times}: {each.ran} ran, {len(wrong)} failed, "
                    f"{each.skipped} skipped, {each.seconds:.0f} s", flush=True,
                )  # fmt: skip
                for name, said in wrong.items():
                    print(f"    {name}: {said}", flush=True)
            good = good and not any(failed)
            if not any(failed) or asked.keep is None:
                shutil.rmtree(place, ignore_errors=True)
    return good


def main(words: list[str]) -> int:
    """Run the rounds, count, write."""
    asked = options().parse_args(words)
    under = asked.under.split(",")
    if unknown := [each for each in under if each not in UNDER]:
        print(f"repeat: no circumstance is called {', '.join(unknown)}: {', '.join(UNDER)}", file=sys.stderr)
        return 2
    if asked.times < 0:
        print(f"repeat: --times {asked.times}: 0 or more", file=sys.stderr)
        return 2
    try:
        book = Book.read(asked.seen)
        with contextlib.ExitStack() as stack:
            keep = asked.keep or stack.enter_context(files.folder("harness-repeat-"))
            ended = [rounds_of(asked, each, book, keep.absolute()) for each in under]
        if asked.write:
            PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), table(book.entries)), encoding="utf-8")
    except BadInput as error:
        print(f"repeat: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("repeat: interrupted; the rounds before are kept", file=sys.stderr)
        return 130
    return 0 if all(ended) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
