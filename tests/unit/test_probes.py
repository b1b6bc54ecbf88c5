"""Whoever looks at what is probed sees what is wrong with it: each judge, with a program that does just that."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench import repeat
from bench.probes import __main__ as probes
from bench.probes import inside, kinds, sandbox, words
from bench.probes.judges import KINDS, Wrong, judged
from bench.probes.sandbox import Ended, Program
from harness.errors import BadInput
from harness.orphans import Process
from tests.fuzz.ways import WAYS
from tests.nobody import skip_without_a_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A room with a file in the directory where programs run."""
    skip_without_a_sandbox()
    sandbox.lay(tmp_path)
    (tmp_path / "here" / "given").write_text("as it was")
    return tmp_path


def ended(room: Path, code: str, *named: str, deadline: float = 60.0, **more: str) -> Ended:
    """How Python ends with this code in a sandbox."""
    program = Program(
        (sys.executable, "-c", code), sandbox.environment(), named, deadline, grace=0.2, output=more.get("output", "")
    )
    return sandbox.run(program, room)


SOUND = (
    "print('fine')",
    "open('new', 'w')",
    "open('/dev/null', 'w').write('x')",
    "__import__('os').mkdir('d')",
    "__import__('os').utime('/dev/full')",
)
PLANTED = {
    "a traceback": ("raise ValueError", "traceback"),
    "an internal error": ("print('INTERNALERROR> x')", "traceback"),
    "another status": ("raise SystemExit(3)", "status"),
    "a signal": ("import os; os.kill(os.getpid(), 9)", "status"),
    "a hang": ("import time; time.sleep(600)", "hang"),
    "a hang that heeds no signal": (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)", "hang",
    ),
    "a file beside": ("open('../beside', 'w')", "outside"),
    "a file at home": ("open('/mnt/home/x', 'w')", "outside"),
    "a file in /etc": ("open('/etc/harness-probe', 'w')", "outside"),
    "a file in /tmp": ("open('/tmp/harness-probe', 'w')", "outside"),
    "a directory in /var": ("__import__('os').mkdir('/var/harness-probe')", "outside"),
    "a file of the project": (f"open({str(PROJECT / 'harness-probe')!r}, 'w')", "outside"),
    "a device": ("open('/dev/shm/harness-probe', 'w')", "outside"),
    "what was given is written": ("open('given', 'w')", "outside"),
    "what was given is removed": ("__import__('os').remove('given')", "outside"),
    "a file of the machine is removed": ("__import__('os').remove('/etc/passwd')", "outside"),
    "a child": ("import subprocess; subprocess.Popen(['sleep', '600'])", "left"),
    "a child of its own session": (
        "import subprocess; subprocess.Popen(['setsid', '-f', 'sleep', '600'], close_fds=False)", "left",
    ),
    "a temporary file": ("__import__('tempfile').mkstemp()", "left"),
}  # fmt: skip


@pytest.mark.parametrize("code", SOUND)
def test_what_is_sound_is_not_blamed(room: Path, code: str) -> None:
    assert judged(ended(room, code), {0}) == []


@pytest.mark.parametrize("what", PLANTED)
def test_what_is_planted_is_seen(room: Path, what: str) -> None:
    code, kind = PLANTED[what]
    found = judged(ended(room, code, deadline=1.0 if kind == "hang" else 60.0), {0, 1})
    assert [each.kind for each in found] == [kind], found
    assert kind in KINDS


def test_what_was_asked_for_is_not_outside(room: Path) -> None:
    code = "open('/etc/x', 'w'); open('/etc/x.junit.xml', 'w'); open('../d', 'w'); open('given', 'w')"
    assert ended(room, code, "/etc/x", "../d", "given").outside == ()
    assert ended(room, code, "/etc/x", "../d").outside == ("/mnt/here/given",)


def test_nothing_of_it_comes_to_this_machine(room: Path) -> None:
    """Neither its files nor its processes, nor a network."""
    code = (
        "import os, socket, subprocess\n"
        "open('/etc/harness-probe', 'w'); os.remove('/etc/passwd'); subprocess.Popen(['sleep', '600'])\n"
        "try: socket.create_connection(('192.0.2.1', 80), 5)\n"
        "except OSError as error: print(error.strerror)\n"
    )
    assert ended(room, code).said == "Network is unreachable\n"
    assert not Path("/etc/harness-probe").exists()
    assert Path("/etc/passwd").exists()


def test_it_ends_with_whoever_started_it(room: Path, tmp_path: Path) -> None:
    code = f"import sys; sys.path[:0] = [{str(PROJECT)!r}]\n" + (
        "from pathlib import Path; from bench.probes import sandbox\n"
        f"sandbox.run(sandbox.Program(('sleep', '600'), sandbox.environment()), Path({str(room)!r}))"
    )
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ)
    from bench.faults import _below
    from harness.waiting import until

    until(lambda: any(each.name == "sleep" for each in _below(pid)), what="a program in the sandbox")
    (sleep,) = [Process(each.pid) for each in _below(pid) if each.name == "sleep"]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    until(lambda: not sleep.alive(), what="its end")


@pytest.fixture
def alarmed() -> Iterator[None]:
    """What a process of probes does with its alarm."""
    before = signal.signal(signal.SIGALRM, inside._hangs)
    yield
    signal.signal(signal.SIGALRM, before)


def test_what_is_wrong_within_one_process_is_seen(
    alarmed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.cli import cli

    def lay(here: Path, data: bytes) -> None:
        (here / "given").write_bytes(data)

    def breaks(words: list[str], text: str = "") -> list[str]:
        monkeypatch.setattr(cli.commands["snapshot"], "callback", lambda **_: exec(words[0]))  # noqa: S102
        place = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        place.mkdir()
        probe = inside.Probe(("snapshot",), b"x", lay, text)
        return [each.kind for each in inside.tried(probe, place)]

    monkeypatch.chdir(tmp_path)
    assert breaks(["print('whole')"], "whole") == []
    assert breaks(["raise ValueError"]) == ["traceback"]
    assert breaks(["raise SystemExit(7)"]) == ["status"]
    assert breaks(["print('Traceback (most recent call last)')"]) == ["traceback"]
    with monkeypatch.context() as soon:
        soon.setattr(inside, "DEADLINE", 0.2)
        assert breaks(["import time; time.sleep(60)"]) == ["hang"]
    assert breaks(["__import__('pathlib').Path('given').write_text('')"]) == ["outside"]
    assert breaks(["print('part')"], "whole") == ["lost"]
    assert breaks(["from harness.errors import BadInput; raise BadInput('no')"], "whole") == []
    assert breaks(["from harness.errors import BadInput; raise BadInput('')"]) == ["status"]


@pytest.mark.parametrize("way", inside.SHOW_ALL)
def test_what_is_whole_is_shown_beside_what_is_not(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise nothing could be lost."""
    from tests.fuzz.ways import lay

    for spoilt in (inside.sound(), b"{}"):
        place = tmp_path / str(len(spoilt))
        place.mkdir()
        words.small_scenarios(place / "scenarios")
        lay(place, way, spoilt)
        (place / "e" / f"{inside.KEPT}.json").write_bytes(inside.sound(inside.KEPT))
        monkeypatch.chdir(place)
        said, wrong = inside.ends(WAYS[way][2])
        assert wrong == []
        written = "".join(file.read_text() for file in place.glob("out*"))
        assert inside.KEPT in said + written or spoilt == b"{}"


def test_the_same_seed_tries_the_same() -> None:
    first, again, other = (list(words.typed(50, seed)) for seed in (3, 3, 4))
    assert first == again != other
    once, twice = (
        [(each.words, each.content) for each in inside.drawn(inside.KINDS["evidence"](), 20, 5)] for _ in range(2)
    )
    assert once == twice
    assert len(set(once)) > 10


def test_a_run_of_the_small_project_passes_and_its_evidence_is_found(tmp_path: Path) -> None:
    """Otherwise a result could not be missed."""
    skip_without_a_sandbox()
    words.project(tmp_path)
    run = words.Typed((sys.executable, "-m", "pytest", "scenarios"), words.OF_A_SESSION)
    assert words.tried(run, tmp_path) == []
    loses = "import shutil\ndef pytest_unconfigure(): shutil.rmtree('out')\n"
    (tmp_path / "here" / "scenarios" / "conftest.py").write_text(loses)
    assert [each.kind for each in words.tried(run, tmp_path)] == ["lost"]


def test_what_a_batch_says_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    tried, wrong, interrupted = probes.counted(
        iter([kinds.Probed(0, "a", ()), kinds.Probed(1, "b", [Wrong("hang", "x"), Wrong("left", "y")])]), "words"
    )
    assert (tried, dict(wrong), interrupted) == (2, {"hang": 1, "left": 1}, False)
    assert capsys.readouterr().out == "words 1: b\n    hang: x\nwords 1: b\n    left: y\n"


def test_the_table_has_a_row_for_each_kind() -> None:
    seen = {"words": probes.Seen(1030, {"hang": 2}, 1, "abc"), "captures": probes.Seen(3000, {}, 1, "abc")}
    assert probes.table(seen).splitlines()[2:] == [
        "| command lines, options, environments | 1,030 | 0 | 2 | 0 | 0 | 0 | 0 | abc |",
        "| captures | 3,000 | 0 | 0 | 0 | 0 | 0 | 0 | abc |",
    ]
    page = f"a\n{probes.BEGIN}old\n{probes.END}b\n"
    assert repeat.written(page, "new\n", (probes.BEGIN, probes.END)) == f"a\n{probes.BEGIN}new\n{probes.END}b\n"
    with pytest.raises(BadInput, match=r"has no <!-- measured by bench\.probes"):
        repeat.written("a", "new", (probes.BEGIN, probes.END))
