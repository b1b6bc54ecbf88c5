"""Kernel modules as files: which of them labs need, what they say of themselves, and in which order they are loaded."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from harness import files, unpacking
from harness.errors import BadInput
from harness.kernels import image, places

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

# Modules by name: links and what delays them, the packet filter with NAT, socket listings, packet sockets, and the port
# to the outside.
WANTED = re.compile(
    r"""veth|dummy|bridge|sch_(netem|fq)|ipv6|inet_diag|tcp_diag|udp_diag|raw_diag|unix_diag|netlink_diag|packet_diag|af_packet(_diag)?
    |nfnetlink|nf_tables|nft_(ct|nat|chain_nat(_ipv[46])?|masq(_ipv[46])?|redir|reject(_inet|_ipv[46])?|numgen|counter
    |limit|quota|log|hash|meta|rt|exthdr|objref|set_hash|set_rbtree|compat)|nf_tables_(inet|ipv[46]|netdev)|nf_nat(_ipv[46])?
    |nf_conntrack(_ipv[46]|_netlink)?|nf_nat_masquerade_ipv[46]|nf_log_syslog|tun|overlay
    |crc32c(_generic|_cryptoapi)?|virtio(_pci|_ring|_pci_(modern|legacy)_dev|_console|_rng)?""",
    re.VERBOSE,
)
_UNPACK = {".xz": unpacking.unxzed, ".zst": unpacking.unzstded, ".gz": unpacking.gunzipped}


# What is read of that.
_SAID = ("depends", "softdep", "alias", "vermagic", "name")


def modinfo(module: bytes) -> dict[str, list[str]]:
    """What a module says of itself, the NUL-terminated key=value texts of its .modinfo: depends, softdep, alias, …"""
    said: dict[str, list[str]] = {}
    for key in _SAID:
        # One key after the other: an expression for all of them looks at each byte, and there are megabytes.
        begin, word = 0, b"\0%b=" % key.encode()
        while (at := module.find(word, begin)) >= 0:
            begin = at + len(word)
            end = module.find(b"\0", begin)
            value = module[begin:end] if end >= 0 else module[begin:]
            said.setdefault(key, []).append(value.decode(errors="replace"))
    return said


def content_of(file: Path) -> bytes:
    """A module as the kernel loads it; BadInput for one that is damaged, too large, or no regular file."""
    try:
        content = files.content(file, unpacking.LARGEST_FILE)
        return _UNPACK[file.suffix](content) if file.suffix in _UNPACK else content
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(f"{file}: this module cannot be read: {why}") from None


def in_order(modules: Mapping[str, Path]) -> list[Path]:
    """The modules' files in an order in which each comes after those that it depends on.

    Also after those that it asks for by an alias when it starts (MODULE_SOFTDEP): libcrc32c, and with it nf_tables, is
    refused where no crc32c is there yet. The same modules come in the same order, wherever they were found.
    """
    said = {name: modinfo(content_of(file)) for name, file in sorted(modules.items())}
    by_alias: dict[str, list[str]] = {}
    for name, info in said.items():
        for alias in (name, *info.get("alias", ())):
            by_alias.setdefault(alias, []).append(name)
    ordered: dict[str, Path] = {}
    begun: set[str] = set()

    def add(name: str) -> None:
        if name in begun:
            return
        begun.add(name)
        for needed in (*_needed(said[name]), *_asked_for(said[name])):
            for provider in by_alias.get(needed, ()):  # none: built in
                add(provider)
        ordered[name] = modules[name]

    for name in said:
        add(name)
    return list(ordered.values())


def keep_wanted(there: Mapping[str, Path], into: Path) -> None:
    """Write those of the modules that labs need, and what they depend on, uncompressed to a directory."""

    def bring(name: str) -> Path:
        file = into / f"{name}.ko"
        file.write_bytes(content_of(there[name]))
        return file

    _wanted(there, bring)


def below(directory: Path) -> dict[str, Path]:
    """The modules below a directory that labs need, with what they depend on, as the kernel loads them, by name."""
    there = {name_of(file): file for file in _module_files(directory)}
    return _wanted(there, lambda name: _unpacked(there[name]))


def name_of(file: Path) -> str:
    """A module's name, as the kernel has it."""
    return file.name.partition(".")[0].replace("-", "_")


def _wanted(names: Collection[str], bring: Callable[[str], Path]) -> dict[str, Path]:
    """Those of the modules that are wanted, and what they depend on; `bring` puts one where it can be read."""
    there = set(names)
    brought: dict[str, Path] = {}
    todo = [name for name in names if WANTED.fullmatch(name)]
    while todo:
        name = todo.pop()
        if name not in there:  # done, or built in
            continue
        there.remove(name)
        brought[name] = bring(name)
        todo += _depends(brought[name])
    return brought


def _depends(module: Path) -> list[str]:
    """The modules that one depends on, by name."""
    return _needed(modinfo(content_of(module)))


def _needed(info: Mapping[str, list[str]]) -> list[str]:
    """What a module depends on, by name."""
    listed = ",".join(info.get("depends", [])).split(",")
    return [name.replace("-", "_") for name in listed if name]


def _asked_for(info: Mapping[str, list[str]]) -> list[str]:
    """What a module has loaded before it, by name or alias: "pre: crc32c post: x"."""
    before = [re.sub(r"post:.*", "", text).replace("pre:", " ") for text in info.get("softdep", ())]
    return [name for text in before for name in text.split()]


def _unpacked(module: Path) -> Path:
    """A module as the kernel loads it, in the cache if it is compressed where it is."""
    if module.suffix == ".ko":
        return module
    content = content_of(module)
    name = f"{module.name.partition('.')[0]}-{hashlib.sha256(content).hexdigest()[:16]}.ko"
    unpacked = places.cache() / "modules" / name
    if not unpacked.exists() or unpacked.stat().st_size != len(content):
        image.write(unpacked, [content])
    return unpacked


def _module_files(directory: Path) -> Iterator[Path]:
    for pattern in ("**/*.ko", "**/*.ko.xz", "**/*.ko.zst", "**/*.ko.gz"):
        yield from sorted(directory.glob(pattern))
