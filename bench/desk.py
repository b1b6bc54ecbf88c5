"""How long the desk takes from an incident's files to its table of remedies."""

from __future__ import annotations

from bench.measure import Row
from harness.desk.catalogue import case_of
from harness.desk.trying import try_remedies
from harness.incident.read import read
from harness.lab import Lab, isolation

# Seconds, on a machine that does nothing else: some of it is waiting.
BOUND = 60.0
DIAGNOSIS = "accept-queue-full"


def remedies_of_a_full_queue() -> Row:
    """The remedies of an accept queue that overflows, each tried in a lab of its own."""
    from tests.lab.test_desk_incidents import serves_no_more

    isolation.isolate()
    with Lab() as lab:
        taken = serves_no_more(lab)
        table = try_remedies(case_of(read([taken]), DIAGNOSIS, here=True))
    return Row(
        f"{len(table.rows)} remedies of {DIAGNOSIS}",
        f"{table.seconds:.1f} s",
        "",
        f"at most {BOUND:g} s",
        table.seconds <= BOUND,
    )
