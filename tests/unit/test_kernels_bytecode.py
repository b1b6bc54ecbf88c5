"""What is compiled ahead for a machine is what its interpreter and its pytest take, and not what they should not."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from _pytest.assertion import rewrite

from harness.kernels import bytecode
from harness.kernels.project import PACKAGE, Project, by_pytest


def place(made: tuple[str, bytes | None] | None) -> None:
    """Put a compiled form where it belongs."""
    assert made is not None
    assert made[1] is not None
    file = Path(made[0])
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(made[1])


@pytest.mark.parametrize(("is_checked", "then"), [(True, "2"), (False, "1")])
def test_what_is_checked_follows_its_source(tmp_path: Path, is_checked: bool, then: str) -> None:
    helper = tmp_path / "helper.py"
    place((bytecode.place_of(str(helper)), bytecode.compiled(b"print(1)\n", str(helper), is_checked=is_checked)))
    for source, said in (("print(1)\n", "1"), ("print(2)\n", then)):
        helper.write_text(source)
        ran = subprocess.run(
            [sys.executable, "-B", "-c", "import helper"], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        assert ran.stdout.strip() == said


def test_pytest_takes_what_was_rewritten_until_the_source_is_another_one(tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text("def test_it():\n    assert 1 == 2\n")
    made = bytecode.rewritten(str(test))
    place(made)
    assert made is not None
    taken = rewrite._read_pyc(test, Path(made[0]))
    assert taken is not None
    assert "@pytest_ar" in taken.co_names
    test.write_text("def test_it():\n    assert 1 == 3\n")
    assert rewrite._read_pyc(test, Path(made[0])) is None


@pytest.mark.parametrize("source", ["def (:\n", "'\\d'\n", "x = 1 is 1\n", "\0", f"x = {'-' * 50_000}1\n"])
def test_what_has_errors_or_is_warned_of_is_left_to_the_machine(tmp_path: Path, source: str) -> None:
    file = tmp_path / "file.py"
    file.write_text(source)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bytecode.compiled(source.encode(), str(file), is_checked=True) is None
        assert bytecode.rewritten(str(file)) is None


def test_a_library_that_is_warned_of_is_compiled_all_the_same() -> None:
    assert bytecode.compiled(b"'\\d'\n", "/file.py", is_checked=False) is not None


def test_each_file_of_a_project_is_compiled_as_it_will_be_imported(tmp_path: Path) -> None:
    for name in ("helper.py", "conftest.py", "a/test_one.py", "b/test_two.py", "c/three_test.py", "data.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("assert True\n")
    project = Project(tmp_path, arguments=("a/test_one.py::test_it", "c"))
    files = {name: file for name, file in project.files().items() if name.startswith(str(tmp_path)[1:])}
    made = {str(Path("/", name).relative_to(tmp_path)) for name in {*project.with_bytecode(files)} - {*files}}
    python, by = f"{sys.implementation.cache_tag}.pyc", rewrite.PYC_TAIL
    assert made == {
        f"__pycache__/helper.{python}",
        f"__pycache__/conftest{by}",
        f"a/__pycache__/test_one{by}",
        f"b/__pycache__/test_two.{python}",
        f"c/__pycache__/three_test{by}",
    }


def test_without_arguments_all_tests_are_chosen(tmp_path: Path) -> None:
    assert by_pytest(tmp_path / "test_it.py", [])
    assert not by_pytest(tmp_path / "helper.py", [])
    assert by_pytest(PACKAGE / "plugin" / "claims.py", [tmp_path])
