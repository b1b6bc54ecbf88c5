"""A program with its libraries, as bytes: runs wherever the processor and the kernel can run it, in any directory."""

from __future__ import annotations

import re
from pathlib import Path

from harness.kernels.image import shared_libraries

# What the dynamic linker itself is called among the files.
_LINKER = re.compile(r"ld-linux.*|ld64\..*")


def pack(program: Path) -> dict[str, bytes]:
    """The program, under its name, and what the dynamic linker loads for it, the linker included."""
    return {program.name: program.read_bytes()} | {
        Path(path).name: Path(path).read_bytes() for path in shared_libraries([str(program)])
    }


def unpack(files: dict[str, bytes], directory: Path) -> list[str]:
    """Put the files into a directory; returns the words that start the program, which is the first of them."""
    for name, content in files.items():
        file = directory / name
        file.write_bytes(content)
        file.chmod(0o755)
    program = str(directory / next(iter(files)))
    linkers = [name for name in files if _LINKER.fullmatch(name)]
    if not linkers:
        return [program]
    return [str(directory / linkers[0]), "--library-path", str(directory), program]
