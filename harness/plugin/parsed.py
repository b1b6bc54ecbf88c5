"""What an interpreter has taken apart once is not taken apart again: in machines, whose state is saved after that.

Each worker that is restored would begin with it, at the tenth of the speed. What is kept is kept by the text itself
that was parsed, or the object itself that was looked at, so it is never that of another one, whatever has become of a
file.
"""

from __future__ import annotations

import copy
import email
import functools
import tomllib
from importlib import metadata
from types import SimpleNamespace
from typing import TYPE_CHECKING

from _pytest.fixtures import FixtureManager

from harness.plugin.collected import is_to_be_saved

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# A method of pytest's own: where it has none of this name, nothing is kept.
FIND = "_find_wrapped_fixture_def"


def keep() -> None:
    """From now on, for all who ask here: what distributions say of themselves, settings in TOML, what is no fixture."""
    known: Any = metadata
    # Only there: what it makes of a message is its own, and the message is not written to.
    if getattr(known, "email", None) is email:
        known.email = SimpleNamespace(message_from_string=functools.cache(email.message_from_string))
    if not hasattr(tomllib.loads, "__wrapped__"):
        tomllib.loads = _loads_once(tomllib.loads)
    # pytest 9.2 looks behind each name of each plugin, whether decorators hide a fixture there, and would warn of it:
    # in a machine 44 million instructions of the 137 between a session's start and its tests.
    find = getattr(FixtureManager, FIND, None)
    if find is not None and not hasattr(find, "__wrapped__"):
        setattr(FixtureManager, FIND, _find_once(find))


def _find_once(find: Callable[[Any, object], Any]) -> Callable[[Any, object], Any]:
    # By identity: each stays where it is as long as it is known here.
    plain: dict[int, object] = {}

    @functools.wraps(find)
    def find_once(self: Any, looked_at: object) -> Any:
        if id(looked_at) in plain:
            return None
        found = find(self, looked_at)
        if found is None and is_to_be_saved():
            plain[id(looked_at)] = looked_at
        return found

    return find_once


def read() -> None:
    """Take apart what each session asks for as it begins, if that has not been done."""
    for distribution in metadata.distributions():
        _ = distribution.metadata


def _loads_once(loads: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    once = functools.cache(loads)

    @functools.wraps(loads)
    def loads_once(text: str, /, **how: Any) -> dict[str, Any]:
        # What is given away may be changed there.
        return loads(text, **how) if how else copy.deepcopy(once(text))

    return loads_once
