"""A test program of the kernel's (tools/testing/selftests) in a host: run as the kernel's own runner runs it.

That is in its own directory, in a network namespace with a loopback that is up (kselftest/runner.sh, run_in_netns()),
for as long as the file `settings` beside it allows. Its exit status says how it ended, and KTAP, if it prints any, how
each of its tests did.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import NotReady
from harness.lab.program import SEARCH_PATH
from harness.observe import ktap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.lab import Host
    from harness.observe.ktap import Result

# kselftest.h: KSFT_PASS, and what else is no failure.
PASS, XFAIL, SKIP = 0, 2, 4
# runner.sh, in seconds; a timeout of 0 is none.
USUAL_TIMEOUT = 45.0
ENDLESS = 24 * 3600.0
# What the machine has to be like that a program expects: a /run for `ip netns`, and /sys and /proc of its namespace.
_BEGIN = """folder=$1; shift
[ -e /var/run ] || ln -s /run /var/run
mkdir -p /run/netns
mount -t proc none /proc
mount -t sysfs none /sys 2>/dev/null
ip link set lo up
cd -- "$folder" || exit 125
exec "$@"
"""
# Of what the programs in net/ start, what a bare system may lack, with the Debian package where it is called otherwise.
ASKED_FOR = {
    **dict.fromkeys(("arping", "bridge", "conntrack", "ethtool", "iperf3", "ipvsadm", "jq", "nft", "socat", "tcpdump")),
    "ip6tables": "iptables",
    "iptables": "iptables",
    "mausezahn": "netsniff-ng",
    "mz": "netsniff-ng",
    "nc": "netcat-openbsd",
    "netserver": "netperf",
    "netperf": "netperf",
    "ping": "iputils-ping",
    "ping6": "iputils-ping",
    "tc": "iproute2",
    "traceroute": "traceroute",
    "traceroute6": "traceroute",
    "bpftool": "bpftool",
    "xxd": "xxd",
    "python3": "python3",
    "wg": "wireguard-tools",
}
# What scripts take for granted wherever they are, and a bare system does not have.
BASIC = (
    *("basename", "cmp", "comm", "dd", "diff", "dirname", "find", "install", "join", "mkfifo", "mktemp", "nproc", "od"),
    *("paste", "pgrep", "pidof", "pkill", "readlink", "realpath", "rev", "rmdir", "stat", "stdbuf", "tac", "touch"),
    *("truncate", "tty", "which", "xargs", "yes", "chrt", "taskset", "setsid", "flock", "mountpoint", "hostname"),
)
_SOURCED = re.compile(r"^\s*(?:source|\.)\s+(\S.*?)\s*(?:[;#].*)?$", re.MULTILINE)
_BESIDE = re.compile(r"(?<![\w./-])\./([\w.-]+)")


@dataclass(frozen=True)
class Ended:
    """How a program ended: its status (None: it ran into its timeout, in seconds), its results, all that it printed."""

    status: int | None
    timeout: float
    results: tuple[Result, ...]
    problems: tuple[str, ...]
    output: str

    @property
    def complaint(self) -> str:
        """Why it has failed, in a line; "" if it has not."""
        failed = [one.name for one in self.results if one.outcome == "failed"]
        if self.status is None:
            return f"still running after {self.timeout:g} s"
        if failed:
            return f"{len(failed)} of {len(self.results)} not ok: {', '.join(failed[:3])}"
        if self.status not in (PASS, XFAIL, SKIP):
            return f"it ended with status {self.status}"
        return "; ".join(self.problems)

    @property
    def skipped(self) -> str | None:
        """Why it was skipped, if it was: in its own words, the last that have to do with it."""
        if self.complaint or (self.status == PASS and not self._all_skipped):
            return None
        if self.status == XFAIL:
            return "it is expected to fail here"
        said = [line.strip("# ").strip() for line in self.output.splitlines() if re.search("skip", line, re.IGNORECASE)]
        reasons = [one.reason for one in self.results if one.outcome == "skipped" and one.reason]
        return (reasons or said or ["it says that it cannot run here"])[-1]

    @property
    def _all_skipped(self) -> bool:
        return bool(self.results) and all(one.outcome == "skipped" for one in self.results)


def run(host: Host, program: Path) -> Ended:
    """Run a program in a host without links."""
    timeout = timeout_of(program)
    wrapped = ("unshare", "--mount", "sh", "-c", _BEGIN, "sh", str(program.parent))
    try:
        ran = host.run(*wrapped, f"./{program.name}", timeout=timeout, check=False)
    except NotReady as late:
        output = str(late).partition("\n")[2]
        return Ended(None, timeout, ktap.read(output).results, (), output)
    printed = ktap.read(ran.stdout)
    return Ended(ran.returncode, timeout, printed.results, printed.problems, ran.stdout + ran.stderr)


def timeout_of(program: Path) -> float:
    """How long a program may run, in seconds: as the file `settings` beside it says, otherwise 45."""
    settings = program.parent / "settings"
    text = settings.read_text() if settings.exists() else ""
    said = re.findall(r"^\s*timeout\s*=\s*(\d+)\s*$", text, re.MULTILINE)
    return (float(said[-1]) or ENDLESS) if said else USUAL_TIMEOUT


def listed(directory: Path) -> set[str]:
    """The names of the programs that a directory's Makefile calls tests (TEST_PROGS, TEST_GEN_PROGS)."""
    makefile = directory / "Makefile"
    if not makefile.exists():
        return set()
    text = makefile.read_text(errors="replace").replace("\\\n", " ")
    lines = re.findall(r"^\s*TEST_(?:GEN_)?PROGS\s*[:+?]?=(.*)$", text, re.MULTILINE)
    return {word for line in lines for word in line.partition("#")[0].split() if re.fullmatch(r"[\w.+-]+", word)}


def is_program(file: Path) -> bool:
    """Whether a file can be started: it is a script with an interpreter, or an ELF file, and is executable."""
    if not file.stat().st_mode & 0o111:
        return False
    with file.open("rb") as opened:
        return opened.read(4)[:2] in (b"#!", b"\x7fE")


def lacking(program: Path) -> Iterator[str]:
    """What a script starts that is not here, a line each: programs of distributions, those that are built beside it.

    Found by the text of the script, without its comments: what is named otherwise than by its name is not seen.
    """
    commands = _commands([program])
    for name in _named(commands):
        if not is_here(name):
            package = ASKED_FOR[name] or name
            yield f"{program.name} uses {name}, which is not installed; on Debian: apt-get install {package}"
    for name in dict.fromkeys(_BESIDE.findall(commands)):
        if not (program.parent / name).exists():
            yield f"{program.name} starts ./{name}, which is not built: make -C {program.parent}"


def wanted_programs(program: Path) -> list[str]:
    """What a script starts, itself or by a file that it reads, of those that are here."""
    return [name for name in (*BASIC, *_named(_commands([program, *sourced(program)]))) if is_here(name)]


def _commands(files: list[Path]) -> str:
    texts = [file.read_text(errors="replace") for file in files if _is_text(file)]
    return re.sub(r"(?m)(^|\s)#.*$", "", "\n".join(texts))


def _named(commands: str) -> list[str]:
    return [name for name in ASKED_FOR if re.search(rf"(?<![\w./$-]){re.escape(name)}(?![\w.-])", commands)]


def sourced(script: Path) -> list[Path]:
    """The files that a script reads (`source`), and those read these, as far as their names can be told."""
    found: dict[Path, None] = {}
    todo = [script]
    while todo:
        file = todo.pop()
        if not _is_text(file):
            continue
        for word in _SOURCED.findall(file.read_text(errors="replace")):
            tail = _without_substitutions(word)
            place = Path(script.parent, tail).resolve()
            if tail and place.is_file() and place not in found and place != script:
                found[place] = None
                todo.append(place)
    return list(found)


def _without_substitutions(word: str) -> str:
    """The part of a path that is behind whatever names the script's own directory: "$(dirname "$0")/lib.sh"."""
    before = ""
    while before != word:
        before, word = word, re.sub(r"\$\([^()]*\)|\$\{[^{}]*\}|\$\w+|[\"']", "", word)
    return word.lstrip("/")


def _is_text(file: Path) -> bool:
    with file.open("rb") as opened:
        return b"\0" not in opened.read(1024)


def is_here(name: str) -> bool:
    """Whether a program is installed here."""
    return shutil.which(name, path=SEARCH_PATH) is not None
