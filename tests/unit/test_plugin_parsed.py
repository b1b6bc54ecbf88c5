"""In a machine what was parsed once is not parsed again, and what differs is."""

from __future__ import annotations

import email
import functools
import tomllib
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.fixtures import FixtureManager

from harness.kernels import guest
from harness.plugin import parsed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], list[object]]:
    """`count(place, name)`: what a function is asked from here on; keep() is undone at the end."""
    monkeypatch.setattr(metadata, "email", email)
    monkeypatch.setattr(tomllib, "loads", tomllib.loads)
    if hasattr(FixtureManager, parsed.FIND):
        monkeypatch.setattr(FixtureManager, parsed.FIND, getattr(FixtureManager, parsed.FIND))

    def counted(place: Any, name: str) -> list[object]:
        asked: list[object] = []
        function = getattr(place, name)

        def wrapper(*given: Any, **words: Any) -> Any:
            asked.append(given[-1])
            return function(*given, **words)

        monkeypatch.setattr(place, name, wrapper)
        return asked

    return counted


def test_settings_are_parsed_once_and_whoever_has_them_may_change_them(
    count: Callable[[Any, str], list[object]],
) -> None:
    asked = count(tomllib, "loads")
    parsed.keep()
    parsed.keep()
    for _ in range(2):
        settings = tomllib.loads("a = [1]")
        assert settings == {"a": [1]}
        settings["a"].append(2)
    assert tomllib.loads("a = [1.5]", parse_float=str) == {"a": ["1.5"]}
    assert tomllib.loads("a = [3]") == {"a": [3]}
    assert asked == ["a = [1]", "a = [1.5]", "a = [3]"]


def test_what_a_distribution_says_is_parsed_once_until_it_says_something_else(
    count: Callable[[Any, str], list[object]], tmp_path: Path
) -> None:
    about = tmp_path / "x-1.dist-info"
    about.mkdir()

    def version(said: str) -> str:
        (about / "METADATA").write_text(f"Name: x\nVersion: {said}\n\nWords.\n")
        return metadata.Distribution.at(about).version

    asked = count(email, "message_from_string")
    parsed.keep()
    assert [version(said) for said in ("1", "1", "2", "1")] == ["1", "1", "2", "1"]
    assert len(asked) == 2


def test_a_session_finds_all_distributions_parsed(count: Callable[[Any, str], list[object]]) -> None:
    asked = count(email, "message_from_string")
    parsed.keep()
    parsed.read()
    asked.clear()
    assert metadata.version("pytest")
    assert asked == []


@pytest.mark.skipif(not hasattr(FixtureManager, parsed.FIND), reason="this pytest looks for no wrapped fixtures")
def test_what_hides_no_fixture_is_looked_at_once_and_what_hides_one_each_time(
    count: Callable[[Any, str], list[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = count(FixtureManager, parsed.FIND)
    parsed.keep()
    find = functools.partial(getattr(FixtureManager, parsed.FIND), object.__new__(FixtureManager))

    def plain() -> None:
        pass

    @pytest.fixture
    def fixture() -> None:
        pass

    hidden = staticmethod(fixture)
    later = [1]
    with monkeypatch.context() as saving:
        saving.setenv(guest.TO_BE_SAVED, "1")
        assert find(plain) is None
        assert find(hidden) is fixture
    for _ in range(2):
        assert find(plain) is None
        assert find(hidden) is fixture
        assert find(later) is None
    assert asked == [plain, hidden, hidden, later, hidden, later]
