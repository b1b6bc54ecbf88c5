"""Every block of code in README and docs is run or read: what a reader copies works as it stands.

Python with a file name in its first line, and TOML, are put into a directory and run by pytest, page by page. Command
lines of `harness` and of pytest are parsed by the programs themselves, so that a command, an option or a value that
does not exist is found; those that take a kernel, a machine or the network are run by tests/vm, tests/lab and
tests/unit, and here only read. Other commands are looked for among the programs that docs/install.md names.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from harness.cli import cli, examples

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "reference").glob("*.md"))]
# Made by commands from evidence; their blocks are the documents' own, and the scenarios commands.* run those.
MADE = ("claims.md", "claims.zh.md", "mutants.md")
# With the directives of the site, whose "language" stands in braces: they are no code.
BLOCK = re.compile(r"^```([\w{}-]*)[^\n`]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
# A line of a block without prompts that is a command, or several, of which one is ours.
OURS = re.compile(r"^(?:[^'\"]*\s(?:\||&&|\|\|)\s)?(?:\S*/bin/)?(harness|pytest|make) ")
# What is not looked at, and why.
OF_THE_KERNEL = "a target of the kernel's own Makefile, in its tree"
LEFT_OUT = dict.fromkeys(("make olddefconfig", "make -s olddefconfig", "make -s -j8"), OF_THE_KERNEL)
NAMED = re.compile(r"# ([\w/]+\.(?:py|toml))\n")


def blocks(page: Path, *languages: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return [body for language, body in BLOCK.findall(text) if language in languages]


def named(page: Path) -> dict[str, str]:
    """The blocks that say which file they are."""
    found = {}
    for body in blocks(page, "python", "toml"):
        if match := NAMED.match(body):
            found[match[1]] = body
    return found


COMPLETE = [page for page in PAGES if page.name not in MADE and any("test_" in name for name in named(page))]


@pytest.mark.parametrize("page", COMPLETE, ids=lambda page: page.name)
def test_complete_files_run(page: Path, tmp_path: Path) -> None:
    for name, text in named(page).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in MADE], ids=lambda page: page.name)
def test_python_and_toml_can_be_read(page: Path) -> None:
    for body in blocks(page, "python"):
        ast.parse(body)
    for body in blocks(page, "toml"):
        tomllib.loads(body)


def parts(line: str) -> list[str]:
    """The commands of a line, one after the other or with a pipe between them."""
    return [each.strip() for each in re.split(r"\s(?:\||&&|\|\|)\s", _uncommented(line))]


def _uncommented(line: str) -> str:
    return re.split(r"\s#\s", line)[0]


def commands(page: Path) -> Iterator[str]:
    """The command lines: of a console those behind a prompt, of a plain block those that begin with a program."""
    for language, body in BLOCK.findall(page.read_text(encoding="utf-8")):
        joined = re.sub(r"\\\n\s*", " ", body)
        for line in joined.splitlines():
            shown = line.removeprefix("$ ")
            if language in ("", "sh", "console") and (shown != line or OURS.search(line)):
                yield from parts(shown)


def words(line: str) -> list[str] | None:
    """A simple command's words, without a comment and where it writes; None where a quotation goes on below."""
    line = _uncommented(line).split(" > ")[0].split(" < ")[0]
    try:
        return shlex.split(line)
    except ValueError:  # a quotation goes on in the next line
        return None


LINES = [
    pytest.param(page, line, id=f"{page.name}: {line[:60]}")
    for page in PAGES
    if page.name not in MADE
    for line in dict.fromkeys(commands(page))
    if line not in LEFT_OUT
]


def test_what_is_left_out_is_there() -> None:
    assert set(LEFT_OUT) <= {line for page in PAGES for line in commands(page)}


@pytest.mark.parametrize(("page", "line"), LINES)
def test_command_lines_are_understood(page: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = words(line)
    if not argv:
        return
    assert "…" not in line, "an example leaves nothing out"
    argv[0] = argv[0].rpartition("/bin/")[2]
    if argv[0] == "harness":
        understood(argv[1:], monkeypatch)
    elif argv[0] == "pytest":
        known = subprocess_options()
        given = [word.partition("=")[0] for word in argv if word.startswith("--")]
        assert [word for word in given if word not in known] == []
    elif argv[0] == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert {word for word in argv[1:] if re.fullmatch("[a-z-]+", word)} <= targets


def understood(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let click parse a command line, without carrying it out."""
    if argv[:1] == ["scenarios"]:  # the rest is pytest's
        given = [word.partition("=")[0] for word in argv if word.startswith("--")]
        assert [word for word in given if word not in subprocess_options() | {"--where", "--copy"}] == []
        return
    command: click.Command = cli
    name = "harness"
    while isinstance(command, click.Group) and argv:
        assert argv[0] in command.commands or argv[0].startswith("-"), f"{name} has no command {argv[0]!r}"
        if argv[0].startswith("-"):
            break
        name, command = argv[0], command.commands[argv[0]]
        argv = argv[1:]
    monkeypatch.setattr(command, "callback", lambda **_: None)
    ran = CliRunner().invoke(command, argv, standalone_mode=True)
    assert ran.exit_code == 0, f"{name}: {ran.output}"


_KNOWN: set[str] = set()


def subprocess_options() -> set[str]:
    """Every long option of pytest with our plugin, and those of plugins that pages name."""
    if not _KNOWN:
        command = [sys.executable, "-m", "pytest", "--help"]
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        _KNOWN.update(re.findall(r"(?<![\w-])--[a-z][a-z-]+", shown.stdout))
        _KNOWN.update(("--junitxml", "--reruns", "--timeout", "--session-timeout"))
    return _KNOWN


def test_every_command_shows_an_example_in_its_help() -> None:
    without = []
    for name, command in examples.commands(cli):
        shown = CliRunner().invoke(command, ["--help"]).output
        if not re.search(r"^\s*(Examples:|harness )", shown, re.MULTILINE):
            without.append(name)
    assert without == []


@pytest.mark.parametrize("line", [line for lines in examples.EXAMPLES.values() for line in lines])
def test_the_examples_of_the_help_are_understood(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for argv in filter(None, map(words, parts(line))):
        if argv[0] == "harness":
            understood(argv[1:], monkeypatch)
