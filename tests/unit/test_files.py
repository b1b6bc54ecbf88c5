"""Writing: whole or not at all, into what is no file, refused before anything runs; names that stay where they are."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import files
from harness.errors import BadInput
from harness.waiting import until
from tests.apart import apart, no_more_than

PROJECT = Path(__file__).parents[2]


def names_in(directory: Path) -> list[str]:
    """All that is in a directory."""
    return sorted(each.name for each in directory.iterdir())


def test_a_file_is_whole_or_as_it_was_and_nothing_is_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.write_bytes(b"before")
    with no_more_than(1000), pytest.raises(OSError, match="File too large"):
        files.write(target, b"a" * 5000)
    assert (target.read_bytes(), names_in(tmp_path)) == (b"before", ["x"])
    files.write(target, (piece for piece in (b"af", b"ter")))
    assert (target.read_bytes(), names_in(tmp_path)) == (b"after", ["x"])


def test_where_a_file_cannot_be_without_a_name_it_is_whole_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)  # what overlayfs of old kernels makes of it: EISDIR
    test_a_file_is_whole_or_as_it_was_and_nothing_is_beside_it(tmp_path)


def test_a_process_that_is_killed_while_it_writes_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time\nfrom harness import files\n"
        "def pieces():\n    yield b'half'\n    print(flush=True)\n    time.sleep(100)\n"
        "files.write(pathlib.Path(sys.argv[1]), pieces())"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "x")], stdout=subprocess.PIPE, cwd=PROJECT) as it:
        assert it.stdout is not None
        assert it.stdout.readline() == b"\n"
        it.kill()
    assert names_in(tmp_path) == []


def test_a_link_stays_and_a_mode_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")
    (tmp_path / "file").chmod(0o600)
    (tmp_path / "link").symlink_to("file")
    files.write(tmp_path / "link", b"after")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "after"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_who_reads_a_file_while_it_is_written_reads_it_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")
    with (tmp_path / "file").open() as reader:
        files.write(tmp_path / "file", b"after")
        assert reader.read() == "before"
    assert (tmp_path / "file").read_text() == "after"


def test_links_that_others_lay_beside_a_file_are_not_followed(tmp_path: Path) -> None:
    """What was beside a file that was being written had a name that anybody could foresee."""
    (tmp_path / "victim").write_text("mine")
    (tmp_path / f".x.{os.getpid()}").symlink_to("victim")
    files.write(tmp_path / "x", b"new")
    assert (tmp_path / "victim").read_text() == "mine"


DEVICES = """
import os, pathlib, stat, sys
from harness import files
from harness.errors import BadInput
before = {name: os.stat(f"/dev/{name}").st_rdev for name in ("null", "full", "zero")}
files.write(pathlib.Path("/dev/null"), b"x")
files.write(pathlib.Path("/dev/stdout"), b"said\\n")
try:
    with files.saying(pathlib.Path("/dev/full"), "/dev/full"):
        files.write(pathlib.Path("/dev/full"), b"x")
except BadInput as error:
    print(error)
print(before == {name: os.stat(f"/dev/{name}").st_rdev for name in before})
"""


def test_devices_are_written_into_and_stay() -> None:
    ended = apart(DEVICES)
    said = ["said", "/dev/full: cannot be written: No space left on device", "True"]
    assert (ended.stdout.splitlines(), ended.stderr) == (said, "")


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("directory", "it is a directory"),
        ("directory/" + "n" * 256, "File name too long"),
        ("file/x", "is no directory"),
        ("file/x/y", "is no directory"),
        ("nul\0", "embedded null"),
        ("/proc/nothing/here", ""),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_runs(path: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=rf": cannot be written: .*{why}"):
        files.refuse_unwritable(tmp_path / path, path)
    assert names_in(tmp_path) == ["directory", "file"]


def test_what_can_be_written_is_not_touched_by_the_trial(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")
    for path in ("file", "new", "new/directory/file", "n" * 250):
        files.refuse_unwritable(tmp_path / path, path)
    files.refuse_unwritable_directory(tmp_path / "a" / "b", "a/b")
    assert names_in(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "before"


@pytest.mark.parametrize("name", ["6.12.1-amd64", "6.11.0-rc3+", "linux-image-6.1.0-1~bpo12+1", "k6.12", "_x"])
def test_a_name_is_a_part_of_a_path(name: str) -> None:
    assert files.part(name, "it") == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/", "a\0", ".hidden", "-o", "a b", "é", "a\n", "x" * 300]
)
def test_what_could_lead_elsewhere_is_no_name(name: str) -> None:
    with pytest.raises(BadInput, match="the release of the kernel K is"):
        files.part(name, "the release of the kernel K")


@given(st.text(alphabet="./ab\0-", max_size=12))
def test_no_path_leads_out_of_its_directory(path: str) -> None:
    try:
        found = files.below(Path("/in/here"), path, "the archive")
    except BadInput:
        return
    assert Path(os.path.normpath(found)).is_relative_to("/in/here")
    assert os.path.normpath(found) != "/in/here"


def test_a_folder_is_ours_alone_and_goes_with_the_block() -> None:
    with files.folder("harness-test-") as directory:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        (directory / "x").touch()
    assert not directory.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_folder_goes_with_the_process_however_that_ends(number: signal.Signals) -> None:
    code = (
        "import json, time\nfrom harness import files\nwith files.folder('harness-test-') as directory:\n"
        "    (directory / 'a' / 'b').mkdir(parents=True)\n    print(json.dumps(str(directory)), flush=True)\n"
        "    time.sleep(100)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=PROJECT
    ) as it:
        assert it.stdout is not None
        directory = Path(json.loads(it.stdout.readline()))
        assert directory.is_dir()
        it.send_signal(number)
    until(lambda: not directory.exists(), what="the folder gone")


@pytest.mark.parametrize("words", [("report",), ("claims", "--claims"), ("scenarios",), ("compare", "6.12")])
def test_a_word_that_is_too_long_to_be_a_path_is_no_traceback(words: tuple[str, ...]) -> None:
    argv = [sys.executable, "-c", "from harness.cli import main; main()", *words, "9" * 300]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ran.returncode in (2, 4)
    assert "Traceback" not in ran.stdout + ran.stderr
    assert "INTERNALERROR" not in ran.stdout + ran.stderr
