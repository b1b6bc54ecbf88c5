"""What is compiled ahead for a machine is what its interpreter and its pytest take, and not what they should not."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from _pytest.assertion import rewrite

from harness.kernels import bytecode
from harness.kernels import project as project_files
from harness.kernels.project import PACKAGE, Project, by_pytest

# An older pytest knows a file again by its time, which is another one in a machine.
BY_HASH = isinstance(rewrite._rewrite_test(Path(__file__), None)[0], bytes)  # type: ignore[arg-type]


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
    if not BY_HASH:
        assert made is None
        return
    place(made)
    assert made is not None
    taken = rewrite._read_pyc(test, Path(made[0]))
    assert taken is not None
    assert "@pytest_ar" in taken.co_names
    test.write_text("def test_it():\n    assert 1 == 3\n")
    assert rewrite._read_pyc(test, Path(made[0])) is None


# The last can be compiled, and not written (marshal).
REFUSED = ("def (:\n", "'\\d'\n", "x = 1 is 1\n", "\0", f"x = {'-' * 50_000}1\n", f"x = {'lambda:' * 1_100}1\n")


@pytest.mark.parametrize("source", REFUSED, ids=("syntax", "escape", "is", "null", "deep", "deeper"))
def test_what_has_errors_or_is_warned_of_is_left_to_the_machine(tmp_path: Path, source: str) -> None:
    file = tmp_path / "file.py"
    file.write_text(source)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bytecode.compiled(source.encode(), str(file), is_checked=True) is None
        assert bytecode.rewritten(str(file)) is None


def test_a_library_that_is_warned_of_is_compiled_all_the_same() -> None:
    assert bytecode.compiled(b"'\\d'\n", "/file.py", is_checked=False) is not None


@pytest.mark.parametrize("rewritten", [True, False])
def test_each_file_of_a_project_is_compiled_as_it_will_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rewritten: bool
) -> None:
    tests = ("conftest.py", "a/test_one.py", "c/three_test.py", "d/four.py")
    for name in ("helper.py", "b/test_two.py", "data.txt", *tests):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("assert True\n")
    # What is set for the interpreter here is not for the one there.
    monkeypatch.setattr(sys, "pycache_prefix", "elsewhere")
    project = Project(tmp_path, arguments=("a/test_one.py::test_it", "c", "d/four.py"), rewritten=rewritten)
    files = {name: file for name, file in project.files().items() if name.startswith(str(tmp_path)[1:])}
    made = {str(Path("/", name).relative_to(tmp_path)) for name in {*project.with_bytecode(files)} - {*files}}
    python = f".{sys.implementation.cache_tag}.pyc"
    chosen = ("__pycache__/conftest", "a/__pycache__/test_one", "c/__pycache__/three_test", "d/__pycache__/four")
    others = ("__pycache__/helper", "b/__pycache__/test_two")
    by = (rewrite.PYC_TAIL if BY_HASH else None) if rewritten else python
    assert made == {f"{name}{by}" for name in chosen if by} | {f"{name}{python}" for name in others}


def test_no_more_is_compiled_than_goes_through_the_port_in_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.py", "test_z.py"):
        (tmp_path / name).write_text("assert True\n")
    project = Project(tmp_path, rewritten=False)
    files = {name: file for name, file in project.files().items() if name.startswith(str(tmp_path)[1:])}
    sizes = [len(file.content) for name, file in project.with_bytecode(files).items() if name not in files]
    assert len(sizes) == 2
    monkeypatch.setattr(project_files, "MOST_BYTECODE", sum(sizes) - 1)
    assert len(project.with_bytecode(files)) == 3


def test_without_arguments_all_tests_are_chosen(tmp_path: Path) -> None:
    assert by_pytest(tmp_path / "test_it.py", [])
    assert not by_pytest(tmp_path / "helper.py", [])
    assert by_pytest(PACKAGE / "plugin" / "claims.py", [tmp_path])
