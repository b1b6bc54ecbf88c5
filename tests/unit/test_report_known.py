"""A claim's part of the report says how each boundary is known."""

from __future__ import annotations

from harness.report.page import known


def test_a_boundary_is_told_with_how_it_is_known() -> None:
    assert known("tw-reuse-by-milliseconds") == "tw-reuse-by-milliseconds, measured on 6.12.118 and 6.16.12"
    assert known("port-range-ends-at-60999").endswith(", read in the sources of 4.1.52 and 4.4.178")
    assert known("retries2-stands-for-a-time").endswith(", read in the sources")


def test_one_that_the_table_has_no_more_is_told_by_its_name() -> None:
    assert known("gone") == "gone"
