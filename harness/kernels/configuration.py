"""How a kernel was configured, and what it lacks that a guest and its labs are made of: known before it is booted.

The configuration is found beside the image (config-RELEASE, as /boot has it; config, as Fedora's packages do), in the
tree that the image was built in (.config), or within the image, if that was built with CONFIG_IKCONFIG. Where it is
nowhere, the guest says itself what its kernel lacks, when it has booted.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from harness import files
from harness.kernels import bzimage
from harness.kernels.needs import HARNESS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.kernels.needs import Need

BUILT_IN, MODULE = "y", "m"
_SET = re.compile(r"^CONFIG_(\w+)=([ym])\r?$", re.MULTILINE)


def of(image: Path, release: str) -> dict[str, str] | None:
    """The options of an image that are set, y or m, by name without CONFIG_; None where they are not to be found."""
    for file in _files(image, release):
        with contextlib.suppress(OSError):
            if options := parse(files.content(file).decode(errors="replace")):
                return options
    text = bzimage.configuration(files.content(image, bzimage.LARGEST))
    return None if text is None else parse(text)


def parse(text: str) -> dict[str, str]:
    """The options of a .config that are set."""
    return dict(_SET.findall(text))


def missing(options: Mapping[str, str], modules: Collection[str] | None, needs: Sequence[Need] = HARNESS) -> list[Need]:
    """What is needed and is neither built in nor among the modules; None: whatever is a module will be at hand."""
    return [
        need
        for need in needs
        if not any(_is_there(options.get(option), module, modules) for option, module in need.options.items())
    ]


def lacking(options: Mapping[str, str], modules: Collection[str]) -> list[str]:
    """What no scenario runs without, and is not there: "veth (CONFIG_VETH)"."""
    return [f"{need.what} ({named(need)})" for need in missing(options, modules)]


def named(need: Need) -> str:
    """Its options, as a .config has them."""
    return ", ".join(f"CONFIG_{option}" for option in need.options)


def _is_there(value: str | None, module: str, modules: Collection[str] | None) -> bool:
    """Whether an option is built in, or its module is at hand."""
    return value == BUILT_IN or (value == MODULE and (modules is None or module in modules))


def _files(image: Path, release: str) -> Iterator[Path]:
    yield image.with_name(f"config-{release}")
    yield image.with_name("config")
    if image.parts[-4:-1] == ("arch", "x86", "boot"):
        yield image.parents[3] / ".config"
