"""One network namespace, held by a file descriptor; `with` moves the calling thread in and back out."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, TypeVar

from harness.lab import isolation

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

T = TypeVar("T")


class _Path(threading.local):
    """The namespaces that this thread has entered and not left, innermost last."""

    def __init__(self) -> None:
        self.entered: list[int] = []


_path = _Path()


class Namespace:
    """A network namespace that lives as long as its file descriptor, or a socket or process inside it."""

    def __init__(self, fd: int | None = None) -> None:
        self.fd = isolation.new_network() if fd is None else fd

    @classmethod
    def of_this_process(cls) -> Namespace:
        """The namespace that the process itself lives in, outside all hosts."""
        return cls(isolation.world().network)

    def __enter__(self) -> None:
        isolation.setns(self.fd)
        _path.entered.append(self.fd)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _path.entered.pop()
        isolation.setns(_path.entered[-1] if _path.entered else isolation.world().network)

    def call(self, function: Callable[[], T]) -> T:
        """Call a function inside, in a thread that was in no other namespace before.

        Below Linux 5.0 (1fde6f21d90f "proc: fix /proc/net/* after setns(2)") a thread that changes its namespace goes
        on finding the files below /proc/thread-self/net that it has looked at, and they are those of the namespace
        before (fs/proc/proc_net.c).
        """
        results: list[T] = []
        errors: list[BaseException] = []

        def inside() -> None:
            try:
                with self:
                    results.append(function())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=inside, name="inside")
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def close(self) -> None:
        """Let go of it; the kernel takes it down in its own time."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
