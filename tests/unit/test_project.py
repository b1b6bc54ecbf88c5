"""The project's own files agree with each other: what is declared is locked, and what is named exists."""

from __future__ import annotations

import importlib.metadata
import pkgutil
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness.evidence.json_schema import schema_text
from tests.pythons import SUITES

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
# Of the group of plugins, which are not in the environment.
PLUGINS_LOCK = (ROOT / "plugins.lock").read_text()
# The oldest of everything, for `make pythons`.
LOWEST_LOCK = (ROOT / "lowest.lock").read_text()
LOCKS = pytest.mark.parametrize("lock", [LOCK, PLUGINS_LOCK, LOWEST_LOCK], ids=["requirements", "plugins", "lowest"])
# What `make schema` runs: a type, and the file that its schema is written to.
SCHEMAS = re.findall(r"harness\.evidence\.json_schema (\S+) > docs/(\S+)", (ROOT / "Makefile").read_text())
# Written by hand: the matrix of results is put together as JSON, and has no type.
BY_HAND = {"results.schema.json"}
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())

# One entry of the lock: a name with its version, and the lines that it continues on.
ENTRY = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>\S+)(?P<rest>(?:.*\\\n)*.*)$", re.MULTILINE)


def declared() -> list[Requirement]:
    """Every requirement of pyproject.toml: of running, of the extras, and of building."""
    project = PROJECT["project"]
    lines = [*project["dependencies"], *PROJECT["build-system"]["requires"]]
    for extra in project["optional-dependencies"].values():
        lines += extra
    return [wanted for wanted in map(Requirement, lines) if wanted.name != project["name"]]


def locked(lock: str = LOCK) -> dict[str, re.Match[str]]:
    """A lock's entries by normalised name."""
    return {canonicalize_name(entry["name"]): entry for entry in ENTRY.finditer(lock)}


@pytest.mark.parametrize("wanted", declared(), ids=lambda wanted: wanted.name)
def test_the_lock_pins_every_declared_requirement(wanted: Requirement) -> None:
    assert locked()[canonicalize_name(wanted.name)]["version"] in wanted.specifier


def test_the_lock_of_plugins_pins_those_and_nothing_else() -> None:
    pinned = {name: entry["version"] for name, entry in locked(PLUGINS_LOCK).items()}
    declared_plugins = list(map(Requirement, PROJECT["dependency-groups"]["plugins"]))
    assert {wanted.name for wanted in declared_plugins} == pinned.keys()
    assert all(pinned[wanted.name] in wanted.specifier for wanted in declared_plugins)


def test_the_oldest_pytest_that_is_declared_is_the_one_that_is_tried() -> None:
    pinned = {name: entry["version"] for name, entry in locked(LOWEST_LOCK).items()}
    assert pinned["pytest"].startswith(PROJECT["tool"]["pytest"]["ini_options"]["minversion"])
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["plugins"]]
    outside = [
        line for line in wanted if pinned[canonicalize_name(Requirement(line).name)] not in Requirement(line).specifier
    ]
    assert outside == []


def test_every_python_that_is_declared_can_be_tried() -> None:
    minors = [line.rpartition(" ")[2] for line in PROJECT["project"]["classifiers"] if " 3." in line]
    assert minors == list(SUITES)


@LOCKS
def test_every_locked_package_has_a_hash(lock: str) -> None:
    without = [name for name, entry in locked(lock).items() if "--hash=sha256:" not in entry["rest"]]
    assert without == []


@LOCKS
def test_the_lock_is_understood_to_the_last_line(lock: str) -> None:
    left_over = [line for line in ENTRY.sub("", lock).splitlines() if line and not line.lstrip().startswith("#")]
    assert left_over == []


@pytest.mark.parametrize("address", ["://", "--index-url", "--extra-index-url", "--find-links", " @ ", "file:"])
def test_no_lock_records_an_address(address: str) -> None:
    assert address not in LOCK + PLUGINS_LOCK + LOWEST_LOCK


def test_the_environment_is_the_locked_one() -> None:
    here = {name: importlib.metadata.version(name) for name in ("pytest", "pyroute2", "scapy", "tenacity")}
    assert here == {name: locked()[name]["version"] for name in here}


def test_pytest_finds_the_plugin_by_its_entry_point() -> None:
    distribution = importlib.metadata.distribution("tcp-harness")
    (entry,) = distribution.entry_points.select(group="pytest11")
    assert entry.value == "harness.plugin"
    assert entry.load().__name__ == "harness.plugin"


def test_sessions_of_pytest_within_tests_have_processes_of_their_own() -> None:
    """pytester takes back the modules that a session in this process was the first to import (tests/conftest.py)."""
    within = re.compile(r"\.(?:runpytest|runpytest_inprocess|inline_\w+)\(")
    assert [path.name for path in (ROOT / "tests").rglob("*.py") if within.search(path.read_text())] == []


@pytest.mark.parametrize(("of", "file"), SCHEMAS)
def test_a_schema_in_docs_is_the_one_of_its_type(of: str, file: str) -> None:
    assert (ROOT / "docs" / file).read_text(encoding="utf-8") == schema_text(pkgutil.resolve_name(of)), "make schema"


def test_make_schema_writes_each_schema_in_docs() -> None:
    assert {file for _, file in SCHEMAS} | BY_HAND == {file.name for file in (ROOT / "docs").glob("*.schema.json")}
