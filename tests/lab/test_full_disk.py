"""A cache that has too little room for a kernel: one line, and nothing half-made, wherever it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from harness.kernels import places
from tests.unit import debian_archive
from tests.unit.debian_archive import DebianArchive, Key
from tests.unit.test_kernels_store import image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RELEASE = "4.9.0-19-amd64"
# In a namespace that ends with the command: a file system of so many bytes; then the command, and what it left.
SMALL = """
mount -t tmpfs -o size="$1" none "$2" || exit 99
cache=$2; shift 2
"$@"; status=$?
find "$cache" -mindepth 1 -printf 'left %P\\n'
exit $status
"""

pytestmark = pytest.mark.skipif(bool(debian_archive.missing()), reason=debian_archive.missing())


@pytest.fixture(scope="module")
def fetch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The command that brings a kernel of a megabyte, from an index of half a megabyte."""
    where = tmp_path_factory.mktemp("archive")
    key = Key(where / "key")
    mirror = DebianArchive(where / "mirror")
    banner = f"{RELEASE} (debian-kernel@lists.debian.org) #1 SMP Debian 4.9.320-2\0"
    content = image(where / "image", banner.encode()).read_bytes() + os.urandom(1_000_000)
    modules = {f"lib/modules/{RELEASE}/kernel/{name}.ko": b"\x7fELF" + os.urandom(50_000) for name in ("veth", "dummy")}
    mirror.add(f"linux-image-{RELEASE}", "4.9.320-2", {f"boot/vmlinuz-{RELEASE}": content, **modules})
    mirror.padding = os.urandom(250_000).hex()
    mirror.publish("stretch", key)
    with contextmanager(debian_archive.served)(mirror.root) as address:
        argv = [sys.executable, "-c", "from harness.cli import main; main()", "kernels", "fetch", "4.9"]
        yield [*argv, "--mirror", address, "--suite", "stretch", "--keyring", str(key.keyring)]
    key.end()


def on_a_disk_of(size: str, cache: Path, argv: list[str]) -> tuple[int, list[str], list[str]]:
    """Status, lines on standard error, and the paths that were left in the cache."""
    cache.mkdir(exist_ok=True)
    result = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", SMALL, "sh", size, str(cache), *argv],
        check=False, capture_output=True, text=True, env=os.environ | {places.CACHE: str(cache)}, timeout=120,
    )  # fmt: skip
    if result.returncode == 99 or result.stderr.startswith("unshare:"):
        pytest.skip(f"no file system can be mounted here, not even in a namespace: {result.stderr.strip()}")
    left = [line.removeprefix("left ") for line in result.stdout.splitlines() if line.startswith("left ")]
    return result.returncode, result.stderr.splitlines(), left


# No room for the index, for what apt makes of it, for the package, for the kernel beside the package.
@pytest.mark.parametrize("size", ["8k", "64k", "400k", "800k", "1600k", "2400k", "3200k"])
def test_no_room(fetch: list[str], tmp_path: Path, size: str) -> None:
    status, said, left = on_a_disk_of(size, tmp_path / "cache", fetch)
    kernels = {path for path in left if path.startswith("kernels/")}
    if status == 0:
        assert f"kernels/{RELEASE}/kernel.json" in kernels
        return
    assert status == 2, said
    line = [line for line in said if " MB to download" not in line]
    assert len(line) == 1, said
    assert "No space left on device" in line[0] or "enough free space" in line[0], line
    assert kernels <= {"kernels"}
    assert not [path for path in left if path.endswith((".part", ".deb"))]


def test_enough_room(fetch: list[str], tmp_path: Path) -> None:
    """The control."""
    status, said, left = on_a_disk_of("16m", tmp_path / "cache", fetch)
    assert (status, said) == (0, [f"{RELEASE}: 1 MB to download"])
    assert {path.rpartition("/")[2] for path in left if path.startswith(f"kernels/{RELEASE}/")} == {
        "image", "kernel.json", "sizes.json", "modules", "veth.ko", "dummy.ko",
    }  # fmt: skip
