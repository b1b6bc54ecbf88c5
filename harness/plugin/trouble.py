"""What the programs say that start machines: why one has not come up, and how one was lost.

They are processes that execnet starts, and all that execnet makes of their end is that there is no more to read. So
they write into files of ours, without a name, that they know from their environment.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.kernels.interpreters import CONSOLES, LOSS, TROUBLE

if TYPE_CHECKING:
    from collections.abc import Iterator

END = "\0"
# Of a directory with evidence: what the machines said on their consoles, a file each.
FOLDER = "consoles"
WITHOUT_A_WORD = "a worker could not be started: its program ended without a word"
NO_INTERPRETER = "a worker could not be started: its program answers, but as no Python interpreter does"


class Said:
    """The two files, and their names in the environment, for as long as the session."""

    def __init__(self) -> None:
        self._files = {name: os.memfd_create(name) for name in (TROUBLE, LOSS)}
        for name, file in self._files.items():
            os.environ[name] = f"/proc/{os.getpid()}/fd/{file}"

    def end(self) -> None:
        """Listen no more."""
        for name, file in self._files.items():
            del os.environ[name]
            os.close(file)

    def trouble(self) -> str:
        """Why machines have not come up."""
        return self._read(TROUBLE).replace(END, "\n").strip()

    def loss(self, release: str) -> str:
        """How the machine with a kernel was lost last, in a line; "" if that is not known."""
        heads = [entry.strip().partition("\n")[0] for entry in self._read(LOSS).split(END)]
        return next((head for head in reversed(heads) if f"kernel {release} " in head), "")

    def _read(self, name: str) -> str:
        return os.pread(self._files[name], 1 << 20, 0).decode(errors="replace")


SAID = pytest.StashKey[Said]()
# Why a worker could not be started.
KEPT = pytest.StashKey[pytest.UsageError]()


def listen(config: pytest.Config) -> None:
    """Begin to listen, until the session's end; what machines say on their consoles is kept beside the evidence."""
    config.stash[SAID] = Said()
    config.add_cleanup(config.stash[SAID].end)
    directory = Path(os.path.normpath(Path(config.invocation_params.dir, config.getoption("tcp_evidence"), FOLDER)))
    for old in directory.glob("*.txt"):
        with contextlib.suppress(OSError):
            old.unlink()
    os.environ[CONSOLES] = str(directory)
    config.add_cleanup(partial(os.environ.__delitem__, CONSOLES))


@contextlib.contextmanager
def is_told(config: pytest.Config) -> Iterator[None]:
    """While workers are started: why one has not come up becomes the error, in place of what execnet makes of it."""
    try:
        yield
    except (OSError, EOFError, AssertionError) as error:
        if SAID not in config.stash or not (isinstance(error, (OSError, EOFError)) or _is_execnets(error)):
            raise
        without = NO_INTERPRETER if isinstance(error, AssertionError) else f"{WITHOUT_A_WORD} ({type(error).__name__})"
        raise pytest.UsageError(config.stash[SAID].trouble() or without) from None


def _is_execnets(error: AssertionError) -> bool:
    """Whether it is execnet that asserts, and no test or plugin: that an interpreter answers as it is asked to."""
    return traceback.extract_tb(error.__traceback__)[-1].filename.endswith("/execnet/gateway_bootstrap.py")


@contextlib.contextmanager
def is_kept(config: pytest.Config) -> Iterator[None]:
    """While the first workers are started: why one has not come up becomes the error, but later.

    A session that ends before it has begun writes no results: attendance.refuse() ends it when it has.
    """
    try:
        with is_told(config):
            yield
    except pytest.UsageError as error:
        if SAID not in config.stash:
            raise
        config.stash[KEPT] = error


def why(config: pytest.Config) -> str:
    """Why a machine has not come up, in a line."""
    said = config.stash[SAID].trouble() if SAID in config.stash else ""
    return said.partition("\n")[0] or WITHOUT_A_WORD


def loss(config: pytest.Config, release: str) -> str:
    """How the machine with a kernel was lost, in a line; "" if that is not known."""
    return config.stash[SAID].loss(release) if SAID in config.stash else ""
