"""`harness report`: pages, comparisons and formats from stored evidence; bad input is one line and exit code 2."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from harness.cli import cli, main
from harness.errors import BadInput
from harness.report.output import write
from harness.report.reproduce import command as reproduced
from tests.apart import PROJECT, apart, no_more_than
from tests.report.made_evidence import claim, run, save

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Evidence of two kernels in two directories."""
    save(tmp_path / "old", claim(), run(version="5.2.9", verdict="holds"))
    save(tmp_path / "new", claim(), run())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def called(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["report", *words], catch_exceptions=False)
    return result.exit_code, result.output


def test_several_directories_make_one_page(place: Path) -> None:
    assert called("old", "new", "-o", "out/r.html") == (0, "out/r.html\n")
    text = (place / "out" / "r.html").read_text()
    assert "1 claim about TCP on Linux 5.2.9, 6.1.2" in text
    assert os.listdir(place / "out") == ["r.html"]  # noqa: PTH208 - the name alone


def test_the_other_formats_go_to_standard_output(place: Path) -> None:
    assert called("old", "--format", "ktap")[1].startswith("KTAP version 1\n1..1\n")
    assert json.loads(called("old", "--format", "json")[1])["schema"] == 1
    assert json.loads(called("old", "--format", "kcidb", "--origin", "mine")[1])["tests"][0]["origin"] == "mine"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("none",), "none: no such directory; name one that pytest's --tcp-evidence wrote"),
        (("empty",), "empty: no evidence here; run `pytest scenarios/ --tcp-evidence empty` first"),
        (
            ("old", "-o", "old/queue.limit.json/x"),
            "old/queue.limit.json/x: cannot be written: old/queue.limit.json is no directory",
        ),
        (
            ("old", "--format", "kcidb", "--origin", "?"),
            "'?' is no origin for KCIDB: write lower-case letters, digits and underscores",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_a_usage_exit_code(
    place: Path, words: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "empty").mkdir()
    monkeypatch.setattr("sys.argv", ["harness", "report", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"harness: {told}\n"


def test_a_comparison_is_a_page_and_nothing_else(place: Path) -> None:
    code, told = called("old", "new", "--diff", "5.2", "6.1", "--format", "ktap")
    assert code == 2
    assert "--diff is a page, not ktap" in told


def test_what_is_left_out_is_told(place: Path) -> None:
    (place / "old" / "cut.json").write_text('{"schema"')
    code, told = called("old", "-o", "r.html")
    assert code == 0
    assert re.match(r"harness: cut.json: left out: not an evidence file: .*\nr.html\n", told)
    assert "cut.json: left out" in (place / "r.html").read_text()


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text("before")
    with no_more_than(1000), pytest.raises(BadInput, match=r"r.html: cannot be written: File too large"):
        write(str(tmp_path / "r.html"), "after" * 1000)
    assert (tmp_path / "r.html").read_text() == "before"


@pytest.mark.parametrize(
    ("params", "kernel", "options", "words"),
    [
        ("ipv4", "", (), "scenarios/test_queue.py --tcp-claim queue.limit -k 'test_limit[ipv4]'"),
        (
            "ipv4",
            "6.1.2",
            (),
            "scenarios/test_queue.py --tcp-claim queue.limit -k 'test_limit[ipv4-6.1.2]' --tcp-kernel 6.1.2",
        ),
        ("", "6.1.2", (), "scenarios/test_queue.py --tcp-claim queue.limit -k 'test_limit[6.1.2]' --tcp-kernel 6.1.2"),
        (
            "",
            "running",
            (),
            "scenarios/test_queue.py --tcp-claim queue.limit -k 'test_limit[running]' --tcp-kernel running",
        ),
        (
            "ipv4",
            "",
            ("--tcp-full-size",),
            "scenarios/test_queue.py --tcp-claim queue.limit -k 'test_limit[ipv4]' --tcp-full-size",
        ),
        ("a b", "", (), "'scenarios/test_queue.py::test_limit[a b]'"),
    ],
)
def test_the_command_names_exactly_the_run(params: str, kernel: str, options: tuple[str, ...], words: str) -> None:
    which = run(params=params, kernel_name=kernel, options=options)
    assert reproduced("queue.limit", [which]) == f"pytest {words}"


def test_the_command_of_a_cell_makes_all_its_runs() -> None:
    runs = [run(params=family, kernel_name="6.1.2") for family in ("ipv4", "ipv6")]
    assert (
        reproduced("queue.limit", runs) == "pytest scenarios/test_queue.py --tcp-claim queue.limit --tcp-kernel 6.1.2"
    )


def test_what_is_no_file_is_written_into_and_stays(tmp_path: Path) -> None:
    """A pipe stands for devices too: a test that tried those would destroy the machine's on the day it fails."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write(str(pipe), "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()
    (tmp_path / "file").write_text("before")
    link.symlink_to("file")
    write(str(link), "after")
    assert (link.is_symlink(), (tmp_path / "file").read_text()) == (True, "after")


OUTPUTS = """
import os, sys
from harness.cli import main
sys.argv = ["harness", *sys.argv[1:]]
before = os.stat("/dev/null").st_rdev, os.stat("/dev/full").st_rdev
status = 0
try:
    main()
except SystemExit as end:
    status = end.code
print("status", status, before == (os.stat("/dev/null").st_rdev, os.stat("/dev/full").st_rdev), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("target", "status", "form"),
    [
        ("/dev/null", 0, "html"),
        ("/dev/full", 2, "ktap"),
        ("/", 2, "json"),
        ("/mnt", 2, "kcidb"),
        ("/dev/null/x", 2, "html"),
    ],
)
def test_devices_survive_what_is_written_to_them(target: str, status: int, form: str, place: Path) -> None:
    """As root, in a /dev of its own: an output was renamed over the device."""
    ended = apart(OUTPUTS, "report", str(place / "new"), "--format", form, "-o", target, cwd=PROJECT)
    assert ended.stderr.splitlines()[-1] == f"status {status} True", ended.stderr
    assert "Traceback" not in ended.stderr
