"""The backlog that labs share: what it drops is counted, and a failure that may come of it says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.observe import backlog_drops, capture
from tests.claim_file import claim_file
from tests.lab.train import send_train

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.lab import Pair

pytest_plugins = ["pytester"]

LARGE = "net.core.netdev_max_backlog of this machine is large enough for the train"
SAID = "*this machine's receive backlog dropped * frames*"
TESTS = """
import pytest
from tests.lab.train import send_train

@pytest.mark.ipv4_only("the train is of IPv4")
def test_asserts(pair):
    send_train(pair.client, pair.server)
    assert pair is None

@pytest.mark.ipv4_only("the train is of IPv4")
@pytest.mark.claim("queue.limit")
def test_has_a_verdict_that_nobody_expects(claim, pair):
    with claim.effect("a train") as effect:
        send_train(pair.client, pair.server)
        effect.compare("waiting", 1, document=2, kernel=3)
    with claim.control("none") as control:
        control.expect("nothing", 0, 0)

@pytest.mark.ipv4_only("the train is of IPv4")
def test_passes(pair):
    send_train(pair.client, pair.server)
"""


@pytest.mark.ipv4_only("the train is of IPv4")
def test_what_the_backlog_drops_is_counted(pair: Pair) -> None:
    before = backlog_drops()
    with capture(pair.server) as seen:
        sent = send_train(pair.client, pair.server)
    missing = sent - len(seen.segments())
    if not missing:
        pytest.skip(LARGE)
    assert backlog_drops() - before >= missing


@pytest.mark.parametrize(("test", "fails"), [("asserts", True), ("verdict", True), ("passes", False)])
def test_a_failure_says_what_the_machine_dropped(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult], test: str, fails: bool
) -> None:
    pytester.mkdir("claims").joinpath("queue.toml").write_text(claim_file())
    pytester.makepyfile(TESTS)
    before = backlog_drops()
    result = session("-k", test)
    result.assert_outcomes(failed=int(fails), passed=int(not fails), deselected=2)
    if backlog_drops() == before:
        pytest.skip(LARGE)
    if fails:
        result.stdout.fnmatch_lines([SAID])
    else:
        result.stdout.no_fnmatch_line(SAID)


def test_a_failure_without_such_drops_does_not_speak_of_them(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile("def test_fails():\n    assert False\n")
    before = backlog_drops()
    result = session()
    result.assert_outcomes(failed=1)
    # Trains of the tests above may pass at the same time, in other processes.
    assert "receive backlog" not in result.stdout.str() or backlog_drops() > before
