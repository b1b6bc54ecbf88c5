"""Nothing is green that did not run: kernels that never came, tests without a result, workers that were lost.

The other kernel is this machine's own interpreter in a process that has less: none of the plugins, options and modules
that are installed here alone, as in a virtual machine.
"""

from __future__ import annotations

import html
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from harness.report.table import read
from tests.claim_file import claim_file

pytest_plugins = ["pytester"]

PROJECT = Path(__file__).parents[2]

CONFTEST = """
pytest_plugins = ["harness.plugin"]
from harness.kernels.targets import Remote
Remote.interpreter = lambda *_, **__: "{}"
"""
ELSEWHERE = """#!/bin/sh
export ELSEWHERE=1 PYTHONPATH={}
exec {} "$@"
"""
CANNOT_START = """
PYTHONPATH={} exec {} -c 'from harness.kernels.interpreters import report; report("the machine is out", came_up=False)'
"""
# A plugin that is installed here and not there.
PLUGIN = """
def pytest_addoption(parser):
    parser.addoption("--lately", default=None)
    parser.addini("lately", "a setting", default="")
"""
SCENARIO = """
import os
import pytest

@pytest.mark.claim("queue.limit")
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_limit(claim, family):
    {}
    with claim.effect("nobody accepts") as effect:
        effect.compare("waiting", 11, document=10, kernel=11)
    with claim.control("accepted at once") as control:
        control.expect("overflows", 0, 0)

def test_plain():
    pass
"""
DIES = 'os._exit(1) if family == "ipv4" else None'
DIES_THERE = 'os._exit(1) if family == "ipv4" and "ELSEWHERE" in os.environ else None'

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, session: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the scenario here and, by the name of elsewhere, where less is installed."""
    installed = pytester.mkdir("site")
    (installed / "lately.py").write_text(PLUGIN)
    about = installed / "lately-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lately\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[pytest11]\nlately = lately\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(installed), os.environ["PYTHONPATH"]]))
    # pytest does not cut the lines of its short summary then.
    monkeypatch.setenv("CI", "true")
    script = pytester.path / "elsewhere"
    script.write_text(ELSEWHERE.format(PROJECT, sys.executable))
    script.chmod(0o755)
    pytester.makeconftest(CONFTEST.format(script))
    pytester.mkdir("claims").joinpath("queue.toml").write_text(claim_file())
    pytester.makepyfile(test_scenario=SCENARIO.format(""))
    pytester.makeini("[pytest]\n")

    def here_and_there(*options: str, kernels: tuple[str, ...] = ("ssh:elsewhere", "running")) -> pytest.RunResult:
        words = [word for kernel in kernels for word in ("--tcp-kernel", kernel)]
        results = ("--tcp-ktap", "r.ktap", "--tcp-kcidb", "r.json", "--tcp-report", "r.html", "--junitxml", "r.xml")
        return session(*results, *words, *options)

    return here_and_there


def error_of(ran: pytest.RunResult, pytester: pytest.Pytester) -> str:
    """The one error of a failed run, and that every form of the results has it."""
    assert ran.ret == pytest.ExitCode.TESTS_FAILED
    (line,) = (text for text in ran.outlines if text.startswith("ERROR "))
    kernel, _, why = line.removeprefix("ERROR ").partition(" - ")
    assert f"# {why}" in (pytester.path / "r.ktap").read_text()
    tests = json.loads((pytester.path / "r.json").read_text())["tests"]
    assert [test["comment"] for test in tests if test["status"] == "MISS"] == [f"{kernel} {why}"]
    assert f'role="alert">{html.escape(f"{kernel} {why}", quote=False)}'[:50] in (pytester.path / "r.html").read_text()
    cases = {case.attrib["name"]: case for case in ET.parse(pytester.path / "r.xml").getroot().iter("testcase")}
    assert cases[kernel].find("error") is not None
    return f"{kernel} {why}"


def said(pytester: pytest.Pytester) -> dict[str, str]:
    """What the evidence says of each test."""
    cells = [cell for _, _, cell in read([pytester.path / "out" / "evidence"]).cells()]
    return {entry.run.nodeid.partition("::")[2]: entry.run.said for cell in cells for entry in cell.entries}


def test_all_is_green_when_all_has_run(run: Run, pytester: pytest.Pytester) -> None:
    ran = run()
    assert ran.ret == pytest.ExitCode.OK
    ran.assert_outcomes(passed=6)
    assert "not ok" not in (pytester.path / "r.ktap").read_text()


# A kernel whose worker never runs a test.


def test_a_machine_of_vagrant_s_is_no_exception(run: Run, pytester: pytest.Pytester) -> None:
    kernels = ("vagrant:elsewhere", "running")
    ran = run("--lately", "60", kernels=kernels)
    assert error_of(ran, pytester) == "Linux elsewhere did not run: unrecognized arguments: --lately"
    pytester.makepyfile(test_scenario=SCENARIO.format(DIES_THERE))
    lost = run(kernels=kernels)
    assert lost.ret == pytest.ExitCode.TESTS_FAILED
    lost.assert_outcomes(passed=5, failed=1)
    (pytester.path / "elsewhere").write_text(f"#!/bin/sh{CANNOT_START.format(PROJECT, sys.executable)}")
    ran = run(kernels=kernels)
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in ran.errlines if line.strip()] == ["ERROR: the machine is out"]
    assert "not ok 1 Linux elsewhere # did not run: the machine is out" in (pytester.path / "r.ktap").read_text()


# Arguments that name no test: workers find out, and pytest-xdist says nothing of it.


def test_a_place_that_is_none_is_refused_before_anything_starts(run: Run, session: Run) -> None:
    for ran in (run("no_such_file.py"), session("-n", "2", "no_such_file.py::test_limit")):
        assert ran.ret == pytest.ExitCode.USAGE_ERROR
        (line,) = (line for line in ran.errlines if line.strip())
        assert line.startswith("ERROR: file or directory not found: no_such_file.py")


@pytest.mark.parametrize("option", ["-k", "-m"])
def test_an_expression_that_is_none_is_refused_before_anything_starts(run: Run, session: Run, option: str) -> None:
    for ran in (run(option, "ipv4 and"), session("-n", "2", option, "ipv4 and")):
        assert ran.ret == pytest.ExitCode.USAGE_ERROR
        assert f"ERROR: Wrong expression passed to '{option}': ipv4 and: " in ran.stderr.str()
        assert "Traceback" not in ran.stdout.str() + ran.stderr.str()
        assert "INTERNALERROR" not in ran.stdout.str()
    assert session("-n", "2", "test_scenario.py", "-k", "plain").ret == pytest.ExitCode.OK


def test_a_test_that_is_none_is_an_error_of_each_kernel(run: Run, pytester: pytest.Pytester) -> None:
    ran = run("test_scenario.py::test_nonsense", kernels=("running",))
    assert error_of(ran, pytester).startswith("Linux running did not run: not found: ")


@pytest.mark.parametrize("also", [(), ("test_scenario.py::test_plain",)])
def test_a_test_that_is_none_is_an_error_of_plain_workers(
    run: Run, session: Run, pytester: pytest.Pytester, also: tuple[str, ...]
) -> None:
    del run  # it has made the scenario
    ran = session("-n", "2", "test_scenario.py::test_nonsense", *also, "--junitxml", "r.xml")
    assert ran.ret == pytest.ExitCode.TESTS_FAILED
    (line,) = (text for text in ran.outlines if text.startswith("ERROR "))
    assert line.startswith("ERROR pytest-xdist - did not run: not found: ")
    assert "not found: " in (pytester.path / "r.xml").read_text()
    assert session("-n", "2", "test_scenario.py::test_plain").ret == pytest.ExitCode.OK


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_option_that_is_not_known_there(run: Run, pytester: pytest.Pytester, workers: str) -> None:
    ran = run("--lately", "60", "-n", workers)
    assert error_of(ran, pytester) == "Linux elsewhere did not run: unrecognized arguments: --lately"
    ran.assert_outcomes(passed=3, errors=1)
    assert "Traceback" not in ran.stdout.str()
    assert "replacing" not in ran.stdout.str()


def test_an_option_of_the_configuration_that_is_not_known_there(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\naddopts = --lately 60\n")
    assert error_of(run(), pytester) == "Linux elsewhere did not run: unrecognized arguments: --lately"


def test_a_module_that_is_not_there(run: Run, pytester: pytest.Pytester) -> None:
    conftest = pytester.path / "conftest.py"
    conftest.write_text(f"import lately\n{conftest.read_text()}")
    wanted = "Linux elsewhere did not run: ModuleNotFoundError: No module named 'lately' (from "
    assert error_of(run(), pytester).startswith(wanted)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_setting_that_is_not_known_there(run: Run, pytester: pytest.Pytester, workers: str) -> None:
    pytester.makeini("[pytest]\nfilterwarnings = error\nlately = 1\n")
    ran = run("-n", workers)
    assert error_of(ran, pytester) == "Linux elsewhere did not run: PytestConfigWarning: Unknown config option: lately"
    assert "INTERNALERROR" not in ran.stdout.str()


def test_a_setting_that_is_not_known_there_and_only_warned_of(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nlately = 1\n")
    ran = run()
    wanted = "Linux elsewhere does not know the setting lately of pytest's configuration"
    assert error_of(ran, pytester) == wanted
    ran.assert_outcomes(passed=6, errors=1)


def test_a_plugin_that_is_not_there_and_finds_nothing_of_itself(run: Run, pytester: pytest.Pytester) -> None:
    """As pytest-metadata: what it left in a worker is looked for here when that ends."""
    site = pytester.path / "site" / "lately.py"
    site.write_text(f"{PLUGIN}\ndef pytest_testnodedown(node):\n    return node.workeroutput['lately']\n")
    left = "def pytest_configure(config):\n    getattr(config, 'workeroutput', {})['lately'] = 1\n"
    site.write_text(f"{site.read_text()}\n{left}")
    ran = run()
    assert ran.ret == pytest.ExitCode.OK, ran.stdout.str()
    ran.assert_outcomes(passed=6)
    ran.stdout.fnmatch_lines(["Linux elsewhere ran without the plugin* lately* of this environment"])
    # Nor does it matter where a worker ends before it has begun.
    assert error_of(run("--lately", "60"), pytester) == "Linux elsewhere did not run: unrecognized arguments: --lately"


def test_a_kernel_that_gives_up_while_it_collects(run: Run, pytester: pytest.Pytester) -> None:
    conftest = pytester.path / "conftest.py"
    gives_up = 'def pytest_collection_modifyitems(): pytest.exit("not here") if "ELSEWHERE" in os.environ else None'
    conftest.write_text(f"import os, pytest\n{conftest.read_text()}\n{gives_up}\n")
    assert error_of(run(), pytester) == "Linux elsewhere did not run: Exit: not here"


def test_a_kernel_whose_worker_is_lost_again_and_again(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_picky='import os\nif "ELSEWHERE" in os.environ: os._exit(1)\n')
    ran = run()
    assert error_of(ran, pytester) == "Linux elsewhere did not run: its worker ended without a word"
    ran.assert_outcomes(passed=3, errors=1)


def test_no_kernel_at_all(run: Run, pytester: pytest.Pytester) -> None:
    ran = run("--lately", "60", kernels=("ssh:elsewhere",))
    assert error_of(ran, pytester) == "Linux elsewhere did not run: unrecognized arguments: --lately"
    assert (pytester.path / "r.ktap").read_text().splitlines()[1:] == [
        "1..1",
        "not ok 1 Linux elsewhere # did not run: unrecognized arguments: --lately",
    ]


def test_a_worker_that_cannot_be_started(run: Run, pytester: pytest.Pytester) -> None:
    """It ends as a mistake of usage, before anything is run; the results say which kernel it was."""
    (pytester.path / "elsewhere").write_text(f"#!/bin/sh{CANNOT_START.format(PROJECT, sys.executable)}")
    ran = run()
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in ran.errlines if line.strip()] == ["ERROR: the machine is out"]
    ran.assert_outcomes(errors=1)
    assert "ERROR Linux elsewhere - did not run: the machine is out" in ran.outlines
    assert (pytester.path / "r.ktap").read_text().splitlines()[1:] == [
        "1..1",
        "not ok 1 Linux elsewhere # did not run: the machine is out",
    ]
    (case,) = ET.parse(pytester.path / "r.xml").getroot().iter("testcase")
    assert case.attrib["name"] == "Linux elsewhere"


def test_a_worker_whose_program_ends_without_a_word(run: Run, pytester: pytest.Pytester) -> None:
    (pytester.path / "elsewhere").write_text("#!/bin/sh\n")
    ran = run()
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = (line for line in ran.errlines if line.strip())
    assert line.startswith("ERROR: a worker could not be started: its program ended without a word (")
    assert "not ok 1 Linux elsewhere # did not run: a worker could not" in (pytester.path / "r.ktap").read_text()


def test_a_worker_whose_program_is_no_interpreter(run: Run, pytester: pytest.Pytester) -> None:
    (pytester.path / "elsewhere").write_text("#!/bin/sh\necho welcome\nexec cat >/dev/null\n")
    ran = run()
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    why = "a worker could not be started: its program answers, but as no Python interpreter does"
    assert [line for line in ran.errlines if line.strip()] == [f"ERROR: {why}"]
    assert "INTERNALERROR" not in ran.stdout.str()
    assert f"not ok 1 Linux elsewhere # did not run: {why[:30]}" in (pytester.path / "r.ktap").read_text()


def test_a_worker_that_cannot_be_started_again(run: Run, pytester: pytest.Pytester) -> None:
    script = pytester.path / "elsewhere"
    again = f"[ ! -e {script}.once ] || {{{CANNOT_START.format(PROJECT, sys.executable)}}}\ntouch {script}.once\n"
    script.write_text(script.read_text().replace("exec ", f"{again}exec "))
    pytester.makepyfile(test_lost="import os\ndef test_lost():\n    'ELSEWHERE' in os.environ and os._exit(1)\n")
    ran = run()
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in ran.errlines if line.strip()][-1] == "ERROR: the machine is out"
    ktap = (pytester.path / "r.ktap").read_text()
    assert "Linux elsewhere # did not run 3 of 4 tests: the machine is out; " in ktap


# Tests that are not the same, or have no result.


def test_a_module_that_cannot_be_collected_there(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_picky="import lately\ndef test_a(): pass\ndef test_b(): pass\n")
    ran = run()
    assert ran.ret == pytest.ExitCode.TESTS_FAILED
    wanted = "has not collected 2 tests that running has: ModuleNotFoundError: No module named 'lately'; "
    wanted = f"{wanted}test_picky.py::test_a, test_picky.py::test_b"
    assert f"ERROR Linux elsewhere - {wanted}" in ran.outlines
    assert (pytester.path / "r.ktap").read_text().splitlines()[-2:] == [
        "not ok 3 test_picky.py # could not be collected: ModuleNotFoundError: No module named 'lately'",
        f"not ok 4 Linux elsewhere # {wanted}",
    ]


def test_tests_that_only_some_kernels_have(run: Run, pytester: pytest.Pytester) -> None:
    text = "import os, pytest\n@pytest.mark.parametrize('n', range(2 + 4 * ('ELSEWHERE' in os.environ)))\n"
    pytester.makepyfile(test_more=f"{text}def test_more(n): pass\n")
    wanted = "Linux running has not collected 4 tests that elsewhere has: test_more.py::test_more[2], "
    assert error_of(run(), pytester).startswith(wanted)


@pytest.mark.parametrize("options", ["-k plain", "-k running", "--deselect test_scenario.py::test_plain"])
def test_what_is_left_out_on_purpose_is_not_missing(run: Run, options: str) -> None:
    assert run(*options.split()).ret == pytest.ExitCode.OK


def test_a_module_that_skips_itself_there_is_not_missing(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_picky='import pytest\npytest.importorskip("lately")\ndef test_a(): pass\n')
    ran = run()
    assert ran.ret == pytest.ExitCode.OK
    ran.assert_outcomes(passed=7, skipped=1)


def test_a_run_that_is_stopped_says_no_more_than_that(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_a="def test_a(): assert False\n")
    ran = run("-x")
    assert ran.ret == pytest.ExitCode.INTERRUPTED
    assert "did not run" not in ran.stdout.str()


def test_tests_that_nobody_was_left_to_run(run: Run, pytester: pytest.Pytester) -> None:
    lost = "\n".join(f"def test_{name}():\n    if 'ELSEWHERE' in os.environ: os._exit(1)\n" for name in "abcd")
    pytester.makepyfile(test_lost=f"import os\n{lost}")
    ran = run("--max-worker-restart=1", kernels=("ssh:elsewhere",))
    assert error_of(ran, pytester).startswith(
        "Linux elsewhere did not run 5 of 7 tests: its worker ended without a word; "
    )


# Workers that are lost with a test.


def properties_of_failures(pytester: pytest.Pytester) -> dict[str, dict[str, str]]:
    """What JUnit's XML says of each test that failed: its claim, and the verdict."""
    cases = ET.parse(pytester.path / "r.xml").getroot().iter("testcase")
    return {
        case.attrib["name"]: {
            each.attrib["name"]: each.attrib["value"]
            for each in case.iter("property")
            if each.attrib["name"] != "kernel"
        }
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    }


def test_a_worker_that_is_lost_has_failed_its_claim(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_scenario=SCENARIO.format(DIES))
    ran = run("-n", "2", kernels=())
    assert ran.ret == pytest.ExitCode.TESTS_FAILED
    ran.stdout.fnmatch_lines(
        [
            "failed (1)",
            "  queue.limit [[]ipv4[]]  ten may wait",
            "      WorkerLost: the test was not finished: its worker ended without a word",
            "1 claim: 1 refuted, 1 failed",
        ]
    )
    assert said(pytester) == {"test_limit[ipv4]": "failed", "test_limit[ipv6]": "refuted"}
    ktap = (pytester.path / "r.ktap").read_text()
    assert "not ok 1 test_limit[ipv4] # failed: WorkerLost: the test was not finished" in ktap
    assert "ok 2 test_limit[ipv6] # verdict=refuted" in ktap
    tests = json.loads((pytester.path / "r.json").read_text())["tests"]
    assert sorted(test["status"] for test in tests) == ["ERROR", "PASS"]
    assert "failed" in (pytester.path / "r.html").read_text()
    assert properties_of_failures(pytester) == {"test_limit[ipv4]": {"claim": "queue.limit", "verdict": "failed"}}


def test_a_kernel_that_is_lost_has_failed_its_claim_there(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_scenario=SCENARIO.format(DIES_THERE))
    ran = run()
    ran.assert_outcomes(passed=5, failed=1)
    runs = said(pytester)
    assert runs.pop("test_limit[ipv4-elsewhere]") == "failed"
    assert list(runs.values()) == ["refuted"] * 3


@pytest.mark.parametrize("target", ["--tcp-ktap", "--tcp-report", "--tcp-kcidb", "--tcp-evidence", "--junitxml"])
def test_a_place_that_cannot_be_written_is_refused_before_the_first_test(
    run: Run, pytester: pytest.Pytester, target: str
) -> None:
    """An unwritable --report was noticed when all had run, and was lost."""
    (pytester.path / "file").touch()
    ran = run(target, "file/r", kernels=())
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    assert "cannot be written" in ran.stderr.str()
    assert ran.errlines[0].startswith("ERROR: ")
    assert not (pytester.path / "out").exists()


@pytest.mark.parametrize(
    ("place", "why"),
    [("/proc/x/r.xml", "No such file"), ("~/x" + "x" * 300, "name too long"), ("$HERE/d", "directory")],
)
def test_junit_xml_that_cannot_be_written_is_one_line_before_the_first_test(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, place: str, why: str
) -> None:
    """pytest's own traceback came when all had run."""
    (pytester.path / "d").mkdir()
    monkeypatch.setenv("HERE", str(pytester.path))
    ran = run(f"--junitxml={place}", kernels=())
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    said = [line for line in ran.errlines if line]
    assert len(said) == 1
    assert said[0].startswith(f"ERROR: --junitxml {place}: cannot be written: ")
    assert why in said[0]
    assert not (pytester.path / "out").exists()


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_disk_that_is_full_when_junit_xml_is_written_is_one_line(
    run: Run, pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    """pytest's own traceback came, and no summary; the other results are there."""
    # The helper asks for results of its own: the last of two that are named counts.
    ran = run("--junitxml=/dev/full", "--tcp-ktap=last.ktap", *workers, kernels=())
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stdout.fnmatch_lines(["--junitxml /dev/full: cannot be written: No space left on device", "*3 passed*"])
    assert "Traceback" not in ran.stdout.str() + ran.stderr.str()
    assert (pytester.path / "last.ktap").read_text().startswith("KTAP version 1")
    assert (pytester.path / "r.html").exists()


@pytest.mark.parametrize("workers", [(), ("-n", "1"), ("-n", "2")])
def test_evidence_that_is_removed_meanwhile_is_written_again(
    run: Run, pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytester.makepyfile(
        test_a=SCENARIO.format(""),
        test_b="import shutil, time\n"
        "def test_last():\n"
        "    for _ in range(600):\n"
        "        if list(__import__('pathlib').Path('out/evidence').glob('*.json')): break\n"
        "        time.sleep(0.1)\n"
        "    shutil.rmtree('out/evidence')\n",
    )
    (pytester.path / "test_scenario.py").unlink()
    ran = run("-p", "no:randomly", *workers, kernels=())
    if "-n" not in workers or "1" in workers:
        assert ran.ret == pytest.ExitCode.TESTS_FAILED
        ran.stdout.fnmatch_lines("the evidence of 1 claim was removed while the run was going on: *")
    assert set(said(pytester).values()) == {"refuted"}


@pytest.mark.parametrize("option", ["--tcp-mirror", "--tcp-suite", "--tcp-keyring", "--tcp-ssh-config"])
def test_what_is_for_other_kernels_needs_one(run: Run, option: str) -> None:
    ran = run(option, "x", kernels=())
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    assert ran.errlines[0] == f"ERROR: {option} x needs a kernel: add --tcp-kernel KERNEL"


@pytest.mark.parametrize(
    ("option", "kernels", "why"),
    [
        (
            "--tcp-mirror",
            ("running", "ssh:elsewhere"),
            "a kernel of an archive, --tcp-kernel 6.12: of no use for running",
        ),
        ("--tcp-keyring", ("running",), "a kernel of an archive, --tcp-kernel 6.12: of no use for running"),
        ("--tcp-ssh-config", ("running",), "a host, --tcp-kernel ssh:HOST: of no use for running"),
    ],
)
def test_what_none_of_the_kernels_needs_is_a_mistake_of_usage(
    run: Run, option: str, kernels: tuple[str, ...], why: str
) -> None:
    ran = run(option, "x", kernels=kernels)
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    assert ran.errlines[0].startswith(f"ERROR: {option} x is for {why}")


def test_fewer_than_one_worker_is_a_mistake_of_usage(run: Run) -> None:
    for number in ("0", "-1"):
        ran = run("-n", number)
        assert ran.ret == pytest.ExitCode.USAGE_ERROR
        assert (
            ran.errlines[0]
            == f"ERROR: -n {number}: with --tcp-kernel, -n is how many workers each kernel has: 1 or more"
        )


@pytest.mark.parametrize(
    "option",
    ["--tcp-guest-program", "--tcp-guest-package", "--tcp-guest-cpus", "--tcp-guest-memory", "--tcp-guest-append"],
)
def test_what_no_machine_could_have_is_a_mistake_of_usage(run: Run, option: str) -> None:
    ran = run(option, "curl", kernels=("ssh:elsewhere", "running"))
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    assert ran.errlines[0] == f"ERROR: {option} curl: no kernel that was named runs in a virtual machine of ours"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ("--tcp-hold",),
            "--tcp-hold --tcp-kernel elsewhere: it waits in a machine of ours, or, on the running kernel, without",
        ),
        (("--pdb", "-n", "2"), "--pdb waits at the terminal, which workers do not have: leave out -n"),
        (("--trace", "--tcp-ktap", "r.ktap"), "--tcp-ktap: with --trace what is written stays in the machine"),
        (("--tcp-gdb", "--junitxml", "r.xml"), "--junitxml: with --tcp-gdb what is written stays in the machine"),
    ],
)
def test_what_waits_at_the_terminal_waits_in_a_machine(
    pytester: pytest.Pytester, words: tuple[str, ...], why: str
) -> None:
    ran = pytester.runpytest_subprocess("--tcp-kernel", "ssh:elsewhere", *words)
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    assert ran.errlines[0].startswith(f"ERROR: {why}")


def test_a_debugger_of_the_kernel_needs_a_machine(pytester: pytest.Pytester) -> None:
    ran = pytester.runpytest_subprocess("--tcp-gdb")
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    assert ran.errlines[0] == "ERROR: --tcp-gdb: name a kernel that runs in a virtual machine, --tcp-kernel 6.12"
