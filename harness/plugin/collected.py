"""What this very interpreter has collected before: in a machine that is restored, of which claims each file has tests.

The state of such a machine is saved when pytest has collected in it; the files there are those of that moment for good.
So with --tcp-claim a file that had none of these claims then need not be looked at again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from harness.plugin.process import is_worker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

# Set while a machine collects that is to be saved (harness.kernels.guest).
TO_BE_SAVED = "TCP_HARNESS_TO_BE_SAVED"
_claims_of: dict[Path, set[str]] = {}


def is_to_be_saved() -> bool:
    """Whether what this process has in its memory after collecting is what each run begins with."""
    return TO_BE_SAVED in os.environ


def remember(items: Sequence[pytest.Item]) -> None:
    """Note the claims of each file, if this is the collection that is saved."""
    if is_to_be_saved():
        for item in items:
            names = {str(marker.args[0]) for marker in item.iter_markers("claim") if marker.args}
            _claims_of.setdefault(item.path, set()).update(names)


def is_of_other_claims(file: Path, config: pytest.Config) -> bool:
    """Whether --tcp-claim asks for nothing that a file has; False for one that was named, or that nobody knows."""
    chosen: list[str] = config.getoption("tcp_claim")
    if not chosen or not is_worker(config) or file not in _claims_of:
        return False
    if any(config.invocation_params.dir / argument.partition("::")[0] == file for argument in config.args):
        return False
    return not any(name in chosen or name.partition(".")[0] in chosen for name in _claims_of[file])
