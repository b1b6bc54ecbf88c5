"""Scripts of packetdrill in a lab: what a script has around it, what a failure shows; the real program, if here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from harness.errors import HarnessError
from harness.lab.isolation import isolate
from harness.traffic import packetdrill
from tests.packetdrill import SERVER, WRONG, stand_in, the_real_one

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _packetdrill_can_run_here() -> None:
    try:
        isolate()
        packetdrill.check_machine()
    except HarnessError as error:
        pytest.skip(str(error))


def test_a_script_runs_where_it_stands_with_a_tmp_of_its_own(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    scripts = pytester.mkdir("scripts")
    (scripts / "good.pkt").write_text("ok\n")
    (scripts / "bad-v6.pkt").write_text("0 nonsense\nok\n")
    left = Path("/tmp/left-by-a-script")
    assert not left.exists()
    result = session(f"--tcp-packetdrill={stand_in(pytester.path)}", "--junitxml=junit.xml")
    result.assert_outcomes(passed=3, failed=1)
    assert not left.exists()
    # packetdrill's own line first, then all that was said, then the script.
    result.stdout.fnmatch_lines(
        [
            "*bad-v6.pkt ipv6*",
            "bad-v6.pkt:1: error handling packet: it is not ok",
            f"({sys.version_info[0]}, {sys.version_info[1]})",
            f"here: {scripts}",
            "words: --ip_version=ipv6 --mtu=1520 * bad-v6.pkt",
            "noise of a program",
            "bad-v6.pkt:1: error handling packet: it is not ok",
            ">   1  0 nonsense",
            "    2  ok",
            "FAILED scripts/bad-v6.pkt::ipv6 - bad-v6.pkt:1: error handling *",
        ]
    )
    (failure,) = ElementTree.parse(pytester.path / "junit.xml").iter("failure")
    assert failure.get("message") == "bad-v6.pkt:1: error handling packet: it is not ok"


def test_a_slow_machine_is_allowed_more(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    (pytester.path / "bad-v6.pkt").write_text("0 nonsense\n")
    program = f"--tcp-packetdrill={stand_in(pytester.path)}"
    monkeypatch.delenv("KSFT_MACHINE_SLOW", raising=False)
    assert "--tolerance_usecs" not in session(program).stdout.str()
    monkeypatch.setenv("KSFT_MACHINE_SLOW", "1")
    assert "--tolerance_usecs=14000" in session(program).stdout.str()


def test_workers_run_scripts_too(pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]) -> None:
    for n in range(4):
        (pytester.path / f"good{n}.pkt").write_text("ok\n")
    result = session(f"--tcp-packetdrill={stand_in(pytester.path)}", "-n", "2", "-v")
    result.assert_outcomes(passed=12)
    result.stdout.fnmatch_lines(["*PASSED good0.pkt::ipv4 *"])


def test_the_real_packetdrill_knows_what_the_kernel_does(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    program = the_real_one()
    (pytester.path / "good.pkt").write_text(SERVER)
    (pytester.path / "wrong.pkt").write_text(WRONG)
    result = session(f"--tcp-packetdrill={program}")
    result.assert_outcomes(passed=3, failed=3)
    result.stdout.fnmatch_lines(["wrong.pkt:10: error handling packet: *tcp_ack_seq*", ">  10  +0 > . 1:1(0) ack 1002"])
