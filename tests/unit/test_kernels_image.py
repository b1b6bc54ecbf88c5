"""The guests' first file system: an archive that cpio reads, the same bytes for the same files."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput, Unsupported
from harness.kernels import project
from harness.kernels.image import Tree, build, build_once, write

if TYPE_CHECKING:
    from pathlib import Path


def tree(directory: Path) -> Tree:
    (directory / "bin").mkdir(exist_ok=True)
    (directory / "bin" / "program").write_text("#!/bin/sh\n")
    (directory / "bin" / "program").chmod(0o700)
    (directory / "sbin").symlink_to("bin") if not (directory / "sbin").is_symlink() else None
    made = Tree()
    made.copy(directory / "sbin" / "program")
    made.text("etc/passwd", "root:x:0:0::/root:/bin/sh\n")
    made.device("dev/null", 1, 3)
    made.directory("tmp", 0o1777)
    return made


def test_a_file_stands_where_it_stands_outside_and_links_are_kept(tmp_path: Path) -> None:
    entries = tree(tmp_path).entries
    here = str(tmp_path).lstrip("/")
    assert stat.S_ISLNK(entries[f"{here}/sbin"][0])
    assert entries[f"{here}/bin/program"][0] == stat.S_IFREG | 0o755
    assert f"{here}/sbin/program" not in entries


@pytest.mark.skipif(not shutil.which("cpio"), reason="cpio is not installed; on Debian: apt-get install cpio")
def test_cpio_reads_it(tmp_path: Path) -> None:
    archive = b"".join(tree(tmp_path).cpio())
    listed = subprocess.run(["cpio", "-itv", "--quiet"], input=archive, capture_output=True, check=True)
    lines = {line.split()[-1]: line.split() for line in listed.stdout.decode().splitlines()}
    assert lines["etc/passwd"][0] == "-rw-r--r--"
    assert lines["dev/null"][0] == "crw-rw-rw-"
    assert lines["tmp"][0] == "drwxrwxrwt"


def test_the_same_files_make_the_same_bytes(tmp_path: Path) -> None:
    first = b"".join(tree(tmp_path).cpio())
    os.utime(tmp_path / "bin" / "program", (1, 1))
    again = tree(tmp_path)
    assert b"".join(again.cpio()) == first
    (tmp_path / "bin" / "program").write_text("#!/bin/bash\n")
    changed = Tree()
    changed.copy(tmp_path / "bin" / "program")
    assert changed.digest() != again.digest()


def test_an_archive_is_made_once(tmp_path: Path) -> None:
    made = tree(tmp_path)
    file = build(made, tmp_path / "images")
    os.utime(file, (1, 1))
    assert build(made, tmp_path / "images") == file
    assert file.stat().st_mtime == 1
    assert list((tmp_path / "images").iterdir()) == [file]


DAMAGED = (b"", b"\xff", b"../../x", b"n" * 300)


def test_an_archive_that_is_cut_off_is_made_anew(tmp_path: Path) -> None:
    """Each machine panicked, and its kernel was blamed."""
    made = tree(tmp_path)
    file = build_once(lambda: made, "looks", tmp_path / "images")
    content = file.read_bytes()
    for left in (0, 10, len(content) - 1):
        file.write_bytes(content[:left])
        assert build_once(lambda: made, "looks", tmp_path / "images").read_bytes() == content


@pytest.mark.parametrize("damaged", DAMAGED)
def test_the_name_of_an_archive_that_is_damaged_is_found_anew(tmp_path: Path, damaged: bytes) -> None:
    made = tree(tmp_path)
    file = build_once(lambda: made, "looks", tmp_path / "images")
    (tmp_path / "images" / "looks.digest").write_bytes(damaged)
    assert build_once(lambda: made, "looks", tmp_path / "images") == file
    assert (tmp_path / "images" / "looks.digest").read_text() == file.stem


def test_what_is_too_large_for_a_project_is_not_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "LARGEST", 4 << 20)
    monkeypatch.setattr(project, "PACKAGE", tmp_path)  # what of this package would be delivered too is not counted
    (tmp_path / "file").write_bytes(bytes(3 << 20))
    assert project.Project(tmp_path, ()).archive()
    (tmp_path / "more").write_bytes(bytes(2 << 20))
    with pytest.raises(BadInput, match=r"a project of more than 4 MB cannot be delivered .*: --rootdir DIRECTORY"):
        project.Project(tmp_path, ()).archive()


def test_no_room_leaves_nothing(tmp_path: Path) -> None:
    """/dev/full: a disk without room."""

    def parts() -> object:
        yield b"x"
        raise OSError(28, "No space left on device")

    with pytest.raises(Unsupported, match=r"cannot be kept there: No space left on device"):
        write(tmp_path / "images" / "file", parts())  # type: ignore[arg-type]
    assert list((tmp_path / "images").iterdir()) == []
