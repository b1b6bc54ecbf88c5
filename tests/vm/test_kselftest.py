"""A test program of the kernel's on another kernel: programs that it starts are there, its results come out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .conftest import Project
from .test_kernels import counts

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """\
#!/bin/bash
source lib.sh
echo 1..2
[ "$(ls /sys/class/net)" = lo ] && [ -d "$(mktemp -d)" ] && told "ok 1 world"
ip netns add other && ip -n other link add dummy0 type dummy && ip netns del other || exit 1
sleep 3600
told "not ok 2 kernel $(uname -r)"
exit 1
"""


def test_programs_run_on_another_kernel(tmp_path: Path, project: Project) -> None:
    net = tmp_path / "net"
    net.mkdir()
    (net / "settings").write_text("timeout=7200\n")
    (net / "lib.sh").write_text("told() { echo $*; }\n")
    (net / "Makefile").write_text("TEST_PROGS := a.sh\n")
    (net / "a.sh").write_text(PROGRAM)
    (net / "a.sh").chmod(0o755)
    (net / "pytest.ini").write_text("[pytest]\n")
    kernel = project.kernels[-1]
    result = Project(net, project.kernels, project.until).run("--tcp-kselftest", *project.on(kernel), "-rA")
    assert counts(result) == {"passed": 1, "failed": 2}, result.stdout + result.stderr
    assert f"PASSED a.sh::world[{kernel.version}]" in result.stdout
    assert f"FAILED a.sh::kernel {kernel.release}[{kernel.version}]" in result.stdout
