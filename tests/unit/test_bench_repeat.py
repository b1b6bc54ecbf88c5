"""Rounds of the same tests: what failed in how many of them, whatever way, and what that says of all rounds."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench import repeat
from bench.repeat import BEGIN, END, Book, Seen
from harness.errors import BadInput
from harness.orphans import Process

if TYPE_CHECKING:
    from collections.abc import Callable

# Fails in each third round, by a file that it finds.
FLAKE = """
import pathlib
import pytest

def test_flake():
    count = pathlib.Path(__file__).with_name("count")
    done = int(count.read_text()) if count.exists() else 0
    count.write_text(str(done + 1))
    assert done % 3 != 2, "the third | time"

@pytest.mark.parametrize("n", range(4))
def test_steady(n):
    if n == 3:
        pytest.skip("left out")
"""


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    """A directory with a flake, three that pass and one that is skipped."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(FLAKE)
    return tmp_path


@pytest.fixture
def repeated(tmp_path: Path, tests: Path) -> Callable[..., tuple[int, Book]]:
    """`repeated(*words)`: the exit code of the command with these options on the directory, and what is kept."""
    seen = tmp_path / "seen.json"

    def run(*words: str, arguments: tuple[str, ...] = ("--rootdir", str(tests), "-n0", str(tests))) -> tuple[int, Book]:
        code = repeat.main([f"--seen={seen}", *words, "--", *arguments])
        return code, Book.read(seen)

    return run


def test_a_flake_is_counted_by_rounds(
    repeated: Callable[..., tuple[int, Book]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, book = repeated("--times", "4")
    assert code == 1
    (seen,) = book.entries
    assert (seen.rounds, seen.failed_rounds, seen.tests, seen.skipped, len(seen.seconds)) == (4, 1, 4, 1, 4)
    ((name, (times, said)),) = seen.failed.items()
    assert (name.rpartition("::")[2], times) == ("test_flake", 1)
    assert said.startswith("AssertionError: the third / time")
    assert "alone 3 of 4: 4 ran, 1 failed, 1 skipped" in capsys.readouterr().out
    code, book = repeated("--times", "2")
    assert (code, book.entries[0].rounds, book.entries[0].failed_rounds) == (1, 6, 2)
    assert book.entries[0].failed[name][0] == 2
    assert "2 of 6" in repeat.table(book.entries)
    assert not list(tmp_path.glob("alone-*"))


def test_the_files_of_rounds_that_failed_are_kept(repeated: Callable[..., tuple[int, Book]], tmp_path: Path) -> None:
    repeated("--times", "3", "--keep", str(tmp_path / "kept"))
    (kept,) = (tmp_path / "kept").iterdir()
    assert "test_flake" in (kept / "0" / "junit.xml").read_text()


def test_rounds_without_a_failure_end_with_0(repeated: Callable[..., tuple[int, Book]]) -> None:
    code, book = repeated("--times", "2")
    assert (code, book.entries[0].failed_rounds, book.entries[0].failed) == (0, 0, {})


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import os\n\ndef test_dies():\n    os._exit(7)\n", "pytest ended with 7"),
        ("raise RuntimeError\n", "test_it"),
        ("", "pytest ended with 5"),
        ("import pytest\n\ndef test_it():\n    pytest.skip('left out')\n", "pytest ended with 0"),
    ],
    ids=["dies", "not collected", "no tests", "all skipped"],
)
def test_a_run_without_results_is_a_failure(
    repeated: Callable[..., tuple[int, Book]], tests: Path, source: str, what: str
) -> None:
    (tests / "test_it.py").write_text(source)
    code, book = repeated("--times", "1")
    assert (code, book.entries[0].failed_rounds) == (1, 1)
    assert any(what in name for name in book.entries[0].failed), book.entries[0].failed


def test_a_round_that_runs_less_than_another_has_failed(repeated: Callable[..., tuple[int, Book]], tests: Path) -> None:
    """The second one skips what the first has run."""
    one = "import pytest\n\ndef test_a():\n    pass\n\ndef test_b():\n    {}\n"
    (tests / "test_it.py").write_text(one.format("pass"))
    assert repeated("--times", "1")[0] == 0
    (tests / "test_it.py").write_text(one.format("pytest.skip()"))
    code, book = repeated("--times", "1")
    assert (code, book.entries[0].failed_rounds) == (1, 1)
    assert book.entries[0].failed == {repeat.OTHER_TESTS: (1, "1 ran, and 2 before")}


def test_two_at_once_are_two_rounds(repeated: Callable[..., tuple[int, Book]]) -> None:
    _, book = repeated("--times", "1", "--under", "twice")
    assert book.entries[0].rounds == 2


def test_a_run_on_one_core_has_one(repeated: Callable[..., tuple[int, Book]], tests: Path) -> None:
    (tests / "test_it.py").write_text("import os\n\ndef test_it():\n    assert len(os.sched_getaffinity(0)) == 1\n")
    assert repeated("--times", "1", "--under", "one-core")[0] == 0
    assert repeated("--times", "1")[0] == (len(os.sched_getaffinity(0)) != 1)


def children() -> set[int]:
    """The processes that this one has started and that are there still."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text(encoding="ascii").split()}


def test_what_runs_beside_is_there_and_ends() -> None:
    before = children()
    with repeat.beside("busy", 0):
        busy = [Process(pid) for pid in children() - before]
        assert len(busy) == len(os.sched_getaffinity(0))
        assert all(each.alive() for each in busy)
    assert not any(each.alive() for each in busy)
    with repeat.beside("alone", 0):
        assert children() <= before


# Ends what repeat runs beside it, as the kernel does where there is no more memory.
ENDS_WHAT_RUNS_BESIDE = """
import os, signal
from pathlib import Path

def test_it():
    pids = [int(each.name) for each in Path("/proc").glob("[0-9]*")]
    siblings = [pid for pid in pids if pid != os.getpid() and parent(pid) == os.getppid()]
    beside = [pid for pid in siblings if b"while True: pass" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(beside[0], signal.SIGKILL)

def parent(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
"""


def test_a_round_does_not_count_whose_circumstance_has_ended(
    repeated: Callable[..., tuple[int, Book]], tests: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process with all memory that the kernel ends leaves a run that was beside nothing."""
    (tests / "test_it.py").write_text(ENDS_WHAT_RUNS_BESIDE)
    code, book = repeated("--times", "2", "--under", "busy")
    assert (code, book.entries) == (2, [])
    assert capsys.readouterr().err == (
        "repeat: busy 1 of 2: what ran beside ended with -9 before the run did: the round does not count\n"
    )


def test_memory_is_taken_and_given_back() -> None:
    room = 64 << 20
    before = children()
    with repeat.beside("memory", repeat.available() - room):
        (pid,) = children() - before
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        (resident,) = [int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:")]
        # Others may have taken something between the two looks at what is left.
        assert resident > room // 2
    assert pid not in children()
    with pytest.raises(BadInput, match="--left"), repeat.beside("memory", repeat.available() * 2):
        pass


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--under", "alone,drunk"], "no circumstance is called drunk: alone, shared, busy, twice, one-core, memory"),
        (["--times", "-1"], "--times -1: 0 or more"),
    ],
)
def test_bad_input_is_a_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert repeat.main(words) == 2
    assert capsys.readouterr().err == f"repeat: {says}\n"


def test_a_damaged_file_is_a_line_and_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "seen.json").write_text("[{")
    assert repeat.main([f"--seen={tmp_path / 'seen.json'}", "--times=0"]) == 2
    assert capsys.readouterr().err.startswith(f"repeat: {tmp_path / 'seen.json'}: ")
    assert (tmp_path / "seen.json").read_text() == "[{"


@pytest.mark.parametrize(
    ("rounds", "failed", "said"),
    [(0, 0, ""), (1, 0, "less than 95.0%"), (20, 0, "less than 13.9%"), (200, 0, "less than 1.5%"), (20, 1, "5%")],
)
def test_what_rounds_say_of_all(rounds: int, failed: int, said: str) -> None:
    assert repeat.could_be(rounds, failed) == said


@pytest.mark.parametrize(
    ("words", "kernel"),
    [
        (["scenarios/", "--tcp-kernel", "6.12"], "6.12"),
        (["--kernel=6.12", "--tcp-kernel=7.3"], "6.12, 7.3"),
        (["scenarios/"], os.uname().release.partition("-")[0]),
    ],
)
def test_the_kernels_of_a_run(words: list[str], kernel: str) -> None:
    assert repeat.kernel_of(words) == kernel


def test_the_table_goes_between_the_marks() -> None:
    entry = Seen("scenarios/", "busy", "6.12", "abc", rounds=2, tests=3, seconds=[1.0, 3.0])
    page = repeat.written(f"# A page\n{BEGIN}old\n{END}after\n", repeat.table([entry]))
    assert "| `scenarios/` | busy | 6.12 | abc | 2 | 0 | less than 77.6% | 3 | 2 |\n" in page
    assert page.startswith("# A page\n")
    assert page.endswith(f"{END}after\n")
    assert "old" not in page
    with pytest.raises(BadInput, match="reliability"):
        repeat.written("# A page\n", "")


def test_what_is_kept_makes_no_other_commit(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)

    for file in (repeat.SEEN, repeat.PAGE, repeat.HERE / "harness" / "lab.py"):
        place = tmp_path / file.relative_to(repeat.HERE)
        place.parent.mkdir(exist_ok=True)
        place.write_text("as it was")
    git("init", "-q")
    git("add", ".")
    git("-c", "user.name=x", "-c", "user.email=x@x", "commit", "-q", "-m", "x")
    clean = repeat.commit(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{7,}", clean)
    for file in (repeat.SEEN, repeat.PAGE):
        (tmp_path / file.relative_to(repeat.HERE)).write_text("another round")
    assert repeat.commit(tmp_path) == clean
    (tmp_path / "harness" / "lab.py").write_text("changed")
    assert repeat.commit(tmp_path) == clean + "+"
