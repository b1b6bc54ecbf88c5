"""A small archive of Debian packages, signed with a key of its own: for the tests of what can go wrong with one."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Program to the Debian package that brings it.
NEEDS = {"gpg": "gpg", "gpg-agent": "gpg-agent", "gpgv": "gpgv", "dpkg-deb": "dpkg", "apt-get": "apt"}

YEAR_2026 = 1767225600


def missing() -> str:
    """Why no archive can be made here, or nothing."""
    absent = [package for program, package in NEEDS.items() if not shutil.which(program)]
    return f"needs {', '.join(absent)}; on Debian: apt-get install {' '.join(absent)}" if absent else ""


class Key:
    """A key that signs; `directory` is made, and `keyring` in it is what apt takes the public half from."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        # Below a long TMPDIR gpg's agent could not make its socket: 107 bytes are all that fit.
        self.home = Path(tempfile.mkdtemp(prefix="gpg-", dir="/var/tmp"))
        self._gpg("--quick-generate-key", "archive@example.org", "ed25519", "sign", "never")
        self.keyring = directory / "keyring.gpg"
        self._gpg("--output", str(self.keyring), "--export")

    def sign(self, file: Path, into: Path) -> None:
        """The file with its signature around it."""
        into.unlink(missing_ok=True)
        self._gpg("--output", str(into), "--clearsign", str(file))

    def end(self) -> None:
        """gpg's agent would outlive the test."""
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(self.home, ignore_errors=True)

    def _gpg(self, *argv: str) -> None:
        quiet = ["--batch", "--pinentry-mode", "loopback", "--passphrase", ""]
        subprocess.run(["gpg", "--homedir", str(self.home), *quiet, *argv], check=True, capture_output=True)


@dataclass
class DebianArchive:
    """Packages in `root`/pool, and suites in `root`/dists, as a mirror has them."""

    root: Path
    packages: list[Path] = field(default_factory=list)
    published: int = 0
    padding: str = ""  # more to read in each index
    valid_until: str = ""
    also: str = ""  # what else stands in each index

    def add(
        self, name: str, version: str, files: dict[str, bytes], *, depends: str = "", source: str = "linux"
    ) -> Path:
        """Put a package into the pool; it is listed when a suite is published next."""
        building = self.root.parent / f"{name}.building"
        for path, content in files.items():
            file = building / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        control = {
            "Package": name, "Version": version, "Architecture": "amd64", "Maintainer": "nobody <nobody@example.org>",
            "Depends": depends, "Description": "a kernel, or a part of one",
        }  # fmt: skip
        (building / "DEBIAN").mkdir(parents=True)
        text = "".join(f"{key}: {value}\n" for key, value in control.items() if value)
        (building / "DEBIAN" / "control").write_text(text)
        (building / "DEBIAN").chmod(0o755)
        package = self.root / "pool" / "main" / "l" / source / f"{name}_{version.replace(':', '%3a')}_amd64.deb"
        package.parent.mkdir(parents=True, exist_ok=True)
        argv = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(building), str(package)]
        subprocess.run(argv, check=True, capture_output=True)
        shutil.rmtree(building)
        self.packages.append(package)
        return package

    def publish(self, suite: str, key: Key) -> None:
        """Write the index of a suite with every package, signed."""
        index = "\n".join([*map(self._paragraph, self.packages), *([self.also] if self.also else [])]).encode()
        top = self.root / "dists" / suite
        here = top / "main" / "binary-amd64"
        here.mkdir(parents=True, exist_ok=True)
        lines = [f"Suite: {suite}", f"Codename: {suite}", "Label: Debian", "Architectures: amd64", "Components: main"]
        lines += [f"Valid-Until: {self.valid_until}"] if self.valid_until else []
        lines += ["Date: Thu, 01 Jan 2026 00:00:00 UTC", "SHA256:"]
        for name, content in (("Packages", index), ("Packages.gz", gzip.compress(index, mtime=0))):
            (here / name).write_bytes(content)
            lines.append(f" {hashlib.sha256(content).hexdigest()} {len(content)} main/binary-amd64/{name}")
        (top / "Release").write_text("\n".join(lines) + "\n")
        key.sign(top / "Release", top / "InRelease")
        # HTTP's times are seconds: what is published twice in one would not have changed.
        self.published += 1
        os.utime(top / "InRelease", (YEAR_2026 + self.published, YEAR_2026 + self.published))

    def _paragraph(self, package: Path) -> str:
        control = subprocess.run(["dpkg-deb", "--field", package], check=True, capture_output=True, text=True).stdout
        content = package.read_bytes()
        about = {
            "Filename": package.relative_to(self.root),
            "Size": len(content),
            "SHA256": hashlib.sha256(content).hexdigest(),
            "Homepage": self.padding or "none",
        }
        return control + "".join(f"{key}: {value}\n" for key, value in about.items())


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        """Say nothing."""


def served(root: Path) -> Iterator[str]:
    """The address of a server on loopback that has the archive, while it is wanted."""
    with loopback_up():
        yield from _serving(root)


@contextmanager
def loopback_up() -> Iterator[None]:
    """A process that had a lab is in a network namespace of its own, in which nobody has put loopback up."""
    from pyroute2 import IPRoute

    with IPRoute() as routes:
        (lo,) = routes.link_lookup(ifname="lo")
        down = not routes.get_links(lo)[0]["flags"] & 1  # IFF_UP
        if down:
            routes.link("set", index=lo, state="up")
        try:
            yield
        finally:
            if down:
                routes.link("set", index=lo, state="down")


def _serving(root: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *words: _Quiet(*words, directory=str(root)))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
