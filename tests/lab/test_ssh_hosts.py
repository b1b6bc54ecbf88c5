"""Workers on a host that one has ssh to: an sshd of our own, for the user who runs this, at the other end of a pipe."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from harness.lab.isolation import in_user_namespace
from harness.waiting import until
from tests import plugins
from tests.claim_file import claim_file
from tests.processes import running

SSHD = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/local/sbin")
DEADLINE = 120

SERVER = """
HostKey {place}/host
AuthorizedKeysFile {place}/user.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
SetEnv XDG_CACHE_HOME={place}/far
"""
CLIENT = """
Host there
    ProxyCommand {sshd} -i -f {place}/sshd_config
    IdentityFile {place}/user
    IdentitiesOnly yes
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    LogLevel ERROR
"""
SCENARIO = """
import os
from pathlib import Path
import pytest
from harness.traffic import connect, listen

@pytest.mark.claim("queue.limit")
@pytest.mark.ipv4_only("once is enough")
def test_claim(claim, pair):
    with claim.effect("one connects") as effect:
        effect.compare("connected", connect(pair.client, listen(pair.server), 1).connected, document=1)
    with claim.control("nobody does") as control:
        control.expect("connected", 0, 0)

def test_is_not_here(tmp_path):
    assert "SSH_CONNECTION" in os.environ
    assert Path.cwd().parent.name == "projects"
    (tmp_path / "file").touch()

def test_is_here():
    assert "SSH_CONNECTION" not in os.environ

def test_waits():
    if Path("wait").exists():
        Path(Path("wait").read_text()).write_text(str(os.getpid()))
        while True:
            os.sched_yield()
"""

LOST_ONCE = """
import os

def test_lost():
    once = {!r}
    if "SSH_CONNECTION" in os.environ and not os.path.exists(once):
        open(once, "w").close()
        os._exit(1)
"""


@dataclass(frozen=True)
class Far:
    """A project here, and how to reach the host."""

    project: Path
    config: Path

    def give_plugins(self) -> None:
        """Have the plugins of tests.plugins there."""
        server = self.config.with_name("sshd_config")
        server.write_text(server.read_text().replace("SetEnv", f"SetEnv PYTHONPATH={plugins.DIRECTORY}"))

    def argv(self, *more: str, host: str = "") -> list[str]:
        kernel = host or f"ssh:there,python={sys.executable}"
        return [sys.executable, "-m", "pytest", f"--tcp-ssh-config={self.config}", "--tcp-kernel", kernel, *more]

    def run(self, *more: str, host: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*more, host=host), cwd=self.project, check=False, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=DEADLINE, env=os.environ | variables,
        )  # fmt: skip


@pytest.fixture
def far(tmp_path: Path) -> Far:
    """A host that is this machine, with a cache of its own."""
    if SSHD is None:
        pytest.skip("sshd is not installed; on Debian: apt-get install openssh-server")
    if not os.access(shell := pwd.getpwuid(os.geteuid()).pw_shell or "/bin/sh", os.X_OK) or "nologin" in shell:
        pytest.skip("this user has no shell to log in with")
    if in_user_namespace():
        pytest.skip("sshd becomes the user that logs in, and a user namespace has one alone")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd, as root, shuts its unprivileged half in
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    server, client, project = tmp_path / "sshd_config", tmp_path / "ssh_config", tmp_path / "project"
    server.write_text(SERVER.format(place=tmp_path))
    client.write_text(CLIENT.format(sshd=SSHD, place=tmp_path))
    (project / "claims").mkdir(parents=True)
    (project / "claims" / "queue.toml").write_text(claim_file(limit="holds"))
    (project / "test_far.py").write_text(SCENARIO)
    (project / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = ['--import-mode=importlib']\n")
    return Far(project, client)


def test_a_host_runs_the_tests_beside_the_running_kernel(far: Far) -> None:
    done = far.run("-v", "-n", "2", "--tcp-kernel", "running", "-k", "not waits", "-rf")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "4 passed, 2 failed" in done.stdout or "2 failed, 4 passed" in done.stdout, done.stdout
    shares = [int(share) for share in re.findall(r"\[ *(\d+)%\]", done.stdout)]
    assert shares == [16, 33, 50, 66, 83, 100]
    failed = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAILED")}
    assert failed == {"test_far.py::test_is_not_here[running]", "test_far.py::test_is_here[there]"}
    evidence = json.loads((far.project / "out" / "evidence" / "queue.limit.json").read_text(encoding="utf-8"))
    assert len(evidence["runs"]) == 2
    # What failed there is run again there, and nothing else.
    again = far.run("-v", "--lf", "-k", "not waits", "--tcp-kernel", "running")
    assert again.returncode == 1
    assert "2 failed in" in again.stdout, again.stdout


def test_a_project_that_is_there_is_not_brought_again(far: Far) -> None:
    for _ in range(2):
        assert far.run("-k", "test_claim").returncode == 0
    (first,) = (far.project.parent / "far" / "tcp-harness" / "projects").glob("[0-9a-f]*")
    (far.project / "test_far.py").write_text(SCENARIO + "\n")
    assert far.run("-k", "test_claim").returncode == 0
    places = {*first.parent.glob("[0-9a-f]*")}
    assert len(places) == 2
    assert first in places


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("ssh:there,python=/nonexistent/python", "there cannot run scenarios: /nonexistent/python has not what"),
        ("ssh:there", "there cannot run scenarios: there is no interpreter named"),
        ("ssh:127.0.0.1:9", "127.0.0.1:9 cannot be reached: ssh: Could not resolve hostname"),
        ("ssh:127.0.0.1", "127.0.0.1 cannot be reached: "),
    ],
)
def test_a_host_that_will_not_do_is_one_line(far: Far, host: str, reason: str) -> None:
    if host == "ssh:127.0.0.1":
        far.config.write_text(f"Host 127.0.0.1\n    Port 9\n{far.config.read_text()}")
    done = far.run(host=host)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = (line for line in done.stderr.splitlines() if line.strip())
    assert line.startswith(f"ERROR: {reason}")


@pytest.mark.skipif(bool(plugins.MISSING), reason=plugins.MISSING)
def test_a_host_without_a_plugin_did_not_run(far: Far) -> None:
    """pytest-timeout is here and not there: nothing is green."""
    results = ("--junitxml=r.xml", "--tcp-ktap=r.ktap")
    words = ("--tcp-kernel", "running", "-k", "test_claim", "--timeout", "60", "-p", "no:randomly", *results)
    done = far.run(*words, PYTHONPATH=plugins.PYTHONPATH, CI="true")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "ERROR Linux there - did not run: unrecognized arguments: --timeout" in done.stdout.splitlines()
    assert "1 passed, 1 error" in done.stdout
    assert "Linux there # did not run: unrecognized arguments" in (far.project / "r.ktap").read_text()
    cases = {case.attrib["name"]: case for case in ET.parse(far.project / "r.xml").getroot().iter("testcase")}
    assert cases["Linux there"].find("error") is not None
    far.give_plugins()
    assert far.run(*words, PYTHONPATH=plugins.PYTHONPATH).returncode == pytest.ExitCode.OK


@pytest.mark.skipif(bool(plugins.MISSING), reason=plugins.MISSING)
def test_a_host_that_is_lost_with_a_test_runs_it_again(far: Far) -> None:
    """By pytest-rerunfailures, which keeps what it knows at the terminal; without it, the test has failed there."""
    (far.project / "test_lost.py").write_text(LOST_ONCE.format(str(far.project / "once")))
    far.give_plugins()
    words = ("--tcp-kernel", "running", "-p", "no:randomly", "test_lost.py")
    again = far.run(*words, "--reruns", "1", PYTHONPATH=plugins.PYTHONPATH)
    assert again.returncode == pytest.ExitCode.OK, again.stdout + again.stderr
    assert "2 passed, 1 rerun" in again.stdout
    (far.project / "once").unlink()
    lost = far.run(*words, "--junitxml=r.xml", PYTHONPATH=plugins.PYTHONPATH)
    assert lost.returncode == pytest.ExitCode.TESTS_FAILED
    assert "1 failed, 1 passed" in lost.stdout
    cases = {case.attrib["name"]: case for case in ET.parse(far.project / "r.xml").getroot().iter("testcase")}
    assert "crashed while running 'test_lost.py::test_lost[there]'" in ET.tostring(cases["test_lost[there]"], "unicode")


def test_nothing_is_left_there_when_pytest_is_killed(far: Far) -> None:
    told = far.project.parent / "pid"
    (far.project / "wait").write_text(str(told))
    session = subprocess.Popen(
        far.argv("-k", "test_waits"), cwd=far.project, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    until(lambda: told.exists() and told.read_text(), deadline=DEADLINE, what="a test that runs there")
    worker = int(told.read_text())
    os.kill(worker, 0)
    session.send_signal(signal.SIGKILL)
    session.wait()
    until(lambda: not running(worker), deadline=DEADLINE, what="the end of the interpreter there")
