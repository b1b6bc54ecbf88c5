"""The machines of vagrant/, as far as `--kernel vagrant:MACHINE` needs them: how to reach them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from harness.errors import MissingProgram, Unsupported

if TYPE_CHECKING:
    from pathlib import Path


def ssh_config(machine: str, root: Path) -> dict[str, str]:
    """What `vagrant ssh-config` says of a machine that is up, by the names of ssh_config(5); Unsupported otherwise."""
    try:
        said = subprocess.run(
            ["vagrant", "ssh-config", machine], cwd=root / "vagrant", check=False, capture_output=True, text=True
        )
    except FileNotFoundError:
        raise MissingProgram("vagrant", "vagrant") from None
    if said.returncode:
        raise Unsupported(f"vagrant:{machine}: {' '.join(said.stderr.split())}; bring it up: vagrant up {machine}")
    lines = (line.strip().partition(" ") for line in said.stdout.splitlines())
    return {key: value.strip('"') for key, _, value in lines if key and key != "Host"}
