"""What is known of a kernel's configuration before it is built, or before it boots: of a tree, a .config, an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness import files, unpacking
from harness.errors import BadInput
from harness.kernels import bzimage, configuration, targets

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# A .config is some hundred kilobytes; whatever is larger is something else.
LARGEST = 4 << 20
# What the running kernel says of itself, and how such a file begins.
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Configured:
    """Where a configuration was found, its options that are set, and the modules at hand (None: those it asks for)."""

    where: str
    options: Mapping[str, str]
    modules: Collection[str] | None


def look(word: str) -> Configured:
    """The configuration of a built or configured tree, of a .config, or of whatever image --kernel takes.

    BadInput for what is none of these, and for an image that does not tell how it was configured.
    """
    place = Path(word.partition(",")[0])
    if not files.there_is(place):
        raise BadInput(f"{place}: there is no such file or directory")
    if place.is_dir() and not (place / "arch" / "x86" / "boot" / "bzImage").exists():
        file = place / ".config"
        if not file.is_file():
            raise BadInput(f"{place}: neither configured nor built: there is no .config (make defconfig)")
        return Configured(str(file), configuration.parse(_text(file)), None)
    if place.is_file() and (options := configuration.parse(_text(place))):
        return Configured(str(place), options, None)
    return _of_an_image(word)


def _of_an_image(word: str) -> Configured:
    try:
        built, kernel = targets.located(word)
    except bzimage.NotAnImage as error:
        raise BadInput(f"{error}, and no .config: no line of it says CONFIG_NAME=y or CONFIG_NAME=m") from None
    options = configuration.of(built.image, kernel.release)
    if options is None:
        if damaged := bzimage.damage(built.image):
            raise BadInput(damaged)
        raise BadInput(
            f"{word}: how kernel {kernel.release} was configured is not known: there is neither "
            f"config-{kernel.release} beside it nor CONFIG_IKCONFIG in it; name its .config"
        )
    return Configured(f"{built.image}, {kernel.release}", options, kernel.modules)


def _text(file: Path) -> str:
    """The text of a file that may be packed as /proc/config.gz is; "" for a large one, which is no .config."""
    try:
        with files.opened(file) as opened:
            content = opened.read(LARGEST + 1)
    except OSError as error:
        raise BadInput(f"{file}: cannot be read: {error.strerror}") from None
    if content.startswith(GZIP):
        try:
            content = unpacking.gunzipped(content, LARGEST)
        except unpacking.TooLarge:
            return ""
        except ValueError as error:
            raise BadInput(f"{file}: packed by gzip, and damaged: {error}") from None
    return "" if len(content) > LARGEST else content.decode(errors="replace")
