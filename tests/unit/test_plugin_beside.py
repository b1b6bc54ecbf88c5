"""The plugin beside those that others have in their environment, in one session: nothing collides, all take part."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests import plugins
from tests.claim_file import claim_file

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.skipif(bool(plugins.MISSING), reason=plugins.MISSING)

SCENARIO = """
import asyncio
import pytest

tries = []

@pytest.mark.claim("queue.limit")
def test_limit(claim):
    tries.append(1)
    with claim.effect("nobody accepts") as effect:
        effect.compare("waiting", 11 if len(tries) > 1 else 99, document=10, kernel=11)
    with claim.control("accepted at once") as control:
        control.expect("overflows", 0, 0)

@pytest.mark.asyncio
async def test_async():
    await asyncio.sleep(0)

@pytest.mark.timeout(60)
def test_timed(): pass
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
def test_all_plugins_take_part_in_one_session(
    workers: tuple[str, ...],
    pytester: pytest.Pytester,
    session: Callable[..., pytest.RunResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(plugins.DIRECTORY), os.environ["PYTHONPATH"]]))
    pytester.makepyfile(test_scenario=SCENARIO)
    (pytester.mkdir("claims") / "queue.toml").write_text(claim_file())
    words = ["--tcp-report", "ours.html", "--html", "theirs.html", "--cov", ".", "--cov-report", "xml"]
    words += ["--reruns", "2", "--timeout", "100", "--asyncio-mode", "auto"]
    ran = session(*words, *workers)
    assert ran.ret == 0, ran.outlines
    ran.stdout.fnmatch_lines(["plugins:*"])
    listed = next(line for line in ran.outlines if line.startswith("plugins:"))
    names = ("asyncio", "cov", "html", "metadata", "randomly", "reporter", "rerunfailures", "timeout", "tcp-harness")
    assert [name for name in names if f" {name}-" not in listed] == [], listed
    ran.stdout.fnmatch_lines(["html: ours.html", "*flaky (1)", "1 claim: 1 refuted; 1 flaky"])
    assert (pytester.path / "theirs.html").is_file()
    assert (pytester.path / "coverage.xml").is_file()
    assert "queue.limit" in (pytester.path / "ours.html").read_text()


def test_the_report_of_pytest_reporter_is_its_own(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its --report, which 0.1 collided with, and our --tcp-report."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(plugins.DIRECTORY), os.environ["PYTHONPATH"]]))
    (pytester.path / "page.txt").write_text("by pytest-reporter")
    pytester.makepyfile("""
        def test_it(pytestconfig):
            assert pytestconfig.option.report == ["theirs.txt"]
            assert pytestconfig.option.tcp_report == "ours.html"
        """)
    ran = session("--template", "page.txt", "--report", "theirs.txt", "--tcp-report", "ours.html")
    ran.assert_outcomes(passed=1)
    ran.stdout.no_fnmatch_line("*PytestDeprecationWarning*")
