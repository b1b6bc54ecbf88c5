"""Very many connections, open at once: both ends are programs that share them out among processes."""

from __future__ import annotations

import json
import resource
import sys
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import Forbidden, ProgramFailed, Unsupported
from harness.traffic import crowd_end
from harness.waiting import until

if TYPE_CHECKING:
    from harness.lab import Host
    from harness.lab.program import Program

# A connection has two sockets, and a socket costs some 3.6 KiB (limits.memory); twice that is left for all else.
BYTES_A_CONNECTION = 16384
MOST_PROCESSES = 64
# The ports of a crowd's server lie below the range that clients take theirs from.
FIRST_PORT = 20001


@dataclass
class Crowd:
    """Connections between two hosts that stay open until close(), or the lab closes.

    `connections` were asked for; `answered` is on how many of the sample the server's answer was what the client sent;
    `processes` is how many it took at either end.
    """

    client: Program
    server: Program
    ports: list[int]
    connections: int
    sample: int

    @property
    def open(self) -> int:
        """How many connections the client's end holds."""
        return _said(self.client)["open"]

    @property
    def accepted(self) -> int:
        """How many connections the server's end holds."""
        return _said(self.server)["open"]

    @property
    def answered(self) -> int:
        """How many of the sample were answered."""
        return _said(self.client)["answered"]

    @property
    def processes(self) -> tuple[int, int]:
        """How many processes hold the client's and the server's end."""
        return _said(self.client)["processes"], _said(self.server)["processes"]

    def settled(self) -> bool:
        """Whether all are open and the sample has been answered; ProgramFailed if an end has given up."""
        client, server = _said(self.client), _said(self.server)
        return (
            client["open"] == server["open"] == self.connections
            and client["asked"] >= self.sample
            and client["asked"] == client["answered"]
        )

    def close(self) -> None:
        """Reset all connections."""
        self.client.stop()
        self.server.stop()


def crowd(
    client: Host,
    server: Host,
    connections: int,
    *,
    ports: int = 6,
    sample: int = 0,
    unread: int = 0,
    descriptors: int | None = None,
    deadline: float = 300.0,
) -> Crowd:
    """Open so many connections from one host to another, on so many ports of the server, and keep them open.

    Of all, at least `sample` are asked a question each that the server answers. With `unread`, the client sends so many
    bytes on each, and the server never reads them. `descriptors` is how many each process may have, if that is to be
    fewer than the machine allows. Ready when all are open at both ends and the sample is answered
    (NotReady after `deadline` seconds). Raises Forbidden where the limits of descriptors do not allow it, Unsupported
    where the memory does not.
    """
    _check_room(connections)
    server.sysctl["net.core.somaxconn"] = 65535
    asked = crowd_end.Asked(
        role="server",
        family=int(server.family),
        address=server.ip,
        ports=[*range(FIRST_PORT, FIRST_PORT + ports)],
        connections=connections,
        sample=sample,
        echo=not unread,
        unread=unread,
        descriptors=descriptors,
    )
    serving = _start(server, asked)
    serving.wait_ready(lambda: _said(serving)["processes"], deadline)
    started = Crowd(_start(client, replace(asked, role="client")), serving, asked.ports, connections, sample)
    client.lab.on_close(started.close)
    until(started.settled, deadline=deadline, what=f"{connections} connections from {client.name} to {server.name}")
    return started


def _start(host: Host, asked: crowd_end.Asked) -> Program:
    return host.start(sys.executable, "-I", "-S", crowd_end.__file__, json.dumps(asdict(asked)))


def _said(program: Program) -> Counter[str]:
    """The sums of what an end's processes have said; ProgramFailed when one has failed."""
    sums: Counter[str] = Counter()
    output = program.output()
    for line in output[: output.rfind("\n") + 1].splitlines():
        if not line.startswith("{") or "error" in (said := json.loads(line)):
            raise ProgramFailed(f"{program.argv[-1]}: {said['error'] if line.startswith('{') else output}")
        sums.update(said)
    if not program.alive() and "open" not in sums:
        raise ProgramFailed(f"{program.argv[-1]}: ended\n{output}")
    return sums


def _check_room(connections: int) -> None:
    """Say beforehand what would fail in the middle."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard <= crowd_end.BESIDES or connections > MOST_PROCESSES * (hard - crowd_end.BESIDES):
        raise Forbidden(
            f"{connections} connections need more than {MOST_PROCESSES} processes of {hard} descriptors each: raise "
            "the hard limit (ulimit -Hn; nofile in /etc/security/limits.conf)"
        )
    used, _, most = (int(word) for word in Path("/proc/sys/fs/file-nr").read_text().split())
    if used + 2 * connections > most:
        raise Forbidden(
            f"{connections} connections need {2 * connections} files, and the machine allows {most}, of which {used} "
            "are in use: raise fs.file-max"
        )
    memory = dict(line.split()[:2] for line in Path("/proc/meminfo").read_text().splitlines())
    # MemAvailable came with Linux 3.14.
    free = 1024 * int(memory.get("MemAvailable:", memory["MemFree:"]))
    if free < connections * BYTES_A_CONNECTION:
        raise Unsupported(
            f"{connections} connections need up to {connections * BYTES_A_CONNECTION >> 20} MiB of memory, and "
            f"{free >> 20} MiB are available"
        )
