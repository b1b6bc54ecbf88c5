"""What the first process of a guest does that can be seen without a guest."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import py_compile
import socket
import struct
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.kernels import guest
from harness.kernels.project import File, packed
from harness.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in place of the sysctl that says how often the pool behind getrandom(2) is filled."""
    file = tmp_path / "urandom_min_reseed_secs"
    file.write_text("60\n")
    monkeypatch.setattr(guest, "DRAW_EVERY", str(file))
    return file


@pytest.fixture
def opened(seconds: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The files that are opened, each with the seconds at that moment."""
    seen: list[tuple[str, str]] = []

    def watched(name: str, *words: Any, **others: Any) -> Any:
        seen.append((name, seconds.read_text()))
        return open(name, *words, **others)  # noqa: PTH123 - the guest opens it so

    monkeypatch.setattr(guest, "open", watched, raising=False)
    return seen


def test_the_pool_is_read_while_it_is_filled_at_each_read(seconds: Path, opened: list[tuple[str, str]]) -> None:
    guest.draw_from_added()
    assert opened == [(str(seconds), "60\n"), ("/dev/urandom", "00\n")]
    assert int("00\n") == 0
    assert seconds.read_text() == "60\n"


def test_a_seed_is_added_before_the_pool_is_read(
    opened: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[bytes] = []

    def ioctl(_: object, request: int, content: bytes = b"") -> None:
        added.append(content if request == guest.RNDADDENTROPY else b"reseed")
        assert [name for name, _ in opened] == ["/dev/urandom"]
        if request == guest.RNDRESEEDCRNG:
            raise OSError(22, "a kernel before 4.17 does not know it")

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    guest.reseed(bytes(guest.SEED))
    assert [name for name, _ in opened][1:] == [guest.DRAW_EVERY, "/dev/urandom"]
    assert added == [struct.pack("ii", guest.SEED * 8, guest.SEED) + bytes(guest.SEED), b"reseed"]


def test_three_quarters_of_a_seed_fill_the_pool_and_what_the_kernel_keeps() -> None:
    """credit_entropy_bits() of 4.1: at most 3/4 count; _xfer_secondary_pool() leaves 16 bytes and takes 8 at least."""
    assert guest.SEED * 3 // 4 >= guest.POOL + 16
    assert guest.SEED <= 1000


# What the host says, in a process of this machine: files stand where they stand, so they are a test's own.


@pytest.fixture
def say() -> Iterator[Callable[..., dict[str, Any]]]:
    """Says something to a process that does what a guest does; what it answers."""
    ours, theirs = socket.socketpair()
    served = os.fork()
    if served == 0:
        with contextlib.suppress(BaseException):
            ours.close()
            guest.serve(theirs.fileno())
        os._exit(1)
    theirs.close()
    file = ours.makefile("rwb", buffering=0)

    def said(content: bytes = b"", **words: Any) -> dict[str, Any]:
        if words:
            file.write(json.dumps(words).encode() + b"\n" + content)
        answer: dict[str, Any] = json.loads(file.readline())
        return answer

    assert said() == {"ready": True}
    said.port = ours  # type: ignore[attr-defined]
    try:
        yield said
    finally:
        for child in guest_children(served):
            os.kill(child, 9)
        os.kill(served, 9)
        os.waitpid(served, 0)
        file.close()
        ours.close()


def guest_children(pid: int) -> list[int]:
    """The children of a process."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def the_project(said: Callable[..., dict[str, Any]], directory: Path, **files: str) -> None:
    archive = packed({str(directory / f"{name}.py")[1:]: File(text.encode(), 0o644) for name, text in files.items()})
    assert said(archive, do="deliver", bytes=len(archive), path=[str(directory)]) == {"ready": True}


FORKS = """
import os
if os.fork() == 0:
    os.setsid()
    open({pid!r}, "w").write(str(os.getpid()))
    import time
    time.sleep(600)
"""


def test_what_returns_has_seen_nothing_of_the_project(say: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    started = tmp_path / "pid"
    the_project(say, tmp_path, module_that_forks=FORKS.format(pid=str(started)), module_of_then="import nothing_at_all")
    assert say(do="branch") == {"ready": True}
    assert say(do="import", modules=["module_that_forks"]) == {"ready": True}
    assert "No module named 'nothing_at_all'" in say(do="import", modules=["module_of_then"])["error"]
    forked = int(until(lambda: started.exists() and started.read_text()))
    assert say(do="return") == {"ready": True}
    # What it started has ended, and its module is imported anew.
    assert not Path(f"/proc/{forked}").exists()
    gone = [str(tmp_path / name) for name in ("module_that_forks.py", "module_of_then.py")]
    assert say(do="forget", files=gone) == {"ready": True}
    the_project(say, tmp_path, module_of_then="")
    assert say(do="branch") == {"ready": True}
    assert say(do="import", modules=["module_of_then"]) == {"ready": True}
    assert "No module named 'module_that_forks'" in say(do="import", modules=["module_that_forks"])["error"]


def test_what_was_compiled_of_a_file_is_forgotten_with_it(tmp_path: Path) -> None:
    """Python tells a compiled file from another by time and size of its source; a guest's seconds are long."""
    folder = tmp_path / "package" / "below"
    folder.mkdir(parents=True)
    for name in ("a", "ab"):
        (folder / f"{name}.py").write_text("x = 1")
        py_compile.compile(str(folder / f"{name}.py"))
    (folder / "__pycache__" / "a.cpython-311-pytest-8.3.pyc").touch()
    guest.forget([str(folder / "a.py"), str(folder / "never.py")])
    assert sorted(path.name.split(".")[0] for path in folder.rglob("*")) == ["__pycache__", "ab", "ab"]
    (tmp_path / "stays").touch()
    guest.forget([str(folder / "ab.py")])
    assert [path.name for path in tmp_path.iterdir()] == ["stays"]


# Programs.


def run(
    say: Callable[..., dict[str, Any]],
    *argv: str,
    typed: bytes = b"",
    size: tuple[int, int] | None = None,
    when: tuple[bytes, bytes] = (b"\0", b""),
) -> Any:
    """Have a program run; its status, its output and its errors. `when` it says one thing it is sent another."""
    port: socket.socket = say.port  # type: ignore[attr-defined]
    # execvp(3) says EACCES of a program that is nowhere where a directory of PATH is closed, as root's are to others.
    path = os.pathsep.join(each for each in os.get_exec_path() if os.access(each, os.X_OK))
    words = {"do": "run", "argv": argv, "environment": {"PATH": path}, "directory": "/", "size": size}
    port.sendall(json.dumps(words).encode() + b"\n")
    said = {b"o": b"", b"x": b""}
    sending = threading.Thread(target=port.sendall, args=(typed,))
    sending.start()
    with port.makefile("rb") as frames:
        while True:
            kind, length = struct.unpack("!cI", frames.read(5))
            content = frames.read(length)
            if kind == b"s":
                sending.join()
                return struct.unpack("!I", content)[0], said[b"o"], said[b"x"]
            before, said[kind] = said[kind], said[kind] + content
            if when[0] in said[kind] and when[0] not in before:
                port.sendall(when[1])


def frame(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack("!cI", kind, len(content)) + content


END = frame(b"e")


@pytest.mark.parametrize(
    ("argv", "came"),
    [
        (["sh", "-c", "echo out; echo err >&2; exit 3"], (3, b"out\n", b"err\n")),
        (["sh", "-c", "kill -TERM $$"], (128 + 15, b"", b"")),
        (["no-such-program-at-all"], (127, b"", b"no-such-program-at-all: No such file or directory\n")),
        # Whoever is left behind, with the outputs open, is not waited for.
        (["sh", "-c", "sleep 600 & echo done"], (0, b"done\n", b"")),
        (["sh", "-c", "yes | head -1"], (0, b"y\n", b"")),
    ],
)
def test_a_programs_output_and_status_come_out(
    say: Callable[..., dict[str, Any]], argv: list[str], came: tuple[int, bytes, bytes]
) -> None:
    assert run(say, *argv, typed=END) == came


def test_a_pipe_that_is_closed_ends_who_writes_to_it(say: Callable[..., dict[str, Any]]) -> None:
    """Python ignores SIGPIPE, and what is ignored stays so in other programs."""
    assert run(say, "sh", "-c", "(yes; echo $? >&2) | true; sleep 0", typed=END)[2] == b"141\n"


def test_input_passes_whole_with_its_end(say: Callable[..., dict[str, Any]]) -> None:
    """More than all the buffers in between hold, and both ways at once."""
    much = os.urandom(1 << 20)
    parts = b"".join(frame(b"i", much[start : start + 5000]) for start in range(0, len(much), 5000))
    assert run(say, "cat", typed=parts + END) == (0, much, b"")


def test_input_that_nobody_reads_hinders_nothing(say: Callable[..., dict[str, Any]]) -> None:
    assert run(say, "true", typed=frame(b"i", bytes(1 << 15)) + END)[0] == 0


def test_a_program_has_a_terminal_of_that_size(say: Callable[..., dict[str, Any]]) -> None:
    typed = frame(b"w", struct.pack("!HH", 30, 90)) + frame(b"i", b"stty size; test -t 2 && exit 4\n")
    status, output, errors = run(say, "sh", typed=typed, size=(20, 80))
    assert (status, errors) == (4, b"")
    assert b"30 90\r\n" in output


def test_ctrl_c_interrupts_what_runs_in_the_terminal(say: Callable[..., dict[str, Any]]) -> None:
    # An interrupt that comes before the shell has started a program waits for that program's end.
    waits = "trap 'exit 9' INT; echo ready; while :; do sleep 0.1; done"
    assert run(say, "sh", "-c", waits, size=(20, 80), when=(b"ready", frame(b"i", b"\x03")))[0] == 9


@pytest.mark.parametrize("changed", ["", "# another one\n"])
def test_a_workers_module_is_compiled_before_it_comes(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As execnet sends it; and when it comes, if it is another one on the host."""
    remote = pytest.importorskip("xdist.remote")
    monkeypatch.setattr(guest, "COMPILED", {})
    monkeypatch.setattr(guest, "SENT", {})
    guest.compile_bootstrap()
    name = inspect.getsourcefile(remote)
    assert name is not None
    sent = inspect.getsource(remote) + changed + "\n"
    code = guest.compile_once(sent, name, "exec")
    assert any(code is known for known in guest.SENT.values()) == (not changed)
    assert code == compile(sent, name, "exec")
