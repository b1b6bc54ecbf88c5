"""Scripts of packetdrill: how each is run, which line is packetdrill's own, what is collected, how it travels."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput
from harness.kernels import portable
from harness.traffic import packetdrill
from tests.packetdrill import SERVER, stand_in

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

ALL = ("ipv4", "ipv4-mapped-ipv6", "ipv6")


@pytest.mark.parametrize(
    ("name", "text", "modes"),
    [
        ("a.pkt", "", ALL),
        ("a.pkt", "// --ip_version=ipv6 is meant\n", ALL),
        ("a.pkt", "// IPv4\n--ip_version=ipv4\n", ("ipv4",)),
        ("a.pkt", "--ip_version=ipv6\n", ("ipv6",)),
        ("basic-v4.pkt", "", ("ipv4", "ipv4-mapped-ipv6")),
        ("basic-v6.pkt", "", ("ipv6",)),
        ("a_ipv6.pkt", "--ip_version=ipv4\n", ("ipv4",)),
    ],
)
def test_a_script_or_its_name_says_how_it_is_run(name: str, text: str, modes: tuple[str, ...]) -> None:
    assert packetdrill.modes_of(Path(name), text) == modes


def test_a_script_is_no_option() -> None:
    assert packetdrill.arguments(Path("scripts/-s.pkt"), "ipv6")[-1] == "./-s.pkt"


@pytest.mark.parametrize("text", ["--ip_version=ipv5\n", "--ip_version=ipv4\n--ip_version=ipv6\n"])
def test_what_a_script_cannot_say(text: str) -> None:
    with pytest.raises(BadInput, match=r"a\.pkt: --ip_version="):
        packetdrill.modes_of(Path("a.pkt"), text)


@pytest.mark.parametrize(
    ("mode", "given"),
    [
        # tools/testing/selftests/net/packetdrill/ksft_runner.sh of 7.3.
        (
            "ipv4",
            "--local_ip=192.168.0.1 --gateway_ip=192.168.0.1 --netmask_ip=255.255.0.0 --remote_ip=192.0.2.1 "
            "-DTFO_COOKIE=3021b9d889017eeb -DTFO_COOKIE_ZERO=b7c12350a90dc8f5 -DCMSG_LEVEL_IP=SOL_IP "
            "-DCMSG_TYPE_RECVERR=IP_RECVERR",
        ),
        (
            "ipv4-mapped-ipv6",
            "--local_ip=192.168.0.1 --gateway_ip=192.168.0.1 --netmask_ip=255.255.0.0 --remote_ip=192.0.2.1 "
            "-DTFO_COOKIE=3021b9d889017eeb -DTFO_COOKIE_ZERO=b7c12350a90dc8f5 -DCMSG_LEVEL_IP=SOL_IPV6 "
            "-DCMSG_TYPE_RECVERR=IPV6_RECVERR",
        ),
        (
            "ipv6",
            "--mtu=1520 --local_ip=fd3d:0a0b:17d6::1 --gateway_ip=fd3d:0a0b:17d6:8888::1 "
            "--remote_ip=fd3d:fa7b:d17d::1 -DTFO_COOKIE=c1d1e9742a47a9bc -DTFO_COOKIE_ZERO=82af1a8f9a205c34 "
            "-DCMSG_LEVEL_IP=SOL_IPV6 -DCMSG_TYPE_RECVERR=IPV6_RECVERR",
        ),
    ],
)
def test_arguments_are_those_of_the_kernels_runner(mode: str, given: str) -> None:
    words = packetdrill.arguments(Path("/scripts/a.pkt"), mode)
    assert words[0] == f"--ip_version={mode}"
    assert words[-1] == "a.pkt"
    of_other_runner = {"--send_omit_free", "-DCODE=host_unreachable"}
    assert [word for word in words[1:-1] if word not in of_other_runner] == given.split()
    assert packetdrill.arguments(Path("a.pkt"), mode, 14_000)[:-1] == [*words[:-1], "--tolerance_usecs=14000"]


@pytest.mark.parametrize(
    ("output", "complaint", "line"),
    [
        (
            'sysctl: setting key "a": Operation not permitted\n'
            "a.pkt:36: error handling packet: timing error: expected outbound packet at 0.316 sec but at 0.323 "
            "sec; tolerance 0.004 sec\nscript packet:  0.316 P. 1:2(1) ack 1\nactual packet:  0.323 P. 1:2(1) ack 1\n",
            "a.pkt:36: error handling packet: timing error: expected outbound packet at 0.316 sec but at 0.323 "
            "sec; tolerance 0.004 sec",
            36,
        ),
        (
            'a.pkt:10: error in Python code\nTraceback (most recent call last):\n  File "/tmp/code_x", line 135, in '
            "<module>\n    assert tcpi_snd_cwnd == 11, tcpi_snd_cwnd\nAssertionError: 10\n"
            "a.pkt: error executing code: 'python3' returned non-zero status 1\n",
            "a.pkt:10: error in Python code: AssertionError: 10",
            10,
        ),
        (
            'sysctl: setting key "net.ipv4.tcp_ecn": Invalid argument\na.pkt: error executing init command: non-zero '
            "status 1\n",
            "a.pkt: error executing init command: non-zero status 1: "
            'sysctl: setting key "net.ipv4.tcp_ecn": Invalid argument',
            None,
        ),
        ("assertion len >= 1 failed at code.c line 148\n", "assertion len >= 1 failed at code.c line 148", None),
        ("", "", None),
    ],
)
def test_packetdrills_own_line_among_those_of_others(output: str, complaint: str, line: int | None) -> None:
    assert packetdrill._complaint("a.pkt", output) == (complaint, line)


def test_scripts_are_tests_where_there_is_a_packetdrill(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    program = stand_in(pytester.mkdir("program"))
    scripts = pytester.mkdir("scripts")
    (scripts / "a.pkt").write_text(SERVER)
    (scripts / "b-v6.pkt").write_text(SERVER)
    listed = session("--collect-only", "-q", f"--tcp-packetdrill={program}").outlines
    assert [line for line in listed if "::" in line] == [
        *(f"scripts/a.pkt::{mode}" for mode in ALL),
        "scripts/b-v6.pkt::ipv6",
    ]
    listed = session(
        "--collect-only", "-q", f"--tcp-packetdrill={program}", "--tcp-kernel=running", "-k", "b-v6"
    ).outlines
    assert "scripts/b-v6.pkt::ipv6[running]" in listed
    assert session("--collect-only", "-q").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_the_setting_is_as_good_as_the_option(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    stand_in(pytester.mkdir("program"))
    pytester.makeini("[pytest]\npacketdrill = program/packetdrill\n")
    (pytester.path / "a-v6.pkt").write_text(SERVER)
    assert "a-v6.pkt::ipv6" in session("--collect-only", "-q").outlines


def test_what_is_wrong_is_said_in_a_line(pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]) -> None:
    (pytester.path / "a.pkt").write_text(SERVER)
    for options, said in (
        (["a.pkt"], "ERROR: a.pkt: a script of packetdrill needs --tcp-packetdrill PATH, the program"),
        (["--tcp-packetdrill=nowhere"], f"ERROR: --tcp-packetdrill {pytester.path}/nowhere: there is no such file; *"),
        (
            ["--tcp-packetdrill=a.pkt"],
            f"ERROR: --tcp-packetdrill {pytester.path}/a.pkt: it is not a program that can be run; *",
        ),
    ):
        result = session(*options)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([said])


def test_a_script_that_says_nonsense_is_an_error_of_its_own(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    (pytester.path / "a.pkt").write_text("--ip_version=ipv5\n")
    result = session(f"--tcp-packetdrill={stand_in(pytester.path)}")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*a.pkt: --ip_version=ipv5 is not one of ipv4, ipv4-mapped-ipv6, ipv6"])


def test_a_program_travels_with_its_libraries(tmp_path: Path) -> None:
    found = shutil.which("bash")
    assert found
    words = portable.unpack(portable.pack(Path(found)), tmp_path)
    assert Path(words[-1]).parent == tmp_path
    assert {library.parent for library in _libraries_of(words)} == {tmp_path.resolve()}
    assert tmp_path.resolve() not in {library.parent for library in _libraries_of([found])}


def _libraries_of(words: list[str]) -> set[Path]:
    """The libraries that a shell has mapped which is started so."""
    started = subprocess.run([*words, "-c", "cat /proc/$$/maps; :"], check=True, capture_output=True, text=True)
    return {Path(line.split()[-1]) for line in started.stdout.splitlines() if ".so" in line}
