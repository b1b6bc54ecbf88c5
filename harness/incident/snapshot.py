"""The program that `harness snapshot` prints: the parts of harness.incident.collector as one file."""

from __future__ import annotations

import re
from importlib import resources

# In this order each name is there before a class or a default needs it.
PARTS = (
    "places", "pseudonyms", "sysctls", "diag", "proc_tcp", "rows", "listeners", "tables", "tracked", "offloads",
    "kernel", "namespaces", "main",
)  # fmt: skip
HEADER = '''#!/usr/bin/env python3
"""Prints what this machine's kernel says of TCP, as JSON: see --help. Python 3.6 or newer, nothing to install.

Made by `harness snapshot` of tcp-harness {version}. It changes nothing, sends nothing, and needs no root; root sees
other network namespaces and the processes of others. Addresses and names are replaced by pseudonyms.
"""
'''
OURS = re.compile(r"^from harness\.incident\.collector\.\w+ import (?:\([^)]*\)|[^(\n]+)\n", re.MULTILINE)
IMPORT = re.compile(r"^(?:import \w+|from \w+ import \w+(?:, \w+)*)$", re.MULTILINE)
DOCSTRING = re.compile(r'^"""(.*?)"""\n', re.DOTALL)
IGNORED = re.compile(r"  # (?:type: ignore|noqa|fmt: skip).*$", re.MULTILINE)


def program() -> str:
    """The text of the program."""
    from harness.evidence.codec import harness_version

    parts = {name: resources.files("harness.incident.collector").joinpath(f"{name}.py").read_text() for name in PARTS}
    imports = sorted({line for part in parts.values() for line in IMPORT.findall(OURS.sub("", part))})
    bodies = (_body(part) for part in parts.values())
    return HEADER.format(version=harness_version()) + "\n" + "\n".join(imports) + "\n" + "".join(bodies)


def _body(part: str) -> str:
    """A part without its imports, its docstring as a heading."""
    without = IMPORT.sub("", OURS.sub("", part))
    heading = DOCSTRING.match(without)
    said = heading[1].strip().splitlines() if heading else []
    rest = DOCSTRING.sub("", without, count=1).strip("\n")
    comment = "\n".join(f"# {line}".rstrip() for line in said)
    return f"\n\n{comment}\n\n{IGNORED.sub('', rest)}\n"
