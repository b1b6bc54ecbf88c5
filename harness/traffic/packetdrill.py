"""packetdrill in a host: a script of system calls and packets, run against the kernel that the host is on.

packetdrill (github.com/google/packetdrill) makes a tun device in the host, is at once the program that calls the kernel
and the peer behind the device, and holds both, and when they come, against the script. Its arguments are those that the
kernel's own runner gives (tools/testing/selftests/net/packetdrill/ksft_runner.sh) and, for scripts of packetdrill's own
collection, those of its runner (gtests/net/packetdrill/run_all.py): each knows names that the other does not define.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import BadInput, Forbidden, NotReady, Unsupported
from harness.lab import isolation
from harness.lab.program import find

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.lab import Host

_IPV4 = (
    *("--local_ip=192.168.0.1", "--gateway_ip=192.168.0.1", "--netmask_ip=255.255.0.0", "--remote_ip=192.0.2.1"),
    *("-DTFO_COOKIE=3021b9d889017eeb", "-DTFO_COOKIE_ZERO=b7c12350a90dc8f5", "-DCODE=host_unreachable"),
)
_LEVEL_IP = ("-DCMSG_LEVEL_IP=SOL_IP", "-DCMSG_TYPE_RECVERR=IP_RECVERR")
_LEVEL_IPV6 = ("-DCMSG_LEVEL_IP=SOL_IPV6", "-DCMSG_TYPE_RECVERR=IPV6_RECVERR")
# How a script can be run, by the name that packetdrill has for it, with the arguments that go with it.
MODES = {
    "ipv4": (*_IPV4, *_LEVEL_IP),
    "ipv4-mapped-ipv6": (*_IPV4, *_LEVEL_IPV6),
    "ipv6": (
        *("--mtu=1520", "--local_ip=fd3d:0a0b:17d6::1", "--gateway_ip=fd3d:0a0b:17d6:8888::1"),
        *("--remote_ip=fd3d:fa7b:d17d::1", "-DTFO_COOKIE=c1d1e9742a47a9bc", "-DTFO_COOKIE_ZERO=82af1a8f9a205c34"),
        *_LEVEL_IPV6,
    ),
}
# Buffers of send() stay as they are, for MSG_ZEROCOPY: the runner of packetdrill's collection says so for all.
ALWAYS = ("--send_omit_free",)
# In microseconds. Without a word packetdrill allows 4000, or 12.5 % of the time since the event before if that is more.
SLOW_TOLERANCE = 14_000
# ksft_runner.sh: set where a machine is too slow for what packetdrill allows.
IS_SLOW = "KSFT_MACHINE_SLOW"
# What packetdrill starts, and what nearly every script does before its first event (defaults.sh).
PROGRAMS = ("bash", "ip", "tc", "sysctl", "ifconfig", "unshare", "mount")
# What single scripts start beside that, of what virtual machines do not have by themselves.
ALSO = ("dd",)
DEVICE = "/dev/net/tun"
# How long a script may run, in seconds: what run_all.py allows.
ENOUGH = 180.0

# Scripts keep sysctls in files of /tmp that are named for their process, and its number is that of a namespace, where
# it is the same for many. So each has a /tmp of its own, above the machine's, which it still sees; where the kernel has
# no overlay, it has the machine's. Python, which checks what a script asserts, is this interpreter.
# packetdrill looks at its threads in /proc, which has to be that of the namespace of their numbers.
_BEGIN = """place=$1 folder=$2; shift 2
mount -t proc none /proc || exit 125
mount -t overlay -o lowerdir=/tmp,upperdir="$place/upper",workdir="$place/work" none /tmp 2>/dev/null
cd -- "$folder" || exit 125
PATH="$place/bin:$PATH" exec "$@"
"""
# What packetdrill says of a program that it has started.
_OF_ANOTHER = re.compile(r"error in Python code$|error executing .*command")


@dataclass(frozen=True)
class Outcome:
    """How a script ended.

    `passed`: packetdrill found all as it was to be. Otherwise `complaint` is packetdrill's own line, `line` the number
    of the script's line that it names, if it names one. `output` is all that was printed.
    """

    passed: bool
    complaint: str
    line: int | None
    output: str


def modes_of(script: Path, text: str) -> tuple[str, ...]:
    """How a script is to be run: as its line --ip_version= says, or its name (…v4.pkt, …v6.pkt), otherwise each way.

    BadInput if it says what there is not, or says it twice.
    """
    named = re.findall(r"^--ip_version=(\S*)", text, re.MULTILINE)
    if len(named) > 1 or not set(named) <= set(MODES):
        raise BadInput(f"{script}: --ip_version={','.join(named)} is not one of {', '.join(MODES)}")
    if named:
        return tuple(named)
    if script.name.endswith("v6.pkt"):
        return ("ipv6",)
    if script.name.endswith("v4.pkt"):
        return ("ipv4", "ipv4-mapped-ipv6")
    return tuple(MODES)


def arguments(script: Path, mode: str, tolerance: int | None = None) -> list[str]:
    """The words after packetdrill's name: the script's is its last, for it is run in the script's own directory."""
    slow = [] if tolerance is None else [f"--tolerance_usecs={tolerance}"]
    return [f"--ip_version={mode}", *MODES[mode], *ALWAYS, *slow, _word(script)]


def _word(script: Path) -> str:
    """The script as a word of the command, and in what packetdrill says: one that begins with - is no option."""
    return f"./{script.name}" if script.name.startswith("-") else script.name


def check_machine() -> None:
    """Forbidden or Unsupported where packetdrill cannot run, MissingProgram where something that it starts is not."""
    for program in PROGRAMS:
        find(program)
    if isolation.in_user_namespace():
        # run.c: set_scheduling_priority() and lock_memory() end the program where they are refused.
        raise Forbidden("packetdrill takes a real-time priority and locks its memory: it needs root of the machine")
    try:
        os.close(os.open(DEVICE, os.O_RDWR))
    except PermissionError as error:
        raise Forbidden(f"packetdrill needs {DEVICE}, which cannot be opened: {error.strerror}") from None
    except OSError as error:
        raise Unsupported(
            f"packetdrill needs a tun device, which the running kernel has not (CONFIG_TUN; {DEVICE}: {error.strerror})"
        ) from None


def run(host: Host, packetdrill: Sequence[str], script: Path, mode: str, *, tolerance: int | None = None) -> Outcome:
    """Run a script in a host without links, by the command that is packetdrill; `tolerance` in microseconds.

    Errors as those of check_machine().
    """
    check_machine()
    _have_connected(host)
    place = host.lab.directory / "packetdrill"
    for folder in ("upper", "work", "bin"):
        (place / folder).mkdir(parents=True)
    (place / "bin" / "python3").symlink_to(os.path.realpath(sys.executable))
    wrapped = ("unshare", "--mount", "sh", "-c", _BEGIN, "sh", str(place), str(script.parent))
    argv = [*wrapped, *packetdrill, *arguments(script, mode, tolerance)]
    try:
        ran = host.run(argv, timeout=ENOUGH, check=False)
    except NotReady:
        return Outcome(False, f"{script.name}: still running after {ENOUGH:g} s", None, "")
    output = ran.stdout + ran.stderr
    if ran.returncode == 0:
        return Outcome(True, "", None, output)
    complaint, line = _complaint(_word(script), output)
    return Outcome(False, complaint or f"{script.name}: packetdrill ended with status {ran.returncode}", line, output)


# Whether this process has seen to it that the machine has connected.
_connected: list[bool] = []


def _have_connected(host: Host) -> None:
    """Let the machine connect once, elsewhere, before a script does.

    In a virtual machine the first connect() since boot takes 6 to 13 ms, more than a script allows: most likely for the
    table of 256 kB that it fills with random numbers (net/ipv4/inet_hashtables.c, table_perturb).
    """
    if not _connected:
        elsewhere = host.lab.host("before")
        elsewhere.netlink()  # which brings its loopback up
        with elsewhere.socket() as client:
            client.connect_ex(("127.0.0.1", 9))
        _connected.append(True)


def _complaint(name: str, output: str) -> tuple[str, int | None]:
    """The line of packetdrill's that says what went wrong, and the number of the script's line that it names.

    Other lines are those of programs that the script starts: where one of them went wrong, its last line says how. What
    a script asserts is checked by Python, whose last line has what it was instead.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    own = [line for line in lines if line.startswith(f"{name}:")]
    complaint = (own or lines[-1:] or [""])[0]
    number = re.match(rf"{re.escape(name)}:(\d+):", complaint)
    if _OF_ANOTHER.search(complaint):
        complaint = ": ".join([complaint, *[line for line in lines if line not in own][-1:]])
    return complaint, int(number[1]) if number else None
