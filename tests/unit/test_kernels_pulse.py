"""What is a sign of death in a machine that says nothing, and what is not."""

from __future__ import annotations

import pytest

from harness.kernels.pulse import LATE, _sign


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
