"""What a worker tells the process at the terminal beside pytest-xdist's own events: what it has collected, or why not.

It takes a channel of its own, because pytest-xdist passes on only what it knows.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from harness.plugin import claims
from harness.plugin.text import last_line, skip_reason

if TYPE_CHECKING:
    from collections.abc import Generator

# What the worker is given to tell it with.
CHANNEL = "harness_attendance"


class ClaimOfTest(msgspec.Struct, frozen=True):
    """The claim of a test, and the options that the test does not run without."""

    claim: str
    options: tuple[str, ...] = ()


class Collected(msgspec.Struct, frozen=True, tag=True):
    """A worker has collected, on the kernel with this release.

    `tests` are all that it found, before any was left out by an option; `skipped` are the modules and directories that
    skipped themselves, `failed` those that could not be collected, each with the reason; `claims` are those of tests.
    `plugins` are the distributions whose plugins it has, `unknown` the settings of pytest's configuration that it does
    not know.
    """

    release: str
    tests: tuple[str, ...]
    skipped: dict[str, str]
    failed: dict[str, str]
    claims: dict[str, ClaimOfTest]
    plugins: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()


class Ended(msgspec.Struct, frozen=True, tag=True):
    """A worker ends because of an error outside of any test."""

    reason: str


def plugins_of(config: pytest.Config) -> frozenset[str]:
    """The distributions whose plugins take part in a session."""
    return frozenset(facade.project_name for _, facade in config.pluginmanager.list_plugin_distinfo())


def unknown_settings(config: pytest.Config) -> frozenset[str]:
    """The settings of pytest's configuration that nobody has said to know; pytest only warns of them."""
    return frozenset(getattr(config, "_get_unknown_ini_keys", tuple)())


_decoder = msgspec.json.Decoder(Collected | Ended)


def heard(message: bytes) -> Collected | Ended:
    """What a worker has told."""
    return _decoder.decode(message)


def begin(config: pytest.Config) -> None:
    """In a worker: tell, if there is somebody to tell."""
    channel = getattr(config, "workerinput", {}).get(CHANNEL)
    if channel is not None:
        config.pluginmanager.register(Telling(channel), "harness-telling")


class Telling:
    """Follows the collection of a worker."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._tests: tuple[str, ...] = ()
        self._skipped: dict[str, str] = {}
        self._failed: dict[str, str] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self) -> Generator[None, object, object]:
        """What ends the collection ends the worker."""
        try:
            return (yield)
        except BaseException as error:
            self._tell(Ended(_said_by(error)))
            raise

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note what could not be collected, or did not want to be."""
        if report.skipped:
            self._skipped[report.nodeid] = skip_reason(report)
        elif report.failed:
            self._failed[report.nodeid] = last_line(report.longreprtext)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> Generator[None, None, None]:
        """Note the tests before options leave some out."""
        self._tests = tuple(item.nodeid for item in items)
        yield

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tell before pytest-xdist does."""
        known = {item.nodeid: ClaimOfTest(*claim) for item in session.items if (claim := claims.of_test(item))}
        collected = Collected(
            os.uname().release,
            self._tests,
            self._skipped,
            self._failed,
            known,
            plugins_of(session.config),
            unknown_settings(session.config),
        )
        self._tell(collected)

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Tell before pytest-xdist does."""
        self._tell(Ended(_said_by(excinfo.value)))

    def _tell(self, message: Collected | Ended) -> None:
        with suppress(OSError):
            self._channel.send(msgspec.json.encode(message))


def _said_by(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, pytest.UsageError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
