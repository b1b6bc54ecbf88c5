"""Many workers are forks of one process: they are as if they had been started, and none is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.orphans import Process
from harness.plugin import forks
from harness.waiting import until
from tests.nobody import is_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest_plugins = ["pytester"]

PROJECT = Path(__file__).parents[2]
CLIENT = Path(forks.__file__).with_name("fork_client.py")
SERVER = Path(forks.__file__).with_name("fork_server.py")
MANY = str(forks.MANY)
# Tests are put off on a busy machine: here not for long.
CONFTEST = """
from harness.plugin import admission
pytest_plugins = ["harness.plugin"]
admission.PATIENCE = 1.0
"""
# Each of as many tests as workers waits until all have begun: so that each worker has its own.
TOLD = """
import json, os, random, signal, sys, time
from pathlib import Path
import pytest

HERE = Path(__file__).parent

@pytest.mark.parametrize("number", range({many}))
def test_tell(number, request):
    about = dict(
        pid=os.getpid(), parent=os.getppid(), argv=sys.argv,
        forked=b'fork_server' in Path(f'/proc/{{os.getppid()}}/cmdline').read_bytes(),
        random=random.random(),
        environment=dict(os.environ), path=sys.path, cwd=os.getcwd(), worker=request.config.workerinput["workerid"],
        interrupted_by=signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        open=sorted(os.path.realpath(end) for end in Path("/proc/self/fd").iterdir()),
    )
    (HERE / f"told-{{number}}.tmp").write_text(json.dumps(about))
    os.rename(HERE / f"told-{{number}}.tmp", HERE / f"told-{{number}}")
    deadline = time.monotonic() + 60
    while len(list(HERE.glob("told-?"))) < {many} or (HERE / "stay").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    {last}
"""

Told = list[dict[str, object]]


def parent_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def told(directory: Path) -> Told:
    return [json.loads(file.read_text()) for file in sorted(directory.glob("told-?"))]


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Tests that tell about their processes."""
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\ntcp_workers = forked\n")
    pytester.makepyfile(test_told=TOLD.format(many=MANY, last=""))
    return pytester


@pytest.fixture
def running(project: pytest.Pytester) -> Iterator[Callable[[], tuple[subprocess.Popen[bytes], Told]]]:
    """A run whose workers are all in the middle of a test, until the file `stay` is removed."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> tuple[subprocess.Popen[bytes], Told]:
        (project.path / "stay").touch()
        argv = [sys.executable, "-m", "pytest", "-n", MANY, "-p", "no:cacheprovider", "--tcp-evidence", ""]
        with (project.path / "said").open("wb") as said:
            run = subprocess.Popen(argv, cwd=project.path, stdout=said, stderr=said, start_new_session=True)
        started.append(run)
        until(lambda: len(told(project.path)) == forks.MANY, deadline=60, what="all workers in a test")
        return run, told(project.path)

    yield start
    for run in started:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()


def server_of(workers: Told) -> Process:
    (pid,) = {worker["parent"] for worker in workers}
    assert isinstance(pid, int)
    return Process(pid)


def processes_of(workers: Told) -> list[Process]:
    return [Process(pid) for worker in workers if isinstance(pid := worker["pid"], int)]


def all_end(processes: list[Process]) -> None:
    until(lambda: not any(each.alive() for each in processes), deadline=60, what="all processes to end")


def test_many_workers_are_forks_of_one_process(project: pytest.Pytester) -> None:
    project.runpytest_subprocess("-n", MANY).assert_outcomes(passed=forks.MANY)
    workers = told(project.path)
    assert len({worker["pid"] for worker in workers}) == forks.MANY
    assert len({worker["parent"] for worker in workers}) == 1
    assert all(worker["forked"] for worker in workers)
    assert {worker["worker"] for worker in workers} == {f"gw{number}" for number in range(forks.MANY)}


def test_few_workers_are_started_one_by_one(project: pytest.Pytester) -> None:
    project.makepyfile(test_told=TOLD.format(many=2, last=""))
    project.runpytest_subprocess("-n", "2").assert_outcomes(passed=2)
    assert not any(worker["forked"] for worker in told(project.path))


def test_a_fork_is_as_if_it_had_been_started(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAID", "yes\nand = no")
    project.makeconftest(CONFTEST + "import os\nos.environ['BY_A_MODULE'] = 'set'\n")
    project.runpytest_subprocess("-n", MANY).assert_outcomes(passed=forks.MANY)
    forked = told(project.path)
    project.makeini("[pytest]\n")
    project.runpytest_subprocess("-n", MANY).assert_outcomes(passed=forks.MANY)
    started = told(project.path)
    for one, other in zip(forked, started, strict=True):
        assert (one["forked"], other["forked"]) == (True, False)
        for what in ("argv", "path", "cwd", "interrupted_by"):
            assert one[what] == other[what], what
        ours, theirs = one["environment"], other["environment"]
        assert isinstance(ours, dict)
        assert isinstance(theirs, dict)
        differ = {name for name in ours | theirs if ours.get(name) != theirs.get(name)}
        assert differ <= {"PYTEST_XDIST_TESTRUNUID", "PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST"}
        assert ours["BY_A_MODULE"] == "set"
        assert ours["SAID"] == "yes\nand = no"
        assert isinstance(one["open"], list)
        assert isinstance(other["open"], list)
        assert len(one["open"]) == len(other["open"])
    assert len({worker["random"] for worker in forked}) == forks.MANY


@pytest.mark.parametrize("lost", ["server", "client", "pytest"])
def test_whoever_is_killed_nothing_is_left(
    lost: str, running: Callable[[], tuple[subprocess.Popen[bytes], Told]], project: pytest.Pytester
) -> None:
    run, workers = running()
    server, processes = server_of(workers), processes_of(workers)
    if lost == "server":
        server.signal(signal.SIGKILL)
        # What the workers are at they finish.
        (project.path / "stay").unlink()
        assert run.wait(60) == 0
        assert f"{MANY} passed" in (project.path / "said").read_text()
    elif lost == "client":
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        client = next(int(child) for child in children if str(CLIENT) in parent_of(int(child)))
        Process(client).signal(signal.SIGKILL)
        until(lambda: sum(each.alive() for each in processes) == forks.MANY - 1, what="the worker of the client to end")
        (project.path / "stay").unlink()
        assert run.wait(60) == 1
        said = (project.path / "said").read_text()
        assert "1 failed" in said
        assert "crashed" in said
    else:
        run.kill()
        run.wait()
    all_end([server, *processes])


def test_a_stranger_at_the_name_is_told_nothing(tmp_path: Path) -> None:
    """The name is free when the server has ended: whoever takes it would have our variables and our ends."""
    if not is_root():
        pytest.skip("only root can be another user as well")
    name = f"test-{os.getpid()}-{tmp_path.name}"
    take = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(chr(0) + sys.argv[1]); s.listen()"
    take += "; print(1, flush=True); c, _ = s.accept(); print(len(c.recv(9)), flush=True)"
    argv = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-I", "-S", "-c", take, name]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as stranger:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "1\n"
        client = [sys.executable, "-I", "-S", str(CLIENT), name, "-c", "print('python')"]
        assert subprocess.run(client, capture_output=True, text=True, check=True).stdout == "python\n"
        assert stranger.stdout.readline() == "0\n"


def test_ctrl_c_ends_all(running: Callable[[], tuple[subprocess.Popen[bytes], Told]]) -> None:
    run, workers = running()
    server, processes = server_of(workers), processes_of(workers)
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(60) == 2
    all_end([server, *processes])


def test_a_worker_that_ends_is_replaced_and_its_test_has_failed(project: pytest.Pytester) -> None:
    last = "assert number or os._exit(3)"
    project.makepyfile(test_told=TOLD.format(many=MANY, last=last))
    ran = project.runpytest_subprocess("-n", MANY)
    ran.assert_outcomes(passed=forks.MANY - 1, failed=1)
    ran.stdout.fnmatch_lines(["*worker 'gw?' crashed while running 'test_told.py::test_tell?0?'*"])


def test_a_worker_does_what_was_to_be_done_at_its_end(project: pytest.Pytester) -> None:
    # Nobody closes the file.
    last = """import atexit, threading
    globals().update(log=(HERE / f"log-{number}").open("w"))
    log.write("said")
    atexit.register((HERE / f"done-{number}").touch)
    threading.Thread(target=lambda: (threading.main_thread().join(), (HERE / f"joined-{number}").touch())).start()"""
    project.makepyfile(test_told=TOLD.format(many=MANY, last=last))
    project.runpytest_subprocess("-n", MANY).assert_outcomes(passed=forks.MANY)
    assert all(worker["forked"] for worker in told(project.path))
    assert len([*project.path.glob("done-?")]) == len([*project.path.glob("joined-?")]) == forks.MANY
    assert [file.read_text() for file in project.path.glob("log-?")] == ["said"] * forks.MANY


@pytest.mark.parametrize(
    "broken",
    [
        # A thread would not be in the forks.
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n",
        "import os, sys\nif 'fork_server' in sys.orig_argv[3]: os._exit(1)\n",
    ],
    ids=["has-a-thread", "ends"],
)
def test_where_there_is_no_server_workers_are_started(broken: str, project: pytest.Pytester) -> None:
    project.makeconftest(CONFTEST + broken)
    project.runpytest_subprocess("-n", MANY).assert_outcomes(passed=forks.MANY)
    assert not any(worker["forked"] for worker in told(project.path))


@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_what_cannot_be_imported_is_said_by_the_workers(project: pytest.Pytester, mode: str) -> None:
    """In importlib's mode a module that has failed once is found as far as it came, and has no other tests."""
    warns = "import warnings\nwarnings.warn('it is old', DeprecationWarning)\n"
    project.makepyfile(
        test_broken="def test_first(): pass\nimport nothing_of_that_name\ndef test_last(): pass\n",
        test_skipped="import pytest\npytest.skip('no', allow_module_level=True)",
        test_warns=warns + "def test_it(): pass\n",
    )
    ran = project.runpytest_subprocess("-n", MANY, f"--import-mode={mode}", "-W", "error")
    outcomes = ran.parseoutcomes()
    assert (outcomes["passed"], outcomes["skipped"]) == (forks.MANY, 1)
    assert outcomes["errors"] >= 2  # pytest-xdist takes those of two workers for one where they are the same
    ran.stdout.fnmatch_lines_random(["*No module named 'nothing_of_that_name'*", "*DeprecationWarning: it is old*"])
    assert all(worker["forked"] for worker in told(project.path))


@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_a_conftest_that_fails_is_said(project: pytest.Pytester, mode: str) -> None:
    fails = "import os, sys\nif {'PYTEST_XDIST_WORKER'} & {*os.environ} or 'fork_server' in str(sys.orig_argv):\n"
    fails += "    raise OSError('not here')\n"
    project.mkdir("test_below").joinpath("conftest.py").write_text(fails)
    project.path.joinpath("test_below", "test_it.py").write_text("def test_it(): pass\n")
    ran = project.runpytest_subprocess("-n", MANY, f"--import-mode={mode}")
    assert ran.ret != 0
    assert "not here" in ran.stdout.str() + ran.stderr.str()


def test_a_conftest_may_change_the_directory(project: pytest.Pytester) -> None:
    """A started worker has it imported at its arguments' place, and so has a fork."""
    project.makeconftest(CONFTEST + "import os, tempfile\nos.chdir(tempfile.gettempdir())\n")
    project.runpytest_subprocess("-n", MANY, str(project.path)).assert_outcomes(passed=forks.MANY)
    assert all(worker["forked"] for worker in told(project.path))


def test_assertions_are_rewritten(project: pytest.Pytester) -> None:
    project.makepyfile(test_told="def test_it():\n    three = 3\n    assert three == 4\n")
    ran = project.runpytest_subprocess("-n", MANY)
    ran.stdout.fnmatch_lines(["*assert 3 == 4*"])
    ran.stdout.no_fnmatch_line("*PytestAssertRewriteWarning*")


AHEAD = """
import sys
import pytest
from harness.errors import Renamed
from harness.observe import filters

def test_it():
    assert filters._grammar.cache_info().currsize == 1
    assert "harness.claims.kernel" not in sys.modules
    with pytest.warns(Renamed, match="harness.claims.kernel is harness.laws.kernel now"):
        import harness.claims.kernel
"""


def test_what_a_first_test_would_put_together_is_there_and_no_name_of_before(project: pytest.Pytester) -> None:
    project.makepyfile(test_told=AHEAD)
    project.runpytest_subprocess("-n", MANY, "--dist", "each").assert_outcomes(passed=forks.MANY)


def test_a_word_that_is_no_way_is_refused(project: pytest.Pytester) -> None:
    project.makeini("[pytest]\ntcp_workers = spooned\n")
    ran = project.runpytest_subprocess("-n", "2")
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stderr.fnmatch_lines(["ERROR: tcp_workers must be started or forked, not 'spooned'"])


def test_another_user_is_given_no_worker(tmp_path: Path) -> None:
    """The name of the socket stands in /proc/net/unix; who connects to it must be the same user."""
    if not is_root():
        pytest.skip("only root can be another user as well")
    name = f"test-{os.getpid()}-{tmp_path.name}"
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        ends = [theirs.fileno(), listener.fileno()]
        server = subprocess.Popen([sys.executable, "-P", "-u", str(SERVER), *map(str, ends)], pass_fds=ends)
        theirs.close()
        listener.close()
        ours.sendall(
            json.dumps({"path": sys.path, "arguments": [str(tmp_path), "-p", "harness.plugin"]}).encode() + b"\n"
        )
        try:
            # Who is refused becomes Python itself.
            line = "import os; print(os.getuid(), os.getppid())"
            argv = [sys.executable, "-I", "-S", str(CLIENT), name, "-c", line]
            refused = subprocess.run(
                ["setpriv", "--reuid=65534", "--clear-groups", *argv], capture_output=True, text=True, check=True
            )
            assert refused.stdout.split() == ["65534", str(os.getpid())]
            taken = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
            assert taken.stdout == ""
        finally:
            ours.close()
            assert server.wait(60) == 0
