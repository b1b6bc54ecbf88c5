"""The documents agree with the project: links lead somewhere; options, fixtures and targets that are named exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# The editions name options of the programs that the documents are about.
OURS = [page for page in PAGES if not page.name.startswith("claims.")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    missing = [
        target
        for target in targets
        if not target.startswith(("http:", "https:", "#")) and not (page.parent / target.partition("#")[0]).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_sections_that_are_linked_exist(page: Path) -> None:
    headings = re.findall(r"^#+ (.*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    readme = "(?:README.md)" if page.name != "README.md" else ""
    wanted = re.findall(rf"\]\((?:\.\./)?{readme}#([^)]+)\)", page.read_text(encoding="utf-8"))
    if page.name != "claims.md":
        assert set(wanted) <= anchors


def options() -> set[str]:
    """Every long option of pytest with our plugin, our command, benches, `harness snapshot`'s program."""
    from bench.against import options as of_against
    from bench.mutants.__main__ import options as of_mutants
    from bench.probes.__main__ import options as of_probes
    from harness.cli import cli
    from harness.incident.snapshot import program

    shown = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", shown.stdout))
    found |= set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', program()))
    for bench in (of_mutants(), of_against(), of_probes()):
        found |= {word for action in bench._actions for word in action.option_strings}
    todo: list[Any] = [cli]
    while todo:
        command = todo.pop()
        todo += getattr(command, "commands", {}).values()
        found |= {word for parameter in command.params for word in parameter.opts if word.startswith("--")}
    return found


# Of other programs (docker, ip, hping3, ruff, vagrant, bench), and pytest's in its shorter spelling.
FOREIGN = {
    "--privileged",
    "--batch",
    "--flood",
    "--check",
    "--provider",
    "--junitxml",
    "--reruns",
    "--timeout",
    "--session-timeout",
    "--bind",
    "--ip",  # --ip_version, of packetdrill
    "--content",  # towncrier
    *("--read", "--before", "--functions"),  # python -m bench.profile
    *("--times", "--under", "--left"),  # python -m bench.repeat
}


def test_options_that_are_named_exist() -> None:
    known = options() | FOREIGN
    for file in [*OURS, *sorted((ROOT / "docs" / "ci").iterdir())]:
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", file.read_text(encoding="utf-8")))
        assert named - known == set(), file.name


def test_no_page_says_where_it_was_measured() -> None:
    """What a compiler or a traceback prints has the paths of the machine that it ran on."""
    kept = [ROOT / "bench" / "complaints" / "seen.json"]
    for file in [*PAGES, *kept]:
        said = re.findall(
            r"(?<![\w.~$-])/(?:work|root|mnt|opt|home/(?!vagrant/)\w+)/\S+", file.read_text(encoding="utf-8")
        )
        assert said == [], file.name


def test_fixtures_that_are_named_exist() -> None:
    from harness import plugin

    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"pair", "lan", "behind_nat", "lab", "family", "claim"} <= set(rows) & set(plugin.__all__)


def test_what_the_workflows_make_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for file in (ROOT / "docs" / "ci").iterdir():
        assert set(re.findall(r"\bmake ([a-z-]+)", file.read_text())) <= targets


def test_the_shell_workflow_is_posix_shell() -> None:
    subprocess.run(["/bin/sh", "-n", str(ROOT / "docs" / "ci" / "run.sh")], check=True)


def test_architecture_fits_a_page() -> None:
    words = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split()
    assert len(words) < 900
