"""Failed tests that have a lab and no claim: packets, counters and sockets of its hosts, as a claim has them.

Each host is captured from when it is made; nobody sees it of a test that passes. What the kernel complains of when a
test is over is kept too, of any test: no claim's evidence has it.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from harness.errors import HarnessError
from harness.plugin import kernels
from harness.plugin.claims import CLAIM, EVIDENCE, PACKETS
from harness.plugin.options import key, setting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.evidence.failed import FailedTest
    from harness.evidence.types import Moved
    from harness.lab import Host, Lab
    from harness.observe.capture import Capture
    from harness.observe.counters import Counters

# Of each host so many packets are kept, the first ones, and so many hosts are captured.
PACKETS_KEPT, HOSTS_CAPTURED = 1000, 16
# And so many packets of a host are shown at the terminal.
PACKETS_SHOWN = 12
# The setting that says whether, and what it may be.
SETTING, FAILED, NEVER = "lab-capture", "failed", "never"
# The attribute of a report that has a FailedTest.
FAILED_TEST = "harness_failed_test"


class Witness:
    """The labs of a test, and what is captured in them."""

    def __init__(self) -> None:
        self.labs: list[Lab] = []
        self.captures: list[Capture] = []
        self._before: dict[str, Counters] = {}

    def begin(self, host: Host) -> None:
        """Capture at a host from now on, where that can be done."""
        from harness.observe import capture

        if len(self.captures) < HOSTS_CAPTURED:
            with suppress(HarnessError, OSError):
                self.captures.append(capture(host, limit=PACKETS_KEPT).__enter__())

    def read(self) -> None:
        """The test's own code begins: what counters are now, they were before it."""
        from harness.claims import reading

        reader = reading.of_the_kernel()
        self._before = {name: reader.counters(host) for name, host in reading.hosts_of(self.labs).items()}

    def moved(self, name: str, host: Host) -> dict[str, Moved]:
        """The counters of a host that have moved since; those of a host that was made since, from zero on."""
        from harness.claims import reading

        return reading.moved(self._before.get(name), reading.of_the_kernel().counters(host))[1]

    def end(self) -> None:
        """Stop capturing."""
        for capture in self.captures:
            capture.__exit__(None, None, None)


WITNESS: pytest.StashKey[Witness] = pytest.StashKey()
# What a test's earlier attempt has told JUnit's XML.
TOLD: pytest.StashKey[list[tuple[str, object]]] = pytest.StashKey()


@contextmanager
def watching(item: pytest.Item, lab: Lab) -> Iterator[None]:
    """While a lab is up: its hosts are captured, if the test has no claim."""
    if item.stash.get(CLAIM, None) is not None:
        yield
        return
    witness = item.stash.setdefault(WITNESS, Witness())
    witness.labs.append(lab)
    if setting(item.config, SETTING) != NEVER:
        lab.on_host.append(witness.begin)
    try:
        yield
    finally:
        witness.end()
        del item.stash[WITNESS]


def settle(config: pytest.Config) -> None:
    """Whether the setting says something."""
    if setting(config, SETTING) not in (FAILED, NEVER):
        raise pytest.UsageError(f"{key(SETTING)} must be {FAILED} or {NEVER}, not {setting(config, SETTING)!r}")


def begin(item: pytest.Item) -> None:
    """The test's own code begins."""
    witness = item.stash.get(WITNESS, None)
    if witness is not None:
        witness.read()


def begin_anew(item: pytest.Item) -> None:
    """Forget what an earlier attempt of the test has told."""
    said = item.stash.get(TOLD, [])
    item.user_properties[:] = [each for each in item.user_properties if each not in said]


def attach(item: pytest.Item, report: pytest.TestReport) -> None:
    """Put what the hosts saw on the report of a failure, and the part that matters into what is shown of it."""
    witness = item.stash.get(WITNESS, None)
    if witness is None or not report.failed or report.when == "teardown":
        return
    from harness.claims import reading, render
    from harness.evidence.failed import FOLDER, encode, stem_of

    seen = _seen(item, report, witness)
    setattr(report, FAILED_TEST, encode(seen))
    if witness.captures:
        setattr(report, PACKETS, reading.pcapng(witness.captures))
    told: list[tuple[str, object]] = [
        ("kernel", seen.kernel.release),
        ("evidence", f"{FOLDER}/{stem_of(seen.nodeid)}.json"),
    ]
    item.stash[TOLD] = told
    item.user_properties += told
    report.user_properties += told
    lines = render.host_lines(seen.knobs, seen.counters, seen.sockets)
    exchanges = ((capture.host.name, capture.exchange()) for capture in witness.captures)
    lines += render.packet_lines(exchanges, shown=PACKETS_SHOWN)
    report.sections.append(("lab", "\n".join(lines)))


def is_kept(report: pytest.TestReport) -> bool:
    """Whether a report has evidence of its failure."""
    return hasattr(report, FAILED_TEST) or hasattr(report, EVIDENCE)


def attach_complaint(config: pytest.Config, report: pytest.TestReport, text: str) -> None:
    """Put what the kernel complained of when a test was over on the report that says so."""
    from harness.claims.record import kernel_of
    from harness.evidence.failed import FailedTest, encode, legible
    from harness.evidence.values import storable
    from harness.laws.kernel import running

    failure, kernel = text.partition("\n")[0], kernels.kernel_of(config) or ""
    test = FailedTest(report.nodeid, kernel_of(running()), storable(failure), kernel, legible(text))
    setattr(report, FAILED_TEST, encode(test))


def _seen(item: pytest.Item, report: pytest.TestReport, witness: Witness) -> FailedTest:
    from harness.claims import reading
    from harness.claims.record import kernel_of
    from harness.evidence.failed import FailedTest, legible
    from harness.evidence.types import Knob
    from harness.evidence.values import storable
    from harness.laws.kernel import running

    reader, hosts = reading.of_the_kernel(), reading.hosts_of(witness.labs)
    counters = {name: witness.moved(name, host) for name, host in hosts.items()}
    changed = {name: host.sysctl.changed for name, host in hosts.items()}
    crash = getattr(report.longrepr, "reprcrash", None)
    return FailedTest(
        nodeid=item.nodeid,
        kernel=kernel_of(running()),
        failure=storable(getattr(crash, "message", "").partition("\n")[0]),
        kernel_name=kernels.kernel_of(item.config) or "",
        text=legible(report.longreprtext),
        knobs={
            name: {knob: Knob(*values) for knob, values in knobs.items()} for name, knobs in changed.items() if knobs
        },
        counters={name: moved for name, moved in counters.items() if moved},
        sockets={name: table for name, host in hosts.items() if (table := reading.socket_table(host, reader)).total},
        packets_missed=sum(capture.dropped for capture in witness.captures),
    )
