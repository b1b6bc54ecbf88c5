"""The table of boundaries is whole, and a kernel is on the side of each that its release and its series say."""

from __future__ import annotations

import re

import pytest

from harness.errors import BadInput
from harness.laws import BOUNDARIES, Boundary, How, before, boundary, how_known, since, uncertain
from harness.laws.kernel import KernelVersion, running

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
COMMIT = re.compile(r"[0-9a-f]{12}")
# On which the whole suite was run, or most of it.
RUN_ON = {
    *("4.9", "4.14.67", "4.19.79", "5.4.273", "5.10.262", "6.1.192", "6.12.118"),
    *("6.16.12", "6.17.13", "6.18.15", "6.18.44", "6.19.14", "7.0.13", "7.1.13", "7.2.13", "7.3.4"),
}
# The whole sources of which were read.
READ = {
    "3.7.2",
    "3.8.3",
    "3.9.6",
    "4.1.52",
    "4.2.8",
    "4.4.178",
    "4.9.154",
    "4.9.178",
    "4.14.5",
    "4.14.8",
    "4.14.67",
    "5.4.273",
}
ONE_MORE = "syn-queue-holds-one-more"


def kernel(release: str) -> KernelVersion:
    return KernelVersion.parse(release)


@pytest.mark.parametrize("entry", BOUNDARIES.values(), ids=lambda entry: entry.name)
def test_an_entry_is_whole(entry: Boundary) -> None:
    assert NAME.fullmatch(entry.name)
    assert entry.changed.endswith(".")
    assert entry.subject or entry.tool or entry.document
    assert not entry.commit or COMMIT.fullmatch(entry.commit)
    assert entry.subject or not entry.commit


@pytest.mark.parametrize("entry", BOUNDARIES.values(), ids=lambda entry: entry.name)
def test_what_was_seen_was_seen_on_both_sides(entry: Boundary) -> None:
    if entry.seen is not None:
        assert set(entry.seen) <= RUN_ON
        assert [since(entry.name, kernel(release)) for release in entry.seen] == [False, True]


@pytest.mark.parametrize("entry", BOUNDARIES.values(), ids=lambda entry: entry.name)
def test_what_was_read_was_read_on_both_sides(entry: Boundary) -> None:
    if entry.read is not None:
        assert set(entry.read) <= READ
        assert [since(entry.name, kernel(release)) for release in entry.read] == [False, True]


def test_no_commit_has_two_names() -> None:
    commits = [entry.commit for entry in BOUNDARIES.values() if entry.commit]
    assert len(set(commits)) == len(commits)


def test_point_releases_come_before_the_mainline_one() -> None:
    for entry in BOUNDARIES.values():
        for point in entry.stable:
            assert kernel(point) < kernel(entry.release)
            assert kernel(point).release[2] > 0


@pytest.mark.parametrize(
    ("release", "has_it"),
    [
        ("3.16", False),
        ("5.4.289", False),
        ("5.4.290", True),
        ("5.5", False),
        ("5.10.233", False),
        ("5.10.234", True),
        ("5.11", False),
        ("6.12.9", False),
        ("6.12.10", True),
        ("6.13-rc7", True),
        ("6.13", True),
        ("7.3", True),
    ],
)
def test_a_stable_series_has_what_went_to_it(release: str, has_it: bool) -> None:
    assert (since(ONE_MORE, kernel(release)), before(ONE_MORE, kernel(release))) == (has_it, not has_it)


def test_ranges_that_touch_are_one() -> None:
    assert boundary(ONE_MORE).ranges[-1] == ((6, 12, 10), None)
    assert boundary("tw-reuse-on-loopback").ranges == (((4, 18, 0), None),)


def test_what_a_program_does_it_does_on_every_kernel() -> None:
    assert since("ss-prints-a-header", kernel("3.0"))


def test_without_a_kernel_the_running_one_is_meant() -> None:
    for name in BOUNDARIES:
        assert since(name) == since(name, running())


def test_an_unknown_name_has_its_nearest_beside_it() -> None:
    with pytest.raises(BadInput, match="; the nearest: accept-queue-full-drops-syns"):
        boundary("accept-queue-full-drops-syn")


def test_a_series_that_nobody_looked_into_is_uncertain() -> None:
    ports = "timestamp-offset-by-ports"
    assert (since(ports, kernel("6.6.140")), uncertain(ports, kernel("6.6.140"))) == (False, True)
    assert (since(ports, kernel("6.12.93")), uncertain(ports, kernel("6.12.93"))) == (False, False)


def test_how_a_boundary_is_known() -> None:
    measured = how_known("tw-reuse-by-milliseconds")
    assert (measured.how, str(measured)) == (How.MEASURED, "measured on 6.12.118 and 6.16.12")
    assert how_known("always").how is How.ALWAYS
    assert how_known("tw-reuse-said-to-be-on").how is How.DOCUMENT
    assert how_known("ss-prints-a-header").how is How.PROGRAM
    assert str(how_known("retries2-stands-for-a-time")) == "read in the sources"
    assert str(how_known("syn-queue-follows-the-backlog")) == "read in the sources of 4.1.52 and 4.4.178"
    with pytest.raises(BadInput, match="no boundary"):
        how_known("nothing")


def test_a_range_of_a_series_is_uncertain() -> None:
    drops = "accept-queue-full-drops-syns"
    known = {release: uncertain(drops, kernel(release)) for release in ("4.9.154", "4.9.155", "4.9.177", "4.9.178")}
    assert known == {"4.9.154": False, "4.9.155": True, "4.9.177": True, "4.9.178": False}
    assert [since(drops, kernel(release)) for release in ("3.18.140", "4.9.154", "4.9.229")] == [False, False, True]
