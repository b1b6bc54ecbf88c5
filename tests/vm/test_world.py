"""The project's world in a machine: plugins of pytest, programs and packages, as on the running kernel.

One project, and so one state of a machine: each of pytest-asyncio, -html, -metadata, -randomly, -rerunfailures and
-timeout takes part in one run on three kernels, two others and the running one.
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from harness.errors import HarnessError
from harness.kernels import debian
from tests import plugins
from tests.claim_file import claim_file

from .conftest import Project

if TYPE_CHECKING:
    from harness.kernels.store import Stored

pytestmark = pytest.mark.skipif(bool(plugins.MISSING), reason=plugins.MISSING)

CLAIM_AND_PLUGINS = """
import asyncio
import os
import time
import pytest
import pytest_html

@pytest.mark.asyncio
async def test_awaits():
    started = time.monotonic()
    await asyncio.sleep(1.5)
    assert time.monotonic() - started >= 1.5

@pytest.mark.flaky(reruns=0)
@pytest.mark.timeout(2)
def test_hangs():
    time.sleep(600)

def test_metadata(metadata, extras):
    extras.append(pytest_html.extras.text("what the test has to say"))
    assert os.uname().release in metadata["Platform"]

@pytest.mark.claim("queue.limit")
def test_flaky(claim, request):
    number = 9 if request.node.execution_count == 1 else 11
    with claim.effect("nobody accepts") as effect:
        effect.compare("waiting", number, document=10, kernel=11)
    with claim.control("accepted at once") as control:
        control.expect("overflows", 0, 0)

def test_is_lost_once(request):
    if request.node.execution_count == 1:
        os._exit(1)

def test_random(pytestconfig):
    assert pytestconfig.getoption("randomly_seed") == 7

@pytest.mark.parametrize("n", range(8))
def test_order(n):
    pass
"""
PROGRAMS = """
import os
import sys
import time
from pathlib import Path
import pytest
from harness.traffic import connect, listen

@pytest.mark.ipv4_only("once is enough")
def test_program(pair):
    files = Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/nsswitch.conf")
    assert all(file.exists() for file in files)
    words = ("-m", "http.server", "--bind", pair.server.ip, "8000")
    serving = pair.server.start(sys.executable, *words, ready=lambda: pair.client.run(
        "curl", "-s", f"http://{pair.server.ip}:8000/", check=False).returncode == 0)
    assert "<title>" in pair.client.run("curl", "-sS", f"http://{pair.server.ip}:8000/").stdout
    serving.stop()

@pytest.mark.ipv4_only("once is enough")
def test_package(lan, tmp_path):
    client, proxy, database = lan(3).hosts
    database.start("redis-server", "--bind", database.ip, "--protected-mode", "no", "--save", "", ready=lambda:
        database.run("redis-cli", "-h", database.ip, "ping", check=False).stdout == "PONG\\n")
    (tmp_path / "haproxy.cfg").write_text(
        "defaults\\n mode tcp\\n timeout connect 5s\\n timeout client 5s\\n timeout server 5s\\n"
        f"listen it\\n bind {proxy.ip}:6380\\n server one {database.ip}:6379\\n")
    proxy.start("haproxy", "-f", str(tmp_path / "haproxy.cfg"), ready=lambda:
        client.run("redis-cli", "-h", proxy.ip, "-p", "6380", "ping", check=False).stdout == "PONG\\n")
    client.run("redis-cli", "-h", proxy.ip, "-p", "6380", "set", "key", "value")
    assert database.run("redis-cli", "-h", database.ip, "get", "key").stdout == "value\\n"

@pytest.mark.ipv4_only("once is enough")
def test_netem_by_tc(pair):
    if "TCP_HARNESS_GUEST" not in os.environ:
        pytest.skip("whether this machine's kernel has netem is not asked")
    device = next(iter(pair.client.interfaces))
    pair.client.run("tc", "qdisc", "add", "dev", device, "root", "netem", "delay", "300ms")
    listener = listen(pair.server)
    started = time.monotonic()
    connect(pair.client, listener, 1, wait=True)
    assert 0.3 <= time.monotonic() - started < 0.5
    assert "netem" in pair.client.run("tc", "-s", "qdisc", "show", "dev", device).stdout

@pytest.mark.ipv4_only("once is enough")
def test_what_was_not_brought(pair):
    pair.client.run("no-such-program")
"""
OPTIONS = ("--timeout", "3000", "--randomly-seed", "7", "--reruns", "1", "-rA")
PACKAGES = ("redis-server", "haproxy")


@pytest.fixture
def its_world(shared: Path, kernels: list[Stored], project: Project, place: int) -> Project:
    """A project of its own, made once; `project` looks at the time that is left."""
    directory = shared / f"world-{place}"
    if not directory.exists():
        (directory / "claims").mkdir(parents=True)
        (directory / "claims" / "queue.toml").write_text(claim_file())
        (directory / "test_plugins.py").write_text(CLAIM_AND_PLUGINS)
        (directory / "test_programs.py").write_text(PROGRAMS)
        ini = "[pytest]\naddopts = --import-mode=importlib\nasyncio_default_fixture_loop_scope = function\n"
        (directory / "pytest.ini").write_text(ini)
    return Project(directory, kernels, project.until)


def outcomes(junit: Path, kernel: str) -> dict[str, str]:
    """What became of each test on a kernel; of several attempts, the last."""
    found: dict[str, str] = {}
    for case in ET.parse(junit).getroot().iter("testcase"):
        # pytest-rerunfailures leaves cases without a name where a worker was lost.
        name = case.attrib.get("name", "")
        for end in (f"-{kernel}]", f"[{kernel}]"):
            if name.endswith(end):
                bad = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
                found[name.removesuffix(end)] = bad
    return found


def wanted_packages() -> list[str]:
    """The options that bring packages; skips where apt knows none."""
    try:
        debian.plan(PACKAGES)
    except HarnessError as error:
        pytest.skip(f"apt does not know the packages here: {error}")
    return [word for name in PACKAGES for word in ("--tcp-guest-package", name)]


def plugins_wanted() -> set[str]:
    """Those of pyproject.toml, without the prefix: what the matrix has to run."""
    groups = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    names = (re.split(r"[ >=<]", name)[0] for name in groups["dependency-groups"]["plugins"])
    return {name.removeprefix("pytest-") for name in names if name.startswith("pytest-")}


def test_plugins_programs_and_packages_are_there(its_world: Project, tmp_path: Path) -> None:
    """The matrix: each plugin, program and package on each of the two kernels, as on the running one."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed; on Debian: apt-get install curl")
    junit, html = tmp_path / "r.xml", tmp_path / "r.html"
    guest = ("--tcp-guest-program", "curl", "--tcp-guest-program", "tc", *wanted_packages())
    more = (*guest, f"--junitxml={junit}", f"--html={html}")
    result = its_world.run(
        *its_world.on(), "--tcp-kernel", "running", *OPTIONS, *more, PYTHONPATH=plugins.PYTHONPATH, CI="true"
    )
    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout + result.stderr
    (present,) = re.findall(r"^plugins: (.*)$", result.stdout, re.MULTILINE)
    assert plugins_wanted() <= {name.rpartition("-")[0] for name in present.split(", ")}
    versions = [kernel.version for kernel in its_world.kernels]
    here = outcomes(junit, "running")
    order = {f"test_order[{n}": "passed" for n in range(8)}
    of_plugins = {"test_awaits", "test_metadata", "test_flaky", "test_is_lost_once", "test_random"}
    wanted = order | dict.fromkeys(of_plugins, "passed") | {"test_hangs": "failure"}
    assert {name: here[name] for name in wanted} == wanted
    for version in versions:
        there = outcomes(junit, version)
        assert {name: there[name] for name in wanted} == wanted, result.stdout
        # What the machine has been given.
        brought = [there[f"test_{name}[ipv4"] for name in ("program", "package", "netem_by_tc")]
        assert brought == ["passed"] * 3, result.stdout
        assert f"test_hangs[{version}]" in html.read_text()
    # What it says of what it has not.
    assert re.search(
        r"SKIPPED .*no-such-program is not in this virtual machine; pytest's --tcp-guest-program no-such", result.stdout
    )
    assert "no-such-program is not installed; on Debian" in result.stdout
    # pytest-timeout, pytest-randomly.
    assert result.stdout.count("Failed: Timeout (>2.0s) from pytest-timeout.") >= len(versions) + 1
    first = [line for line in result.stdout.splitlines() if re.match(r"PASSED .*test_order\[", line)]
    assert [int(re.findall(r"test_order\[(\d)", line)[0]) for line in first] != [*range(8)] * (len(versions) + 1)
    # pytest-rerunfailures: a claim that is run again begins anew, and the evidence has both attempts.
    assert result.stdout.count("1 claim: 1 refuted; 1 flaky") == len(versions) + 1
    evidence = json.loads((its_world.directory / "out" / "evidence" / "queue.limit.json").read_text())
    assert {run["kernel"]["release"] for run in evidence["runs"]} >= {kernel.release for kernel in its_world.kernels}
    for run in evidence["runs"]:
        measured = [run["phases"][0]["comparisons"][0]["measured"] for run in (*run["earlier"], run)]
        assert [len(attempt["phases"]) for attempt in (*run["earlier"], run)] == [2, 2]
        assert ("9" in str(measured[0]), "11" in str(measured[1])) == (True, True)
    assert "ran without" not in result.stdout


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (
            "--tcp-guest-program=nope-x",
            "ERROR: --tcp-guest-program nope-x: it is not installed here, and only what is here",
        ),
        ("--tcp-guest-package=nope-x", "ERROR: --tcp-guest-package nope-x: "),
    ],
)
def test_what_cannot_be_brought_is_named_before_a_machine_starts(its_world: Project, option: str, said: str) -> None:
    result = its_world.run(*its_world.on(its_world.kernels[0]), option)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR, result.stdout + result.stderr
    (line,) = (line for line in result.stderr.splitlines() if line.strip())
    assert line.startswith(said)
    assert result.stdout == ""
