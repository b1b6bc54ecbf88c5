"""apt's programs with a state, a cache and sources of our own: mirrors, proxies, signatures and hashes are theirs.

Nothing of the machine's apt is touched but its settings, which are read: what it runs after an update is left out.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from harness.errors import MissingProgram

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
HELPER = "/usr/lib/apt/apt-helper"
# Suites that have ended are signed for good. apt's own picture of all packages, which costs most of an update, is
# never asked for anything here.
_OPTIONS = {
    "Dir::Etc::sourceparts": "/dev/null",
    "Dir::Etc::preferences": "/dev/null",
    "Dir::Etc::preferencesparts": "/dev/null",
    "APT::Sandbox::User": "root",
    "Acquire::Languages": "none",
    "Acquire::Check-Valid-Until": "false",
    "Acquire::Retries": 3,
    "Acquire::http::Timeout": 30,
    "pkgCacheFile::Generate": "false",
}
# Hooks of the machine's, for after an update of its own.
_CLEARED = ("APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success")


class Apt:
    """apt with everything that it keeps below a directory, for one architecture and these lines of sources.list."""

    def __init__(self, directory: Path, architecture: str, lines: Sequence[str]) -> None:
        self.directory = directory
        self._architecture = architecture
        self._lines = tuple(lines)

    @property
    def lists(self) -> Path:
        """Where apt keeps what it has verified of each suite."""
        return self.directory / "state" / "lists"

    def configured(self) -> bool:
        """Write apt's configuration; whether it was there already, the same."""
        options = _OPTIONS | {
            "Dir::Etc::sourcelist": self.directory / "sources.list",
            "Dir::State": self.directory / "state",
            "Dir::State::status": self.directory / "state" / "status",
            "Dir::Cache": self.directory / "cache",
            "APT::Architecture": self._architecture,
            "APT::Architectures": self._architecture,
        }
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (self.directory / folder).mkdir(parents=True, exist_ok=True)
        (self.directory / "state" / "status").touch()
        settings = [*(f"#clear {name};\n" for name in _CLEARED), *(f'{key} "{is_}";\n' for key, is_ in options.items())]
        wanted = {"sources.list": "".join(f"{line}\n" for line in self._lines), "apt.conf": "".join(settings)}
        same = True
        for name, text in wanted.items():
            file = self.directory / name
            if not file.exists() or file.read_text() != text:
                same = False
                file.write_text(text)
        return same

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a program of apt's, whatever comes of it; MissingProgram if there is none."""
        self.configured()
        program, *words = argv
        # Read after the machine's own settings; that of APT_CONFIG would be read before them.
        command = [program, "-c", str(self.directory / "apt.conf"), *words]
        try:
            return subprocess.run(
                command, check=False, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True
            )
        except FileNotFoundError:
            raise MissingProgram(program, "apt") from None

    def download(self, address: str, into: Path, digest: str | None) -> subprocess.CompletedProcess[str]:
        """Bring a file whose SHA-256 apt checks; None: nobody knows it.

        From a file: address it makes a symbolic link.
        """
        words = [address, str(into), *([] if digest is None else [f"SHA256:{digest}"])]
        return self.run(HELPER, "download-file", *words)


def told(result: subprocess.CompletedProcess[str]) -> str:
    """What apt said went wrong, in one line."""
    lines = [line[3:] for line in (result.stderr + result.stdout).splitlines() if line.startswith(("E: ", "Err:"))]
    return "; ".join(dict.fromkeys(lines[:3])) or f"apt ended with status {result.returncode}"
