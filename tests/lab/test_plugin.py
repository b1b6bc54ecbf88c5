"""The plugin with real labs: families, evidence of an overflow, captures, workers, --tcp-hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.evidence import codec
from harness.evidence.types import Moved
from tests import nobody
from tests.claim_file import claim_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.evidence.types import Run

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("labs_work_here")

PROJECT = Path(__file__).parents[2]

SCENARIO = """
import pytest
from harness.observe import sockets
from harness.traffic import connect, drop, listen
from harness.waiting import until

@pytest.mark.claim("queue.limit")
def test_limit(claim, pair):
    claim.capture(pair.server, port=8080)
    with claim.effect("nobody accepts") as effect:
        pair.server.sysctl["net.core.somaxconn"] = 10
        listener = listen(pair.server, 50, port=8080)
        # Those sent again a second later would be counted as well, when the machine is slow.
        drop(pair.server, "S", dport=8080, first=15)
        connect(pair.client, listener, 14)
        until(lambda: effect.delta(pair.server).TcpExt.ListenOverflows == 3)
        (listening,) = sockets(pair.server, "state listening")
        effect.compare("waiting", listening.recv_q, document=10, kernel=11)
    with claim.control("nobody connects") as control:
        control.expect("overflows", control.delta(pair.server).TcpExt.ListenOverflows, 0)
"""


@pytest.fixture
def scenario(pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]) -> Callable[..., pytest.RunResult]:
    """Run a scenario beside a file with the claim queue.limit."""
    pytester.mkdir("claims").joinpath("queue.toml").write_text(claim_file())

    def run(text: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(test_scenario=text)
        return session(*options)

    return run


def runs(pytester: pytest.Pytester) -> tuple[Run, ...]:
    return codec.read(pytester.path / "out/evidence/queue.limit.json").runs


@pytest.mark.parametrize("workers", ["0", "2"])
def test_evidence_of_an_overflow(
    pytester: pytest.Pytester, scenario: Callable[..., pytest.RunResult], workers: str
) -> None:
    scenario(SCENARIO, "-n", workers).assert_outcomes(passed=2)
    for run, family in zip(runs(pytester), ("ipv4", "ipv6"), strict=True):
        assert run.nodeid == f"test_scenario.py::test_limit[{family}]"
        assert (run.params, run.verdict, run.outcome) == (family, "refuted", "expected")
        effect, control = run.phases
        knob = effect.knobs["server"]["net.core.somaxconn"]
        assert (int(knob.before) > 10, knob.now) == (True, "10")
        assert effect.counters["server"]["TcpExt.ListenOverflows"] == Moved(0, 3)
        assert effect.counters["client"]["Tcp.ActiveOpens"] == Moved(0, 14)
        assert effect.sockets["server"].states == {"LISTEN": 1, "ESTAB": 11}
        listener = effect.sockets["server"].rows[0]
        assert (listener.state, listener.recv_q, listener.send_q) == ("LISTEN", 11, 10)
        assert effect.sockets["client"].states == {"ESTAB": 11, "SYN-SENT": 3}
        assert not any(name.startswith("Tcp") for name in control.counters.get("server", {}))
        assert run.packets == f"queue.limit-{family}.pcapng"
        packets = (pytester.path / "out/evidence" / run.packets).read_bytes()
        assert packets[:4] == b"\x0a\x0d\x0d\x0a"
        # 11 handshakes of three packets, and three SYNs without an answer
        assert packets.count(b"\x1f\x90") >= 11 * 3 + 3


REMOVES = """
import pytest
import shutil

@pytest.mark.claim("queue.limit")
def test_limit(claim, pair, family):
    claim.capture(pair.server)
    with claim.effect("nobody accepts") as effect:
        effect.compare("waiting", 11, document=10, kernel=11)
    with claim.control("nobody connects") as control:
        control.expect("overflows", control.delta(pair.server).TcpExt.ListenOverflows, 0)
    if pair.server.ip.count(":"):
        shutil.rmtree("out/evidence")
"""


def test_captures_that_are_removed_while_it_runs_are_missed(
    pytester: pytest.Pytester, scenario: Callable[..., pytest.RunResult]
) -> None:
    """Those of the first run were: its claim's file was written again with the second, and all was green."""
    result = scenario(REMOVES)
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["captures of 1 claim were removed while the run was going on"])
    assert [run.verdict for run in runs(pytester)] == ["refuted"] * 2


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_where_warnings_are_errors_python_ends_without_a_word(
    scenario: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    """The process that all programs of labs end with was still running then, as Python said by a traceback."""
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    ran = scenario(SCENARIO, *workers)
    ran.assert_outcomes(passed=2)
    assert "Exception ignored" not in ran.stderr.str()
    assert "ResourceWarning" not in ran.stderr.str()


def test_a_failure_shows_knobs_counters_sockets_and_packets(scenario: Callable[..., pytest.RunResult]) -> None:
    result = scenario(SCENARIO.replace("kernel=11", "kernel=12"), "-k", "ipv4")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(
        [
            "unexplained: test_scenario.py:*: waiting: measured 11, *",
            "--* claim queue.limit [[]ipv4[]] on * --*",
            "effect: nobody accepts",
            "  UNEXPLAINED: waiting: measured 11, document 10, kernel 12",
            "  knobs of server",
            "    net.core.somaxconn = 10  (was *)",
            "  counters of server",
            "    TcpExt.ListenOverflows  +3",
            "  sockets of server: 1 LISTEN, 11 ESTAB",
            "    LISTEN * 11 * 10 *:8080 *",
            "control: nobody connects: 1 comparison, as it should be",
            "packets at server",
            "    0.0000* > *:8080 S seq 0 *",
        ]
    )


def test_one_family_where_the_test_says_so(scenario: Callable[..., pytest.RunResult]) -> None:
    result = scenario(
        """
        import socket
        import pytest

        @pytest.mark.ipv4_only("NAT of IPv4")
        def test_one(lan):
            assert [host.family for host in lan(3).hosts] == [socket.AF_INET] * 3

        @pytest.mark.parametrize("family", [socket.AF_INET6], indirect=True)
        def test_own_choice(lab):
            assert lab.family == socket.AF_INET6

        def test_both(behind_nat):
            assert len(behind_nat(2).clients) == 2

        def test_none(): pass
        """,
        "-v",
    )
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(
        ["*test_one[[]ipv4[]] PASSED*", "*test_both[[]ipv4[]] PASSED*", "*test_both[[]ipv6[]] *"]
    )
    result.stdout.no_fnmatch_line("*claims on Linux*")


def test_ipv4_only_needs_its_reason(scenario: Callable[..., pytest.RunResult]) -> None:
    result = scenario("import pytest\n@pytest.mark.ipv4_only\ndef test_one(lab): pass\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ipv4_only needs its reason*"])


def test_a_lab_is_released_with_its_test(scenario: Callable[..., pytest.RunResult]) -> None:
    result = scenario(
        """
        import os
        import pytest

        def namespaces():
            links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
            return sum(os.readlink(link).startswith("net:") for link in links if os.path.islink(link))

        @pytest.fixture
        def before():
            from harness.lab.isolation import isolate
            isolate()
            count = namespaces()
            yield
            assert namespaces() == count

        @pytest.mark.parametrize("n", range(3))
        def test_pair(before, pair, n):
            assert n < 2
        """
    )
    result.assert_outcomes(passed=4, failed=2)


def test_hold_prints_how_to_enter_and_waits(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["harness.plugin"]')
    pytester.makepyfile(test_held="def test_fails(pair):\n    assert pair is None\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])}
    argv = [sys.executable, "-m", "pytest", "--tcp-hold", "-n", "0", "-k", "ipv4", "-p", "no:cacheprovider"]
    with subprocess.Popen(
        argv, cwd=pytester.path, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as session:
        assert session.stdin is not None
        assert session.stdout is not None
        commands = {}
        for line in session.stdout:
            if match := re.fullmatch(r"  (client|server) +(nsenter .*)\n", line):
                commands[match[1]] = match[2]
            if line == "Enter lets go of the lab.\n":
                break
        # The lab lives while the session waits: its server's address is there to be seen.
        enter = commands["server"]
        if Path("/proc/self/ns/user").samefile(f"/proc/{session.pid}/ns/user"):
            # A session inside an ordinary user's session shares its user namespace, which setns(2) does not re-enter.
            enter = enter.replace("--user --preserve-credentials ", "")
        inside = subprocess.run(
            [*enter.split(), "ip", "-4", "address"], check=True, capture_output=True, text=True
        ).stdout
        assert "inet 10.1.0.2/16" in inside
        assert session.poll() is None
        rest, _ = session.communicate("\n", timeout=60)
    assert session.returncode == pytest.ExitCode.TESTS_FAILED
    assert "1 failed" in rest


THREAD = """
import threading

def pytest_configure(config):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_an_ordinary_user_has_labs_though_a_plugin_starts_a_thread(workers: str) -> None:
    """As pytest-rerunfailures does: a process with two threads cannot enter a user namespace."""
    with nobody.home_of_nobody() as home:
        nobody.skip_without_labs_of_nobody()
        (home / "threaded.py").write_text(THREAD)
        (home / "test_a.py").write_text("def test_lab(pair):\n    pair.client.run('true')\n")
        (home / "pytest.ini").write_text("[pytest]\ntcp_lab_isolation = startup\n")
        options = ("-p", "threaded", "-p", "no:cacheprovider", "-n", workers, "-rs")
        variables = {"PYTHONPATH": f"{home}:{PROJECT}", "HOME": str(home), "TMPDIR": "/var/tmp"}
        ran = subprocess.run(
            [*nobody.NOBODY, sys.executable, "-m", "pytest", *options], cwd=home, check=False, capture_output=True,
            text=True, env={**os.environ, **variables, "PYTEST_DEBUG_TEMPROOT": ""}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr


def test_hold_is_quiet_for_tests_without_a_lab(scenario: Callable[..., pytest.RunResult]) -> None:
    result = scenario("def test_fails():\n    assert False\n", "--tcp-hold")
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("*held*")
