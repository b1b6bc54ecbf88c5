"""`harness matrix` as it is typed: what is of no use is said."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli
from tests.report.made_evidence import claim, run, save

ADDRESS = "http://127.0.0.1:9/debian"


@pytest.mark.parametrize(
    ("words", "what"),
    [(("e",), "the matrix"), (("--facts", "running"), "running"), (("e", "--facts", "running"), "running")],
)
def test_a_mirror_of_no_use_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...], what: str,
) -> None:  # fmt: skip
    """Nothing is fetched from it, so that a mistyped one would never show."""
    monkeypatch.chdir(tmp_path)
    save(Path("e"), claim(), run())
    output = ("-o", "matrix.json")
    monkeypatch.setattr(sys, "argv", ["harness", "matrix", *words, *output, "--mirror", ADDRESS, "--suite", "sid"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr()
    said = f"harness: {what}: no kernel comes from an archive; leave out --mirror {ADDRESS} --suite sid\n"
    assert (ended.value.code, told.out, told.err) == (2, "", said)
    assert not Path("matrix.json").exists()


def test_a_matrix_without_an_end_is_not_read() -> None:
    """/dev/zero was read until the kernel ended somebody for want of memory."""
    command = [sys.executable, "-c", "from harness.cli import main; main()", "matrix", "--add-to", "/dev/zero"]
    limited = lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))  # noqa: E731
    ended = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limited)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "harness: /dev/zero: cannot be read: it is no regular file; copy what it gives into a file\n"
