"""Scripts of packetdrill on another kernel: the program is sent there, and the guest has what scripts start."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from tests.packetdrill import SERVER, WRONG, stand_in

from .test_kernels import counts

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Project


def test_scripts_run_on_another_kernel(project: Project, tmp_path: Path) -> None:
    """By the real packetdrill where this machine has it, otherwise by the stand-in: it is sent all the same."""
    real = os.environ.get("PACKETDRILL") or shutil.which("packetdrill")
    program = real or str(stand_in(tmp_path))
    (project.directory / "good.pkt").write_text(SERVER if real else "ok\n")
    (project.directory / "wrong-v6.pkt").write_text(WRONG if real else "not ok\n")
    kernel = project.kernels[-1]
    try:
        result = project.run(f"--tcp-packetdrill={program}", *project.on(kernel), "-k", ".pkt")
    finally:
        for script in project.directory.glob("*.pkt"):
            script.unlink()
    assert counts(result) == {"passed": 3, "failed": 1}, result.stdout + result.stderr
    assert f"FAILED wrong-v6.pkt::ipv6[{kernel.version}] - wrong-v6.pkt:" in result.stdout
    assert "error handling packet: " in result.stdout
