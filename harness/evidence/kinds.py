"""What a measured value is: seconds, a port, a number that was drawn. A scenario says it where it measures.

    effect.compare("how long connect() took", seconds(took), document=about(1, 2, 4))
    effect.note("the client's port", port(client.port))

A plain int is a count, a plain float a number, a plain str a text, a bool a flag, None nothing; lists, tuples and sets
are several values, mappings, dataclasses and named tuples are values by name. Only what is none of these needs a word.
The words matter when two runs are compared: a clock reads something else each time, a drawn port is another one, and
neither says that the kernel behaves differently (harness.evidence.canonical).
"""

from __future__ import annotations

from typing import overload


class Seconds(float):
    """What a clock read, in seconds."""


class Ticks(int):
    """What a clock read, as a whole number of its own units: milliseconds, jiffies, ticks of a timestamp clock."""


class Bytes(int):
    """How much memory, or how much data, in bytes. Memory is seldom the same twice."""


class Port(int):
    """A TCP port. It may have been drawn by the kernel; a run knows the range that it drew from."""


class Drawn(int):
    """A number that the kernel draws at random: an initial sequence number, a cookie, an offset of timestamps."""


class Address(str):
    """An IP address, or an address and a port."""

    __slots__ = ()


class State(str):
    """The state of a socket, as ss prints it."""

    __slots__ = ()


class Output(str):
    """What a program printed, or a line of a log: there may be times, ports and process numbers in it."""

    __slots__ = ()


@overload
def seconds(value: None) -> None: ...
@overload
def seconds(value: float) -> Seconds: ...
@overload
def seconds(value: list[float] | tuple[float, ...]) -> list[Seconds]: ...
def seconds(value: float | list[float] | tuple[float, ...] | None) -> Seconds | list[Seconds] | None:
    """A duration or a moment that a clock read, or several, in seconds; None stays None."""
    if value is None:
        return None
    return [Seconds(each) for each in value] if isinstance(value, (list, tuple)) else Seconds(value)


@overload
def ticks(value: None) -> None: ...
@overload
def ticks(value: int) -> Ticks: ...
@overload
def ticks(value: list[int] | tuple[int, ...]) -> list[Ticks]: ...
def ticks(value: int | list[int] | tuple[int, ...] | None) -> Ticks | list[Ticks] | None:
    """What a clock read in whole units of its own, or several; None stays None."""
    if value is None:
        return None
    return [Ticks(each) for each in value] if isinstance(value, (list, tuple)) else Ticks(value)


@overload
def port(value: None) -> None: ...
@overload
def port(value: int) -> Port: ...
@overload
def port(value: list[int] | tuple[int, ...]) -> list[Port]: ...
def port(value: int | list[int] | tuple[int, ...] | None) -> Port | list[Port] | None:
    """A port, or several; None stays None."""
    if value is None:
        return None
    return [Port(each) for each in value] if isinstance(value, (list, tuple)) else Port(value)


@overload
def drawn(value: None) -> None: ...
@overload
def drawn(value: int) -> Drawn: ...
@overload
def drawn(value: list[int] | tuple[int, ...]) -> list[Drawn]: ...
def drawn(value: int | list[int] | tuple[int, ...] | None) -> Drawn | list[Drawn] | None:
    """A number that was drawn at random, or several; None stays None."""
    if value is None:
        return None
    return [Drawn(each) for each in value] if isinstance(value, (list, tuple)) else Drawn(value)


@overload
def size(value: None) -> None: ...
@overload
def size(value: int) -> Bytes: ...
@overload
def size(value: list[int] | tuple[int, ...]) -> list[Bytes]: ...
def size(value: int | list[int] | tuple[int, ...] | None) -> Bytes | list[Bytes] | None:
    """An amount of memory or data in bytes, or several; None stays None."""
    if value is None:
        return None
    return [Bytes(each) for each in value] if isinstance(value, (list, tuple)) else Bytes(value)


def address(value: str | tuple[str, int]) -> Address:
    """An address; with its port, if given a pair."""
    if isinstance(value, str):
        return Address(value)
    host, number = value
    return Address(f"[{host}]:{number}" if ":" in host else f"{host}:{number}")


@overload
def state(value: str) -> State: ...
@overload
def state(value: list[str] | tuple[str, ...]) -> list[State]: ...
def state(value: str | list[str] | tuple[str, ...]) -> State | list[State]:
    """The state of a socket, or of several."""
    return State(value) if isinstance(value, str) else [State(each) for each in value]


def output(value: str) -> Output:
    """What a program printed."""
    return Output(value)
