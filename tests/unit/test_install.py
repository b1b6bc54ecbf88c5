"""What .ci/install does about missing programs, on a machine that is made of stand-ins for apt-get, sudo and id."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ORDINARY_USER = "echo 1000"
SUPERUSER = "echo 0"


@dataclass(frozen=True)
class Machine:
    """A directory of stand-ins, without wrk and netstat.

    Those that only pass on to the real program are scripts as well: a link could be written through.
    """

    programs: Path

    def put(self, name: str, script: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def install(self, part: str = "programs") -> subprocess.CompletedProcess[str]:
        """Run a part of `.ci/install` there."""
        return subprocess.run(
            ["/bin/sh", ".ci/install", part],
            cwd=ROOT,
            env={"PATH": str(self.programs), "TMPDIR": str(self.programs), "PYTHON": sys.executable},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    here = Machine(tmp_path)
    for name in ("env", "sort", "mktemp", "chmod", "rm", "grep", "tail", "cat"):
        here.put(name, f'exec {shutil.which(name)} "$@"')
    here.put("id", ORDINARY_USER)
    here.put("sudo", "exit 1")
    here.put("apt-get", 'echo "$@" >>"$TMPDIR/asked"')
    here.put("update-rc.d", "exit 0")
    return here


def asked(machine: Machine) -> list[str]:
    """The command lines that apt-get was given, in order."""
    path = machine.programs / "asked"
    return path.read_text().splitlines() if path.exists() else []


def test_without_the_right_to_install_the_apt_line_is_printed_and_nothing_fails(machine: Machine) -> None:
    ran = machine.install()
    (line,) = ran.stderr.splitlines()
    assert "sudo apt-get install " in line
    assert {"net-tools", "wrk"} <= set(line.split())
    assert ran.returncode == 0
    assert asked(machine) == []


@pytest.mark.parametrize("right", ["root", "sudo"])
def test_with_the_right_only_what_is_missing_is_installed(machine: Machine, right: str) -> None:
    if right == "root":
        machine.put("id", SUPERUSER)
    else:
        machine.put("sudo", 'shift; "$@"')
    machine.put("wrk", "exit 0")
    assert machine.install().returncode == 0
    (line,) = asked(machine)
    packages = line.partition(" -- ")[2].split()
    assert "net-tools" in packages
    assert "wrk" not in packages


def test_what_only_tests_need_comes_by_itself(machine: Machine) -> None:
    machine.put("id", SUPERUSER)
    machine.put("update-rc.d", 'echo "update-rc.d $@" >>"$TMPDIR/asked"')
    for program in ("sshd", "bsdtar", "rpmbuild"):
        machine.put(program, "exit 0")
    assert machine.install("testing").returncode == 0
    (line,) = asked(machine)
    packages = set(line.partition(" -- ")[2].split())
    assert packages >= {"chromium", "cpio", "tcpdump", "vagrant"}
    assert not packages & {"openssh-server", "libarchive-tools", "rpm"}
    (machine.programs / "sshd").unlink()
    machine.put("chromium", "exit 0")
    # The machine's own sshd is found too, behind the stand-ins, where there is one.
    assert machine.install("testing").returncode == 0
    if not any(Path(place, "sshd").exists() for place in ("/usr/local/sbin", "/usr/sbin", "/sbin")):
        # Beside what else this machine lacks.
        assert "openssh-server" in asked(machine)[1].partition(" -- ")[2].split()
        assert asked(machine)[2] == "update-rc.d ssh disable"


def test_what_vagrant_needs_comes_by_itself_and_no_daemon_of_it_is_enabled(machine: Machine) -> None:
    machine.put("id", SUPERUSER)
    machine.put("sed", f'exec {shutil.which("sed")} "$@"')
    machine.put("dpkg-query", "echo /lib/systemd/system/libvirtd.service; echo /lib/systemd/system/libvirtd.socket")
    machine.put("systemctl", 'echo "$@" >>"$TMPDIR/disabled"')
    assert machine.install("vagrant").returncode == 0
    (line,) = asked(machine)
    packages = line.partition(" -- ")[2].split()
    assert {"vagrant", "mmdebstrap", "rsync", "libvirt-clients"} <= set(packages)
    assert "wrk" not in packages
    disabled = machine.programs / "disabled"
    if "libvirt-daemon-system" in packages:
        assert disabled.read_text() == "disable libvirtd.service libvirtd.socket\n"
    else:  # it is on this machine already, and stays as it is
        assert not disabled.exists()


def test_the_packages_for_a_machine_that_has_nothing_are_listed(machine: Machine) -> None:
    ran = machine.install("packages")
    assert {"nginx-light", "wrk", "iproute2", "python3-venv", "netbase"} <= set(ran.stdout.split())
    assert asked(machine) == []


def test_the_package_lists_are_fetched_only_when_the_first_attempt_fails(machine: Machine) -> None:
    machine.put("id", SUPERUSER)
    machine.put(
        "apt-get",
        'echo "$@" >>"$TMPDIR/asked"; case $* in *update*) touch "$TMPDIR/lists" ;; esac; test -e "$TMPDIR/lists"',
    )
    machine.put("touch", f'exec {shutil.which("touch")} "$@"')
    assert machine.install().returncode == 0
    assert ["update" in line for line in asked(machine)] == [False, True, False]


def test_one_package_that_cannot_be_had_does_not_keep_the_others_away(machine: Machine) -> None:
    machine.put("id", SUPERUSER)
    machine.put("apt-get", 'echo "$@" >>"$TMPDIR/asked"; case $* in *wrk*) echo "E: no wrk here"; exit 100 ;; esac')
    ran = machine.install()
    assert "wrk could not be installed: E: no wrk here" in ran.stderr
    assert any(line.endswith("-- net-tools") for line in asked(machine))
    assert ran.returncode == 0


def test_no_service_is_started_while_apt_runs(machine: Machine) -> None:
    """dpkg runs a package's scripts with DPkg::Path as their PATH; what starts services there must do nothing."""
    machine.put("id", SUPERUSER)
    machine.put("apt-get", 'for word; do case $word in DPkg::Path=*) echo "${word#*=}" >"$TMPDIR/path" ;; esac; done')
    machine.put("rm", "exit 0")  # leave the directory for us to look at; it is inside tmp_path
    machine.install()
    search_path = (machine.programs / "path").read_text().strip()
    for command in ("invoke-rc.d", "deb-systemd-invoke"):
        found = shutil.which(command, path=search_path)
        assert found is not None
        assert Path(found).is_relative_to(machine.programs)
        assert Path(found).read_text() == "#!/bin/sh\nexit 0\n"


def cleaned(venv: Path) -> subprocess.CompletedProcess[str]:
    """What `make clean` does about an environment."""
    return subprocess.run(
        ["sh", ".ci/install", "clean"],
        cwd=ROOT, env=os.environ | {"VENV": str(venv)}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("what", ["home", "another's environment", "link", "file"])
def test_clean_leaves_what_was_not_made_here(tmp_path: Path, what: str) -> None:
    """`make clean VENV=$HOME` removed it."""
    venv = tmp_path / "venv"
    (tmp_path / "real").mkdir()
    for name in ("pyvenv.cfg", "packages.stamp") if what == "link" else ("pyvenv.cfg",) if "another" in what else ():
        (tmp_path / "real" / name).touch()
    (tmp_path / "real" / "precious").write_text("mine")
    if what == "link":
        venv.symlink_to("real")
    elif what == "file":
        venv.write_text("mine")
    else:
        (tmp_path / "real").rename(venv)
    before = sorted(tmp_path.rglob("*"))
    ended = cleaned(venv)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"install: {venv} is no virtual environment that was made here: it stays")
    assert sorted(tmp_path.rglob("*")) == before


def test_clean_removes_what_was_made_here(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    venv.mkdir()
    for name in ("pyvenv.cfg", "packages.stamp", "x"):
        (venv / name).touch()
    assert (cleaned(venv).returncode, venv.exists()) == (0, False)
    assert cleaned(venv).returncode == 0
    recipe = (ROOT / "Makefile").read_text().partition("\nclean:")[2]
    assert "VENV" not in recipe.replace("$(INSTALL)", "")
