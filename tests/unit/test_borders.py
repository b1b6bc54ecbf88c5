"""The borders of the rooms: kept as they stand, and broken by an arrow that is turned round."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINT = Path(sys.executable).with_name("lint-imports")


def house(place: Path) -> Path:
    """A copy of the code and of its contracts."""
    shutil.copytree(ROOT / "harness", place / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    return place


def lint(place: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LINT, "--no-logo", "--no-cache"], cwd=place, capture_output=True, text=True, check=False)


def test_the_rooms_import_what_stands_below_them_alone(tmp_path: Path) -> None:
    checked = lint(house(tmp_path))
    assert (checked.returncode, "0 broken" in checked.stdout) == (0, True), checked.stdout


@pytest.mark.parametrize(
    ("module", "imports"),
    [
        ("lab/netns.py", "harness.observe.states"),
        ("kernels/halving.py", "harness.claims.verdicts"),
        ("vagrant/places.py", "harness.report.output"),
        ("evidence/values.py", "harness.claims.failures"),
        ("laws/ranges.py", "harness.laws.timers"),
    ],
)
def test_an_arrow_that_is_turned_round_is_found(tmp_path: Path, module: str, imports: str) -> None:
    place = house(tmp_path)
    with (place / "harness" / module).open("a") as code:
        code.write(f"\nimport {imports}\n")
    checked = lint(place)
    assert checked.returncode == 1
    name = f"harness.{module.removesuffix('.py').replace('/', '.')}"
    assert name in checked.stdout or "could be made acyclic" in checked.stdout
