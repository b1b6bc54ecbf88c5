"""What did not run, in the words in which it is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.plugin import own_errors
from harness.plugin.parameter import without_kernel

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pytest

    from harness.plugin.telling import Collected

# So many tests are named.
NAMED = 3


@dataclass(frozen=True)
class Absence:
    """Something that did not run: on which kernel (None: the running one, without --tcp-kernel), and why."""

    kernel: str | None
    why: str

    @property
    def where(self) -> str:
        """The kernel, as the summary calls it."""
        return f"Linux {self.kernel}" if self.kernel else "pytest-xdist"

    def __str__(self) -> str:
        return f"{self.where} {self.why}"

    def report(self) -> pytest.CollectReport:
        """The error that pytest and its plugins take it for."""
        return own_errors.error(self.where, self.why)


def never_came(reason: str) -> str:
    """No worker has collected."""
    return f"did not run: {reason or 'its worker ended before it had collected'}"


def not_run(tests: Sequence[str], of: int, reason: str) -> str:
    """Tests that were collected have no result."""
    if reason and len(tests) == of:
        return never_came(reason)
    because = f"{reason}; " if reason else ""
    return f"did not run {len(tests)} of {of} {_plural(of, 'test')}: {because}{_named(tests)}"


def not_known(settings: Iterable[str]) -> str:
    """Settings of pytest's configuration that plugins have which are not there."""
    names = sorted(settings)
    return f"does not know the {_plural(len(names), 'setting')} {', '.join(names)} of pytest's configuration"


def without_plugins(kernel: str, plugins: Iterable[str]) -> str:
    """Plugins of this environment that took no part."""
    names = sorted(plugins)
    return f"Linux {kernel} ran without the {_plural(len(names), 'plugin')} {', '.join(names)} of this environment"


def not_collected(came: Iterable[tuple[str, Collected]]) -> Iterator[Absence]:
    """What a worker has not collected, and a worker on another kernel has; each difference once."""
    each = [
        (kernel, collected, dict.fromkeys(without_kernel(nodeid, kernel) for nodeid in collected.tests))
        for kernel, collected in came
    ]
    everywhere = {test: kernel for kernel, _, tests in reversed(each) for test in tests}
    seen: dict[Absence, None] = {}
    for kernel, collected, tests in each:
        left = [test for test in everywhere if test not in tests and not _skipped(test, collected)]
        if left:
            reason = next((why for place, why in collected.failed.items() if _is_below(left[0], place)), "")
            because = f"{reason}; " if reason else ""
            has_not = f"has not collected {len(left)} {_plural(len(left), 'test')} that {everywhere[left[0]]} has"
            seen[Absence(kernel, f"{has_not}: {because}{_named(left)}")] = None
    yield from seen


def _skipped(test: str, collected: Collected) -> bool:
    return any(_is_below(test, place) for place in collected.skipped)


def _is_below(test: str, place: str) -> bool:
    """Whether a test stands in a module, class or directory."""
    return test.startswith((f"{place}::", f"{place}/"))


def _named(tests: Sequence[str]) -> str:
    more = len(tests) - NAMED
    return ", ".join(tests[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _plural(number: int, word: str) -> str:
    return word if number == 1 else f"{word}s"
