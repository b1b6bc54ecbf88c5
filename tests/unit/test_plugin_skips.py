"""--tcp-fail-on-skip: what could not be run here is named and fails the run; what somebody has decided is not meant."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from tests.claim_file import claim_file

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]

DECIDED = """
import pytest

def test_it(): pass

@pytest.mark.skip(reason="not before spring")
def test_later(): pass

@pytest.mark.xfail(reason="known")
def test_known(): assert False

@pytest.mark.xfail(reason="known", run=False)
def test_known_too(): assert False

@pytest.mark.full_size("hours")
def test_full(): pass
"""

SKIPPED = """
import pytest
from harness.errors import MissingProgram

@pytest.mark.skipif(True, reason="no such kernel")
def test_condition(): pass

def test_within(): pytest.skip("not  today\\nat all")

@pytest.mark.parametrize("n", [])
def test_none(n): pass

@pytest.mark.machine_wide("fs.file-max")
def test_machine(lab): pass

@pytest.mark.claim("queue.limit")
def test_limit(claim): raise MissingProgram("nginx", "nginx")
"""

# As pytest 9 says it, and as earlier ones did.
NO_PARAMETER, NO_SET = (
    ("NOTSET", "for (n)") if pytest.version_tuple >= (9,) else ("n0", "[[]'n'[]], function test_none at *")
)
ERRORS = [
    "ERROR test_gone.py - was skipped: could not import 'no_such_module': No module named 'no_such_module'",
    "ERROR test_skipped.py::test_condition - was skipped: no such kernel",
    "ERROR test_skipped.py::test_within - was skipped: not today at all",
    f"ERROR test_skipped.py::test_none[[]{NO_PARAMETER}[]] - was skipped: got empty parameter set {NO_SET}",
    "ERROR test_skipped.py::test_machine[[]ipv4[]] - was skipped: needs a kernel of its own (--tcp-own-kernel): *",
    "ERROR test_skipped.py::test_machine[[]ipv6[]] - was skipped: needs a kernel of its own (--tcp-own-kernel): *",
    "ERROR test_skipped.py::test_limit - was skipped: nginx is not installed; on Debian: apt-get install nginx",
]


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short summary is cut to the width of the terminal, or of what it takes for one."""
    monkeypatch.setenv("COLUMNS", "300")


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("workers", ["0", "1"])
def test_what_could_not_be_run_is_named_and_fails_the_run(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult], workers: str
) -> None:
    gone = 'import pytest\npytest.importorskip("no_such_module")\n'
    pytester.makepyfile(test_decided=DECIDED, test_skipped=SKIPPED, test_gone=gone)
    pytester.mkdir("claims").joinpath("queue.toml").write_text(claim_file())
    ran = session("-n", workers, "--tcp-fail-on-skip", "--junitxml", "r.xml", "--tcp-ktap", "r.ktap", "-rE")
    assert ran.ret == pytest.ExitCode.TESTS_FAILED
    ran.stdout.fnmatch_lines_random(ERRORS)
    ran.stdout.fnmatch_lines(["*_ ERROR at --tcp-fail-on-skip of test_skipped.py _*", "*1 passed*7 errors*"])
    assert not [line for line in ran.outlines if line.startswith("ERROR") and "test_decided" in line]
    errors = [each.attrib["message"] for each in ET.parse(pytester.path / "r.xml").getroot().iter("error")]
    assert len(errors) == 7
    assert "not ok 8 test_skipped.py::test_limit # was skipped: nginx" in (pytester.path / "r.ktap").read_text()


def test_what_somebody_has_decided_is_not_meant(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile(test_decided=DECIDED)
    ran = session("--tcp-fail-on-skip")
    assert ran.ret == pytest.ExitCode.OK, ran.stdout.str()
    ran.assert_outcomes(passed=1, skipped=1, xfailed=2, deselected=1)
