"""At the end of a run: what no test needed is not imported, and what has something to say says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

pytest_plugins = ["pytester"]

PLAIN = "def test_plain(): pass\n"
PROPERTY = """
from hypothesis import given, strategies

@given(strategies.integers())
def test_property(number): pass
"""
SAYS = """
import sys

def pytest_unconfigure(config):
    print("IMPORTED", "hypothesis" in sys.modules, "THERE", config.pluginmanager.has_plugin("hypothesispytest"))
"""


def said(pytester: pytest.Pytester, test: str, *arguments: str) -> Sequence[str]:
    """What a run of a test prints."""
    pytester.makeconftest(SAYS)
    pytester.makepyfile(test)
    ran = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--color=no", *arguments)
    assert ran.ret == 0
    return ran.stdout.lines


def test_a_run_without_properties_imports_nothing_for_its_summary(pytester: pytest.Pytester) -> None:
    assert "IMPORTED False THERE False" in said(pytester, PLAIN)


def test_without_this_plugin_it_does(pytester: pytest.Pytester) -> None:
    """The control: where it no longer does, this is needed no more."""
    assert "IMPORTED True THERE True" in said(pytester, PLAIN, "-p", "no:harness.plugin")


@pytest.mark.parametrize("arguments", [(), ("-n1",)], ids=["here", "in a worker"])
def test_a_run_with_properties_has_the_plugin_s_summary(pytester: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    assert "IMPORTED True THERE True" in said(pytester, PROPERTY, *arguments)


def test_statistics_that_are_asked_for_are_printed(pytester: pytest.Pytester) -> None:
    lines = said(pytester, PLAIN, "--hypothesis-show-statistics")
    assert any("Hypothesis Statistics" in line for line in lines)
    assert "IMPORTED True THERE True" in lines
