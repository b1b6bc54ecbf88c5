"""The user nobody, for what an ordinary user may do: a command line that becomes that user, and a home."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.lab.isolation import in_user_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

# Root's own places are closed to nobody.
WITHOUT = ("-u", "XDG_RUNTIME_DIR", "-u", "PYTEST_DEBUG_TEMPROOT")
NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "env", *WITHOUT)


def is_root() -> bool:
    """Whether the tests run as root of the machine, not of the user namespace in which an ordinary user's labs are."""
    return os.geteuid() == 0 and not in_user_namespace()


def skip_without_a_sandbox() -> None:
    """Skip where bench.probes can have none: it lays an overlay over /.

    In a user namespace what is mounted below / is locked, and the kernel clones no such mount (fs/namespace.c,
    clone_private_mount()).
    """
    if not is_root():
        pytest.skip("needs root: in a user namespace the kernel lays no overlay over /")


def skip_without_labs_of_nobody() -> None:
    """Skip where an ordinary user gets no user namespace, as labs need."""
    if subprocess.run([*NOBODY, "unshare", "--user", "--map-root-user", "true"], check=False).returncode:
        pytest.skip("an ordinary user gets no user namespace here")


@contextmanager
def home_of_nobody() -> Iterator[Path]:
    """A home for the user nobody, whom pytest's own directories for temporary files keep out; skips who is not root.

    That user can read what is put there meanwhile, whatever the umask of the tests.
    """
    if not is_root():
        pytest.skip("the other tests are an ordinary user's already")
    # A TMPDIR of root's own is closed to nobody as well.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        home = Path(directory)
        home.chmod(0o755)
        for needed in (sys.executable, __file__):
            if subprocess.run([*NOBODY, "test", "-r", needed], check=False).returncode:
                pytest.skip(f"the user nobody cannot read {needed}")
        before = os.umask(0o022)
        try:
            yield home
        finally:
            os.umask(before)
