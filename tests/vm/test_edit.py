"""What happens in a machine when a file of the project has changed: the new file counts, and nothing is done twice."""

from __future__ import annotations

import dataclasses
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from harness.kernels import cache, places
from harness.kernels.project import PACKAGE

from .test_kernels import counts

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from .conftest import Project

FILES = {
    "pyproject.toml": "[tool.pytest.ini_options]\naddopts = ['--import-mode=importlib']\npythonpath = ['.']\n",
    "helper.py": "VALUE = 1\n",
    "test_value.py": "import helper\n\ndef test_value():\n    assert helper.VALUE == 1\n",
    # What a first test would put together is part of the machine's state.
    "test_other.py": (
        "from harness.observe import filters\n\n"
        "def test_other():\n    assert filters._grammar.cache_info().currsize == 1\n"
    ),
}


@pytest.fixture
def small(project: Project, tmp_path: Path) -> Project:
    """A project with a module that a test imports, on one of the kernels."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return dataclasses.replace(project, directory=tmp_path, kernels=project.kernels[:1])


def kept_of(project: Project) -> list[Path]:
    """The states that are kept of a project."""
    states = [file.with_name(file.name.removesuffix(cache.ABOUT)) for file in places.states().glob(f"*{cache.ABOUT}")]
    return [state for state in states if str(project.directory) in cache.about(state).text]


def test_a_state_that_goes_while_the_nearest_is_looked_for(small: Project) -> None:
    """A machine beside it made room: its name was read, and the file was gone when its time was asked for."""
    assert counts(small.run(*small.on())) == {"passed": 2}
    (state,) = kept_of(small)
    gone = state.with_name(f"{state.name.rpartition('-')[0]}-gone{cache.ABOUT}")
    gone.symlink_to("nowhere")
    try:
        (small.directory / "helper.py").write_text("VALUE = 1  # as before\n")
        edited = small.run(*small.on())
    finally:
        gone.unlink()
    assert counts(edited) == {"passed": 2}, edited.stdout + edited.stderr
    assert "delivering the project" not in edited.stderr


def test_what_has_changed_is_delivered_and_what_is_gone_is_missed(small: Project) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return small.run(*small.on(), "-p", "no:cacheprovider", *words)

    helper, delivers = small.directory / "helper.py", "delivering the project"
    first = run()
    assert counts(first) == {"passed": 2}, first.stdout + first.stderr
    assert first.stderr.count(delivers) == 1
    # As many bytes, perhaps in the same second of the guest: what was compiled of it must not be taken for it.
    helper.write_text("VALUE = 2\n")
    edited = run()
    assert counts(edited) == {"failed": 1, "passed": 1}, edited.stdout + edited.stderr
    assert "assert 2 == 1" in edited.stdout
    helper.unlink()
    gone = run()
    assert "1 error" in gone.stdout, gone.stdout + gone.stderr
    assert "No module named 'helper'" in gone.stdout
    helper.write_text("VALUE = 1\n")
    other = run("test_other.py", "test_value.py")
    assert counts(other) == {"passed": 2}, other.stdout + other.stderr
    assert [delivers in each.stderr for each in (edited, gone, other)] == [False] * 3
    # Of the project as it was before an edit nothing is kept; what was asked for otherwise is another state.
    assert len(kept_of(small)) == 2


# Says which process has imported a module of the package, and whether it is another one than the test's.
SAYS = """
import os
from harness.observe import loaded
import plugged

def test_says():
    assert not f"{loaded.PROCESS} has {loaded.VALUE}, {plugged.VALUE}; another: {loaded.PROCESS != os.getpid()}"
"""
LOADED = "import os\nPROCESS, VALUE = os.getpid(), {}\n"


@pytest.fixture
def own_package(small: Project) -> Project:
    """The same with a package of its own, in which there is a module more."""
    shutil.copytree(PACKAGE, small.directory / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    (small.directory / "harness" / "observe" / "loaded.py").write_text(LOADED.format(1))
    (small.directory / "plugged.py").write_text("VALUE = 1\n")
    (small.directory / "test_value.py").write_text(SAYS)
    return small


def test_the_package_is_imported_once_and_again_when_it_has_changed(own_package: Project) -> None:
    """By a process that all later ones are children of; it must not keep what may change with the project."""
    directory = own_package.directory

    def run() -> tuple[str, ...]:
        words = (*own_package.on(), "-p", "no:cacheprovider", "test_value.py")
        ran = own_package.run(*words, PYTHONPATH=str(directory))
        said = re.search(r"(\d+) has (\w+), (\w+); another: (\w+)", ran.stdout)
        assert said, ran.stdout + ran.stderr
        return said.groups()

    first = run()
    assert first[1:] == ("1", "1", "True")
    # A plugin comes that pytest loads wherever it is started.
    about = directory / "plugged.egg-info"
    about.mkdir()
    (about / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[pytest11]\nplugged = plugged\n")
    (directory / "test_value.py").write_text(f"{SAYS}\n")
    assert run() == first
    # Where the package is imported anew, the plugin would be as well, and kept when it changes.
    (directory / "harness" / "observe" / "loaded.py").write_text(LOADED.format(2))
    assert run()[1:] == ("2", "1", "False")
    (directory / "plugged.py").write_text("VALUE = 2\n")
    assert run()[1:] == ("2", "2", "False")
