"""With --tcp-claim, a machine that has collected before passes over files of other claims, and over nothing else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.kernels import guest
from harness.plugin import collected

HERE = Path("/project/scenarios")


def item(file: str, *claims: str) -> Any:
    markers = [pytest.mark.claim(name).mark for name in claims]
    return SimpleNamespace(path=HERE / file, iter_markers=lambda _name: iter(markers))


def session(*claims: str, arguments: tuple[str, ...] = ("scenarios/",), worker: bool = True) -> Any:
    given = SimpleNamespace(dir=HERE.parent)
    made = SimpleNamespace(getoption=lambda _name: list(claims), args=list(arguments), invocation_params=given)
    if worker:
        made.workerinput = {}
    return made


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collected, "_claims_of", {})


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(guest.TO_BE_SAVED, "1")
    collected.remember([item("test_a.py", "a.one"), item("test_a.py", "a.two"), item("test_b.py", "b.one")])
    collected.remember([item("test_none.py")])
    monkeypatch.delenv(guest.TO_BE_SAVED)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("chosen", "left"),
    [
        (["a.two"], ["test_a.py"]),
        (["b"], ["test_b.py"]),
        (["a.one", "b.one"], ["test_a.py", "test_b.py"]),
        (["a.t"], []),
        ([], ["test_a.py", "test_b.py", "test_none.py"]),
    ],
)
def test_files_of_other_claims_are_passed_over(chosen: list[str], left: list[str]) -> None:
    files = ["test_a.py", "test_b.py", "test_none.py"]
    assert [file for file in files if not collected.is_of_other_claims(HERE / file, session(*chosen))] == left
    assert not collected.is_of_other_claims(HERE / "test_new.py", session(*chosen))


@pytest.mark.usefixtures("known")
def test_a_file_that_was_named_is_collected() -> None:
    named = session("a.one", arguments=("scenarios/test_b.py::test_x",))
    assert not collected.is_of_other_claims(HERE / "test_b.py", named)


@pytest.mark.usefixtures("known")
def test_only_a_worker_passes_over_files() -> None:
    assert not collected.is_of_other_claims(HERE / "test_b.py", session("a.one", worker=False))


def test_what_is_not_saved_is_not_remembered() -> None:
    collected.remember([item("test_a.py", "a.one")])
    assert not collected.is_of_other_claims(HERE / "test_a.py", session("b.one"))


def test_a_machine_says_by_the_same_word_that_it_will_be_saved() -> None:
    assert guest.TO_BE_SAVED == collected.TO_BE_SAVED
