"""The kernel's own counters (SNMP MIBs) of one host: snapshots, and what moved between two of them."""

from __future__ import annotations

import fnmatch
import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.errors import CounterMissing
from harness.observe import proc_net

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from harness.lab.host import Host


class Group:
    """The counters of one MIB group (`Tcp`, `TcpExt`, `Ip`, ...), an attribute each, under the kernel's names.

    Raises CounterMissing when the running kernel has no counter of that name.
    """

    __slots__ = ("_name", "_values")

    def __init__(self, name: str, values: Mapping[str, int]) -> None:
        self._name = name
        self._values = values

    def __getattr__(self, counter: str) -> int:
        if counter.startswith("_"):
            raise AttributeError(counter)
        return self[counter]

    def __getitem__(self, counter: str) -> int:
        try:
            return self._values[counter]
        except KeyError:
            raise _missing(f"{self._name}.{counter}", self._names()) from None

    def _names(self) -> list[str]:
        return [f"{self._name}.{counter}" for counter in self._values]

    def __contains__(self, counter: object) -> bool:
        return counter in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._values]

    def __repr__(self) -> str:
        return f"<{self._name}: {len(self)} counters>"


class Table:
    """Counters by group: `table.TcpExt.ListenOverflows` is the same integer as `table["TcpExt.ListenOverflows"]`."""

    Ip: Group
    Icmp: Group
    IcmpMsg: Group
    Tcp: Group
    Udp: Group
    UdpLite: Group
    TcpExt: Group
    IpExt: Group
    MPTcpExt: Group
    Ip6: Group
    Icmp6: Group
    Udp6: Group
    UdpLite6: Group

    def __init__(self, groups: Mapping[str, Mapping[str, int]]) -> None:
        self._groups = groups

    def __getattr__(self, group: str) -> Group:
        if group.startswith("_"):
            raise AttributeError(group)
        try:
            return Group(group, self._groups[group])
        except KeyError:
            raise _missing(group, list(self._groups)) from None

    def __getitem__(self, name: str) -> int:
        group, _dot, counter = name.partition(".")
        try:
            return self._groups[group][counter]
        except KeyError:
            raise _missing(name, list(self)) from None

    def __contains__(self, name: object) -> bool:
        group, _, counter = str(name).partition(".")
        return counter in self._groups.get(group, ())

    def __iter__(self) -> Iterator[str]:
        """All names, `Group.Counter`, in the kernel's order."""
        for group, values in self._groups.items():
            for counter in values:
                yield f"{group}.{counter}"

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._groups]

    def as_dict(self) -> dict[str, int]:
        """All counters by full name, in the kernel's order."""
        return {
            f"{group}.{counter}": value for group, values in self._groups.items() for counter, value in values.items()
        }


class Counters(Table):
    """The counters of a host at one moment.

    Values are totals since the host's network namespace was made. A few are gauges or settings
    (Tcp.CurrEstab, Tcp.MaxConn, Ip.DefaultTTL): they stand in the same files and are read alike.
    The kernel sums per-CPU values without stopping the others (net/ipv4/proc.c): a snapshot during
    traffic is exact for each counter, not across counters.
    """

    def __sub__(self, before: Counters) -> Delta:
        """How far each counter moved since `before`.

        A counter which `before` does not have moved from 0: the rows of IcmpMsg appear when first used.
        """
        return Delta(_Moved(self._groups, before._groups))

    def __repr__(self) -> str:
        return f"<Counters: {len(self)} of {', '.join(self._groups)}>"


class _Moved(Mapping[str, Mapping[str, int]]):
    """The difference between two moments, of each group that is asked for."""

    def __init__(self, after: Mapping[str, Mapping[str, int]], before: Mapping[str, Mapping[str, int]]) -> None:
        self._after, self._before = after, before
        self._known: dict[str, Mapping[str, int]] = {}

    def __getitem__(self, group: str) -> Mapping[str, int]:
        if group not in self._known:
            self._known[group] = self._of(group)
        return self._known[group]

    def _of(self, group: str) -> Mapping[str, int]:
        values = self._after[group]
        if isinstance(self._after, proc_net.Snapshot) and self._after.same(group, self._before):
            return dict.fromkeys(values, 0)
        start = self._before.get(group, {})
        return {counter: value - start.get(counter, 0) for counter, value in values.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._after)

    def __len__(self) -> int:
        return len(self._after)


class Delta(Table):
    """How far the counters of a host moved between two snapshots."""

    def __bool__(self) -> bool:
        """Whether anything moved."""
        return any(any(values.values()) for values in self._groups.values())

    def nonzero(self) -> dict[str, int]:
        """What moved, by full name, in the kernel's order."""
        return {
            f"{group}.{counter}": value
            for group, values in self._groups.items()
            if any(values.values())
            for counter, value in values.items()
            if value
        }

    def only(self, *patterns: str) -> Delta:
        """The part whose full names match one of the shell patterns (`TcpExt.Listen*`).

        Raises CounterMissing for a pattern that matches no counter of this kernel: an assertion that
        nothing moved must not pass because of a misspelling.
        """
        return self._select(self._matching(patterns), keep=True)

    def without(self, *patterns: str) -> Delta:
        """The part whose full names match none of the shell patterns; CounterMissing as in `only`."""
        return self._select(self._matching(patterns), keep=False)

    def _matching(self, patterns: tuple[str, ...]) -> set[str]:
        names = list(self)
        chosen: set[str] = set()
        for pattern in patterns:
            matches = fnmatch.filter(names, pattern)
            if not matches:
                raise _missing(pattern, names)
            chosen.update(matches)
        return chosen

    def _select(self, names: set[str], *, keep: bool) -> Delta:
        groups: dict[str, dict[str, int]] = {}
        for group, values in self._groups.items():
            part = {counter: value for counter, value in values.items() if (f"{group}.{counter}" in names) is keep}
            if part:
                groups[group] = part
        return Delta(groups)

    def __repr__(self) -> str:
        moved = ", ".join(f"{name} {value:+d}" for name, value in self.nonzero().items())
        return f"<Delta: {moved or 'nothing moved'}>"


class Counting:
    """The deltas of a host since the `with` began: live inside it, frozen after it."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._before = counters(host)
        self._final: Delta | None = None

    @property
    def delta(self) -> Delta:
        """The deltas up to now, or up to the end of the `with` once that has passed."""
        if self._final is not None:
            return self._final
        return counters(self._host) - self._before

    def __getattr__(self, group: str) -> Group:
        if group.startswith("_"):
            raise AttributeError(group)
        found: Group = getattr(self.delta, group)
        return found

    def __getitem__(self, name: str) -> int:
        return self.delta[name]

    def nonzero(self) -> dict[str, int]:
        """As Delta.nonzero."""
        return self.delta.nonzero()

    def only(self, *patterns: str) -> Delta:
        """As Delta.only."""
        return self.delta.only(*patterns)

    def without(self, *patterns: str) -> Delta:
        """As Delta.without."""
        return self.delta.without(*patterns)

    def __enter__(self) -> Counting:
        self._before = counters(self._host)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._final = self.delta

    def __repr__(self) -> str:
        return repr(self.delta)


def counters(host: Host) -> Counters:
    """Read all counters of `host`: Ip, Icmp, Tcp, Udp (snmp), TcpExt, IpExt (netstat), Ip6 ... (snmp6).

    The groups of IPv6 are absent where the kernel has no IPv6.
    """
    return Counters(proc_net.read(host))


def counting(host: Host) -> Counting:
    """Count what moves inside a `with`: `with counting(host) as delta: ...; delta.Tcp.ActiveOpens`."""
    return Counting(host)


def _missing(name: str, known: list[str]) -> CounterMissing:
    import difflib

    system = platform.uname()
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6) or [
        full for full in known if full.rpartition(".")[2] == name.rpartition(".")[2]
    ]
    hint = f"; near: {', '.join(near)}" if near else ""
    return CounterMissing(f"{name}: Linux {system.release} ({system.version}) has no such counter{hint}")
