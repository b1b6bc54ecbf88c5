"""The tests of the harness run in a clone that is somebody else's, or read-only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nobody import NOBODY, home_of_nobody

PROJECT = Path(__file__).parents[2]
OPTIONS = ("-c", str(PROJECT / "pyproject.toml"), "--rootdir", str(PROJECT), "-p", "no:cacheprovider", "-rs")
# Hypothesis keeps examples in the directory that it was started in.
WITH_EXAMPLES = "tests/unit/test_ss_filter.py::test_ports_compare_as_numbers"
IN_NAMESPACES = "tests/unit/test_files.py::test_devices_are_written_into_and_stay"


def as_another(place: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run it as an ordinary user, in a directory that this user cannot write."""
    environment = {name: value for name, value in os.environ.items() if name != "HYPOTHESIS_STORAGE_DIRECTORY"}

    def run(argv: tuple[str, ...], place: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, cwd=place, env=environment, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )

    if os.geteuid() == 0:
        with home_of_nobody() as home:
            return run((*NOBODY, "PYTHONDONTWRITEBYTECODE=1", f"HOME={home}", *argv), home)
    place.chmod(0o555)
    return run(argv, place)


def test_examples_need_no_place_to_be_kept_in(tmp_path: Path) -> None:
    """Hypothesis warned that it could not write, and every test with examples failed."""
    ran = as_another(tmp_path, sys.executable, "-m", "pytest", *OPTIONS, str(PROJECT / WITH_EXAMPLES))
    assert ran.returncode == pytest.ExitCode.OK, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    "test",
    [
        "tests/unit/test_desk_scenarios.py::test_what_is_written_is_in_our_style[ruff check]",
        "tests/unit/test_kernels_packages.py::test_as_root_a_package_is_unpacked_by_nobody",
        "tests/unit/test_bench_repeat.py::test_two_at_once_are_two_rounds",
    ],
)
def test_programs_write_nothing_there_and_git_reads_it(tmp_path: Path, test: str) -> None:
    ran = as_another(tmp_path, sys.executable, "-m", "pytest", *OPTIONS, str(PROJECT / test))
    assert ran.returncode == pytest.ExitCode.OK, ran.stdout + ran.stderr


def test_an_ordinary_user_has_namespaces_for_what_could_harm(tmp_path: Path) -> None:
    namespaces = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc")
    tried = as_another(tmp_path, *namespaces, "mount", "-t", "tmpfs", "tmpfs", "/mnt")
    if tried.returncode:
        pytest.skip(f"an ordinary user cannot mount in namespaces here: {tried.stderr.strip()}")
    ran = as_another(tmp_path, sys.executable, "-m", "pytest", *OPTIONS, str(PROJECT / IN_NAMESPACES))
    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr
