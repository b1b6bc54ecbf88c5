"""The law of local ports, against what the documents print."""

from __future__ import annotations

from harness.laws.kernel import KernelVersion
from harness.laws.ports import default_range


def test_the_default_range_has_lost_its_last_port() -> None:
    documents = {"4.1": "32768 61000", "4.2": "32768 60999", "7.3": "32768 60999"}
    ranges = {release: default_range(KernelVersion.parse(release)) for release in documents}
    assert {release: f"{ports[0]} {ports[-1]}" for release, ports in ranges.items()} == documents
    assert len(ranges["7.3"]) == 28232
