"""In which words it is said that something did not run, and what an error of a worker comes down to."""

from __future__ import annotations

import os

import pytest

from harness.kernels import interpreters
from harness.plugin import attendance, missing, trouble
from harness.plugin.parameter import same_test, without_kernel
from harness.plugin.telling import Collected


def collected(*tests: str, skipped: tuple[str, ...] = (), failed: dict[str, str] | None = None) -> Collected:
    return Collected("6.12.1", tests, dict.fromkeys(skipped, "not here"), failed or {}, {})


@pytest.mark.parametrize(
    ("nodeid", "bare"),
    [
        ("t.py::a[ipv4-6.12]", "t.py::a[ipv4]"),
        ("t.py::b[6.12]", "t.py::b"),
        ("t.py::c[ipv4-6.1]", "t.py::c[ipv4-6.1]"),
        ("t.py::d", "t.py::d"),
        ("t.py::e[x6.12]", "t.py::e[x6.12]"),
    ],
)
def test_an_id_without_its_kernel(nodeid: str, bare: str) -> None:
    assert without_kernel(nodeid, "6.12") == bare
    assert without_kernel(same_test(nodeid, "6.12", "7.3"), "7.3") == bare


def test_kernels_that_have_collected_the_same() -> None:
    new, old = collected("t.py::a[new]", "t.py::b[x-new]"), collected("t.py::a[old]", "t.py::b[x-old]")
    assert list(missing.not_collected([("new", new), ("old", old), ("old", old)])) == []


def test_tests_that_a_kernel_lacks() -> None:
    new = collected("t.py::a[new]", "s.py::b[new]", "d/u.py::c[new]", "f.py::d[new]")
    old = collected("t.py::a[old]", skipped=("s.py", "d"), failed={"f.py": "ImportError: no"})
    (absence,) = missing.not_collected([("new", new), ("old", old), ("old", old)])
    assert str(absence) == "Linux old has not collected 1 test that new has: ImportError: no; f.py::d"


def test_tests_that_have_no_result() -> None:
    names = [f"t.py::{name}" for name in "abcde"]
    assert missing.not_run(names[:1], 5, "") == "did not run 1 of 5 tests: t.py::a"
    assert missing.not_run(names, 9, "lost") == "did not run 5 of 9 tests: lost; t.py::a, t.py::b, t.py::c and 2 more"
    assert missing.not_run(names, 5, "lost") == "did not run: lost"
    assert missing.never_came("") == "did not run: its worker ended before it had collected"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (None, ""),
        ("Not properly terminated", "Not properly terminated"),
        (
            "Traceback (most recent call last):\n  File x\nKeyError: 'a'\n\nDuring handling:\n\nTraceback:\n  File y\n"
            "pytest.UsageError: usage: -c [options] [file]\n-c: error: unrecognized arguments: --x\n  inifile: y\n",
            "unrecognized arguments: --x",
        ),
        ("Traceback (most recent call last):\n  File x\na.b.Failure: No  module\nmore", "Failure: No module"),
        (
            "Traceback (most recent call last):\n  File x\n_pytest.config.ConftestImportFailure: KeyError: 'a' (x)",
            "KeyError: 'a' (x)",
        ),
        ("Traceback (most recent call last):\n  File x\nKeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_what_an_error_of_a_worker_comes_down_to(error: object, reason: str) -> None:
    assert attendance._reason(error) == reason


def test_what_programs_that_start_machines_say(capsys: pytest.CaptureFixture[str]) -> None:
    said = trouble.Said()
    try:
        interpreters.report("there is no QEMU", came_up=False)
        interpreters.report("the machine with kernel 6.1.0 died: it ended\n  | console", came_up=True)
        interpreters.report("the machine with kernel 6.12.0 died: QEMU ended", came_up=True)
        assert said.trouble() == "there is no QEMU"
        assert said.loss("6.1.0") == "the machine with kernel 6.1.0 died: it ended"
        assert said.loss("6.1") == ""
    finally:
        said.end()
    # The end of a machine with its console is for the terminal; one that has not come up is an error of pytest's.
    assert capsys.readouterr().err.count("harness: ") == 2
    assert interpreters.TROUBLE not in os.environ
