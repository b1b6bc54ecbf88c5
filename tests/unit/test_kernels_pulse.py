"""What is a sign of death in a machine that says nothing, and what is not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from harness.kernels import pulse
from harness.kernels.pulse import LATE, Turn, _sign


def registers(*cpus: tuple[int, int]) -> str:
    """As QEMU prints them: the flags, and whether the CPU halts."""
    return "".join(
        f"CPU#{n}\r\nRIP=ffffffff81a RFL={flags:08x} [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT={halted}\r\n"
        for n, (flags, halted) in enumerate(cpus)
    )


TAKES, TAKES_NOT = 0x246, 0x46
DEAD = "a CPU does not take interrupts any more"


@pytest.mark.parametrize(
    ("ran", "states", "state", "sign"),
    [
        (0.5, {"R", "S"}, ("running", registers((TAKES, 0))), None),
        (0.0, {"S"}, ("running", registers((TAKES, 1))), None),
        (0.5, {"R"}, ("running", registers((TAKES_NOT, 0))), DEAD),
        (0.0, {"S"}, ("running", registers((TAKES_NOT, 1))), DEAD),
        (0.5, {"R"}, ("running", registers((TAKES, 0), (TAKES_NOT, 0))), DEAD),
        # It had no processor in between: where it was then, it is still.
        (0.0, {"R"}, ("running", registers((TAKES_NOT, 0))), LATE),
        (0.0, {"T"}, None, "QEMU has been stopped by a signal"),
        (0.0, {"S"}, None, "QEMU does not answer"),
        # Waits for a processor, or for a disk; or works, and has not come to answering.
        (0.0, {"R", "S"}, None, LATE),
        (0.0, {"D", "S"}, None, LATE),
        (0.3, {"S"}, None, LATE),
        (0.1, {"S"}, ("inmigrate", ""), None),
        (0.1, {"S"}, ("internal-error", ""), "QEMU says that it is internal-error"),
        (0.0, set(), None, LATE),
    ],
)
def test_signs(ran: float, states: set[str], state: tuple[str, str] | None, sign: str | None) -> None:
    assert _sign(ran, states, state) == sign


@pytest.mark.parametrize(
    ("looks", "seconds"),
    [
        ([(0.0, {"S"}), (0.1, {"S"})], 20.0),
        ([(2.0, {"R", "S"}), (5.0, {"R", "S"})], 5.0),
        ([(0.0, {"D"}), (0.5, {"D"})], 0.5),
        ([(3.0, {"R"}), (3.0, {"S"})], 13.0),
        ([(0.0, {"T"}), (0.0, {"T"})], 20.0),
    ],
    ids=["idle", "works", "waits for a disk", "works, then idle", "stopped"],
)
def test_time_spent_waiting_for_a_processor_is_not_its_own(
    monkeypatch: pytest.MonkeyPatch, looks: list[tuple[float, set[str]]], seconds: float
) -> None:
    """Ten seconds pass between two looks."""
    clock = iter([0.0, *(10.0 * n for n in range(1, len(looks) + 1))])
    answers = iter(looks)
    monkeypatch.setattr(pulse, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(pulse, "_threads", lambda _: next(answers))
    turn = Turn(1)
    for _ in looks:
        turn.look()
    assert turn.seconds == seconds
