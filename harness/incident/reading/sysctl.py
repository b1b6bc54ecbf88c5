"""Sysctls in force: `sysctl -a`, and files below /proc/sys. A configuration file does not say what is in force."""

from __future__ import annotations

import re

from harness.incident.facts import Fact
from harness.incident.reading.context import Context, Reader
from harness.incident.reading.lines import plain

SETTING = re.compile(r"^((?:net|fs|vm|kernel|user|abi|dev|crypto|debug|sunrpc)\.[\w@:./-]+) ?= ?([^=\u0080-\uffff]*)$")
ERROR = re.compile(r"^(?:sysctl|error)[: ]")
KEPT = ("net.", "fs.", "vm.")
FACTS = {"kernel.osrelease": "kernel", "kernel.version": "build"}
PATH = re.compile(r"(?:^|/)proc/sys/((?:net|fs|vm|kernel)/[\w@./-]+)$")


class Sysctls(Reader):
    """`sysctl -a`, or any part of it."""

    kind = "sysctl"
    opening = r"(?:net|fs|vm|kernel|user|abi|dev|crypto|debug|sunrpc)\."

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.configuration = (
            _is_comment(context.before) or "/etc/" in f"/{context.path}" or context.path.endswith(".conf")
        )
        self.settings: list[tuple[int, str, str]] = []

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        return SETTING.match(line) is not None

    def feed(self, number: int, line: str) -> bool:
        if match := SETTING.match(line):
            if match[1].startswith(KEPT) or match[1] in FACTS:
                self.settings.append((number, match[1].replace("/", "."), plain(" ".join(match[2].split()), 200)))
            return True
        if _is_comment(line):
            self.configuration = True
            return True
        return not line.strip() or ERROR.match(line) is not None or re.match(r"^[a-z_]+\.", line) is not None

    def finish(self) -> None:
        if self.configuration and not self.context.command.startswith("sysctl"):
            self.context.draft.notice(f"{self.context.file}: a configuration file: it does not say what is in force")
            return
        for number, name, value in self.settings:
            if name in FACTS:
                self.context.say(FACTS[name], self.context.fact(value, number))
            else:
                fact = self.context.fact(value, number)
                self.context.draft.sysctl(self.context.space, name, fact, self.context.taken)


def _is_comment(line: str) -> bool:
    return line.lstrip()[:1] in ("#", ";")


VALUE = re.compile(r"^\s*([\w.:, \t-]{1,200}?)\s*(?:#.*)?$")
CAT = re.compile(r"^cat /proc/sys/([\w./-]+)$")


class ProcSys(Reader):
    """A file below /proc/sys, by its path or by the command `cat`."""

    kind = "/proc/sys"

    @classmethod
    def starts(cls, line: str, context: Context) -> bool:
        return bool(_name(context)) and bool(line.strip()) and VALUE.match(line) is not None

    def feed(self, number: int, line: str) -> bool:
        name, match = _name(self.context), VALUE.match(line)
        if not name or match is None or not match[1].strip():
            return False
        self.context.command = self.context.path = ""
        value = Fact(plain(" ".join(match[1].split())), self.context.source(number))
        if name in FACTS:
            self.context.say(FACTS[name], value)
        elif name.startswith(KEPT):
            self.context.draft.sysctl(self.context.space, name, value, self.context.taken)
        return True


def _name(context: Context) -> str:
    """The sysctl's name; empty where neither path nor command tells."""
    match = CAT.match(context.command) or PATH.search(context.path)
    return match[1].strip("/").replace("/", ".") if match else ""
