"""What diagnoses need, and what to give where the files do not have it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from harness.incident.counters import Rate
from harness.incident.facts import Unknown
from harness.incident.sockets import Sockets

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.diagnosis.view import View

SNAPSHOT = "or run `harness snapshot` there"


@dataclass(frozen=True)
class Kind:
    """A thing that files may contain: its name, what to give, and what looks for it: "" or why it is not there."""

    what: str
    give: str
    lacks: Callable[[View], str]


def _rates(view: View) -> str:
    names = {name for sample in view.space.counters for name in sample.numbers if name.startswith("TcpExt.")}
    names |= {"TcpExt.ListenOverflows"}
    rates = [view.space.rate(name) for name in sorted(names)]
    if any(isinstance(rate, Rate) for rate in rates):
        return ""
    why = view.space.rate("TcpExt.ListenOverflows")
    return why.why if isinstance(why, Unknown) else ""


def _listeners(view: View) -> str:
    listeners = view.space.listeners
    if any(look.limit is not None for listener in listeners for look in listener.looks):
        return ""
    if listeners:
        return "no limits of their queues: netstat and /proc/net/tcp do not show them"
    return _unknown(view, "listeners")


def _sockets(view: View) -> str:
    table = view.sockets
    if table is None:
        return _unknown(view, "sockets")
    waiting = view.gauge("sockstat.TCP.tw")
    if waiting and waiting.value > 100 and not table.states.get("TIME-WAIT"):
        return f"the list is without TIME-WAIT, of which there are {waiting.value}"
    return ""


def _timers(view: View) -> str:
    table = view.space.sockets_that_repeat()
    if not isinstance(table, Sockets):
        return _unknown(view, "sockets")
    options = "".join(word for word in table.command.split() if word.startswith("-"))
    if table.command.startswith(("ss", "netstat")) and not (table.timers or "o" in options or "i" in options):
        return f"{table.command} prints no timers"
    return ""


def _sysctls(view: View) -> str:
    return "" if view.space.sysctls or view.machine.own.sysctls else _unknown(view, "sysctls")


def _sockstat(view: View) -> str:
    if view.gauge("sockstat.TCP.mem"):
        return ""
    return "ss -s has no memory" if view.gauge("ss.total") else _unknown(view, "sockstat")


def _conntrack(view: View) -> str:
    """Where nothing is tracked there is nothing to miss: a machine without the module has no such sysctl."""
    tracks = view.sysctl("net.netfilter.nf_conntrack_max") is not None
    counted = (
        view.sysctl("net.netfilter.nf_conntrack_count") is not None or view.tracked or view.gauge("conntrack.count")
    )
    return "no count of the entries" if tracks and not counted else ""


def _tracked(view: View) -> str:
    count = view.sysctl("net.netfilter.nf_conntrack_count")
    return _unknown(view, "conntrack") if count and view.tracked is None else ""


def _softnet(view: View) -> str:
    if not view.is_own or len(view.machine.softnet) > 1:
        return ""
    return "there is one sample only" if view.machine.softnet else "no file has it"


def _processes(view: View) -> str:
    return "" if view.machine.processes or not view.is_own else "no file has it"


def _log(view: View) -> str:
    return "" if view.machine.log or not view.is_own or _has_read(view, "dmesg", "log") else "no file has it"


def _has_read(view: View, *kinds: str) -> bool:
    return any(kind in file.kind for file in view.machine.files for kind in kinds)


def _kernel(view: View) -> str:
    return "" if view.kernel is not None else "no file names it"


def _unknown(view: View, field: str) -> str:
    found = view.space.unknown.get(field)
    return found.why if found else "no file has it"


class Need(Enum):
    """The things that files may contain."""

    RATES = Kind(
        "rates",
        "a second set of counters some seconds later: nstat -asz or netstat -s, or /proc/net/netstat and snmp",
        _rates,
    )
    LISTENERS = Kind("listeners with their queues and limits", "ss -lntmpe, a few times", _listeners)
    SOCKETS = Kind("list of the sockets", "ss -tanpoi", _sockets)
    TIMERS = Kind("timers and retransmissions of the sockets", "ss -tanpoi", _timers)
    SYSCTLS = Kind("sysctls", "sysctl -a", _sysctls)
    SOCKSTAT = Kind("sockstat", "cat /proc/net/sockstat", _sockstat)
    CONNTRACK = Kind("count of tracked connections", "conntrack -C, or sysctl -a as root", _conntrack)
    TRACKED = Kind("tracked connections", "conntrack -L, and conntrack -S twice, as root", _tracked)
    SOFTNET = Kind("drops of the processors", "cat /proc/net/softnet_stat, twice", _softnet)
    PROCESSES = Kind(
        "open files of the programs that listen", f"as root /proc/PID/limits and fd; {SNAPSHOT}", _processes
    )
    LOG = Kind("log of the kernel", "dmesg", _log)
    KERNEL = Kind("version of the kernel", "uname -a", _kernel)
