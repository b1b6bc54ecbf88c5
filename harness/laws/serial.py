"""Numbers of 32 bits that come round, and are compared as TCP compares them: sequence numbers and timestamps.

before() in include/net/tcp.h, tcp_paws_check(); RFC 1982.
"""

from __future__ import annotations


def distance(start: int, end: int) -> int:
    """How far it is from one number to another, from -2^31 to 2^31 - 1: negative if the other is the older."""
    return (end - start + 2**31) % 2**32 - 2**31


def older(number: int, other: int) -> bool:
    """Whether a number is older than another."""
    return distance(other, number) < 0
