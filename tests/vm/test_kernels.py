"""Other kernels for real: brought from the archive, run in virtual machines in simulated time, as pytest's workers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from harness.kernels import cache, places
from harness.waiting import until
from tests import nobody, processes
from tests.unit import debian_archive, distribution_packages
from tests.unit.debian_archive import DebianArchive, Key

from .conftest import PROJECT
from .test_machine import IDLES, kernel_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.kernels.store import Stored

    from .conftest import Project

HEALTHY = ("-k", "not Spoilt")


def counts(result: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """What pytest's last line says: passed, failed, …"""
    last = result.stdout.strip().splitlines()[-1]
    return {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|skipped|deselected)", last)}


def test_results_come_out_as_on_the_running_kernel(project: Project, tmp_path: Path) -> None:
    shutil.rmtree(project.directory / "out", ignore_errors=True)
    junit = tmp_path / "junit.xml"
    began = time.monotonic()
    result = project.run(*project.on(), "--tcp-kernel", "running", *HEALTHY, "-rA", f"--junitxml={junit}", "-n", "2")
    # Two hours on each: what it takes in real time depends on the machine, but not that.
    assert time.monotonic() - began < 2 * 7200 / 10
    assert result.returncode == 1, result.stdout + result.stderr
    # A claim over IPv4 and IPv6, and one over IPv4; the old kernel fails two more.
    assert counts(result) == {"failed": 5, "passed": 12, "skipped": 1}
    runs = project.evidence()["runs"]
    assert {one["verdict"] for one in runs} == {"refuted"}
    assert {one["kernel"]["release"] for one in runs} == {*(one.release for one in project.kernels), os.uname().release}
    captured = {project.directory / "out" / "evidence" / one["packets"] for one in runs}
    assert len(captured) == len(runs) == 6
    assert all(file.stat().st_size for file in captured)
    for kernel in project.kernels:
        assert f"test_fails[ipv4-{kernel.version}]" in result.stdout
        assert f"claims on Linux {kernel.release}" in result.stdout
        assert f"AssertionError: assert '{kernel.release}' == 'none'" in result.stdout
        assert "test_scenario.py:" in result.stdout  # where, as in any traceback
    assert "test_fails[ipv4-running]" in result.stdout
    assert junit.read_text().count("<testcase") == 18
    assert "FAILED test_scenario.py::test_linear[ipv4-5.10" in result.stdout
    # The line of the short summary is cut off where the terminal ends.
    moved = "timeouts of a SYN that are not doubled: 0, must be 4"
    assert moved in result.stdout
    assert moved in junit.read_text()


def test_paths_are_those_of_the_directory_that_pytest_was_started_in(project: Project) -> None:
    result = project.run("../test_scenario.py", *project.on(project.kernels[-1]), "-k", "test_limit", below="claims")
    assert counts(result) == {"passed": 2}, result.stdout + result.stderr


COMPLAINS = """
from pathlib import Path

import pytest

def logs(*lines):
    for line in lines:
        Path("/dev/kmsg").write_text(f"<4>{line}\\n")

@pytest.fixture
def leaves_a_warning():
    yield
    logs("WARNING: possible circular locking dependency detected")

def test_before(): pass

def test_warns():
    logs("------------[ cut here ]------------", "WARNING: CPU: 0 PID: 1 at net/ipv4/tcp.c:1 tcp_close+0x1/0x2",
         "---[ end trace 0000000000000000 ]---")

def test_between(): pass

def test_warns_at_its_end(leaves_a_warning): pass

def test_after():
    logs("TCP: request_sock_TCP: Possible SYN flooding on port 80.")
"""


def test_what_the_kernel_complains_of_fails_the_test_that_provoked_it_alone(project: Project, tmp_path: Path) -> None:
    complains = project.directory / "test_complains.py"
    complains.write_text(COMPLAINS)
    try:
        result = project.run(
            *project.on(project.kernels[1]), complains.name, f"--junitxml={tmp_path}/junit.xml", "-rA", "-v"
        )
    finally:
        complains.unlink()  # the other tests run all that is there
    assert counts(result) == {"passed": 4, "failed": 1}, result.stdout + result.stderr
    for line in ("FAILED test_complains.py::test_warns[", "ERROR test_complains.py::test_warns_at_its_end["):
        assert line in result.stdout
    said = "the kernel complained (WARN): WARNING: CPU: 0 PID: 1 at net/ipv4/tcp.c:1 tcp_close+0x1/0x2"
    assert said in result.stdout
    assert said in (tmp_path / "junit.xml").read_text()


def test_what_failed_is_run_again_on_the_kernel_where_it_failed(project: Project) -> None:
    old, new = project.kernels
    wanted = "test_is_for_new_kernels or test_limit"
    first = project.run(*project.on(), "-k", wanted, "--cache-clear")
    assert counts(first) == {"failed": 1, "passed": 5}
    again = project.run(*project.on(), "--lf", "-v")
    assert counts(again) == {"failed": 1}, again.stdout
    assert f"test_is_for_new_kernels[ipv4-{old.version}]" in again.stdout
    # First what failed, then the rest; and no more than one failure.
    stopped = project.run(*project.on(old), "--ff", "-x", "-v", "-k", wanted)
    assert counts(stopped).get("passed", 0) == 0
    assert counts(stopped)["failed"] == 1
    assert "stopping after 1 failures" in stopped.stdout
    # Nothing is remembered of the other kernel: as anywhere, all is run where nothing has failed.
    other = project.run(*project.on(new), "--lf", "-k", wanted)
    assert counts(other) == {"passed": 3}, other.stdout


def test_one_kernel_named_in_several_ways_is_one(project: Project) -> None:
    old, _ = project.kernels
    ways = ["--tcp-kernel", "5.10", "--tcp-kernel", "<5.11", "--tcp-kernel", old.release]
    result = project.run(*ways, "-k", "limit or fails", "-p", "no:cacheprovider", "-n", "2", "--maxfail=5", "-v")
    assert counts(result) == {"failed": 1, "passed": 2}, result.stdout + result.stderr
    assert len(set(re.findall(r"\[(gw\d)\]", result.stdout))) <= 2


def test_what_would_be_run_is_listed_without_a_machine(project: Project) -> None:
    result = project.run("--tcp-kernel", "all", "--tcp-kernel", "running", "--collect-only", "-q", "-k", "limit")
    assert result.returncode == 0, result.stdout + result.stderr
    names = re.findall(r"test_limit\[ipv4-(.*)\]", result.stdout)
    assert "running" in names
    assert {one.version for one in project.kernels} <= set(names)
    assert len(names) >= 3
    assert result.stdout.count("test_limit[ipv6-") == len(names)


def test_a_guest_that_panics_is_reported_with_its_console_and_has_failed_its_claim(
    project: Project, tmp_path: Path
) -> None:
    shutil.rmtree(project.directory / "out", ignore_errors=True)
    result = project.run(*project.on(project.kernels[0]), "-k", "panics", *results_in(tmp_path))
    assert result.returncode == pytest.ExitCode.TESTS_FAILED
    assert "crashed while running" in result.stdout
    assert re.search(r"died: .*\n(.*\n)*.*(Kernel panic|sysrq)", result.stderr + result.stdout)
    (run,) = project.evidence()["runs"]
    assert (run["outcome"], run["kernel"]["release"]) == ("failed", project.kernels[0].release)
    assert re.search(r"died: .*\(Kernel panic - not syncing: sysrq triggered crash\)", run["reason"])
    # What its console said, from its boot on, is kept, and the failure names the file.
    console = project.directory / "out" / "evidence" / "consoles" / f"{project.kernels[0].release}.txt"
    assert f"its console: {console}" in run["reason"]
    assert f"its console: {console}" in result.stdout
    said = console.read_bytes()
    booted = places.states().glob(f"{project.kernels[0].release}-simulated-3072-*{cache.CONSOLE}")
    assert any(said.startswith(file.read_bytes()) for file in booted)
    assert b"sysrq triggered crash" in said
    assert re.search(r"failed \(1\)\n  queue.limit .*\n      .*Kernel panic", result.stdout)
    assert_failed_in(tmp_path, "Kernel panic - not syncing: sysrq triggered crash")


@pytest.mark.parametrize("victim", ["the machine", "its gateway"])
def test_a_machine_that_is_killed_has_failed_the_claim_of_its_test(
    project: Project, tmp_path: Path, victim: str
) -> None:
    shutil.rmtree(project.directory / "out", ignore_errors=True)
    argv = project.argv(
        *project.on(project.kernels[0]), "-k", "never_ends", "-v", "--max-worker-restart=0", *results_in(tmp_path)
    )
    log = tmp_path / "log"
    with log.open("wb") as said:
        running = subprocess.Popen(
            argv, cwd=project.directory, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
    try:
        until(lambda: "::test_never_ends[" in log.read_text(), deadline=project.left, what="the test")
        (machine,) = machines_of(running.pid)
        os.kill(machine if victim == "the machine" else parent_of(machine), signal.SIGKILL)
        ended = running.wait(timeout=project.left)
        text = log.read_text()
        assert ended == pytest.ExitCode.TESTS_FAILED, text
        assert "INTERNALERROR" not in text
        assert "Traceback" not in text
        assert re.search(r"failed \(1\)\n  queue.limit ", text)
        (run,) = project.evidence()["runs"]
        assert run["outcome"] == "failed"
        assert_failed_in(tmp_path, "the test was not finished")
        until(lambda: not processes.running(machine), what="the machine to end")
    finally:
        running.kill()
        running.wait()


def parent_of(process: int) -> int:
    """The process that started another."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def results_in(directory: Path) -> list[str]:
    """The options that have every form of the results written."""
    files = {"tcp-ktap": "r.ktap", "tcp-kcidb": "r.json", "tcp-report": "r.html", "junitxml": "r.xml"}
    return [f"--{option}={directory / name}" for option, name in files.items()]


def assert_failed_in(directory: Path, why: str) -> None:
    """Every form of the results says that the one claim has failed, and why."""
    ktap = (directory / "r.ktap").read_text()
    assert "not ok 1 Linux" in ktap
    assert re.search(rf"not ok 1 .* # failed: .*{re.escape(why)}", ktap)
    (test,) = json.loads((directory / "r.json").read_text())["tests"]
    assert test["status"] == "ERROR"
    page = (directory / "r.html").read_text()
    assert "failed" in page
    (case,) = ET.parse(directory / "r.xml").getroot().iter("testcase")
    assert [each.tag for each in case if each.tag in ("failure", "error")] == ["error"]
    properties = {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")}
    assert (properties["claim"], properties["verdict"]) == ("queue.limit", "failed")


def test_a_machine_that_is_silent_is_left_alone_while_it_computes_and_reported_when_it_is_dead(
    project: Project,
) -> None:
    argv = project.argv(*project.on(project.kernels[0]), "-k", "computes or never_ends", "-v", "--max-worker-restart=0")
    running = subprocess.Popen(
        argv, cwd=project.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip
    said: list[str] = []
    try:
        assert running.stdout is not None
        # Eight seconds of the guest are many more of ours, without a word.
        for line in running.stdout:
            said.append(line)
            if "PASSED" in line:
                break
        (machine,) = machines_of(running.pid)
        os.kill(machine, signal.SIGSTOP)
        rest, _ = running.communicate(timeout=project.left)
        assert "QEMU has been stopped by a signal" in rest
        assert "  | " in rest
        assert "crashed while running" in rest
        until(lambda: not processes.running(machine), what="the machine to end")
    finally:
        running.kill()
        running.wait()


def test_ctrl_c_while_a_machine_starts_is_no_traceback(project: Project, tmp_path: Path, a_cache: Path) -> None:
    """Everything in the foreground has it; the gateway printed a traceback for it."""
    image = kernel_of(IDLES, tmp_path, banner=b"6.12.1-idle (me@here) #1\0").image
    running = subprocess.Popen(
        project.argv(f"--tcp-kernel={image}", "-k", "limit"), cwd=project.directory, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env=os.environ | {places.CACHE: str(a_cache)},
    )  # fmt: skip

    def machines() -> list[int]:
        assert running.poll() is None, running.communicate()[0]
        return machines_of(running.pid)

    try:
        (machine,) = until(machines, deadline=project.left, what="a machine")
        os.killpg(running.pid, signal.SIGINT)
        said, _ = running.communicate(timeout=project.left)
        assert running.returncode == pytest.ExitCode.INTERRUPTED, said
        assert "KeyboardInterrupt" in said
        assert "Traceback" not in said
        until(lambda: not processes.running(machine), what="the machine to end")
        left = {file.suffix for file in (a_cache / "states").glob("*6.12.1-idle*")}
        assert left <= {".lock"}  # which is swept after a day
    finally:
        running.kill()
        running.wait()


def test_nothing_survives_pytest(project: Project) -> None:
    running = subprocess.Popen(
        project.argv(*project.on(project.kernels[0]), "-k", "never_ends"),
        cwd=project.directory, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        machines = until(lambda: machines_of(running.pid), deadline=project.left, what="a machine")
        running.send_signal(signal.SIGKILL)
        running.wait()
        until(lambda: not any(map(processes.running, machines)), what="the machines to end")
    finally:
        running.kill()
        running.wait()


def machines_of(pid: int) -> list[int]:
    """The QEMUs below a process."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,comm="], check=True, capture_output=True, text=True).stdout
    children: dict[int, list[tuple[int, str]]] = {}
    for line in listed.splitlines():
        number, parent, name = line.split(None, 2)
        children.setdefault(int(parent), []).append((int(number), name))
    below: list[int] = []
    todo = [pid]
    while todo:
        for one, name in children.get(todo.pop(), ()):
            todo.append(one)
            if name.startswith("qemu-system"):
                below.append(one)
    return below


# Kernels that the user names.


def with_its_holes(file: Path, folder: Path) -> None:
    """Copy a file of the cache as it is on the disk: of the 3 GB of a state a fifth has been written.

    What another test's machine made room for meanwhile is not copied: it is made again where it is needed.
    """
    with contextlib.suppress(FileNotFoundError), file.open("rb") as opened:
        here = f"/dev/fd/{opened.fileno()}"
        subprocess.run(["cp", "--sparse=always", here, str(folder / file.name)], check=True, pass_fds=[opened.fileno()])


@pytest.fixture
def a_cache(tmp_path: Path, kernels: list[Stored]) -> Path:
    """A cache of the test's own: what is made for a path that ends with the test ends with it too.

    What is in the other one is in it, by links: a kernel that has booted, under whatever path, need not boot again.
    """
    for folder in (places.images(), places.states()):
        target = tmp_path / "cache" / folder.name
        target.mkdir(parents=True)
        for file in folder.glob("[!.]*"):
            try:
                os.link(file, target / file.name)
            except OSError:  # on another file system, or gone
                with_its_holes(file, target)
    return tmp_path / "cache"


def built_tree(kernel: Stored, tree: Path) -> Path:
    """The kernel as it stands where it was built."""
    (tree / "arch" / "x86" / "boot").mkdir(parents=True)
    shutil.copy(kernel.image, tree / "arch" / "x86" / "boot" / "bzImage")
    for name, file in kernel.modules.items():
        place = tree / ("net" if name.startswith("n") else "drivers") / name
        place.mkdir(parents=True)
        shutil.copy(file, place / f"{name.replace('_', '-')}.ko")
    return tree


def test_a_scenario_runs_on_a_kernel_where_it_was_built(project: Project, tmp_path: Path, a_cache: Path) -> None:
    new = project.kernels[1]
    built_tree(new, tmp_path / "linux")
    relative = os.path.relpath(tmp_path / "linux", project.directory)
    result = project.run(f"--tcp-kernel={relative}", "-k", "limit", HARNESS_CACHE=str(a_cache))
    assert counts(result) == {"passed": 2}, result.stdout + result.stderr
    assert {one["kernel"]["release"] for one in project.evidence()["runs"]} == {new.release}


PROGRAMS = {distribution_packages.ubuntu: ["dpkg-deb"], distribution_packages.fedora: ["rpmbuild", "bsdtar"]}


@pytest.mark.parametrize("make", PROGRAMS, ids=lambda make: make.__name__)
def test_a_scenario_runs_on_a_kernel_of_another_distributions_packages(
    project: Project, tmp_path: Path, a_cache: Path, make: Callable[..., Path]
) -> None:
    if lacking := distribution_packages.missing(*PROGRAMS[make]):
        pytest.skip(lacking)
    new = project.kernels[1]
    (tmp_path / "packages").mkdir()
    modules = {name: file.read_bytes() for name, file in new.modules.items()}
    package = make(tmp_path / "packages", new.release, new.image.read_bytes(), modules)
    # To spare a boot, the state after it: it is that of the contents, wherever the image stands.
    states = places.states().glob(f"{new.release}-simulated-3072-*")
    (a_cache / "states").mkdir(exist_ok=True)
    for booted in sorted(states, key=lambda file: len(file.name))[:1]:
        with contextlib.suppress(FileExistsError):
            (a_cache / "states" / booted.name).symlink_to(booted)
    result = project.run(f"--tcp-kernel={package}", "-k", "limit", HARNESS_CACHE=str(a_cache))
    assert counts(result) == {"passed": 2}, result.stdout + result.stderr
    assert {one["kernel"]["release"] for one in project.evidence()["runs"]} == {new.release}


# A tree, commit by commit.


def linked_tree(kernel: Stored, tree: Path) -> Path:
    """A tree whose image and modules are links to those of the cache: its machine has the same state."""
    shutil.rmtree(tree / "arch", ignore_errors=True)
    shutil.rmtree(tree / "drivers", ignore_errors=True)
    (tree / "arch" / "x86" / "boot").mkdir(parents=True)
    (tree / "drivers").mkdir()
    (tree / "arch" / "x86" / "boot" / "bzImage").symlink_to(kernel.image)
    for name, file in kernel.modules.items():
        (tree / "drivers" / f"{name}.ko").symlink_to(file)
    return tree


HARNESS = (sys.executable, "-c", "from harness.cli import main; main()")


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed; on Debian: apt-get install git")
def test_git_bisect_finds_the_commit_that_changed_a_verdict(project: Project, tmp_path: Path) -> None:
    """Eight commits of a tree in which a kernel is built; from the sixth on it is the newer one."""
    old, new = project.kernels
    tree = tmp_path / "linux"
    tree.mkdir()
    git = ["git", "-C", str(tree), "-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*git, *words], check=True, capture_output=True, text=True)

    run("init", "--quiet")
    for number in range(1, 9):
        linked_tree(old if number < 6 else new, tree)
        (tree / "number").write_text(str(number))
        run("add", "--force", "--all")
        run("commit", "--quiet", "--message", f"commit {number}")
    # Broken is here what was not so before: the expectation of the claim, that it holds, is the newer kernel's.
    run("bisect", "start", "--term-old=without", "--term-new=with", "HEAD", "HEAD~7")
    words = ["check", ".", "--claim", "queue.linear", "--verdict", "refuted", "--scenarios", str(project.directory)]
    result = project.start([*git, "bisect", "run", *HARNESS, *words])
    assert result.returncode == 0, result.stdout + result.stderr
    assert run("log", "-1", "--format=%s", "refs/bisect/with").stdout == "commit 6\n"
    assert "timeouts of a SYN that are not doubled: 4, must be 0\n  queue.linear: holds, not refuted: " in result.stdout
    assert re.search(r"^good: Linux 5.10\S+: queue.linear: refuted, as wanted$", result.stdout, re.MULTILINE)


def test_bisect_takes_trees(project: Project, tmp_path: Path) -> None:
    old, new = (linked_tree(kernel, tmp_path / kernel.version) for kernel in project.kernels)
    words = ["bisect", "queue.linear", "--from", str(old), "--to", str(new), "--scenarios", str(project.directory)]
    result = project.start([*HARNESS, *words])
    assert result.returncode == 0, result.stdout + result.stderr
    before, after = (kernel.release for kernel in project.kernels)
    assert f"queue.linear: refuted on {before}, holds on {after}" in result.stdout.splitlines()
    assert "git bisect run harness check" in result.stderr
    # One has no boundary with itself.
    result = project.start([*HARNESS, *words[:3], str(new), *words[4:]])
    assert result.returncode == 2
    assert result.stderr == "harness: to find a boundary between kernels, name two that differ\n"


# The reset line of the keyboard's controller: QEMU ends.
ENDS = bytes.fromhex("b0 fe e6 64 f4")  # mov al, 0xfe; out 0x64, al; hlt


def test_a_kernel_that_does_not_boot_is_bad_or_cannot_be_tested(
    project: Project, tmp_path: Path, a_cache: Path
) -> None:
    file = kernel_of(ENDS, tmp_path, banner=b"6.12.1-ends (me@here) #1\0").image
    words = [*HARNESS, "check", str(file), "--claim", "queue.linear", "--scenarios", str(project.directory)]
    for more, code in (([], 1), (["--skip-unbootable"], 125)):
        result = project.start([*words, *more], HARNESS_CACHE=str(a_cache))
        assert result.returncode == code, result.stdout + result.stderr
        first, last = result.stdout.splitlines()
        assert first.startswith("the machine with kernel 6.12.1-ends died: ")
        assert last == f"{file} does not boot"
    # An image that was damaged says nothing about a kernel.
    content = bytearray(file.read_bytes())
    content[0x206:0x208] = b"\x08\x02"  # a protocol that says where the payload is
    struct.pack_into("<II", content, 0x248, 0, 0x100)
    content[0x400:0x402] = b"\x1f\x8b"
    file.write_bytes(content)
    result = project.start(words, HARNESS_CACHE=str(a_cache))
    assert result.returncode == 128, result.stdout + result.stderr
    assert result.stdout.startswith(f"{file}: the kernel in this image cannot be unpacked (")


@pytest.mark.skipif(bool(debian_archive.missing()), reason=debian_archive.missing())
def test_a_scenario_runs_on_a_kernel_of_an_older_suite(project: Project, tmp_path: Path, a_cache: Path) -> None:
    """An archive that has a kernel as stretch had it, with modules uncompressed; what is in it is a newer one."""
    kernel, release = project.kernels[0], "4.9.0-19-amd64"
    files = {f"boot/vmlinuz-{release}": kernel.image.read_bytes()}
    below = f"lib/modules/{release}/kernel/drivers"
    files |= {f"{below}/{name}.ko": file.read_bytes() for name, file in kernel.modules.items()}
    mirror = DebianArchive(tmp_path / "mirror")
    mirror.add(f"linux-image-{release}", "4.9.320-2", files)
    key = Key(tmp_path / "key")
    try:
        mirror.publish("stretch", key)
    finally:
        key.end()
    where = ["--tcp-mirror", f"file:{mirror.root}", "--tcp-suite", "stretch", f"--tcp-keyring={key.keyring}"]
    result = project.run("--tcp-kernel", "4.9", *where, "-k", "limit", "-v", HARNESS_CACHE=str(a_cache))
    assert counts(result) == {"passed": 2}, result.stdout + result.stderr
    assert "test_limit[ipv4-4.9.320]" in result.stdout


@pytest.mark.parametrize(
    ("modules", "lacks"),
    [
        ("nothing", r"no port to the outside \(CONFIG_VIRTIO_PCI, CONFIG_VIRTIO_CONSOLE\)"),
        (r"virtio.*", r"no veth \(CONFIG_VETH\) and no nftables \(CONFIG_NF_TABLES\)"),
    ],
)
def test_a_kernel_that_lacks_what_labs_are_made_of_is_one_mistake_of_usage(
    project: Project, tmp_path: Path, a_cache: Path, modules: str, lacks: str
) -> None:
    kernel = project.kernels[0]
    shutil.copy(kernel.image, tmp_path / "bzImage")
    (tmp_path / "modules").mkdir()
    for name, file in kernel.modules.items():
        if re.fullmatch(modules, name):
            shutil.copy(file, tmp_path / "modules")
    named = f"{tmp_path}/bzImage,modules={tmp_path}/modules"
    before = set((a_cache / "states").iterdir())
    result = project.run("--tcp-kernel", named, *HEALTHY, HARNESS_CACHE=str(a_cache))
    assert result.returncode == pytest.ExitCode.USAGE_ERROR, result.stdout + result.stderr
    (line,) = [line for line in result.stderr.splitlines() if "ERROR" in line]
    assert re.match(rf"ERROR: kernel {re.escape(kernel.release)} cannot run scenarios: it has {lacks}; if these", line)
    assert "modules=DIRECTORY" in line
    assert {file.suffix for file in {*(a_cache / "states").iterdir()} - before} <= {".lock"}


def test_in_real_time_too_in_a_machine_as_it_was_asked_for(project: Project) -> None:
    asked = ["--tcp-real-time", "--tcp-guest-cpus=3", "--tcp-guest-memory=2G", "--tcp-guest-append=harness.asked=yes"]
    result = project.run(*project.on(project.kernels[1]), *asked, "-k", "limit or waits or says_what", "-rs")
    assert counts(result) == {"passed": 2, "skipped": 1, "failed": 1}, result.stdout + result.stderr
    assert re.search(r"Failed: 3 CPUs, (19|20)\d\d MB, harness.asked=yes", result.stdout)


# Not root, no room, no QEMU, no network.


@pytest.fixture
def home_of_nobody() -> Iterator[Path]:
    """A home for the user nobody."""
    with nobody.home_of_nobody() as home:
        yield home


def test_as_an_ordinary_user(project: Project, home_of_nobody: Path) -> None:
    old, home = project.kernels[0], home_of_nobody
    shutil.copytree(project.directory, home / "project", ignore=shutil.ignore_patterns(".pytest_cache", "out"))
    shutil.copytree(places.kernels() / old.release, home / "cache" / "kernels" / old.release)
    # To spare a boot, the state after it: the machine is made of the same files for everybody.
    states = sorted(places.states().glob(f"{old.release}-simulated-3072-*"), key=lambda file: len(file.name))
    systems = [*places.images().glob(f"{old.release}-*"), *places.images().glob("[!.]*.cpio")]
    systems += places.images().glob("[!.]*.digest")
    for folder, files in (("images", systems), ("states", states[:1])):
        (home / "cache" / folder).mkdir()
        for file in files:
            with_its_holes(file, home / "cache" / folder)
    subprocess.run(["chown", "-R", "nobody:", str(home)], check=True)
    argv = [*nobody.NOBODY, "-C", f"{home}/project", f"HOME={home}", f"{places.CACHE}={home}/cache"]
    result = project.start([*argv, *project.argv(*project.on(old), "-k", "limit or fails")])
    assert counts(result) == {"failed": 1, "passed": 2}, result.stdout + result.stderr


# A file system of so many bytes at the place of the cache, for one command, in a namespace that ends with it.
SMALL = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
         'mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@"', "sh")  # fmt: skip
ONLY_SAVE = """
import os, sys
from pathlib import Path
from harness.errors import HarnessError
from harness.kernels import cache, places
from harness.kernels.machine import VirtualMachine
from harness.kernels.mode import Mode
from harness.kernels.store import built
with VirtualMachine(built(Path(sys.argv[1])), Mode(), initrd=Path(sys.argv[1])) as machine:
    os.pwrite(machine._memory.fileno(), b"x" * (8 << 20), 64 << 20)
    try:
        machine.save(places.cache() / "state")
    except HarnessError as error:
        print(error)
print(*places.cache().iterdir())
"""


def on_a_small_disk(size: str, place: Path, *argv: str) -> list[str]:
    """The command with a file system of that size at a place."""
    if subprocess.run([*SMALL, "4k", str(place), "true"], check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here, not even in a namespace")
    return [*SMALL, size, str(place), *argv]


def test_no_room_for_a_machines_system(project: Project, tmp_path: Path) -> None:
    """The image of the kernel is elsewhere; what the guest runs, 125 MB, is to be put where there is no room."""
    kernel = project.kernels[0]
    shutil.copy(kernel.image, tmp_path / "bzImage")
    (tmp_path / "cache").mkdir()
    argv = project.argv(f"--tcp-kernel={tmp_path}/bzImage", "-k", "limit")
    on_it = on_a_small_disk("50m", tmp_path / "cache", *argv)
    result = project.start(on_it, HARNESS_CACHE=str(tmp_path / "cache"))
    assert result.returncode == pytest.ExitCode.USAGE_ERROR, result.stdout + result.stderr
    (line,) = [line for line in result.stderr.splitlines() if "ERROR" in line]
    assert "cannot be kept there: No space left on device; make room, or name another place: HARNESS_CACHE=" in line


@pytest.mark.parametrize("room", ["8k", "2m"])
def test_no_room_for_a_machines_state(project: Project, tmp_path: Path, room: str) -> None:
    """Of a machine that has not run yet: 400 kB that QEMU writes, and 8 MB in its memory, which we do."""
    image = tmp_path / "bzImage"
    shutil.copy(project.kernels[0].image, image)
    argv = [sys.executable, "-c", ONLY_SAVE, str(image)]
    (tmp_path / "cache").mkdir()
    on_it = on_a_small_disk(room, tmp_path / "cache", *argv)
    result = project.start(on_it, HARNESS_CACHE=str(tmp_path / "cache"))
    told, kept = result.stdout.splitlines()
    assert f"{tmp_path}/cache: a machine's state cannot be kept there: No space left on device" in told, result.stderr
    assert kept == ""


def test_without_qemu_everything_here_is_skipped_with_the_reason(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "pytest", __file__, "-rs", "-k", "in_real_time_too", "-p", "no:cacheprovider"]
    result = subprocess.run(
        argv, cwd=PROJECT, check=False, capture_output=True, text=True, env=os.environ | {"PATH": str(tmp_path)}
    )
    assert "1 skipped" in result.stdout, result.stdout + result.stderr
    assert "qemu-system-x86_64 is not installed; on Debian: apt-get install qemu-system-x86" in result.stdout
    argv = [sys.executable, "-m", "pytest", __file__, "--tcp-kernel", "5.10"]
    result = subprocess.run(
        argv, cwd=PROJECT, check=False, capture_output=True, text=True, env=os.environ | {"PATH": str(tmp_path)}
    )
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    wanted = "ERROR: qemu-system-x86_64 is not installed; on Debian: apt-get install qemu-system-x86\n\n"
    assert result.stderr == wanted


def test_without_a_network_everything_here_is_skipped_with_the_reason(tmp_path: Path) -> None:
    alone = ["unshare", "--user", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no network namespace can be made here")
    argv = [sys.executable, "-m", "pytest", __file__, "-rs", "-k", "in_real_time_too", "-p", "no:cacheprovider"]
    # As a worker's it would find in the folder that workers share what another run has left.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_XDIST_WORKER"}
    result = subprocess.run(
        [*alone, *argv], cwd=PROJECT, check=False, capture_output=True, text=True,
        env=environment | {places.CACHE: str(tmp_path / "cache")},
    )  # fmt: skip
    assert "1 skipped" in result.stdout, result.stdout + result.stderr
    assert re.search(r"SKIPPED .*no archive of kernels can be read: ", result.stdout)
    assert (tmp_path / "cache").is_dir()  # it was tried
    assert not [
        file for file in (tmp_path / "cache").rglob("*") if file.is_file() and file.suffix not in (".lock", ".json")
    ]


def test_a_path_that_is_no_kernel_is_a_mistake_of_usage(tmp_path: Path) -> None:
    (tmp_path / "bzImage").write_text("no kernel")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "--tcp-kernel", str(tmp_path / "bzImage")],
        cwd=PROJECT, check=False, capture_output=True, text=True, env=os.environ,
    )  # fmt: skip
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    wanted = f"ERROR: {tmp_path}/bzImage: not a Linux kernel image for x86 (a bzImage or vmlinuz)\n\n"
    assert result.stderr == wanted
