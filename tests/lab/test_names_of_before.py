"""A scenario that somebody wrote for the release before still runs, and is told the new names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CLAIMS = """
group = "mine"

[[claim]]
id = "default-backlog"
statement = "A queue of five holds five connections."
source = [{ document = "wiki", heading = "Tuning" }]
[[claim.expect]]
kernels = ">=2.6.21"
verdict = "refuted"
because = "one more than the limit waits"
commit = "64a146513f8f"
subject = "[NET]: Revert incorrect accept queue backlog changes."
release = "2.6.21"
"""

SCENARIO = """
import pytest

from harness.claims.kernel import running
from harness.claims.model import Knobs, waiting
from harness.claims.phases import Phase
from harness.claims.timers import about
from harness.claims.values import at_least, between
from harness.observe import accept_queue
from harness.traffic import connect, listen
from harness.waiting import until


@pytest.mark.claim("mine.default-backlog")
def test_backlog(claim, pair):
    pair.server.sysctl["net.core.somaxconn"] = 5
    with claim.effect("seven clients, a queue of five") as effect:
        assert isinstance(effect, Phase)
        listener = listen(pair.server, backlog=100)
        clients = connect(pair.client, listener, 7)
        until(lambda: effect.delta(pair.server).TcpExt.ListenOverflows >= 1)
        effect.expect("clients that are connected", clients.connected, at_least(5))
        effect.compare("waiting", accept_queue(pair.server, listener.port).waiting, document=5,
                       kernel=waiting(running(), Knobs(100, 5)))
        effect.note("the first wait for an answer", about(1.0))
    with claim.control("each is accepted") as control:
        listener = listen(pair.server, backlog=100)
        connect(pair.client, listener, wait=True)
        listener.accept()
        control.expect("refused", control.delta(pair.server).TcpExt.ListenOverflows, between(0, 0))
"""

NEW_NAMES = (
    "harness.claims.phases.Phase is LivePhase now",
    "harness.claims.values is harness.laws.ranges now",
    "harness.claims.timers is harness.laws.timers now",
    "harness.claims.model is harness.laws.queues now",
    "harness.claims.kernel is harness.laws.kernel now",
    "effect.expect() is effect.premise() now",
)


def test_a_scenario_of_the_release_before_settles_its_claim_and_is_told_the_new_names(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "mine.toml").write_text(CLAIMS)
    (tmp_path / "test_mine.py").write_text(SCENARIO)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "harness.plugin", "-p", "no:cacheprovider", "-c", "/dev/null",
         f"--rootdir={tmp_path}", str(tmp_path), "--tcp-evidence", str(tmp_path / "evidence")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    assert "1 claim: 1 refuted" in ran.stdout
    assert [name for name in NEW_NAMES if name not in ran.stdout] == []
