"""From what somebody types, 6.12 or '>=6.12' or all, to kernels that can be booted: of an archive, and of the cache."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from harness.errors import BadInput, Unsupported
from harness.kernels import archive, catalogue, places
from harness.kernels.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.kernels.archive import Archive
    from harness.kernels.catalogue import Kernel
    from harness.kernels.store import Stored

# The suite of a kernel of the cache that the archive in question does not have (any more).
CACHE_ALONE = "(cache)"


class Selection:
    """The kernels that can be had: those of the machine's own archive or of the one named, and those of the cache.

    The archive is asked when it has to be. `say` gets a line for what does not stop the work.
    """

    def __init__(
        self,
        mirror: str | None = None,
        suites: Sequence[str] = (),
        keyring: str | None = None,
        *,
        older_than: float = archive.FRESH,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.store = Store(places.kernels())
        self._named = (mirror, tuple(suites), keyring)
        self._older_than = older_than
        self._say = say

    @cached_property
    def archive(self) -> Archive:
        """The archive, its index read; BadInput or Unsupported if that cannot be."""
        mirror, suites, keyring = self._named
        found = archive.the_archive(mirror, suites, keyring, older_than=self._older_than)
        for notice in found.notices() if found.was_read_anew else ():
            self._say(notice)
        return found

    def is_no_use(self, what: str) -> None:
        """BadInput, if an archive was named and nobody has asked for it: `what` is of none."""
        mirror, suites, keyring = self._named
        if any(self._named) and "archive" not in vars(self):
            words = [("--mirror", mirror), *(("--suite", suite) for suite in suites), ("--keyring", keyring)]
            written = " ".join(f"{option} {value}" for option, value in words if value)
            raise BadInput(f"{what}: no kernel comes from an archive; leave out {written}")

    @cached_property
    def listed(self) -> list[Kernel]:
        """The archive's kernels, oldest first."""
        return catalogue.kernels_of(self.archive.packages())

    @cached_property
    def cached(self) -> list[Kernel]:
        """The kernels of the cache, oldest first."""
        stored = [catalogue.Kernel(kernel.release, kernel.version, CACHE_ALONE, ()) for kernel in self.store.all()]
        return sorted(stored, key=lambda kernel: kernel.order)

    def all(self) -> list[Kernel]:
        """The kernels of both, oldest first."""
        by_release = {kernel.release: kernel for kernel in [*self.cached, *self.listed]}
        return sorted(by_release.values(), key=lambda kernel: kernel.order)

    def choose(self, wanted: Sequence[str]) -> list[Kernel]:
        """What is meant, as catalogue.choose() has it.

        A release that is in the cache needs no archive. Where the machine's own cannot be read, the cache has to do.
        """
        if not any(self._named) and set(wanted) <= {kernel.release for kernel in self.cached}:
            return catalogue.choose(wanted, self.cached)
        try:
            return catalogue.choose(wanted, self.all())
        except Unsupported as error:
            if any(self._named) or not self.cached:
                raise
            try:
                chosen = catalogue.choose(wanted, self.cached)
            except BadInput:
                raise error from None
            self._say(f"{error}; only the kernels of the cache count")
            return chosen

    def fetch(self, kernel: Kernel) -> Stored:
        """Bring a kernel, unless it is here."""
        if self.store.has(kernel):
            return self.store.get(kernel)
        return self.store.fetch(kernel, self.archive)
