"""Which of the kernel's test programs --tcp-kselftest means; what they and packetdrill's scripts start in machines."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.files import is_directory
from harness.plugin.options import setting

if TYPE_CHECKING:
    from collections.abc import Iterator

# These are others' tests.
NOT_OURS = (".py", ".pkt")


def guest_programs(config: pytest.Config) -> list[str]:
    """What the chosen programs start, and scripts of packetdrill, to be brought into virtual machines.

    Says what is not here.

    UsageError where a script reads a file that is not part of the project, and so would not be there.
    """
    has_scripts = config.getoption("tcp_packetdrill") or setting(config, "packetdrill")
    if not has_scripts and not config.getoption("tcp_kselftest"):
        return []
    from harness.traffic import kselftest, packetdrill

    wanted: dict[str, None] = {}
    if has_scripts:
        wanted |= dict.fromkeys(filter(kselftest.is_here, packetdrill.ALSO))
    if not config.getoption("tcp_kselftest"):
        return list(wanted)
    for program in _chosen(config):
        for file in kselftest.sourced(program):
            if not file.is_relative_to(config.rootpath):
                raise pytest.UsageError(
                    f"{program.name} reads {file}, which is not below {config.rootpath}: machines would not have it; "
                    "--rootdir=DIRECTORY names one that has all, such as tools/testing/selftests"
                )
        wanted |= dict.fromkeys(kselftest.wanted_programs(program))
        for line in kselftest.lacking(program):
            print(f"harness: {line}", file=sys.stderr)
    return list(wanted)


def _named(config: pytest.Config) -> Iterator[Path]:
    """The files and directories among pytest's arguments."""
    for argument in config.args:
        yield Path(os.path.normpath(config.invocation_params.dir / argument.partition("::")[0]))


def _chosen(config: pytest.Config) -> Iterator[Path]:
    """The programs among pytest's arguments, and those that a Makefile in a directory among them names."""
    for place in _named(config):
        files = sorted(place.rglob("*")) if is_directory(place) else [place]
        yield from (file for file in files if is_wanted(config, file))


def is_wanted(config: pytest.Config, file: Path) -> bool:
    """Whether a file is a program that --tcp-kselftest runs: it is named, or a Makefile beside it calls it a test."""
    from harness.traffic import kselftest

    if file.suffix in NOT_OURS or not file.is_file():
        return False
    is_named = file in _named(config) or file.name in kselftest.listed(file.parent)
    return is_named and kselftest.is_program(file)
