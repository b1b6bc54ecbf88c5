"""Claims in pytest: from the marker to the record, and from the record to the report."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from _pytest.junitxml import xml_key

from harness.errors import ClaimError, HarnessError, WorkerLost
from harness.files import is_directory
from harness.plugin import failing, kernels, options
from harness.plugin.process import is_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _pytest.runner import CallInfo

    from harness.claims.record import ClaimRun
    from harness.evidence.types import Claim, Run

CLAIM: pytest.StashKey[Claim] = pytest.StashKey()
PROBLEM: pytest.StashKey[str] = pytest.StashKey()
RECORD: pytest.StashKey[ClaimRun] = pytest.StashKey()

# Attributes of a report: a run with its claim as harness.evidence.codec writes it, and the bytes of a pcapng file.
EVIDENCE = "harness_evidence"
PACKETS = "harness_packets"
# The outcome that pytest-rerunfailures gives to the report of an attempt that is not the last.
RUN_AGAIN = "rerun"


@dataclass(frozen=True)
class Lost:
    """A test of a claim that was lost with its worker: the claim, what the test needs, where it ran, what happened.

    `kernel` is the kernel's name in the test's id, "" without --tcp-kernel; `release` what `uname -r` has there.
    """

    claim: str
    options: tuple[str, ...]
    kernel: str
    release: str
    how: str


def assign(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Give each marked test its claim; returns what is wrong with markers and files, a line each."""
    library = Library(config)
    problems: dict[str, None] = {}
    for item in items:
        try:
            name = _claim_named_by(item)
            if name is not None:
                item.stash[CLAIM] = library.find(name, item.path)
        except ClaimError as error:
            item.stash[PROBLEM] = str(error)
            problems[str(error)] = None
    return list(problems)


def give(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each marked test its claim; one that does not exist is a mistake of usage, not of a test."""
    problems = assign(config, items)
    if problems and not is_worker(config):
        raise pytest.UsageError(*problems)


def refuse_malformed(config: pytest.Config) -> None:
    """UsageError for claim files that are malformed, before anything is started."""
    problems = [] if is_worker(config) else malformed(config)
    if problems:
        raise pytest.UsageError(*problems)


def malformed(config: pytest.Config) -> list[str]:
    """What is wrong with the claim files that the session will need, as far as its arguments tell, a line each."""
    from harness.claims.files import load

    problems: list[str] = []
    known: dict[str, Claim] = {}
    for place in claim_places(config):
        try:
            known |= load(place)
        except ClaimError as error:
            problems.append(str(error))
    if known and not problems:
        problems += filter(None, (_unknown(name, known) for name in config.getoption("tcp_claim")))
    return problems


def _unknown(name: str, known: dict[str, Claim]) -> str:
    """What is wrong with a name of --tcp-claim, with the nearest names of claims and groups; "" if nothing is."""
    from difflib import get_close_matches

    groups = list(dict.fromkeys(claim.group for claim in known.values()))
    if name in known or name in groups:
        return ""
    # By the whole name, by the group, or by what stands behind the point.
    ids = {claim.id: claim.name for claim in known.values()}
    near = get_close_matches(name, [*known, *groups, *ids], n=3, cutoff=0.6)
    near += [claim for claim in known if name in claim]
    names = list(dict.fromkeys(ids.get(match, match) for match in near))[:3]
    nearest = f"the nearest: {', '.join(names)}" if names else f"the groups are {', '.join(groups)}"
    return f"--tcp-claim: no claim is named {name!r}; {nearest}"


def claim_places(config: pytest.Config) -> list[Path]:
    """The configured claim files, or the claims/ of the directories that pytest was told to run."""
    configured: list[Path] = options.setting(config, "claim-files")
    arguments = [Path(config.invocation_params.dir, argument.partition("::")[0]) for argument in config.args]
    beside = [(path if is_directory(path) else path.parent) / "claims" for path in arguments]
    return configured or list(dict.fromkeys(place for place in beside if any(place.glob("*.toml"))))


def _claim_named_by(item: pytest.Item) -> str | None:
    markers = list(item.iter_markers("claim"))
    if not markers:
        return None
    where = f"{item.nodeid}:"
    if len(markers) > 1:
        raise ClaimError(f"{where} a test settles one claim, its markers name {len(markers)}")
    arguments = markers[0].args
    if len(arguments) != 1 or not isinstance(arguments[0], str):
        raise ClaimError(f'{where} write the marker as claim("group.id")')
    return arguments[0]


class Library:
    """The claim files of a session, each read once."""

    def __init__(self, config: pytest.Config) -> None:
        self._root = config.rootpath
        self._configured: list[Path] = options.setting(config, "claim-files")
        self._read: dict[Path, dict[str, Claim]] = {}

    def find(self, name: str, test: Path) -> Claim:
        """The claim that a test means; ClaimError if its files are malformed or have no such claim."""
        from harness.claims import files

        claims: dict[str, Claim] = {}
        for place in self._configured or [self._beside(test)]:
            if place not in self._read:
                self._read[place] = files.load(place)
            claims |= self._read[place]
        try:
            return files.find(name, claims)
        except ClaimError as error:
            raise ClaimError(f"{test}: {error}") from None

    def _beside(self, test: Path) -> Path:
        for directory in test.parents:
            place = directory / "claims"
            if any(place.glob("*.toml")):
                return place
            if directory == self._root:
                break
        raise ClaimError(f"{test}: no claims/*.toml beside it; set pytest's `tcp_claim_files` to where they are")


def record_of(item: pytest.Item) -> ClaimRun | None:
    """The record of the test's claim, begun when first asked for; None for a test without a claim."""
    if item.stash.get(PROBLEM, None):
        pytest.fail(item.stash[PROBLEM], pytrace=False)
    claim = item.stash.get(CLAIM, None)
    if claim is None:
        return None
    if RECORD not in item.stash:
        from harness.claims.record import ClaimRun

        item.stash[RECORD] = ClaimRun(claim)
    return item.stash[RECORD]


def begin_anew(item: pytest.Item) -> None:
    """Forget what an earlier attempt of the test has measured: a plugin may run a test again that has failed."""
    if RECORD not in item.stash:
        return
    said = _properties(item.stash[RECORD])
    item.user_properties[:] = [each for each in item.user_properties if each not in said]
    del item.stash[RECORD]


@contextmanager
def settling(item: pytest.Item) -> Iterator[None]:
    """Around the test's own code: time it, draw the verdict at its end, and stop its captures."""
    record = record_of(item)
    if record is None:
        yield
        return
    from harness.claims.failures import ClaimFailure

    record.started = time.time()
    begun = time.perf_counter()
    try:
        yield
        try:
            record.settle()
        except ClaimFailure as failure:
            raise pytest.fail.Exception(f"{record.outcome}: {failure}", pytrace=False) from None
    except pytest.skip.Exception as error:
        record.leave_unsettled(str(error))
        raise
    except BaseException as error:
        if record.outcome is None:
            record.fail(error)
        raise
    finally:
        record.duration = time.perf_counter() - begun
        record.stop_captures()
        item.user_properties += _properties(record)


def _properties(record: ClaimRun) -> list[tuple[str, object]]:
    """What JUnit's XML says of a run."""
    verdict = str(record.verdict or record.outcome)
    return [("claim", record.claim.name), ("verdict", verdict), ("kernel", str(record.kernel))]


def _options(item: pytest.Item) -> list[str]:
    """The options that the run could not do without."""
    marked = {"full_size": "--tcp-full-size", "machine_wide": "--tcp-own-kernel"}
    needed = [option for marker, option in marked.items() if item.get_closest_marker(marker)]
    return [option for option in needed if item.config.getoption(option.lstrip("-").replace("-", "_"))]


def attach(item: pytest.Item, call: CallInfo[None], report: pytest.TestReport) -> None:
    """Put the evidence of a claim's run on the report that ends it, and the part that matters into a failure."""
    ends_the_run = report.when == "call" or (report.when == "setup" and not report.passed)
    if not ends_the_run or item.stash.get(CLAIM, None) is None:
        return
    record = record_of(item)
    assert record is not None
    if report.when == "setup" and call.excinfo is not None:
        if report.skipped:
            record.leave_unsettled(str(call.excinfo.value))
        else:
            record.fail(call.excinfo.value)
        item.user_properties += _properties(record)
    from harness.claims import render
    from harness.evidence.moved import moved

    params = item.callspec.id if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ""
    kernel = kernels.kernel_of(item.config) or ""
    run = _put_on(report, record, record.as_evidence(item.nodeid, params, _options(item), kernel_name=kernel))
    if report.failed:
        failing.begin_with(report, moved(run))
        title = f"claim {record.claim.name} [{params}] on {record.kernel}"
        report.sections.append((title, "\n".join(render.failure_lines(run, record.exchanges()))))


def of_test(item: pytest.Item) -> tuple[str, tuple[str, ...]] | None:
    """The claim of a test and the options that it does not run without; None for a test without a claim."""
    claim = item.stash.get(CLAIM, None)
    return None if claim is None else (claim.name, tuple(_options(item)))


def attach_lost(report: pytest.TestReport, lost: Lost, config: pytest.Config) -> None:
    """Put evidence on the report of a test that its worker did not survive: the run of its claim has failed."""
    from harness.claims.record import ClaimRun
    from harness.laws.kernel import KernelVersion

    test = config.rootpath / report.nodeid.partition("::")[0]
    try:
        record = ClaimRun(Library(config).find(lost.claim, test), kernel=KernelVersion.parse(lost.release))
    except HarnessError:  # the files have changed meanwhile; that the test has failed is said all the same
        return
    record.fail(WorkerLost(f"the test was not finished: {lost.how}"))
    params = report.nodeid.partition("[")[2].removesuffix("]")
    _put_on(report, record, record.as_evidence(report.nodeid, params, lost.options, kernel_name=lost.kernel))
    report.user_properties += _properties(record)
    # pytest's XML takes properties from the report of a test's end, which there is none of.
    xml = config.stash.get(xml_key, None)
    if xml is not None:
        for name, value in report.user_properties:
            xml.node_reporter(report).add_property(name, str(value))


def _put_on(report: pytest.TestReport, record: ClaimRun, run: Run) -> Run:
    """Put a run with its claim, and its packets, on the report that ends it."""
    from harness.evidence.codec import encode_settled

    setattr(report, EVIDENCE, encode_settled(record.claim, run))
    if record.packets is not None:
        setattr(report, PACKETS, record.packets)
    return run
