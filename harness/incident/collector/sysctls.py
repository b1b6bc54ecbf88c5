"""The sysctls of this network namespace below net and fs, without secrets and without thousands of interfaces."""

import os
import re

from harness.incident.collector.places import text
from harness.incident.collector.pseudonyms import Pseudonyms

ROOT = "/proc/sys/"
# Keys that let others forge packets, and names of programs.
SECRET = re.compile(r"key|secret|cookie_seed|^fs\.binfmt_misc|^fs\.quota")
OF_INTERFACE = re.compile(r"^(net\.(?:ipv4|ipv6|mpls)\.(?:conf|neigh))\.(.+)\.([a-z_0-9]+)$")
EVERYWHERE = ("all", "default", "lo")
OF_EACH_INTERFACE = ("rp_filter", "forwarding", "disable_ipv6", "src_valid_mark", "accept_local", "gc_stale_time")
MOST_INTERFACES = 64
LONGEST = 200


def sysctls(pseudonyms: Pseudonyms) -> "dict[str, str]":
    """Names as sysctl(8) prints them, and the values in force."""
    found = {}
    interfaces = set()  # type: set[str]
    for top in ("net", "fs"):
        for directory, _, files in os.walk(ROOT + top):
            for file in files:
                name = (
                    os.path.join(directory, file)[len(ROOT) :].replace(".", "\0").replace("/", ".").replace("\0", "/")
                )
                shown = _name_shown(name, interfaces, pseudonyms)
                if shown:
                    value = text(os.path.join(directory, file), 4096).strip()
                    if value:
                        found[shown] = "\t".join(value.split())[:LONGEST]
    return found


def _name_shown(name: str, interfaces: "set[str]", pseudonyms: Pseudonyms) -> str:
    """The name to print; empty for what is not printed."""
    if SECRET.search(name):
        return ""
    match = OF_INTERFACE.match(name)
    if not match or match.group(2) in EVERYWHERE:
        return name
    interfaces.add(match.group(2))
    if match.group(3) not in OF_EACH_INTERFACE or len(interfaces) > MOST_INTERFACES:
        return ""
    return "{}.{}.{}".format(match.group(1), interface_name(match.group(2), pseudonyms), match.group(3))


# Names that the kernel or systemd draws from a place in the machine; enx… has a hardware address in it.
PLAIN = re.compile(r"^(lo|(eth|ens|eno|enp|bond|br|team|wlan|wlp|tun|tap|dummy|docker|virbr|ib)[0-9][0-9a-z]{0,7})$")


def interface_name(name: str, pseudonyms: Pseudonyms) -> str:
    """A name that says nothing stays; any other gets a pseudonym."""
    return name if PLAIN.match(name) else pseudonyms.name(name, "if")
