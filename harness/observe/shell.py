"""A command line as an operator types it, given to a shell inside a host, and what it prints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from harness.lab.program import find

if TYPE_CHECKING:
    from harness.lab.host import Host

# What the documents type. A shell only mutters about a program that is missing, and a pipe behind it counts nothing.
PROGRAMS = frozenset({"awk", "bash", "dmesg", "hping3", "ip", "netstat", "nginx", "nstat", "ss", "sysctl", "wrk"})
TRANSLATIONS = Path("/usr/share/locale")


def printed(host: Host, line: str, *, language: str | None = None, timeout: float = 120.0) -> str:
    """What a shell in the host prints for a command line, whatever its status; `timeout` in seconds.

    With `language` ("de", "pt_BR") the user is one of that language; gettext heeds LANGUAGE in any locale but C, which
    is a lab's. Raises MissingProgram where the line names a program of the documents that is not installed, NotReady.
    """
    for program in sorted(set(re.findall(r"[\w-]+", line)) & PROGRAMS):
        find(program)
    if language is not None:
        line = f"export LC_ALL=C.UTF-8 LANGUAGE={language}; {line}"
    return host.run("sh", "-c", line, timeout=timeout, check=False).stdout


def number(host: Host, line: str, *, language: str | None = None) -> int:
    """The number that the output of a command line begins with; 0 when it prints nothing, as grep may."""
    return leading_number(printed(host, line, language=language))


def is_translated(package: str, language: str) -> bool:
    """Whether the texts of a package are installed in a language; images without documentation leave them out."""
    return (TRANSLATIONS / language / "LC_MESSAGES" / f"{package}.mo").exists()


def connect_by_hand(host: Host, address: str, port: int) -> str:
    """What bash says when an operator connects through its /dev/tcp: nothing, if that succeeds."""
    return host.run("bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}", check=False).stderr


def leading_number(text: str) -> int:
    """The number that a text begins with, behind spaces; 0 if it begins with none."""
    digits = re.match(r"\s*(\d+)", text)
    return int(digits[1]) if digits else 0
