"""The program that `harness snapshot` prints is one file of Python 3.6 that imports nothing of ours."""

from __future__ import annotations

import ast
from collections import Counter

from harness.incident import snapshot


def defined(tree: ast.Module) -> Counter[str]:
    """How often each name is defined at the top."""
    names: Counter[str] = Counter()
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names[statement.name] += 1
        if isinstance(statement, ast.Import | ast.ImportFrom):
            names.update(name.asname or name.name for name in statement.names)
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        names.update(name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
    return names


def test_it_is_python_3_6() -> None:
    ast.parse(snapshot.program(), feature_version=(3, 6))


def test_no_part_takes_the_name_of_another_part() -> None:
    names = defined(ast.parse(snapshot.program()))
    assert {name: n for name, n in names.items() if n > 1} == {}


def test_all_its_parts_are_in_it() -> None:
    from importlib import resources

    parts = {file.name for file in resources.files("harness.incident.collector").iterdir() if file.name.endswith(".py")}
    assert parts == {f"{part}.py" for part in snapshot.PARTS} | {"__init__.py"}


def test_it_imports_the_standard_library_alone() -> None:
    import sys

    tree = ast.parse(snapshot.program())
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= sys.stdlib_module_names
    assert "harness.incident" not in snapshot.program()
