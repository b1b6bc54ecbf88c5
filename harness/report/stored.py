"""Stored evidence of one or several runs, as a table: a row for each claim, a column for each kernel."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.claims.evidence import SCHEMA
from harness.errors import BadInput
from harness.laws.kernel import KernelVersion

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

# What a cell can say, the loudest first; the rest of the outcomes are verdicts.
LOUD = ("unexpected", "unexplained", "broken", "incomplete", "failed")
STATES = (*LOUD, "not settled", "refuted", "holds", "not applicable")


@dataclass(frozen=True)
class Run:
    """One run of a claim's scenario: its part of the evidence, and the directory that has its packets."""

    data: dict[str, Any]
    directory: Path

    @property
    def nodeid(self) -> str:
        """pytest's name of the test."""
        return str(self.data["nodeid"])

    @property
    def kernel(self) -> dict[str, str]:
        """Release, version and machine."""
        found: dict[str, str] = self.data["kernel"]
        return found

    @property
    def state(self) -> str:
        """The verdict if it is the expected one; otherwise what became of the run."""
        outcome = str(self.data["outcome"])
        if outcome == "expected":
            return str(self.data["verdict"]).replace("-", " ")
        return "not settled" if outcome == "unsettled" else outcome

    @property
    def which(self) -> str:
        """Test and parameters, without the kernel: what tells the runs of a cell apart."""
        name = self.nodeid.rpartition("::")[2]
        kernel = f"-{self.kernel['version']}]"
        if name.endswith(kernel):
            return name.removesuffix(kernel) + "]"
        return name.removesuffix("-running]") + "]" if name.endswith("-running]") else name

    @property
    def packets(self) -> Path | None:
        """The file with its packets; None if it kept none."""
        name = self.data.get("packets")
        # Evidence names a file beside it, and nothing else.
        return self.directory / Path(str(name)).name if name else None


@dataclass(frozen=True)
class Column:
    """A kernel of the table; the directory is named where two runs are of the same kernel."""

    release: str
    version: str
    machine: str
    directory: str = ""

    @property
    def label(self) -> str:
        """What stands above the column."""
        return f"{self.version} · {self.directory}" if self.directory else self.version

    @property
    def order(self) -> tuple[Any, ...]:
        """Columns stand from the oldest kernel to the newest."""
        try:
            release: tuple[int, ...] = KernelVersion.parse(self.version).release
        except BadInput:
            release = ()
        return release, self.release, self.directory


@dataclass(frozen=True)
class Cell:
    """The runs of a claim on a kernel."""

    runs: tuple[Run, ...]

    @property
    def state(self) -> str:
        """The loudest that its runs say: one of STATES."""
        said = {run.state for run in self.runs}
        settled = said - {"not settled"}
        return next((state for state in STATES if state in (settled or said)), next(iter(said)))

    @property
    def partly(self) -> bool:
        """Whether some of its runs could not be made, and others could."""
        return len({run.state == "not settled" for run in self.runs}) == 2


@dataclass
class Row:
    """A claim as its evidence repeats it, and its cells."""

    claim: dict[str, Any]
    cells: dict[Column, Cell] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Group and id."""
        return str(self.claim["name"])

    @property
    def group(self) -> str:
        """What stands before the point."""
        return self.name.partition(".")[0]


@dataclass(frozen=True)
class Table:
    """All evidence of a report; `notices` say what could not be read."""

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    notices: tuple[str, ...]
    harness: str
    places: dict[Path, tuple[Column, ...]] = field(default_factory=dict, compare=False)

    def columns_of(self, directory: Path) -> tuple[Column, ...]:
        """The columns that a directory brought."""
        return self.places.get(directory, ())

    def cells(self) -> Iterable[tuple[Row, Column, Cell]]:
        """Every cell that has runs."""
        return ((row, column, cell) for row in self.rows for column, cell in row.cells.items())


@dataclass
class _File:
    """One evidence file."""

    path: Path
    harness: str
    claim: dict[str, Any]
    runs: list[dict[str, Any]]


def read(directories: Sequence[Path], *, claims: Collection[str] | None = None) -> Table:
    """The evidence of these directories; of these claims alone, where they are named.

    What an interrupted run left is used as far as it goes: a file that cannot be read is left out, with a notice.
    Raises BadInput if a directory has no evidence, if it is of another schema, or if versions of the harness mix.
    """
    notices: list[str] = []
    files: list[_File] = []
    for directory in dict.fromkeys(directories):
        found = _files(directory, notices)
        if not found:
            also = f" ({notices[-1]})" if notices else ""
            raise BadInput(f"{directory}: no evidence here{also}; run `pytest scenarios/ --evidence {directory}` first")
        files += [one for one in found if claims is None or one.claim["name"] in claims]
    return _table(files, _one_version(files), notices)


def _files(directory: Path, notices: list[str]) -> list[_File]:
    if not directory.is_dir():
        raise BadInput(f"{directory}: no such directory; name one that pytest's --evidence wrote")
    found = []
    for path in sorted(directory.glob("*.json")):
        one = _file(path, notices)
        if one is not None:
            found.append(one)
    return found


def _file(path: Path, notices: list[str]) -> _File | None:
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        notices.append(f"{path.name}: left out, it is not whole: {error}")
        return None
    if not isinstance(whole, dict) or "schema" not in whole:
        notices.append(f"{path.name}: left out, it is no evidence of a claim")
        return None
    if whole["schema"] != SCHEMA:
        raise BadInput(
            f"{path}: evidence of schema {whole['schema']!r}, this harness reads {SCHEMA}; run the scenarios again"
        )
    claim = whole.get("claim")
    if not isinstance(claim, dict) or not isinstance(claim.get("name"), str):
        notices.append(f"{path.name}: left out, it names no claim")
        return None
    listed = whole.get("runs")
    runs = [run for run in listed if _is_run(run)] if isinstance(listed, list) else []
    if not isinstance(listed, list) or len(runs) < len(listed):
        notices.append(f"{path.name}: not all of its runs can be read")
    return _File(path, str(whole.get("harness")), claim, runs)


def _is_run(run: object) -> bool:
    """Whether a run has what the table is made of."""
    if not isinstance(run, dict):
        return False
    kernel, phases = run.get("kernel"), run.setdefault("phases", [])
    return (
        isinstance(kernel, dict)
        and all(isinstance(kernel.get(key), str) for key in ("release", "version"))
        and isinstance(run.get("nodeid"), str)
        and isinstance(run.get("outcome"), str)
        and isinstance(phases, list)
        and all(isinstance(phase, dict) and isinstance(phase.get("comparisons", []), list) for phase in phases)
    )


def _one_version(files: Iterable[_File]) -> str:
    """The version of the harness that wrote all of it; BadInput if there were two."""
    first: dict[str, Path] = {}
    for file in files:
        first.setdefault(file.harness, file.path)
    if len(first) > 1:
        told = "; ".join(f"{path} is by version {version}" for version, path in first.items())
        raise BadInput(f"evidence of different versions of the harness is not mixed: {told}; run one of them again")
    return next(iter(first))


def _table(files: Sequence[_File], harness: str, notices: list[str]) -> Table:
    twice = _run_twice(files)
    names = Counter(path.name for path in {file.path.parent for file in files})
    rows: dict[str, Row] = {}
    gathered: dict[tuple[str, Column], list[Run]] = {}
    for file in files:
        rows.setdefault(str(file.claim["name"]), Row(file.claim))
        for run in file.runs:
            kernel = run["kernel"]
            folder = file.path.parent
            place = (folder.name if names[folder.name] == 1 else str(folder)) if kernel["release"] in twice else ""
            column = Column(kernel["release"], kernel["version"], str(kernel.get("machine", "")), place)
            gathered.setdefault((str(file.claim["name"]), column), []).append(Run(run, file.path.parent))
    for (name, column), runs in gathered.items():
        rows[name].cells[column] = Cell(tuple(runs))
    columns = tuple(sorted({column for _, column in gathered}, key=lambda one: one.order))
    ordered = tuple(rows[name] for name in sorted(rows))
    places: dict[Path, set[Column]] = {}
    for (_, column), runs in gathered.items():
        for one in runs:
            places.setdefault(one.directory, set()).add(column)
    by_place = {place: tuple(sorted(its, key=lambda one: one.order)) for place, its in places.items()}
    return Table(ordered, columns, tuple(notices), harness, by_place)


def _run_twice(files: Iterable[_File]) -> set[str]:
    """Releases of which the same test was run in two directories: they get a column each."""
    seen: dict[tuple[str, str], Path] = {}
    twice: set[str] = set()
    for file in files:
        for run in file.runs:
            release = run["kernel"]["release"]
            if seen.setdefault((release, run["nodeid"]), file.path.parent) != file.path.parent:
                twice.add(release)
    return twice
