"""tcp_tw_recycle, the knob: that 4.12 took it away, what `sysctl -p` makes of document 003's file, and its default."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.evidence import output, seconds
from harness.instruments.lifetimes import seconds_left
from harness.instruments.sysctl_file import SysctlFile
from harness.laws import before
from harness.laws.ranges import at_least, at_most
from harness.traffic import listen
from harness.traffic.closing import leave_time_wait
from scenarios.recycle import RECYCLE, lacks_recycle

if TYPE_CHECKING:
    from harness.claims.record import ClaimRun
    from harness.lab import Pair

# What document 003 has one put into /etc/sysctl.conf, as it stands there: in one line.
ONE_LINE = (
    "net.ipv4.tcp_syncookies = 1 net.ipv4.tcp_tw_reuse = 1 net.ipv4.tcp_tw_recycle = 1 net.ipv4.tcp_fin_timeout = 30\n"
)
FOUR_LINES = ONE_LINE.replace(" net.", "\nnet.")
KNOBS = [line.split(" = ")[0] for line in FOUR_LINES.splitlines()]


@pytest.mark.claim("tw-recycle.removed")
def test_removed(claim: ClaimRun, pair: Pair) -> None:
    settings = SysctlFile(pair.server, KNOBS)
    with claim.effect("the knob, and sysctl -p of the four settings of document 003, a line each") as effect:
        has_it = before("tw-recycle-said-to-be-gone")
        effect.compare("the kernel has tcp_tw_recycle", RECYCLE in pair.server.sysctl, document=has_it)
        ran = settings.apply(FOUR_LINES)
        effect.note("what sysctl prints", output(ran.stdout + ran.stderr))
        effect.compare("settings reported as errors", ran.stderr.count("sysctl: "), document=0 if has_it else 1)
        effect.compare("of tcp_tw_recycle", "tcp_tw_recycle" in ran.stderr, document=not has_it)
        effect.compare("exit status other than 0", ran.returncode != 0, document=not has_it)
    with claim.control("the same file without that line") as control:
        ran = settings.apply("".join(line for line in FOUR_LINES.splitlines(True) if RECYCLE not in line))
        control.expect("errors reported", (ran.returncode, ran.stderr), (0, ""))


@pytest.mark.claim("commands.settings-in-one-line")
def test_settings_in_one_line(claim: ClaimRun, pair: Pair) -> None:
    first, reuse, _, last = KNOBS
    settings = SysctlFile(pair.server, KNOBS)

    def apply(text: str) -> str:
        """What sysctl -p of a file says on its standard error, where the settings were others before."""
        for knob, value in ((first, 0), (reuse, 0), (last, 60)):
            settings.sysctl[knob] = value
        return settings.apply(text).stderr

    with claim.effect("the file as document 003 prints it, four settings in one line") as effect:
        effect.premise("what sysctl reports", apply(ONE_LINE), "")
        # The kernel reads one number and leaves the rest of the line (kernel/sysctl.c, do_proc_dointvec()).
        effect.compare("tcp_syncookies, the first", settings.sysctl[first], document="1")
        effect.compare("tcp_tw_reuse", settings.sysctl[reuse], document="1", kernel="0")
        effect.compare("tcp_fin_timeout", settings.sysctl[last], document="30", kernel="60")
    with claim.control("a line each, without that of tcp_tw_recycle") as control:
        said = apply("".join(line for line in FOUR_LINES.splitlines(True) if RECYCLE not in line))
        control.expect("what sysctl reports", said, "")
        control.expect("tcp_tw_reuse", settings.sysctl[reuse], "1")
        control.expect("tcp_fin_timeout", settings.sysctl[last], "30")


@pytest.mark.claim("tw-recycle.default-off")
def test_default_off(claim: ClaimRun, pair: Pair) -> None:
    if lacks_recycle(claim, pair.server):
        return
    listener = listen(pair.server)

    def lasts() -> float:
        """What the timer of a TIME-WAIT begins with, in seconds: the server closes first."""
        ((_, remote),) = leave_time_wait(pair.client, listener, closer="server")
        return seconds(seconds_left(pair.server, remote[1]))

    with claim.effect("a kernel that was told nothing") as effect:
        effect.compare("tcp_tw_recycle", pair.server.sysctl[RECYCLE], document="0")
        effect.compare("TIME-WAIT is to last, in seconds", lasts(), document=at_least(50))
    with claim.control("set to 1") as control:
        pair.server.sysctl[RECYCLE] = 1
        control.expect("TIME-WAIT is to last, in seconds", lasts(), at_most(1))
