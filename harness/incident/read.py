"""From files to a picture: what the user names is opened, each file is known by its content, and read."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, BinaryIO

from harness.errors import BadInput
from harness.incident.draft import Draft
from harness.incident.facts import Basis, Moment
from harness.incident.machine import MAIN
from harness.incident.places import is_passed_over, places
from harness.incident.reading.context import Context
from harness.incident.reading.counters import nstat_json
from harness.incident.reading.lines import Recoded, encoding_of, plain
from harness.incident.reading.packets import is_capture, read_packets
from harness.incident.reading.snapshot import read_snapshot
from harness.incident.reading.text import is_known, read_text
from harness.incident.reading.typed import PROGRAMS
from harness.incident.streams import joined

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.incident.machine import Machine
    from harness.incident.places import Place

HEAD = 1 << 16
MOST_JSON = 64 << 20
# sosreports keep what they ran in namespaces in a directory for each, older ones in the names of files.
NAMESPACE = re.compile(rf"(?:^|/)namespaces/([^/]+)/|(?:^|/)ip_netns_exec_(.+?)_(?:{PROGRAMS})(?:_|$)")
# By its program alone a name says nothing of options: `nstat -az > nstat`.
COMMAND_FILE = re.compile(rf"(?:^|[/_])((?:{PROGRAMS})_.*)$")


def read(named: Sequence[Path]) -> Machine:
    """A picture of one machine, of all the files, directories and archives that are named.

    Raises BadInput for what cannot be opened, and where nothing is in any of it that we read; what is wrong with a part
    of it stands in the picture's notices, and so does the name of a file in which nothing is: a shell's `*` names all.
    """
    draft = Draft()
    nothing: dict[str, str] = {}
    for path in named:
        before = len(draft.files)
        told = len(draft.notices)
        for place in places(path, lambda line: draft.notice(plain(line))):
            try:
                _read_place(place, draft)
            except OSError as error:
                draft.notice(plain(f"{place.name}: cannot be read to its end: {error}"))
        if len(draft.files) == before:
            nothing[f"{path}: nothing in it that we read"] = draft.notices[told] if len(draft.notices) > told else ""
    if nothing and not draft.files:
        line, why = next(iter(nothing.items()))
        raise BadInput(
            f"{line}{': ' if why else ''}{why}; give outputs of ss, netstat, nstat or sysctl, files of "
            "/proc/net, dmesg, a sosreport, a scrape of node_exporter, a capture, or what `harness snapshot` gave"
        )
    for line, why in nothing.items():
        if not why:
            draft.notice(plain(line))
    return draft.finish()


def _read_place(place: Place, draft: Draft) -> None:
    """A single file; what is no text of ours is passed over."""
    path = plain(place.path)
    if is_passed_over(path):
        return
    head = place.stream.read(HEAD)
    context = _context(place, draft)
    stream = joined(head, place.stream)
    if marked := encoding_of(head):
        mark, encoding = marked
        stream.read(len(mark))
        head = head[len(mark) :].decode(encoding, errors="replace").encode(errors="replace")
        stream = io.BufferedReader(Recoded(stream, encoding), 1 << 16)
    if is_capture(head):
        read_packets(stream, context)
    elif head.lstrip()[:1] == b"{":
        _read_json(stream, context)
    elif b"\0" not in head and is_known(head, context):
        read_text(stream, context)


def _context(place: Place, draft: Draft) -> Context:
    path = plain(place.path)
    namespace = NAMESPACE.search(path)
    command = COMMAND_FILE.search(path)
    taken = Moment(place.written, Basis.FILE) if place.written else None
    return Context(
        draft,
        plain(place.name),
        plain((namespace[1] or namespace[2]) if namespace else MAIN, 64),
        taken,
        command[1].replace("_", " ").strip() if command else "",
        path=path,
    )


def _read_json(stream: BinaryIO, context: Context) -> None:
    """A snapshot, or what nstat printed; JSON of anything else is not ours."""
    content = stream.read(MOST_JSON + 1)
    if len(content) > MOST_JSON:
        context.draft.notice(f"{context.file}: JSON of more than {MOST_JSON >> 20} MiB: not read")
        return
    try:
        if b'"harness snapshot"' in content:
            read_snapshot(content, context)
        elif b'"kernel"' in content[:200]:
            nstat_json(content, context)
    except BadInput as error:
        context.draft.notice(plain(str(error)))
