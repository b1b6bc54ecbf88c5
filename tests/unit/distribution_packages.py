"""Kernels in packages as Ubuntu and Fedora lay them out, made of whatever kernel a test has."""

from __future__ import annotations

import lzma
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Program to the Debian package that brings it.
NEEDS = {"dpkg-deb": "dpkg", "rpmbuild": "rpm", "bsdtar": "libarchive-tools"}
VERSION, NUMBER = "6.8.0", "31"

SPEC = """
Name: kernel
Version: {version}
Release: {number}.fc99
Summary: a kernel
License: GPL-2.0-only
%description
A kernel.
%package core
Summary: its image
%description core
Its image.
%package modules-core
Summary: its modules
%description modules-core
Its modules.
%files core
/lib/modules/{release}/vmlinuz
/lib/modules/{release}/config
/lib/modules/{release}/modules.order
%files modules-core
/lib/modules/{release}/kernel
"""
# Nothing of it is to be stripped, compressed anew or looked into.
PLAIN = {
    "__os_install_post": "%{nil}",
    "debug_package": "%{nil}",
    "_build_id_links": "none",
    "_binary_payload": "w1.zstdio",
}


def missing(*programs: str) -> str:
    """Why no such packages can be made here, or nothing."""
    absent = [NEEDS[program] for program in programs if not shutil.which(program)]
    return f"needs {', '.join(absent)}; on Debian: apt-get install {' '.join(absent)}" if absent else ""


def ubuntu(directory: Path, release: str, image: bytes, modules: Mapping[str, bytes], config: str = "") -> Path:
    """linux-image-unsigned, and linux-modules beside it, which has the configuration too; where the first one is."""
    files = {f"boot/vmlinuz-{release}": image}
    others = {
        f"lib/modules/{release}/kernel/net/{name}.ko.xz": lzma.compress(content, preset=0)
        for name, content in modules.items()
    }
    others[f"boot/config-{release}"] = config.encode()
    _deb(directory, f"linux-modules-{release}", others)
    return _deb(directory, f"linux-image-unsigned-{release}", files)


def _deb(directory: Path, name: str, files: Mapping[str, bytes]) -> Path:
    building = directory / f"{name}.building"
    _lay(building, files)
    (building / "DEBIAN").mkdir()
    (building / "DEBIAN").chmod(0o755)  # whatever the umask: dpkg-deb takes no other
    control = f"Package: {name}\nVersion: {VERSION}-{NUMBER}.{NUMBER}\nArchitecture: amd64\n"
    (building / "DEBIAN" / "control").write_text(
        f"{control}Maintainer: nobody <a@example.org>\nDescription: a kernel\n"
    )
    package = directory / f"{name}_{VERSION}-{NUMBER}.{NUMBER}_amd64.deb"
    argv = ["dpkg-deb", "--root-owner-group", "-Zxz", "-z0", "--build", str(building), str(package)]
    subprocess.run(argv, check=True, capture_output=True)
    shutil.rmtree(building)
    return package


def fedora(directory: Path, release: str, image: bytes, modules: Mapping[str, bytes], config: str = "") -> Path:
    """kernel-core, which has the configuration too, and kernel-modules-core beside it; where the first one is."""
    top, root = directory / "rpmbuild", directory / "root"
    below = f"lib/modules/{release}"
    files = {f"{below}/vmlinuz": image, f"{below}/config": config.encode(), f"{below}/modules.order": b""}
    files |= {f"{below}/kernel/net/{name}.ko.xz": lzma.compress(content, preset=0) for name, content in modules.items()}
    _lay(root, files)
    top.mkdir()
    (top / "kernel.spec").write_text(SPEC.format(version=VERSION, number=NUMBER, release=release))
    defines = PLAIN | {
        "_topdir": str(top),
        "buildroot": str(root),
        "_rpmdir": str(directory),
        "_rpmfilename": "%{NVRA}.rpm",
    }
    words = [word for name, value in defines.items() for word in ("--define", f"{name} {value}")]
    argv = ["rpmbuild", "--quiet", "-bb", "--target", "x86_64", f"--buildroot={root}", *words, str(top / "kernel.spec")]
    subprocess.run(argv, check=True, capture_output=True)
    shutil.rmtree(top)
    shutil.rmtree(root, ignore_errors=True)
    return directory / f"kernel-core-{VERSION}-{NUMBER}.fc99.x86_64.rpm"


def _lay(root: Path, files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
