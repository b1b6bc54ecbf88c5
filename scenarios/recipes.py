"""Pipelines of the documents that more than one scenario tries, character for character, and what they print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.observe import shell

if TYPE_CHECKING:
    from harness.lab import Host

# Document 002.
COUNT = "ss -tan state time-wait | wc -l"
BY_PORT = "ss -o state time-wait '( sport = :443 )'"
HISTOGRAM = """ss -ant | awk '
    NR>1 {++s[$1]} END {for(k in s) print k,s[k]}
'
"""
PER_PEER = """ss -tan 'sport = :443' | awk '{print $(NF)" "$(NF-1)}' | sed 's/:[^ ]*//g' | sort | uniq -c"""
# What to write instead of it (scenarios/corrections/commands.toml).
PER_PEER_MENDED = "ss -Htan state connected 'sport = :443' | awk '{print $NF}' | sed 's/:[^:]*$//' | sort | uniq -c"

# Document 003, with the quotation marks and the dash that are printed.
NETSTAT_AS_PRINTED = "netstat -ant |grep “TIME_WAIT” |wc –l"


def histogram(host: Host, line: str = HISTOGRAM) -> dict[str, int]:
    """How many sockets are in which state, as the recipe prints it: a state and a number in each line."""
    return {state: int(number) for state, number in map(str.split, shell.printed(host, line).splitlines())}


def peers(host: Host, line: str = PER_PEER) -> dict[str, int]:
    """How many connections each peer has, as the recipe prints it: `2 10.1.0.1 10.1.0.2` is 2 of the first."""
    words = [printed.split() for printed in shell.printed(host, line).splitlines()]
    return {peer: int(number) for number, peer, *_ in words}
