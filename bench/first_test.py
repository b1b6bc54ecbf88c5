"""A plugin of pytest (-p bench.first_test) that prints how soon the first test begins in a machine that is restored."""

from __future__ import annotations

import time

import pytest

SAID = "the first test began after"


class FirstTest:
    """In the session that sends the tests out, not in the machine that runs them: each has its own clock."""

    began = False
    started = 0.0

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self) -> None:
        """Machines are restored from here on."""
        self.started = time.monotonic()

    def pytest_runtest_logstart(self) -> None:
        """Say it, once."""
        if not self.began:
            print(f"\n{SAID} {time.monotonic() - self.started:.3f} s")
        self.began = True


def pytest_configure(config: pytest.Config) -> None:
    """In the machine there is nothing to be said."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(FirstTest())
