"""The states of a TCP socket: the kernel's numbers, the words ss prints, the words its filters take."""

from __future__ import annotations

# include/net/tcp_states.h. NEW_SYN_RECV (12) is a half-open request; the kernel reports it as SYN_RECV (3).
# BOUND_INACTIVE (13) asks for sockets that are bound and nothing else: 91051f003948 "tcp: Dump bound-only
# sockets in inet_diag.", 6.8; older kernels report none.
NEW_SYN_RECV = 12
BOUND_INACTIVE = 13

# number: (as ss prints it, as its filters take it)
WORDS = {
    1: ("ESTAB", "established"),
    2: ("SYN-SENT", "syn-sent"),
    3: ("SYN-RECV", "syn-recv"),
    4: ("FIN-WAIT-1", "fin-wait-1"),
    5: ("FIN-WAIT-2", "fin-wait-2"),
    6: ("TIME-WAIT", "time-wait"),
    7: ("UNCONN", "closed"),
    8: ("CLOSE-WAIT", "close-wait"),
    9: ("LAST-ACK", "last-ack"),
    10: ("LISTEN", "listening"),
    11: ("CLOSING", "closing"),
    NEW_SYN_RECV: ("SYN-RECV", "new-syn-recv"),
    BOUND_INACTIVE: ("UNCONN", "bound-inactive"),
}
ALIASES = {
    "estab": "established",
    "syn-rcv": "syn-recv",
    "listen": "listening",
    "close": "closed",
    "unconnected": "closed",
    "unconn": "closed",
}


def _bit(word: str) -> int:
    return sum(1 << number for number, (_, name) in WORDS.items() if name == word)


def _groups() -> dict[str, int]:
    """The groups of ss(8), and the single states."""
    half_open = _bit("syn-recv") | _bit("new-syn-recv")
    every = sum(1 << number for number in range(1, BOUND_INACTIVE))
    connected = every & ~_bit("listening") & ~_bit("closed")
    bucket = half_open | _bit("time-wait")
    single = {word: _bit(word) for number, (_, word) in WORDS.items() if number != NEW_SYN_RECV}
    return single | {
        "syn-recv": half_open,
        "all": every,
        "connected": connected,
        "synchronized": connected & ~_bit("syn-sent"),
        "bucket": bucket,
        "big": every & ~bucket,
    }


NAMES = _groups()


def bits(name: str) -> int:
    """The state numbers that a name stands for, a bit each; 0 if nothing has that name."""
    word = name.lower()
    return NAMES.get(ALIASES.get(word, word), 0)


def printed(number: int) -> str:
    """The word that ss prints for a state number."""
    return WORDS[number][0]
