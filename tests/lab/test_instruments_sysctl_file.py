"""`sysctl -p` on a host: what it takes, what it refuses, and that the file's knobs are the host's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.instruments.sysctl_file import SysctlFile

if TYPE_CHECKING:
    from harness.lab import Pair

FIN_TIMEOUT, SYNCOOKIES = "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_syncookies"


def test_settings_are_the_hosts(pair: Pair) -> None:
    settings = SysctlFile(pair.server, [FIN_TIMEOUT, SYNCOOKIES])
    ran = settings.apply(f"{FIN_TIMEOUT} = 33\n{SYNCOOKIES} = 2\n")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (settings.sysctl[FIN_TIMEOUT], settings.sysctl[SYNCOOKIES]) == ("33", "2")
    assert pair.server.sysctl[FIN_TIMEOUT] == "33"
    assert pair.client.sysctl[FIN_TIMEOUT] != "33"


def test_what_is_no_knob_is_reported(pair: Pair) -> None:
    ran = SysctlFile(pair.server, [FIN_TIMEOUT]).apply("net.ipv4.no_such_knob = 1\n")
    assert ran.returncode != 0
    assert "no_such_knob" in ran.stderr
