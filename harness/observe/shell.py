"""A command line as an operator types it, given to a shell inside a host, and what it prints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.lab.program import find

if TYPE_CHECKING:
    from harness.lab.host import Host

# What the documents type. A shell only mutters about a program that is missing, and a pipe behind it counts nothing.
PROGRAMS = frozenset({"awk", "bash", "dmesg", "hping3", "ip", "netstat", "nginx", "nstat", "ss", "sysctl", "wrk"})


def printed(host: Host, line: str, *, timeout: float = 120.0) -> str:
    """What a shell in the host prints for a command line, whatever its status; `timeout` in seconds.

    Raises MissingProgram where the line names a program of the documents that is not installed, NotReady.
    """
    for program in sorted(set(re.findall(r"[\w-]+", line)) & PROGRAMS):
        find(program)
    return host.run("sh", "-c", line, timeout=timeout, check=False).stdout


def number(host: Host, line: str) -> int:
    """The number that the output of a command line begins with; 0 when it prints nothing, as grep may."""
    return leading_number(printed(host, line))


def leading_number(text: str) -> int:
    """The number that a text begins with, behind spaces; 0 if it begins with none."""
    digits = re.match(r"\s*(\d+)", text)
    return int(digits[1]) if digits else 0
