"""Which boundaries evidence confirms and contradicts, and where no kernel is."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from harness.claims.files import load
from harness.cli import cli
from harness.evidence.codec import encode_file
from harness.evidence.types import Kernel, Outcome, Verdict
from harness.evidence.walk import Standing, flips, walk
from harness.kernels.targets import Archived
from harness.laws import BOUNDARIES
from tests.unit.evidence_of_a_run import a_run, checked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from harness.cli.settling import Chosen
    from harness.evidence.types import Claim, Run
    from harness.evidence.walk import Finding

LOOPBACK, MONOTONIC = "tw-reuse-on-loopback", "tw-reuse-by-monotonic-seconds"
DEFAULT = f"""
group = "tw-reuse"
[[claim]]
id = "default"
statement = "It is 0 by default."
source = [{{ document = "000", heading = "h" }}]
[[claim.expect]]
before = "{LOOPBACK}"
verdict = "holds"
because = "it was"
[[claim.expect]]
since = "{LOOPBACK}"
verdict = "refuted"
because = "it is 2"
"""
HOLDS, REFUTED = Verdict.HOLDS, Verdict.REFUTED
NAME = "tw-reuse.default"


@pytest.fixture
def claims(tmp_path: Path) -> dict[str, Claim]:
    (tmp_path / "scenarios" / "claims").mkdir(parents=True)
    file = tmp_path / "scenarios" / "claims" / "tw-reuse.toml"
    file.write_text(DEFAULT)
    return load(file)


def ran(version: str, verdict: Verdict | None, **parts: Any) -> tuple[str, Run]:
    """A run of the claim on a kernel."""
    kernel = Kernel(f"{version}-test", version, "x86_64")
    return NAME, a_run("test_reuse.py::test_default[ipv4]", kernel=kernel, verdict=verdict, **parts)


def measured(version: str, value: int, *asked: str) -> tuple[str, Run]:
    """A run that asked for boundaries, and measured what it expected."""
    return ran(version, HOLDS, asked=asked, phases=(checked(value, value, "port"),))


def found(
    claims: dict[str, Claim], *runs: tuple[str, Run], at_hand: tuple[str, ...] = (), of: str = LOOPBACK
) -> Finding:
    return next(finding for finding in walk(claims, runs, at_hand).findings if finding.name == of)


def test_a_verdict_that_changes_confirms_between_the_nearest_kernels(claims: dict[str, Claim]) -> None:
    finding = found(claims, ran("4.1.52", HOLDS), ran("4.14.67", HOLDS), ran("4.19.79", REFUTED), ran("6.1", REFUTED))
    assert (finding.standing, finding.between) == (Standing.CONFIRMED, ("4.14.67", "4.19.79"))
    assert finding.sightings[0].said == ("holds", "refuted")


def test_the_verdict_of_the_other_side_contradicts(claims: dict[str, Claim]) -> None:
    finding = found(claims, ran("4.14.67", REFUTED), ran("4.9", HOLDS), ran("4.19.79", REFUTED))
    assert finding.standing is Standing.CONTRADICTED
    (seen,) = finding.contradictions
    assert (seen.kernel, seen.expected, seen.seen) == ("4.14.67", "holds", "refuted")


def test_what_nobody_expected_confirms_nothing_and_is_listed(claims: dict[str, Claim]) -> None:
    runs = [ran("4.14.67", HOLDS), ran("4.19.79", None, outcome=Outcome.UNEXPLAINED)]
    assert found(claims, *runs).standing is Standing.UNTOLD
    (unexpected,) = walk(claims, runs).unexpected
    assert (unexpected.kernel, unexpected.seen) == ("4.19.79", "unexplained")


def test_what_could_not_be_run_says_nothing(claims: dict[str, Claim]) -> None:
    runs = [ran("4.14.67", HOLDS), ran("4.19.79", None, outcome=Outcome.UNSETTLED)]
    assert found(claims, *runs).standing is Standing.UNTOLD
    assert walk(claims, runs).unexpected == ()


def test_kernels_on_one_side_alone(claims: dict[str, Claim]) -> None:
    finding = found(claims, ran("4.19.79", REFUTED), at_hand=("5.10.262",))
    assert (finding.standing, finding.at_hand) == (Standing.BEYOND, ((), ("4.19.79", "5.10.262")))
    assert found(claims, ran("4.19.79", REFUTED), at_hand=("4.9",)).standing is Standing.UNTOLD


def test_a_measurement_confirms_what_its_test_asked_for(claims: dict[str, Claim]) -> None:
    runs = measured("4.18.1", 1, MONOTONIC), measured("4.20", 2, MONOTONIC)
    finding = found(claims, *runs, of=MONOTONIC)
    assert (finding.standing, finding.between) == (Standing.CONFIRMED, ("4.18.1", "4.20"))
    assert finding.sightings[0].said == ("port 1", "port 2")


@pytest.mark.parametrize(
    "runs",
    [
        (measured("4.18.1", 1, MONOTONIC), measured("4.20", 1, MONOTONIC)),
        (measured("4.18.1", 1), measured("4.20", 2)),
        (measured("4.14", 1, MONOTONIC, LOOPBACK), measured("4.20", 2, MONOTONIC, LOOPBACK)),
        (measured("4.18.1", 1, MONOTONIC), measured("4.18.2", 2, MONOTONIC)),
    ],
    ids=["the same", "not asked", "another boundary between", "one side"],
)
def test_a_measurement_that_confirms_nothing(claims: dict[str, Claim], runs: tuple[tuple[str, Run], ...]) -> None:
    assert found(claims, *runs, of=MONOTONIC).standing in (Standing.UNTOLD, Standing.BEYOND)


def test_a_claim_changes_at_its_own_boundary_alone(claims: dict[str, Claim]) -> None:
    changes = [entry.name for entry in BOUNDARIES.values() if flips(claims[NAME], entry)]
    assert changes == [LOOPBACK]


# The command.


def left_in(directory: Path, claims: dict[str, Claim], *runs: tuple[str, Run]) -> Path:
    """Evidence in a directory."""
    directory.mkdir()
    (directory / f"{NAME}.json").write_bytes(encode_file(claims[NAME], [run for _, run in runs]))
    return directory


@pytest.fixture
def bisect(tmp_path: Path, claims: dict[str, Claim]) -> Any:
    """The command on evidence alone; it runs nothing, as there is no kernel named."""
    place = tmp_path / "scenarios"

    def run(evidence: Path, *words: str) -> Any:
        argv = [
            "bisect",
            "--all",
            f"--scenarios={place}",
            f"--keep={tmp_path / 'kept'}",
            f"--evidence={evidence}",
            *words,
        ]
        return CliRunner().invoke(cli, argv)

    return run


def test_the_command_says_it_of_every_boundary(tmp_path: Path, claims: dict[str, Claim], bisect: Any) -> None:
    evidence = left_in(tmp_path / "ev", claims, ran("4.14.67", HOLDS), ran("4.19.79", REFUTED))
    said = bisect(evidence)
    assert said.exit_code == 0
    assert f"  {LOOPBACK} (4.18): between 4.14.67 and 4.19.79 (boundaries.toml: " in said.output
    assert "    tw-reuse.default: holds on 4.14.67, refuted on 4.19.79" in said.output
    assert "  always (" not in said.output
    assert "  ss-prints-a-header (" not in said.output
    assert "  initial-rto-is-one-second (3.1): no kernel at hand lies before it, the oldest is 4.14.67" in said.output
    assert "  syn-queue-holds-one-more (6.13): no kernel at hand lies after it, the newest is 4.19.79" in said.output


def test_a_contradiction_ends_with_one(tmp_path: Path, claims: dict[str, Claim], bisect: Any) -> None:
    evidence = left_in(tmp_path / "ev", claims, ran("4.14.67", REFUTED), ran("4.19.79", REFUTED))
    said = bisect(evidence, "--json")
    walked = json.loads(said.output)
    (contradicted,) = (each for each in walked["findings"] if each["standing"] == "contradicted")
    assert (said.exit_code, contradicted["name"]) == (1, LOOPBACK)
    assert contradicted["contradictions"][0]["kernel"] == "4.14.67"


def test_no_kernel_is_no_answer(tmp_path: Path, bisect: Any) -> None:
    (tmp_path / "empty").mkdir()
    said = bisect(tmp_path / "empty")
    assert (said.exit_code, type(said.exception).__name__) == (1, "BadInput")


def test_evidence_that_cannot_be_read_ends_with_two(tmp_path: Path, claims: dict[str, Claim], bisect: Any) -> None:
    evidence = left_in(tmp_path / "ev", claims, ran("4.14.67", HOLDS), ran("4.19.79", REFUTED))
    assert bisect(evidence).exit_code == 0
    (evidence / "broken.json").write_text("{")
    said = bisect(evidence)
    assert said.exit_code == 2
    assert "not all can be read: " in said.output


def test_what_it_does_not_understand_is_a_mistake_of_usage(tmp_path: Path, bisect: Any) -> None:
    assert bisect(tmp_path / "nowhere").exit_code != 0
    assert CliRunner().invoke(cli, ["bisect", "--all", "tw-reuse.default"]).exit_code == 2
    assert CliRunner().invoke(cli, ["bisect", "tw-reuse.default"]).exit_code == 2


def test_a_run_remembers_what_was_asked(claims: dict[str, Claim]) -> None:
    from harness.claims.record import ClaimRun
    from harness.laws import before, since

    since(MONOTONIC)
    record = ClaimRun(claims[NAME])
    before(LOOPBACK)
    assert record.as_evidence("test_reuse.py::test_default").asked == (LOOPBACK,)


# What is run.


class Ran:
    """In place of pytest sessions: leaves evidence as one would, and remembers what was asked of it."""

    def __init__(self, claims: dict[str, Claim], shortfall: str = "") -> None:
        self.claims = claims
        self.asked: list[tuple[str, list[str]]] = []
        self._shortfall = shortfall

    @contextmanager
    def sessions(
        self, kernels: list[Chosen], directory: Path, *, scenarios: Path, claims: list[str]
    ) -> Iterator[list[Ran]]:
        ((name, word, how),) = kernels
        assert (scenarios / "claims").is_dir()
        self.asked.append((word, claims))
        self.how = list(how)
        if not self._shortfall:
            directory.mkdir(parents=True, exist_ok=True)
            left_in(directory / name, self.claims, ran(name, HOLDS if name < "4.18" else REFUTED))
        yield [self]

    def shortfall(self) -> str:
        return self._shortfall


@pytest.fixture
def two_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [Archived(f"{version}-test", version) for version in ("4.14.67", "4.19.79")]
    monkeypatch.setattr("harness.cli.walking._targets", lambda _: here)


@pytest.mark.usefixtures("two_kernels")
def test_what_has_not_run_is_run_and_found_again(
    tmp_path: Path, claims: dict[str, Claim], bisect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Ran(claims)
    monkeypatch.setattr("harness.cli.settling.sessions", runner.sessions)
    evidence = left_in(tmp_path / "ev", claims, ran("4.19.79", REFUTED))
    first = bisect(evidence)
    assert (first.exit_code, runner.asked) == (0, [("4.14.67-test", [])])
    assert f"  {LOOPBACK} (4.18): between 4.14.67 and 4.19.79" in first.output
    again = bisect(evidence)
    assert (again.exit_code, len(runner.asked)) == (0, 1)


@pytest.mark.usefixtures("two_kernels")
def test_what_another_machine_measured_does_not_stand_for_the_one_that_is_described(
    tmp_path: Path, claims: dict[str, Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Ran(claims)
    monkeypatch.setattr("harness.cli.settling.sessions", runner.sessions)
    monkeypatch.chdir(tmp_path)
    words = ["bisect", "--all", "--scenarios", str(tmp_path / "scenarios"), "--guest-memory", "1G"]
    for _ in range(2):
        assert CliRunner().invoke(cli, words).exit_code == 0
        assert [word for word, _ in runner.asked] == ["4.14.67-test", "4.19.79-test"]
        assert runner.how == ["--tcp-guest-memory=1G"]
    CliRunner().invoke(cli, words[:-2])
    assert (len(runner.asked), runner.how) == (4, [])


def test_no_machine_is_described_for_evidence_alone(tmp_path: Path, claims: dict[str, Claim], bisect: Any) -> None:
    said = bisect(left_in(tmp_path / "ev", claims, ran("4.19.79", REFUTED)), "--guest-memory", "2G")
    assert (said.exit_code, said.stdout) == (1, "")
    assert str(said.exception) == "--guest-memory=2G: no kernel is started: there is evidence, and no --kernel"


@pytest.mark.usefixtures("two_kernels")
def test_what_did_not_run_is_said_and_ends_with_two(
    tmp_path: Path, claims: dict[str, Claim], bisect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cli.settling.sessions", Ran(claims, "4.14.67 did not run: no room").sessions)
    said = bisect(left_in(tmp_path / "ev", claims, ran("4.19.79", REFUTED)))
    assert said.exit_code == 2
    assert "4.14.67 did not run: no room" in said.stderr
