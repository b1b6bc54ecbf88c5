"""Sets of releases: what they have in common, what is outside, and that their text is read as it was meant."""

from __future__ import annotations

from itertools import product

import pytest

from harness.errors import BadInput
from harness.laws.kernel import KernelVersion
from harness.laws.releases import ALL, Ranges, intersect, join, outside, parse, spell, within

SETS = [
    "all",
    ">=4.10",
    "<5.4",
    ">=4.10,<5.4",
    "5.4.290+ or 5.10.234+ or >=6.12.10",
    "<5.4.290 or >=5.5,<5.10.234 or >=5.11,<6.12.10",
    "4.19.77+ or >=5.4",
]
KERNELS = ["3.0", "4.9", "4.10", "4.19.76", "4.19.77", "5.4", "5.4.290", "5.5", "5.10.234", "5.11", "6.12.9", "6.12.10"]


def members(ranges: Ranges) -> list[str]:
    return [kernel for kernel in KERNELS if within(KernelVersion.parse(kernel), ranges)]


@pytest.mark.parametrize("text", SETS)
def test_the_text_is_read_as_it_was_meant(text: str) -> None:
    assert spell(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("==4.19.*", ">=4.19,<4.20"),
        ("==3.*", ">=3.0,<4.0"),
        (">= 4.10 , < 5.4", ">=4.10,<5.4"),
        (">=5.4 or 4.19.77+", "4.19.77+ or >=5.4"),
        ("6.12.10+ or >=6.13", ">=6.12.10"),
        (">=4 or >=3", ">=3.0"),
    ],
)
def test_other_ways_to_write_it(text: str, same: str) -> None:
    assert spell(parse(text)) == same


@pytest.mark.parametrize(("some", "others"), list(product(SETS, SETS)))
def test_what_two_have_in_common_and_together(some: str, others: str) -> None:
    one_side, other_side = parse(some), parse(others)
    both = [kernel for kernel in members(one_side) if kernel in members(other_side)]
    assert members(intersect(one_side, other_side)) == both
    either = [kernel for kernel in KERNELS if kernel in members(one_side) or kernel in members(other_side)]
    assert members(join((*one_side, *other_side))) == either


@pytest.mark.parametrize("text", SETS)
def test_outside_is_every_other_kernel(text: str) -> None:
    ranges = parse(text)
    assert members(outside(ranges)) == [kernel for kernel in KERNELS if kernel not in members(ranges)]
    assert outside(outside(ranges)) == ranges
    assert join((*ranges, *outside(ranges))) == ALL


def test_nothing_is_outside_of_all() -> None:
    assert outside(ALL) == ()
    assert outside(()) == ALL


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (">=5.0,<4.0", "the range is empty"),
        ("newer", "not a range of versions"),
        ("<=4.0", "write a range with >= and <"),
        (">=7.0rc3", "'7.0rc3' is not a release"),
        ("5.10+", "not a range of versions"),
    ],
)
def test_what_is_no_range(text: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        parse(text)
