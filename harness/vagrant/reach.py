"""How ssh reaches a machine that is up, for `--tcp-kernel vagrant:k6.12`."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from harness.errors import MissingProgram, Unsupported
from harness.kernels.hosts import RemoteHost
from harness.vagrant import machine_room

if TYPE_CHECKING:
    from pathlib import Path


# The environment that a machine comes with: it has no way to the network to make another.
PYTHON = "/home/vagrant/tcp-harness/.venv/bin/python"


def host(machine: str, root: Path, python: str | None = None) -> RemoteHost:
    """A machine that is up, k6.12, as a host: ours alone, in which we are root as on a kernel of --kernel 6.12.

    `python` is an interpreter there, if not the one that it comes with. Unsupported when no such machine is up.
    """
    options = ssh_config(machine, root)
    address = options.pop("HostName")
    return RemoteHost(machine, address, None, tuple(options.items()), python or PYTHON, sudo=True, ours=True)


def ssh_config(machine: str, root: Path) -> dict[str, str]:
    """Of a machine, k6.12, that `harness vagrant up` or Vagrant alone has brought up: options by ssh_config(5)'s names.

    `root` is the directory of the project. Unsupported when no such machine is up.
    """
    if machine_room.current() is not None:
        words = [
            sys.executable,
            "-c",
            "from harness.cli import main; main()",
            "vagrant",
            "ssh-config",
            machine.removeprefix("k"),
        ]
        directory = root
    else:
        words, directory = ["vagrant", "ssh-config", machine], root / "vagrant"
    offline = os.environ | {"VAGRANT_CHECKPOINT_DISABLE": "1"}
    try:
        said = subprocess.run(
            words, cwd=directory, env=offline, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        if error.filename == "vagrant":
            raise MissingProgram("vagrant", "vagrant") from None
        raise Unsupported(f"vagrant:{machine}: there is no {directory}") from None
    if said.returncode:
        why = (said.stderr or said.stdout).strip().splitlines()[:1]
        raise Unsupported(
            f"vagrant:{machine}: {' '.join(why) or 'it cannot be reached'}; "
            f"bring it up: harness vagrant up {machine.removeprefix('k')}"
        )
    lines = (line.strip().partition(" ") for line in said.stdout.splitlines())
    return {key: value.strip('"') for key, _, value in lines if key and key != "Host"}
