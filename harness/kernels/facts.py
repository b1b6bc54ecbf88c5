"""What a kernel has: the defaults of its TCP sysctls, and its counters; and what two kernels have differently."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from harness.errors import Unsupported
from harness.kernels.project import Project

if TYPE_CHECKING:
    from pathlib import Path

    from harness.kernels.mode import Mode
    from harness.kernels.targets import Target

# Runs in the guest, in a namespace that nobody has touched.
_PROBE = """
import json
import os
from harness.laws.kernel import running
from harness.lab import Lab
from harness.observe import counters
with Lab() as lab:
    host = lab.host("a")
    prefixes = ("net.ipv4.tcp", "net.ipv4.ip_", "net.core.", "net.mptcp.", "net.ipv4.inet_peer")
    knobs = {}
    for name in sorted({*host.sysctl.names(), "fs.nr_open"}):
        if name.startswith(prefixes):
            try:
                knobs[name] = host.sysctl[name]
            except Exception:
                knobs[name] = "(cannot be read)"
    facts = {"sysctls": knobs, "counters": sorted(counters(host).as_dict())}
facts["release"] = os.uname().release
facts["version"] = ".".join(map(str, running().release))
channel.send(json.dumps(facts))
"""


class Facts(msgspec.Struct, frozen=True):
    """The values of a kernel's sysctls before anybody sets them, and the names of its counters.

    `release` is what `uname -r` says, `version` the stable release, "6.12.117".
    """

    sysctls: dict[str, str]
    counters: list[str]
    release: str = ""
    version: str = ""


def of(target: Target, root: Path, mode: Mode | None = None) -> Facts:
    """The facts of a kernel, out of a worker on it; `mode` is how its machine runs, if it has one of ours."""
    import execnet

    gateway = execnet.makegateway(target.worker(Project(root, ("scenarios",)), mode))
    try:
        return msgspec.json.decode(gateway.remote_exec(_PROBE).receive(), type=Facts)
    except (OSError, EOFError, msgspec.MsgspecError) as error:
        raise Unsupported(f"{target.names[-1]}: its facts could not be read: {error}") from None
    finally:
        gateway.exit()


def differences(a: Facts, b: Facts) -> dict[str, list[str]]:
    """Lines for what differs: defaults of sysctls, sysctls and counters that only one has."""
    knobs, others = a.sysctls, b.sysctls
    return {
        "sysctls with other defaults": [
            f"{name}: {knobs[name]} -> {others[name]}"
            for name in sorted(knobs)
            if name in others and knobs[name] != others[name]
        ],
        "sysctls of the first alone": [f"{name} = {knobs[name]}" for name in sorted(set(knobs) - set(others))],
        "sysctls of the second alone": [f"{name} = {others[name]}" for name in sorted(set(others) - set(knobs))],
        "counters of the first alone": sorted(set(a.counters) - set(b.counters)),
        "counters of the second alone": sorted(set(b.counters) - set(a.counters)),
    }


def as_json(different: dict[str, list[str]]) -> str:
    """The differences for programs."""
    return msgspec.json.format(msgspec.json.encode(different), indent=1).decode() + "\n"
