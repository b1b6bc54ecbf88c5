"""A measured value in a sentence, as somebody would write it who tells of it: with its unit, and without brackets."""

from __future__ import annotations

import re
from collections import Counter
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from harness.evidence.types import Choice, Law
from harness.evidence.values import Kind, Value
from harness.laws.known import How
from harness.laws.ranges import AtLeast, AtMost, Between

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.evidence.types import Wanted
    from harness.laws.known import Knowledge
    from harness.report.edition.model import Account, Range

LONGEST = 120
MOST_PARTS = 8
# The last minor number that a major one had.
LAST_MINOR = {3: 19, 4: 20, 5: 19, 6: 19}
PLAIN = (Kind.COUNT, Kind.NUMBER, Kind.SECONDS, Kind.TICKS, Kind.BYTES, Kind.PORT, Kind.DRAWN)
# Of a row of ss or inet_diag: what a reader knows its columns by.
COLUMNS = {"recv_q": "Recv-Q", "send_q": "Send-Q", "waiting": "waiting", "limit": "limit"}
_GROUP = re.compile(r"^(?:TcpExt|IpExt|Tcp|Ip)\.(?=\w)")
_ONE = re.compile(
    r"\b1 ((?:\w+ )?(?:connection|client|SYN|request|retransmission|segment|byte|port|row|listener|socket))s\b"
)
_SECONDS = re.compile(r"(?:,? in|:) seconds$|^seconds$")
# Knobs(backlog=7, tcp_syncookies=0)
_SETTINGS = re.compile(r"\b[A-Z]\w*\(((?:\w+=[^,()=]+(?:, )?)+)\)")
_RETRIES = re.compile(r"\b1 retries\b")


def tell(value: Wanted) -> str:
    """A value, or the range that it was held against, in words."""
    if isinstance(value, Value):
        return _TELL.get(value.kind, _text)(value)
    if isinstance(value, Between):
        return _number(value.low) if value.low == value.high else f"{_number(value.low)} to {_number(value.high)}"
    if isinstance(value, AtLeast):
        return f"at least {_number(value.low)}"
    if isinstance(value, AtMost):
        return f"at most {_number(value.high)}"
    if isinstance(value, Choice):
        return _listed([tell(option) for option in value.options], "or")
    assert isinstance(value, Law)
    return short(value.says)


def tell_all(values: Sequence[Value], of: str = "runs") -> str:
    """What several runs measured: once if it is the same, otherwise median and range; of other things the first.

    `of` says what there are several of.
    """
    told = list(dict.fromkeys(map(tell, values)))
    if len(told) == 1:
        return told[0]
    if all(map(_is_interval, values)):
        low, high = min(_seconds_of(value)[0] for value in values), max(_seconds_of(value)[1] for value in values)
        return _interval(low, high)
    if all(value.kind in PLAIN and isinstance(value.value, (int, float)) for value in values):
        return _median(values, of)
    return told[0]


def _median(values: Sequence[Value], of: str) -> str:
    numbers = [float(value.value) for value in values if isinstance(value.value, (int, float))]
    middle, low, high = (
        tell(msgspec.structs.replace(values[0], value=_like(number, values[0])))
        for number in (median(numbers), min(numbers), max(numbers))
    )
    if low.partition(" ")[2] == high.partition(" ")[2]:
        low = low.partition(" ")[0]
    return f"{middle} (median of {len(values)} {of}; {low} to {high})"


def differs(values: Sequence[Value]) -> bool:
    """Whether each run has numbers or ports of its own, as the kernel drew them: they say nothing."""
    return len(set(map(tell, values))) > 1 and all(map(_by_chance, values))


def _by_chance(value: Value) -> bool:
    if value.kind in (Kind.SEVERAL, Kind.NAMED):
        parts = (*value.parts, *value.fields.values())
        return bool(parts) and all(map(_by_chance, parts))
    return value.kind in (Kind.DRAWN, Kind.PORT)


def title(text: str) -> str:
    """A phase's title or a label as prose: one of a thing in the singular, settings as a reader writes them."""
    text = _SETTINGS.sub(lambda found: found[1].replace("=", " = "), text.strip())
    return _RETRIES.sub("1 retry", _ONE.sub(r"1 \1", text))


def label(what: str, values: Sequence[Value]) -> str:
    """What was measured, without the unit that the value has itself."""
    kinds = {value.kind for value in values}
    if kinds == {Kind.SECONDS}:
        return _SECONDS.sub("", title(what)).strip()
    return title(what)


def short(text: str) -> str:
    """A text on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1].rstrip()}…"


def capital(text: str) -> str:
    """A sentence's beginning: a capital, unless it begins with a name that has none."""
    word = re.match(r"[a-z]+(?=[\s,;:']|$)", text)
    return text[0].upper() + text[1:] if word and word[0] not in _LOWER else text


# Texts that a reader would not write so: nothing, and a segment by its flags.
_SAID = {
    "": "nothing", "b''": "nothing", "S": "SYN", "SA": "SYN-ACK", "A": "ACK", "R": "RST", "RA": "RST-ACK",
    "FA": "FIN-ACK", "F": "FIN", "PA": "data",
}  # fmt: skip
_LOWER = {
    "n", "nginx", "ss", "wrk", "netstat", "sysctl", "somaxconn", "rto", "wc", "sed", "awk", "cat", "dmesg", "grep",
    "ulimit", "echo",
}  # fmt: skip


def sentence(text: str) -> str:
    """A text as a sentence: with a capital, and a full stop."""
    text = capital(text.strip())
    return text if text.endswith((".", "?", "!", "。", "”")) else f"{text}."


def when(account: Account) -> str:
    """The kernels of an account: before 5.4; since 5.4; from 4.19 to before 6.14."""
    return ", ".join(filter(None, map(in_words, account.ranges)))


def known(knowledge: Knowledge) -> str:
    """How a change is known: measured on both sides, or read in the sources, and of which kernels."""
    if not knowledge.before:
        return str(knowledge.how)
    kernels = f"{knowledge.before} and {knowledge.after}"
    return f"{knowledge.how} of {kernels}" if knowledge.how is How.READ else f"{knowledge.how}, on Linux {kernels}"


def known_in_chinese(knowledge: Knowledge) -> str:
    """The same in Chinese."""
    kernels = f" {knowledge.before} 与 {knowledge.after} " if knowledge.before else ""
    return f"在 Linux{kernels}上两侧都测过" if knowledge.how is How.MEASURED else f"据{kernels}源码"


# What is said of a range of kernels, by its shape.
_ENGLISH = {
    "since": "since {first}",
    "before": "before {end}",
    "one": "in {last}",
    "of a series": "in {last} since {first}",
    "from to": "from {first} to {last}",
}
_CHINESE = {
    "since": "{first} 起",
    "before": "{end} 之前",
    "one": "仅 {last}",
    "of a series": "{last} 系列自 {first} 起",
    "from to": "{first} 至 {last}",
}


def in_words(kernels: Range) -> str:
    """A range: since 5.4; before 3.1; from 4.19 to 6.13; empty for all kernels."""
    return _ranged(kernels, _ENGLISH)


def in_chinese(kernels: Range) -> str:
    """The same in Chinese."""
    return _ranged(kernels, _CHINESE)


def _ranged(kernels: Range, words: Mapping[str, str]) -> str:
    first, end = kernels.first, kernels.end
    if not first and not end:
        return ""
    last = _last_before(end) if first and end else ""
    if not end:
        shape = "since"
    elif not first:
        shape = "before"
    elif last == first:
        shape = "one"
    else:
        shape = "of a series" if first.startswith(f"{last}.") else "from to"
    return words[shape].format(first=first, end=end, last=last)


def _last_before(end: str) -> str:
    """The last release or series before one."""
    *series, last = [int(number) for number in end.split(".")]
    if last:
        return ".".join(map(str, (*series, last - 1)))
    major = series[0] - 1
    return f"{major}.{LAST_MINOR[major]}"


def exists(kernels: Range) -> bool:
    """Whether there are such kernels: after the last minor number of a major one there are none."""
    numbers = [int(number) for number in kernels.first.split(".")] if kernels.first else [0, 0]
    return numbers[1] <= LAST_MINOR.get(numbers[0], numbers[1])


def when_in_chinese(account: Account) -> str:
    """The same in Chinese."""
    return "、".join(filter(None, map(in_chinese, account.ranges)))


def _like(number: float, other: Value) -> int | float:
    return round(number) if isinstance(other.value, int) else number


def _count(value: Value) -> str:
    number = _number(value.value) if isinstance(value.value, (int, float)) else str(value.value)
    return f"{number} {value.unit}" if value.unit else number


def _number(number: float) -> str:
    if isinstance(number, int) or float(number).is_integer():
        return f"{int(number):,}" if abs(number) >= 100_000 else str(int(number))
    return f"{number:,.1f}" if abs(number) >= 100 else f"{number:.3g}"


def _seconds(value: Value) -> str:
    assert isinstance(value.value, (int, float))
    seconds = float(value.value)
    if abs(seconds) >= 1 or seconds == 0:
        return f"{_significant(seconds)} s"
    return f"{_significant(seconds * 1e3)} ms" if abs(seconds) >= 0.001 else f"{seconds * 1e6:.0f} µs"


def _significant(number: float) -> str:
    """Three digits, and all that stand before the point."""
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"


def _is_interval(value: Value) -> bool:
    """Whether it is a pair of moments: something happened after the one and before the other."""
    return len(value.parts) == 2 and all(part.kind is Kind.SECONDS for part in value.parts)


def _seconds_of(value: Value) -> list[float]:
    return [float(part.value) for part in value.parts if isinstance(part.value, (int, float))]


def _interval(low: float, high: float) -> str:
    words = [_seconds(Value(Kind.SECONDS, each)) for each in (low, high)]
    return f"{words[0].removesuffix(' s')} to {words[1]}" if low < high else words[0]


def _bytes(value: Value) -> str:
    assert isinstance(value.value, int)
    size = value.value
    if abs(size) < 100_000:
        return f"{size} bytes"
    return f"{size / 1024:,.0f} KiB" if abs(size) < 1 << 24 else f"{size / (1 << 20):,.1f} MiB"


def _flag(value: Value) -> str:
    return "yes" if value.value else "no"


def _nothing(_: Value) -> str:
    return "nothing"


def _text(value: Value) -> str:
    text = short(title(str(value.value)))
    return _SAID.get(text, text)


def _output(value: Value) -> str:
    text = _text(value)
    return text if text == "nothing" else f"`{text.replace('`', '')}`"


def _several(value: Value) -> str:
    parts = value.parts
    if not parts:
        return "none"
    if _is_interval(value):
        return _interval(*_seconds_of(value))
    if all(part.kind is Kind.NAMED for part in parts) and len(parts) > 2:
        return str(len(parts))
    if all(part.kind in (Kind.COUNT, Kind.PORT) for part in parts) and len({part.value for part in parts}) > 2:
        return _listed(list(_runs_of([int(str(part.value)) for part in parts])))
    told = Counter(tell(part) for part in parts)
    words = [word if number == 1 else f"{word} ({number} times)" for word, number in told.items()]
    if len(words) > MOST_PARTS:
        return f"{', '.join(words[:MOST_PARTS])} and {len(words) - MOST_PARTS} more"
    return _listed(words)


def _runs_of(numbers: list[int]) -> Iterable[str]:
    """Numbers that follow one another as a range: 60000 to 60009."""
    for _, group in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        if len(run) > 2:
            yield f"{run[0]} to {run[-1]}"
        else:
            yield from map(str, run)


def _named(value: Value) -> str:
    fields = {_GROUP.sub("", COLUMNS.get(name, name)): field for name, field in value.fields.items()}
    if not fields:
        return "none"
    if set(value.fields) >= {"state", "recv_q", "send_q"}:
        state, recv_q, send_q = (tell(value.fields[name]) for name in ("state", "recv_q", "send_q"))
        return f"{state} with Recv-Q {recv_q} and Send-Q {send_q}"
    return ", ".join(f"{name} {_field(field)}" for name, field in fields.items())


def _field(value: Value) -> str:
    told = tell(value)
    return told if value.kind is not Kind.NAMED else f"({told})"


def _listed(words: list[str], last: str = "and") -> str:
    """One, two and three."""
    words = list(words)
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


_TELL = {
    Kind.COUNT: _count,
    Kind.NUMBER: _count,
    Kind.TICKS: _count,
    Kind.DRAWN: _count,
    Kind.SECONDS: _seconds,
    Kind.BYTES: _bytes,
    Kind.PORT: lambda value: str(value.value),
    Kind.FLAG: _flag,
    Kind.NOTHING: _nothing,
    Kind.OUTPUT: _output,
    Kind.SEVERAL: _several,
    Kind.NAMED: _named,
}
