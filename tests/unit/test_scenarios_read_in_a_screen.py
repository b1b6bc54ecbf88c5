"""A scenario, with all that its own file defines for it, reads in one screen; a file of scenarios in a few.

What a test needs from its own file - functions, classes, constants, and what those need - counts to its length.
Instruments that several experiments use, or that are long, belong into harness/instruments, harness/traffic and
harness/observe, where they have docstrings and tests of their own. To see every length:

    python tests/unit/test_scenarios_read_in_a_screen.py [file or directory …]
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SCENARIOS = Path(__file__).parents[2] / "scenarios"
SCREEN = 60
LONGER_AT_MOST = 0.1
FILE = 350


class Length(NamedTuple):
    """How many lines a test has, alone and with all that its file defines for it."""

    file: str
    test: str
    alone: int
    whole: int


def definitions(module: ast.Module) -> dict[str, ast.stmt]:
    """The functions, classes and constants of a module, by name."""
    named: dict[str, ast.stmt] = {}
    for statement in module.body:
        named |= dict.fromkeys(names_bound(statement), statement)
    return named


def names_bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a function, a class or an assignment gives to a module."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
    elif isinstance(statement, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def names_used(statement: ast.stmt) -> set[str]:
    """Every name that a statement mentions, the parameters of a function (its fixtures) among them."""
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)} | {
        node.arg for node in ast.walk(statement) if isinstance(node, ast.arg)
    }


def for_every_test(statement: ast.stmt) -> bool:
    """Whether this is a fixture that all tests of the file have, asked for or not."""
    return isinstance(statement, ast.FunctionDef) and any(
        "autouse=True" in ast.unparse(decorator) for decorator in statement.decorator_list
    )


def needed(test: ast.stmt, defined: dict[str, ast.stmt]) -> set[ast.stmt]:
    """A test and all that it needs of its file."""
    whole: set[ast.stmt] = set()
    look = [test, *filter(for_every_test, defined.values())]
    while look:
        statement = look.pop()
        if statement not in whole:
            whole.add(statement)
            look += (defined[name] for name in names_used(statement) & defined.keys())
    return whole


def lines_of(statement: ast.stmt) -> int:
    """The lines of a definition, its decorators among them."""
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(decorator.lineno for decorator in decorators)])
    return (statement.end_lineno or first) - first + 1


def lengths_in(source: str, file: str = "") -> list[Length]:
    """The lengths of the tests of a file."""
    defined = definitions(ast.parse(source))
    tests = {name: statement for name, statement in defined.items() if name.startswith("test_")}
    return [
        Length(file, name, lines_of(test), sum(map(lines_of, needed(test, defined)))) for name, test in tests.items()
    ]


def files(*places: Path) -> list[Path]:
    """The files with scenarios in these places."""
    return sorted(file for place in places for file in ([place] if place.is_file() else place.rglob("test_*.py")))


def name_of(file: Path) -> str:
    return str(file.relative_to(SCENARIOS))


def lengths(found: Iterable[Path]) -> list[Length]:
    return [length for file in found for length in lengths_in(file.read_text(), file.name)]


ALL = files(SCENARIOS)


def test_nine_of_ten_scenarios_read_in_a_screen() -> None:
    tests = lengths(ALL)
    longer = [length for length in tests if length.whole > SCREEN]
    assert len(longer) <= LONGER_AT_MOST * len(tests), f"{len(longer)} of {len(tests)} are longer:\n" + "\n".join(
        f"{length.file}::{length.test}: {length.whole} lines" for length in longer
    )


@pytest.mark.parametrize("file", ALL, ids=name_of)
def test_a_file_asks_few_questions(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= FILE, "split it by the questions that it asks"


EXAMPLE = '''
"""A file."""
import os
UNUSED = 1
LIMIT: int = (
    7
)

@fixture(autouse=True)
def always() -> None:
    """Three lines."""

def helper() -> int:
    return LIMIT + other()

def other() -> int:
    return helper()

def unused() -> int:
    return UNUSED

class Row:
    n: int

@mark
def test_it(site: Row) -> None:
    assert helper()
    assert os
'''


def test_what_counts() -> None:
    (length,) = lengths_in(EXAMPLE)
    alone, limit, always, helper, other, row = 4, 3, 3, 2, 2, 2
    assert length == ("", "test_it", alone, alone + limit + always + helper + other + row)


if __name__ == "__main__":
    table = lengths(files(*map(Path, sys.argv[1:])) or files(SCENARIOS))
    for each in sorted(table, key=lambda length: length.whole):
        print(f"{each.whole:5} {each.alone:5}  {each.file}::{each.test}")
    wholes = sorted(each.whole for each in table)
    beyond = sum(whole > SCREEN for whole in wholes)
    print(f"tests {len(wholes)}, median {median(wholes):g}, longest {wholes[-1]}, over {SCREEN} lines: {beyond}")
