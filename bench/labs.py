"""How fast labs come and go: against `ip -batch` in a shell, many in sequence, many hosts in one."""

from __future__ import annotations

import subprocess
import time

from bench.measure import Row, milliseconds, seconds, turn_about
from harness.lab import Lab, Namespace, isolation, lan, pair

SHELL = """
ip netns add benchA
ip netns add benchB
ip -n benchA -batch - <<END
link add eth0 type veth peer name eth0 netns benchB
address add 10.0.0.1/24 dev eth0
address add fd00::1/64 dev eth0 nodad
link set eth0 up
link set lo up
END
ip -n benchB -batch - <<END
address add 10.0.0.2/24 dev eth0
address add fd00::2/64 dev eth0 nodad
link set eth0 up
link set lo up
END
"""


def _shell_pair() -> float:
    taken = seconds(lambda: subprocess.run(["sh", "-ec", SHELL], check=True))
    subprocess.run(["sh", "-c", "ip netns del benchA; ip netns del benchB"], check=True)
    return taken


def _our_pair() -> float:
    started = time.perf_counter()
    lab = Lab()
    pair(lab)
    taken = time.perf_counter() - started
    lab.close()
    return taken


def pair_up(rounds: int) -> Row:
    """A ready pair against the same links and addresses from a shell, which checks nothing and has no neighbours."""
    isolation.isolate()
    with Namespace.of_this_process():
        _our_pair(), _shell_pair()
        ours, shell = turn_about(_our_pair, _shell_pair, rounds)
    return Row(
        "a pair, up and ready", milliseconds(ours), f"ip -batch {milliseconds(shell)}", "not slower", ours <= shell
    )


def pair_released(rounds: int) -> Row:
    """Letting go of a pair."""
    taken = []
    for _ in range(rounds):
        lab = Lab()
        pair(lab)
        taken.append(seconds(lab.close))
    median = sorted(taken)[rounds // 2]
    return Row("the pair, released", milliseconds(median), "", "at most 1 ms", median <= 0.001)


def labs_in_sequence(count: int) -> Row:
    """Labs one after another: the last quarter against the first."""
    taken = [_our_pair() for _ in range(count)]
    quarter = count // 4
    first, last = sum(taken[:quarter]) / quarter, sum(taken[-quarter:]) / quarter
    what = f"{count} labs in sequence: the last {quarter}"
    return Row(
        what, milliseconds(last), f"the first {quarter}: {milliseconds(first)}", "within 1.5", last <= 1.5 * first
    )


def hosts_in_one(count: int) -> Row:
    """A switch with many hosts: what one costs there, against what it costs on a switch with a tenth of them."""

    def one_host(n: int) -> float:
        with Lab() as lab:
            return seconds(lambda: lan(lab, n)) / n

    one_host(1)  # what is imported is no cost of the first hundred
    few, many = one_host(count // 10), one_host(count)
    what = f"{count} hosts in one lab: each"
    return Row(what, milliseconds(many), f"of {count // 10}: {milliseconds(few)}", "within 1.2", many <= 1.2 * few)
