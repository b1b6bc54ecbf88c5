"""The kernel's test programs in a lab: what they have around them, and what becomes of what they print."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from harness.errors import Forbidden
from harness.lab.isolation import in_user_namespace, isolate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest_plugins = ["pytester"]

GOOD = """\
#!/bin/bash
source ./lib.sh
echo 1..3
[ "$(ls /sys/class/net)" = lo ] && [ "$(cat /sys/class/net/lo/operstate)" = unknown ] && echo "ok 1 alone with lo"
ip netns add other && ip netns del other && echo "ok 2 has namespaces"
[ -e /proc/$$ ] && told "ok 3 new knob # SKIP no such knob"
"""
BAD = """\
#!/bin/bash
echo TAP version 13
echo 1..2
echo "    1..2"
echo "    ok 1 ipv4"
echo "# a.c:7: Expected 0 == 1"
echo "    not ok 2 ipv6"
echo "not ok 1 connect"
echo "ok 2 close"
exit 1
"""


@pytest.fixture
def programs(pytester: pytest.Pytester) -> Path:
    try:
        isolate()
    except Forbidden as error:
        pytest.skip(str(error))
    if in_user_namespace():
        pytest.skip("programs that have a kernel of their own are root there")
    net = pytester.mkdir("net")
    (net / "lib.sh").write_text("told() { echo $*; }\n")
    for name, text in (("good.sh", GOOD), ("bad.sh", BAD), ("none.sh", "#!/bin/sh\necho no jq here, SKIP\nexit 4\n")):
        (net / name).write_text(text)
        (net / name).chmod(0o755)
    return net


def test_what_a_program_prints_becomes_results(
    programs: Path, pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    named = [f"net/{name}.sh" for name in ("good", "bad", "none")]
    # On this kernel, which the programs leave as it is.
    result = session("--tcp-kselftest", "--tcp-own-kernel", *named, "--junitxml=junit.xml", "-rfs")
    result.assert_outcomes(passed=5, failed=2, skipped=2)
    result.stdout.fnmatch_lines(
        [
            "*connect: ipv6: not ok*",
            "# a.c:7: Expected 0 == 1",
            "*bad.sh: 1 of 3 not ok: connect: ipv6",
            "FAILED net/bad.sh::connect: ipv6 - connect: ipv6: not ok*",
            "FAILED net/bad.sh::program - bad.sh: 1 of 3 not ok: connect: ipv6",
            "SKIPPED * net/good.sh:0: no such knob",
            "SKIPPED * net/none.sh:1: no jq here, SKIP",
        ]
    )
    cases = {case.get("name"): case for case in ElementTree.parse(pytester.path / "junit.xml").iter("testcase")}
    assert set(cases) == {
        *("program", "alone with lo", "has namespaces", "new knob"),
        *("connect: ipv4", "connect: ipv6", "close"),
    }
    failure = cases["connect: ipv6"].find("failure")
    assert failure is not None
    assert "Expected 0 == 1" in str(failure.text)


def test_results_come_from_workers_too(programs: Path, session: Callable[..., pytest.RunResult]) -> None:
    result = session("--tcp-kselftest", "--tcp-own-kernel", "net/good.sh", "net/bad.sh", "-n", "1")
    result.assert_outcomes(passed=5, failed=2, skipped=1)
    result.stdout.no_fnmatch_line("*[[]1[0-9][1-9]%]*")  # progress is not more than all
