"""What `pip install` brings: built as a release is, installed into an empty environment, and used from there alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pytest

from tests.package.environment import Installed, archives_in, build, install
from tests.shared import made_once

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = """
from harness.lab import Pair
from harness.observe import accept_queue
from harness.traffic import connect, listen


def test_types(pair: Pair) -> None:
    reveal_type(pair.server)
    reveal_type(accept_queue(pair.server, listen(pair.server, backlog=1).port).waiting)
    connect(pair.client, "no listener", 7)
"""


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive, and the wheel that is made of it."""
    return archives_in(made_once(tmp_path_factory, "dist", build))


@pytest.fixture(scope="module")
def installed(archives: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An environment that has the wheel, and nothing that the wheel does not require."""
    return Installed(made_once(tmp_path_factory, "fresh", partial(install, archives[1])) / "environment")


def test_the_archives_have_what_belongs_in_them_and_no_more(archives: tuple[Path, Path]) -> None:
    with tarfile.open(archives[0]) as tar:
        source = {name.partition("/")[2] for name in tar.getnames()}
    wheel = set(zipfile.ZipFile(archives[1]).namelist())
    assert {"LICENSE", "README.md", "docs/changelog.md", "scenarios/conftest.py", "Makefile", ".ci/run"} <= source
    assert {"harness/py.typed", "harness/bundled/pytest.ini", "harness/bundled/scenarios/documents.toml"} <= wheel
    assert not [name for name in source | wheel if re.search(r"\.venv|__pycache__|/out/|\.pyc$|docs/_build", name)]
    assert {name.partition("/")[0] for name in wheel if ".dist-info" not in name} == {"harness"}


def test_the_wheel_has_every_file_of_the_scenarios(archives: tuple[Path, Path]) -> None:
    here = {
        str(file.relative_to(ROOT / "scenarios"))
        for file in (ROOT / "scenarios").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    names = zipfile.ZipFile(archives[1]).namelist()
    packed = {name.removeprefix("harness/bundled/scenarios/") for name in names if "bundled/scenarios/" in name}
    assert packed == here


def test_it_says_its_version(installed: Installed, tmp_path: Path) -> None:
    assert installed.harness("--version", cwd=tmp_path).stdout == "tcp-harness 0.2.0\n"


def test_a_claim_is_settled_and_shown_with_what_the_package_brings_alone(installed: Installed, tmp_path: Path) -> None:
    before = installed.files()
    ran = installed.harness("scenarios", "-q", "-k", "ipv4", "--tcp-claim", "accept-queue.capacity", cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 claim: 1 refuted" in ran.stdout
    evidence = json.loads((tmp_path / "out/evidence/accept-queue.capacity.json").read_text())
    assert evidence["harness"] == "0.2.0"
    assert evidence["runs"][0]["verdict"] == "refuted"
    shown = installed.harness("report", "--format", "json", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "accept-queue.capacity" in shown.stdout
    corrected = installed.harness("claims", cwd=tmp_path)
    assert corrected.returncode == 0, corrected.stderr
    assert "accept-queue.capacity" in corrected.stdout
    assert installed.files() == before, "something was written into the environment"


def test_scenarios_can_be_copied_and_changed(installed: Installed, tmp_path: Path) -> None:
    copied = installed.harness("scenarios", "--copy", "mine", cwd=tmp_path)
    assert (copied.returncode, copied.stdout) == (0, "mine/scenarios\n"), copied.stderr
    assert installed.harness("scenarios", "--where", cwd=tmp_path / "mine").stdout == f"{tmp_path}/mine/scenarios\n"
    listed = installed.python("-m", "pytest", "mine/scenarios", "-q", "--collect-only", cwd=tmp_path)
    assert listed.returncode == 0, listed.stdout
    again = installed.harness("scenarios", "--copy", "mine", cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr == "harness: mine exists and is not empty; name a new directory\n"


def test_the_example_of_the_readme_runs(installed: Installed, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    (tmp_path / "test_mine.py").write_text(example)
    claims = re.findall(r"^```toml\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    (tmp_path / "claims").mkdir()
    for text in claims:
        (tmp_path / "claims" / "mine.toml").write_text(text)
    ran = installed.python("-m", "pytest", "-q", "test_mine.py", cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout
    assert "2 passed" in ran.stdout


def test_the_archive_of_kernels_is_asked(installed: Installed, tmp_path: Path) -> None:
    """Of a mirror that is not there, so that it takes no time; tests/unit/test_kernels_archive.py lists one that is."""
    where = ("--mirror", f"file:{tmp_path}/none", "--suite", "stretch")
    listed = installed.harness("kernels", "list", *where, cwd=tmp_path, HARNESS_CACHE=str(tmp_path / "cache"))
    assert (listed.returncode, listed.stdout, len(listed.stderr.splitlines())) == (2, "", 1)
    assert "no archive of kernels can be read" in listed.stderr


def test_a_users_mypy_sees_the_types(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "test_types.py").write_text(EXAMPLE)
    words = ["--strict", "--no-incremental", "--python-executable", str(installed.interpreter), "test_types.py"]
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert 'Revealed type is "harness.lab.host.Host"' in ran.stdout
    assert 'Revealed type is "int"' in ran.stdout
    assert '"connect" has incompatible type "str"' in ran.stdout
    assert "Found 1 error" in ran.stdout


def test_the_checks_before_a_commit_are_configured() -> None:
    config = ["pre-commit", "validate-config", ".pre-commit-config.yaml"]
    ran = subprocess.run([Path(sys.executable).with_name(config[0]), *config[1:]], cwd=ROOT, check=False)
    assert ran.returncode == 0
    hooks = re.findall(r"entry: \.venv/bin/(\S+)", (ROOT / config[2]).read_text())
    assert [name for name in hooks if not os.access(Path(sys.executable).with_name(name), os.X_OK)] == []


def test_the_next_changelog_can_be_made() -> None:
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.9.9"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "## 9.9.9" in ran.stdout
