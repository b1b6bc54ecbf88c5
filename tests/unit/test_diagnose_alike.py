"""What must not change a diagnosis: who packed the files, in which order, under which names, on which terminal.

Each set of real files is changed in each way, and has the same findings: name, certainty, place, and their order. The
sets were taken in a lab: see test_incident_read.py; `short_backlog` of a server whose clients are far away, `gateway`
of one that has no port outside, both over IPv6.
"""

from __future__ import annotations

import os
import random
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from harness.diagnosis.diagnose import diagnose
from harness.diagnosis.findings import Certainty
from harness.incident.read import read

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FILES = Path(__file__).parent / "incident_files"
CERTAIN, LIKELY, _ = Certainty
# A whole second, of an even number: a zip keeps no others.
BEGAN, APART = 1_700_000_000, 10


class Said(NamedTuple):
    """A finding, as far as it has to stay."""

    diagnosis: str
    sure: Certainty
    place: str


WRONG = {
    "full_queue": (Said("accept-queue-full", CERTAIN, "10.1.0.2:14001 (python)"),),
    "full_queue/first": (Said("accept-queue-full", CERTAIN, "10.1.0.2:14001 (python)"),),
    "full_queue_client": (Said("connect-unanswered", CERTAIN, "10.1.0.2:14001"),),
    "short_backlog": (
        Said("backlog-too-short", CERTAIN, "[fd00:1::2]:14001 (python)"),
        Said("loss", LIKELY, "the network"),
    ),
    "gateway": (Said("gateway-ports-used-up", LIKELY, "[fd00:2::2]:14001"),),
}


def said(named: Sequence[Path]) -> tuple[Said, ...]:
    return tuple(Said(each.diagnosis, each.sure, each.place.name) for each in diagnose(read(named)).findings)


def files_of(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def at(directory: Path, epoch: float) -> None:
    """Give files their times: those of `second` were taken later."""
    for path in files_of(directory):
        when = epoch + APART * ("second" in path.relative_to(directory).parts)
        os.utime(path, (when, when))


@pytest.fixture(params=WRONG)
def taken(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, tuple[Said, ...]]:
    """A set of files, and what is wrong."""
    copy = tmp_path / "taken"
    shutil.copytree(FILES / request.param, copy)
    at(copy, BEGAN)
    return copy, WRONG[request.param]


def as_taken(taken: Path) -> list[Path]:
    return [taken]


def one_by_one(taken: Path) -> list[Path]:
    return files_of(taken)


def backwards(taken: Path) -> list[Path]:
    return files_of(taken)[::-1]


def in_any_order(taken: Path) -> list[Path]:
    files = files_of(taken)
    random.Random(1).shuffle(files)
    return files


def named_twice(taken: Path) -> list[Path]:
    return [taken, taken]


def tar(taken: Path) -> list[Path]:
    with tarfile.open(taken.with_suffix(".tar.gz"), "w:gz") as archive:
        archive.add(taken, "web1")
    return [taken.with_suffix(".tar.gz")]


def tar_backwards(taken: Path) -> list[Path]:
    with tarfile.open(taken.with_suffix(".tar"), "w") as archive:
        for path in files_of(taken)[::-1]:
            archive.add(path, str(path.relative_to(taken)))
    return [taken.with_suffix(".tar")]


def zipped(taken: Path) -> list[Path]:
    with zipfile.ZipFile(taken.with_suffix(".zip"), "w") as archive:
        for path in files_of(taken):
            archive.write(path, path.relative_to(taken))
    return [taken.with_suffix(".zip")]


def in_the_future(taken: Path) -> list[Path]:
    at(taken, BEGAN + 1e9)
    return [taken]


def long_ago(taken: Path) -> list[Path]:
    at(taken, 10)
    return [taken]


def without_names(taken: Path) -> list[Path]:
    """Names that say nothing, in an order that says nothing either."""
    for number, path in enumerate(files_of(taken)[::-1]):
        path.rename(taken / f"{number:03}")
    return [taken]


def changed(taken: Path, change: Callable[[bytes], bytes]) -> list[Path]:
    """Every file with other bytes, and its time."""
    for path in files_of(taken):
        path.write_bytes(change(path.read_bytes()))
    at(taken, BEGAN)
    return [taken]


def dos(taken: Path) -> list[Path]:
    return changed(taken, lambda content: content.replace(b"\n", b"\r\n"))


def spaces_at_the_end(taken: Path) -> list[Path]:
    return changed(taken, lambda content: content.replace(b"\n", b" \t \n"))


def utf8_with_a_mark(taken: Path) -> list[Path]:
    return changed(taken, lambda content: b"\xef\xbb\xbf" + content)


def utf16(taken: Path) -> list[Path]:
    """As a Windows shell writes what it is told to put in a file."""
    return changed(taken, lambda content: content.decode().encode("utf-16"))


def coloured(taken: Path) -> list[Path]:
    return changed(taken, lambda content: b"\x1b[?2004l\r\x1b[0m" + content.replace(b"\n", b"\x1b[0m\n"))


def beside_copies(taken: Path) -> list[Path]:
    for path in files_of(taken):
        shutil.copy2(path, path.with_name(f"copy_of_{path.name}"))
    return [taken]


def beside_others(taken: Path) -> list[Path]:
    """With files that are nobody's, named one by one as a shell's `*` does."""
    (taken / "app.log").write_text("Dec  3 10:00:00 web1 app[3]: TCP: 3 (estab)\n")
    (taken / "empty").write_text("")
    (taken / "core").write_bytes(bytes(range(256)) * 40)
    return files_of(taken)


PROMPT = "\x1b[?2004h\x1b]0;root@web1: ~\x07\x1b[01;32mroot@web1\x1b[00m:\x1b[01;34m~\x1b[00m# "


def typed(taken: Path) -> str:
    """All of it in one terminal, with the date before each set."""
    lines = []
    for second in (False, True):
        lines += ["$ date", f"Thu Dec  3 10:00:{APART * second:02} UTC 2026"]
        for path in files_of(taken):
            parts = [part for part in path.relative_to(taken).parts if part not in ("first", "second")]
            if ("second" in path.parts) is second and path.name != "date":
                command = f"cat /{'/'.join(parts)}" if parts[0] == "proc" else path.name.replace("_", " ")
                lines += [f"$ {command}", path.read_text().rstrip("\n")]
    return "\n".join(lines) + "\n"


def transcript(taken: Path) -> list[Path]:
    file = taken.with_suffix(".txt")
    file.write_text("".join(line for line in typed(taken).splitlines(keepends=True) if not line.startswith("{")))
    return [file]


def recorded(taken: Path) -> list[Path]:
    """The same by `script`."""
    (file,) = transcript(taken)
    file.write_text(file.read_text().replace("\n$ ", f"\n{PROMPT}").replace("\n", "\r\n"))
    return [file]


WAYS = (
    as_taken, one_by_one, backwards, in_any_order, named_twice, tar, tar_backwards, zipped, in_the_future, long_ago,
    without_names, dos, spaces_at_the_end, utf8_with_a_mark, utf16, coloured, beside_copies, beside_others, transcript,
    recorded,
)  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_same_is_wrong(taken: tuple[Path, tuple[Said, ...]], way: Callable[[Path], list[Path]]) -> None:
    directory, wrong = taken
    assert said(way(directory)) == wrong
