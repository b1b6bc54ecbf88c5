"""Recv-Q and Send-Q of one connection, from everybody who shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness.errors import NotReady
from harness.observe import ends_at, proc_tcp, ss

if TYPE_CHECKING:
    from harness.lab import Host


class Columns(NamedTuple):
    """The two columns of a socket."""

    recv_q: int
    send_q: int


def columns(host: Host, port: int) -> dict[str, Columns]:
    """What inet_diag, `ss -nt` and /proc/net/tcp show of the one connection of a host from or to a port.

    NotReady if one of them shows no connection with that port, or several.
    """
    by_kernel = [Columns(end.recv_q, end.send_q) for end in ends_at(host, port)]
    by_ss = ss.rows(host, "-nt", "state", "connected", f"( sport = :{port} or dport = :{port} )")
    in_proc = [row for row in proc_tcp.rows(host) if port in (row.local_port, row.remote_port)]
    shown = {
        "inet_diag": by_kernel,
        "ss -nt": [Columns(*row.queues) for row in by_ss],
        "/proc/net/tcp": [Columns(row.recv_q, row.send_q) for row in in_proc if row.state != "LISTEN"],
    }
    for name, each in shown.items():
        if len(each) != 1:
            raise NotReady(f"{name} shows {len(each)} connections with port {port} of {host.name}, not one")
    return {name: each[0] for name, each in shown.items()}
