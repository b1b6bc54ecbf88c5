"""The kernel's test programs: what they print as results, which files are such programs, what they need to be there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.observe import ktap
from harness.traffic import kselftest
from harness.traffic.kselftest import Ended

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

# As kselftest_harness.h prints it.
HARNESS = """\
TAP version 13
1..3
# Starting 3 tests from 2 test cases.
#  RUN           v4_v6.bind ...
#            OK  v4_v6.bind
ok 1 v4_v6.bind
#  RUN           v4_v6.connect ...
# bind_wildcard.c:88:connect:Expected 0 (0) == ret (-1)
#          FAIL  v4_v6.connect
not ok 2 v4_v6.connect
#      SKIP      no IPv6 here
ok 3 v6.bind # SKIP no IPv6 here
# FAILED: 2 / 3 tests passed.
# Totals: pass:1 fail:1 xfail:0 xpass:0 skip:1 error:0
"""
# As kselftest/runner.sh prints what it runs: each line of a program's behind a hash.
OF_RUNNER = """\
TAP version 13
1..2
# selftests: net: a.sh
# TAP version 13
# 1..2
# ok 1 ipv4
# not ok 2 ipv6
not ok 1 selftests: net: a.sh # exit=1
# selftests: net: b.sh
# TEST: something     [ OK ]
ok 2 selftests: net: b.sh
"""
NESTED = """\
KTAP version 1
1..2
  KTAP version 1
  1..2
    KTAP version 1
    1..1
    not ok 1 - deepest # TODO not done yet
  ok 1 - deep
  ok 2 - beside # XFAIL
ok 1 - outer
not ok 2 - alone # TIMEOUT 45 seconds
"""


def told(text: str) -> list[tuple[str, str, str]]:
    return [(one.name, one.outcome, one.reason) for one in ktap.read(text).results]


def test_results_of_a_program_in_c() -> None:
    assert told(HARNESS) == [
        ("v4_v6.bind", "passed", ""),
        ("v4_v6.connect", "failed", ""),
        ("v6.bind", "skipped", "no IPv6 here"),
    ]
    assert ktap.read(HARNESS).problems == ()
    assert "# bind_wildcard.c:88:connect:Expected 0 (0) == ret (-1)" in ktap.read(HARNESS).results[1].said


def test_results_that_are_nested_in_others() -> None:
    assert told(OF_RUNNER) == [
        ("selftests: net: a.sh: ipv4", "passed", ""),
        ("selftests: net: a.sh: ipv6", "failed", ""),
        ("selftests: net: b.sh", "passed", ""),
    ]
    assert told(NESTED) == [
        ("outer: deep: deepest", "skipped", "expected to fail: not done yet"),
        ("outer: beside", "skipped", "expected to fail"),
        ("alone", "failed", "TIMEOUT 45 seconds"),
    ]


def test_a_test_that_fails_though_nothing_in_it_does_is_told_itself() -> None:
    assert told("1..1\n    1..1\n    ok 1 part\nnot ok 1 whole\n") == [
        ("whole: part", "passed", ""),
        ("whole", "failed", ""),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1..3\nok 1 a\nok 2 b\n", "3 tests were planned, and 2 have a result"),
        ("1..1\nok 1 a\nok 2 b\n", "1 tests were planned, and 2 have a result"),
        ("1..2\n  1..2\n  ok 1 a\nok 1 b\nok 2 c\n", "2 tests were planned, and 1 have a result"),
        ("1..1\nBail out! no device\nok 1 a\n", "it bailed out: no device"),
    ],
)
def test_a_plan_that_is_not_kept_is_a_problem(text: str, problem: str) -> None:
    assert ktap.read(text).problems == (problem,)


@pytest.mark.parametrize("text", ["", "TEST: routes   [ OK ]\n", "ok, that is done\nnot okay\n# ok so far\n"])
def test_what_is_no_ktap_has_no_results(text: str) -> None:
    assert ktap.read(text) == ktap.Printed((), ())


def ended(status: int | None, output: str = "") -> Ended:
    printed = ktap.read(output)
    return Ended(status, 45, printed.results, printed.problems, output)


@pytest.mark.parametrize(
    ("status", "output", "complaint", "skipped"),
    [
        (0, "", "", None),
        (0, "1..1\nok 1 a\n", "", None),
        (0, "1..1\nok 1 a # SKIP no jq\n", "", "no jq"),
        (0, "1..2\nok 1 a # SKIP no jq\nok 2 b\n", "", None),
        (4, "SKIP: Need root privileges\n", "", "SKIP: Need root privileges"),
        (4, "", "", "it says that it cannot run here"),
        (2, "", "", "it is expected to fail here"),
        (1, "", "it ended with status 1", None),
        (139, "1..2\nok 1 a\n", "it ended with status 139", None),
        (3, "", "it ended with status 3", None),
        # Whatever it ends with: what is not ok is a failure, and so is what never came.
        (0, "1..2\nok 1 a\nnot ok 2 b\n", "1 of 2 not ok: b", None),
        (4, "1..1\nnot ok 1 b\n", "1 of 1 not ok: b", None),
        (0, "1..2\nok 1 a\n", "2 tests were planned, and 1 have a result", None),
        (None, "1..2\nok 1 a\n", "still running after 45 s", None),
    ],
)
def test_how_a_program_ended(status: int | None, output: str, complaint: str, skipped: str | None) -> None:
    assert ended(status, output).complaint == complaint
    assert ended(status, output).skipped == skipped


def test_a_file_beside_a_program_says_how_long_it_may_run(tmp_path: Path) -> None:
    program = tmp_path / "a.sh"
    assert kselftest.timeout_of(program) == 45
    (tmp_path / "settings").write_text("# timeout=1\ntimeout=3600\n")
    assert kselftest.timeout_of(program) == 3600
    (tmp_path / "settings").write_text("timeout=0\n")
    assert kselftest.timeout_of(program) > 3600


def script(place: Path, text: str) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"#!/bin/bash\n{text}\n")
    place.chmod(0o755)
    return place


def test_which_programs_a_makefile_calls_tests(tmp_path: Path) -> None:
    assert kselftest.listed(tmp_path) == set()
    (tmp_path / "Makefile").write_text(
        "TEST_PROGS := \\\n\ta.sh \\\n\tb.sh\nTEST_PROGS += c.sh # and so on\nTEST_PROGS_EXTENDED := lib.sh\n"
        "TEST_GEN_PROGS = bind_wildcard\nTEST_GEN_PROGS += $(patsubst %.c,%,$(wildcard *.c))\nTEST_FILES := settings\n"
    )
    assert kselftest.listed(tmp_path) == {"a.sh", "b.sh", "c.sh", "bind_wildcard"}


def test_what_is_a_program(tmp_path: Path) -> None:
    assert kselftest.is_program(script(tmp_path / "a.sh", ""))
    assert kselftest.is_program(Path("/bin/sh").resolve())
    (tmp_path / "a.sh").chmod(0o644)
    assert not kselftest.is_program(tmp_path / "a.sh")
    (tmp_path / "Makefile").write_text("all:\n")
    (tmp_path / "Makefile").chmod(0o755)
    assert not kselftest.is_program(tmp_path / "Makefile")


def test_what_a_script_reads_and_starts(tmp_path: Path) -> None:
    net = tmp_path / "selftests" / "net"
    script(net / "lib.sh", 'net_dir=$(dirname "$(readlink -e "${BASH_SOURCE[0]}")")\nsource "$net_dir/lib/defer.sh"')
    script(net / "lib" / "defer.sh", "ping -c 1 host")
    script(net.parent / "kselftest" / "ktap.sh", "")
    (net / "built").write_text("")
    program = script(
        net / "a.sh",
        'source lib.sh\n. "$(dirname $(realpath $0))/../kselftest/ktap.sh"\n# mausezahn is not used\n'
        "./built && ./not-built\nip link | grep tc\nwg show # as xxd does",
    )
    files = {file.relative_to(tmp_path / "selftests").as_posix() for file in kselftest.sourced(program)}
    assert files == {"net/lib.sh", "net/lib/defer.sh", "kselftest/ktap.sh"}
    named = kselftest._named(kselftest._commands([program, *kselftest.sourced(program)]))
    assert {"ping", "tc", "wg"} <= set(named)
    assert not {"mausezahn", "xxd"} & set(named)
    said = list(kselftest.lacking(program))
    assert f"a.sh starts ./not-built, which is not built: make -C {net}" in said
    assert not [line for line in said if "./built" in line or "ping" in line]


PROGRAMS = ("named.sh", "listed.sh", "other.sh")


@pytest.fixture
def programs(pytester: pytest.Pytester) -> Path:
    for name in PROGRAMS:
        script(pytester.path / "net" / name, "echo 1..1; echo ok 1 part")
    (pytester.path / "net" / "Makefile").write_text("TEST_PROGS := listed.sh\n")
    return pytester.path / "net"


def test_programs_that_are_named_or_listed_are_tests(programs: Path, session: Callable[..., pytest.RunResult]) -> None:
    listed = ("--collect-only", "-q", "--tcp-kselftest")
    assert [line for line in session(*listed).outlines if "::" in line] == ["net/listed.sh::program"]
    both = session(*listed, "net/named.sh", "net/listed.sh", "--tcp-kernel=running").outlines
    assert [line for line in both if "::" in line] == [
        "net/named.sh::program[running]",
        "net/listed.sh::program[running]",
    ]
    assert session("--collect-only", "-q").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_kernel_that_is_others_too_is_left_alone(programs: Path, session: Callable[..., pytest.RunResult]) -> None:
    result = session("--tcp-kselftest", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED * needs a kernel of its own (--tcp-kernel, or --tcp-own-kernel): *"])


def test_what_is_read_has_to_be_in_the_project(
    pytester: pytest.Pytester, programs: Path, session: Callable[..., pytest.RunResult], tmp_path: Path
) -> None:
    """Before any machine: here even before a kernel is looked for, which there is none of."""
    script(pytester.path / "kselftest" / "ktap.sh", "")
    script(programs / "listed.sh", '. "$(dirname "$0")/../kselftest/ktap.sh"')
    from harness.plugin import selftests

    class Config:
        rootpath = programs
        args = ("listed.sh",)
        invocation_params = type("Params", (), {"dir": programs})

        @staticmethod
        def getoption(_: str) -> bool:
            return True

    with pytest.raises(
        pytest.UsageError, match=r"listed\.sh reads .*ktap\.sh, which is not below .*--rootdir=DIRECTORY"
    ):
        selftests.guest_programs(Config())  # type: ignore[arg-type]
    Config.rootpath = pytester.path
    # The second is what scripts of packetdrill start.
    assert {"mktemp", "dd"} <= set(selftests.guest_programs(Config()))  # type: ignore[arg-type]
