"""The long tables of a phase as HTML: a run has thousands of such rows, and a template takes its time for each."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@lru_cache(maxsize=4096)
def _safe(text: str) -> str:
    return str(escape(text))


def _cell(value: object) -> str:
    """What stands in a cell of these tables: every value goes through here, for what is made of them is Markup."""
    return str(value) if type(value) is int else _safe(str(value))


def counters(by_host: Mapping[str, Sequence[Mapping[str, Any]]]) -> Markup:
    """Rows of host, counter, before, after, delta."""
    return _rows(by_host, _counter)


def _counter(one: Mapping[str, Any], host: str) -> str:
    delta = one["delta"]
    sign = "+" if type(delta) is int and delta > 0 else ""
    start = '<tr class="noise">' if one["noise"] else "<tr>"
    return (
        f"{start}<td>{host}</td><td><code>{_cell(one['name'])}</code></td><td class=n>{_cell(one['before'])}</td>"
        f'<td class=n>{_cell(one["after"])}</td><td class="n delta">{sign}{_cell(delta)}</td></tr>'
    )


def sockets(by_host: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Rows of host, state, Recv-Q, Send-Q, local, peer, timer; how many more there were."""
    made = ""
    for host, table in by_host.items():
        made += _rows({host: table["rows"]}, _socket)
        if table["more"] > 0:
            left = "" if table["rows"] else _safe(host)
            made += f"<tr><td>{left}</td><td colspan=6 class=dim>{_cell(table['more'])} more</td></tr>"
    return Markup(made)


def _socket(row: Sequence[object], host: str) -> str:
    state, received, sent, local, peer, timer = map(_cell, row)
    return (
        f"<tr><td>{host}</td><td>{state}</td><td class=n>{received}</td><td class=n>{sent}</td>"
        f"<td>{local}</td><td>{peer}</td><td>{timer}</td></tr>"
    )


def _rows(by_host: Mapping[str, Iterable[Any]], row: Any) -> Markup:
    made = [row(one, "" if index else _safe(host)) for host, each in by_host.items() for index, one in enumerate(each)]
    return Markup("".join(made))
