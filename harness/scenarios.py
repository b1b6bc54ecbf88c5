"""Where the scenarios are: in the directory one is in, in the clone that this package runs from, or in the package."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.errors import BadInput

HERE = Path("scenarios")
# A file that pytest finds above the scenarios of the package: its settings, for them and for copies of them.
SETTINGS = Path(__file__).parent / "bundled" / "pytest.ini"
_OF_A_CLONE = Path(__file__).parents[1] / "scenarios"
_OF_THE_PACKAGE = SETTINGS.with_name("scenarios")
# How `--help` says which these are.
WHERE = "scenarios, here or of the package"
# What only scenarios of this project have beside them.
_DOCUMENTS = "documents.toml"


def place() -> Path:
    """The directory of the scenarios: `scenarios` here if it has claims, else a clone's, else the package's.

    Where there is none at all it is the first of these, which then is not there.
    """
    if any((HERE / "claims").glob("*.toml")):
        return HERE
    return next((there for there in (_OF_A_CLONE, _OF_THE_PACKAGE) if (there / _DOCUMENTS).is_file()), HERE)


def documents() -> Path:
    """The file with the titles and headings of the documents, beside the scenarios."""
    return place() / _DOCUMENTS


def copy(target: Path) -> Path:
    """Copy the scenarios to a new directory, with the settings of pytest that they need; the directory of the copy.

    BadInput where something stands there already.
    """
    source = place()
    if not (source / _DOCUMENTS).is_file():
        raise BadInput(f"{source}: there are no scenarios to copy; reinstall the package")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadInput(f"{target} exists and is not empty; name a new directory")
    try:
        shutil.copytree(source, target / HERE, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        shutil.copy(SETTINGS, target)
    except OSError as error:
        raise BadInput(f"{target}: {error.strerror or error}") from None
    return target / HERE
