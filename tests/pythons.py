"""python -m tests.pythons [NAME…]: our fast tests on other Pythons, and with the oldest packages that we declare.

NAME is a version, 3.13, or `lowest`; without one it is all of ENVIRONMENTS. A version is `python3.13` of this machine's
PATH. Where it is not there a Debian that has it is unpacked below build/pythons, by root with mmdebstrap, from the
mirror that apt has. An environment that cannot be had is a line of the table, with the reason.

    make pythons ARGS="3.13 lowest"
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness import screen
from harness.errors import HarnessError
from harness.kernels.archive import machine_sources

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / "build" / "pythons"
LOWEST = "lowest"
# What this project says that it works with, and the suite of Debian that has it: none had 3.12.
SUITES = {"3.11": "bookworm", "3.12": "", "3.13": "trixie", "3.14": "sid"}
ENVIRONMENTS = (*list(SUITES)[1:], LOWEST)
# Beside the programs that .ci/install names: what tests/unit and tests/package use.
PROGRAMS = (
    *("python3", "python3-venv", "ca-certificates", "git", "gpgv", "patch", "cpio", "rpm", "libarchive-tools"),
    *("xz-utils", "zstd", "make", "gcc", "libc6-dev"),
)
# Of the machine, in the unpacked Debian: the kernel's files, the network's, and how pip is set up.
SHARED = ("/proc", "/sys", "/dev", "/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs", "/etc/pip.conf", "/etc/xdg/pip")
TESTS = ("tests/unit", "tests/package")
CLAIM = ("scenarios", "--tcp-claim=accept-queue.capacity", "--tcp-claim=tw-reuse.default")


@dataclass(frozen=True)
class Environment:
    """Where tests run: its name, its interpreter, what stands before each command, and its packages."""

    name: str
    python: str
    before: tuple[str, ...] = ()

    @property
    def place(self) -> Path:
        """Its virtual environment, which has the same path inside."""
        return PLACE / self.name / "venv"

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run something in it, and show what it says."""
        print(f"{self.name}: {' '.join(words)}", flush=True)
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        own = {"PYTEST_DEBUG_TEMPROOT": "/var/tmp"} if self.before else {}
        process = subprocess.Popen(
            [*self.before, *words], cwd=ROOT, env=ours | own, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        said = []
        assert process.stdout is not None
        with process:
            for line in process.stdout:
                said.append(line)
                print(line, end="", flush=True)
        return subprocess.CompletedProcess(words, process.returncode, "".join(said))


class CannotBeHad(Exception):
    """An environment is not to be had here; the message says why."""


def environment(name: str) -> Environment:
    """The environment of a name, its Debian unpacked if it is one."""
    if name == LOWEST:
        return Environment(name, sys.executable)
    if name not in SUITES:
        raise CannotBeHad(f"there are {', '.join(SUITES)} and {LOWEST}")
    if found := shutil.which(f"python{name}"):
        return Environment(name, found)
    if not SUITES[name]:
        raise CannotBeHad(f"python{name} is not in PATH, and no suite of Debian has it")
    return Environment(name, f"/usr/bin/python{name}", _inside(_unpacked(name)))


def _unpacked(name: str) -> Path:
    """The root of a Debian with this Python."""
    root = PLACE / name / "root"
    if (root / "usr/bin" / f"python{name}").exists():
        return root
    if os.geteuid() or not shutil.which("mmdebstrap"):
        raise CannotBeHad(f"python{name} is not in PATH; unpacking a Debian that has it takes root and mmdebstrap")
    try:
        mirror = next(source.uri for source in machine_sources())
    except HarnessError as error:
        raise CannotBeHad(str(error)) from None
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    named = subprocess.run(["sh", ".ci/install", "packages"], cwd=ROOT, capture_output=True, text=True, check=True)
    # QEMU is for tests/vm, and large.
    packages = [package for package in named.stdout.split() if not package.startswith("qemu")]
    command = ["mmdebstrap", "--variant=apt", f"--include={','.join((*packages, *PROGRAMS))}"]
    command += ["--aptopt=Acquire::Check-Valid-Until false", SUITES[name], str(root), mirror]
    print(f"{name}: {' '.join(command)}", flush=True)
    made = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if made.returncode:
        wrong = re.findall(r"^E: .*", made.stderr, re.MULTILINE) or [made.stderr[-200:]]
        raise CannotBeHad(f"Debian {SUITES[name]} could not be unpacked: {wrong[0]}")
    return root


def _inside(root: Path) -> tuple[str, ...]:
    """What runs a command in a root that has this clone, and the machine's kernel and network, for that long."""
    lines = ["set -e", "root=$1; shift", "mount --make-rprivate /", 'mount --bind "$root" "$root"']
    for each in (*SHARED, str(ROOT)):
        if Path(each).exists():
            make = 'mkdir -p "$root{0}"' if Path(each).is_dir() else 'touch "$root{0}"'
            lines += [make.format(each), f'mount --rbind "$(readlink -f {each})" "$root{each}"']
    lines += ['cd "$root"', f'exec chroot . env -C {ROOT} PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@"']
    return ("unshare", "--mount", "sh", "-c", "\n".join(lines), "sh", str(root))


def installed(env: Environment) -> None:
    """Its virtual environment, with exactly the packages of its locks, and this project."""
    stamp = env.place / "stamp"
    locks = _locks(env)
    wanted = "".join([*locks, (ROOT / "pyproject.toml").read_text()])
    if stamp.exists() and stamp.read_text() == wanted:
        return
    env.place.parent.mkdir(parents=True, exist_ok=True)
    packages, plugins = (env.place.with_name(f"{name}.txt") for name in ("packages", "plugins"))
    for file, text in zip((packages, plugins), locks, strict=True):
        file.write_text(text)
    pip = (str(env.place / "bin/python"), "-m", "pip", "install", "--quiet", "--no-input", "--no-deps")
    locked = ("--require-hashes", "--only-binary", ":all:", "-r")
    # The plugins of others stand apart, as .ci/install has them: in the environment they would take part in all tests.
    for words in (
        (env.python, "-m", "venv", "--clear", str(env.place)),
        (*pip, *locked, str(packages)),
        (*pip, "--no-build-isolation", "--editable", "."),
        (*pip, "--target", str(env.place / "plugins"), *locked, str(plugins)),
    ):
        if ran := env.run(*words).returncode:
            raise CannotBeHad(f"{' '.join(words[:5])} … ended with {ran}")
    stamp.write_text(wanted)


def _locks(env: Environment) -> tuple[str, str]:
    """What pins the environment, and what pins the plugins of others; the lock of the oldest has both."""
    if env.name != LOWEST:
        return (ROOT / "requirements.lock").read_text(), (ROOT / "plugins.lock").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = {canonicalize_name(Requirement(line).name) for line in project["dependency-groups"]["plugins"]}
    entries = re.findall(r"^[\w.-]+==(?:.*\\\n)*.*\n", (ROOT / "lowest.lock").read_text(), re.MULTILINE)
    apart = [entry for entry in entries if canonicalize_name(entry.partition("==")[0]) in names]
    return "".join(entry for entry in entries if entry not in apart), "".join(apart)


def tested(env: Environment) -> tuple[bool, str]:
    """Whether the tests and the claims passed there, and the last line of each."""
    pytest = (str(env.place / "bin/python"), "-m", "pytest", "-q", "-p", "no:cacheprovider")
    # The plugins of others are installed in `lowest`, where they take part in everything: in their own order, too.
    also = ("-p", "no:randomly", "-n", "2")
    tests = TESTS if env.name != LOWEST else TESTS[:1]
    ran = [
        env.run(*pytest, *also, "-rfE", *tests),
        env.run(*pytest, *also, "--tcp-evidence=build/pythons/evidence", *CLAIM),
    ]
    last = [each.stdout.strip().splitlines()[-1].strip("= ") if each.stdout.strip() else "nothing" for each in ran]
    return not any(each.returncode for each in ran), "; claims: ".join(last)


def main() -> int:
    """Test in each environment; 1 if a test failed, 2 if an environment that was named is not to be had."""
    names = sys.argv[1:] or list(ENVIRONMENTS)
    rows: list[tuple[str | screen.Cell, ...]] = []
    code = 0
    for name in names:
        began = time.monotonic()
        try:
            env = environment(name)
            installed(env)
            well, said = tested(env)
            meaning, word = (screen.GOOD, "passed") if well else (screen.BAD, "failed")
            code = code if well else 1
        except CannotBeHad as error:
            meaning, word, said = screen.DOUBT, "not run", str(error)
            code = code or (2 if sys.argv[1:] else 0)
        rows.append((name, screen.Cell(word, meaning), screen.duration(time.monotonic() - began), said))
    screen.table(("PYTHON", "TESTS", "TOOK", "WHAT THEY SAID"), rows, right=(2,))
    return code


if __name__ == "__main__":
    sys.exit(main())
