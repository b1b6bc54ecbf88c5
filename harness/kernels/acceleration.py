"""Whether KVM runs kernels here: that /dev/kvm is there says little, so a kernel is booted with it once."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from harness.kernels import image, places
from harness.orphans import die_with_parent

# What QEMU is told for real time with KVM, and without. Emulated processors take turns: 7.3.4 panicked once as it
# booted in QEMU 7.2 on a busy machine, "Oops: int3" in sched_clock_cpu(). Where they run at once, one can execute
# the int3 that another has taken back from the kernel's code (arch/x86/kernel/alternative.c). The trace fits; it
# was not made to happen again.
KVM = ("-cpu", "host", "-accel", "kvm")
TCG = ("-cpu", "qemu64,-cx16", "-accel", "tcg,thread=single,tb-size=512")
# How long the kernel may take until it misses a file system, in seconds: with KVM that is one or two.
PATIENCE = 30.0
# The kernel's last word when it has no file system: by then it has started its CPUs, its timers and its drivers.
LAST_WORD = b"Kernel panic - not syncing: VFS"


def arguments(qemu: str, kernel: Path) -> tuple[str, ...]:
    """What QEMU is to be told for real time: KVM where that kernel boots with it, otherwise emulation.

    What came out holds until the machine boots again, and is kept in the cache.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return TCG
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    remembered = places.cache() / f"accelerator-{boot}"
    if not remembered.exists():
        for old in places.cache().glob("accelerator-*"):
            old.unlink(missing_ok=True)
        image.write(remembered, [b"kvm" if boots(qemu, kernel, KVM) else b"tcg"])
    return KVM if remembered.read_bytes() == b"kvm" else TCG


def boots(qemu: str, kernel: Path, how: tuple[str, ...], *, patience: float = PATIENCE) -> bool:
    """Whether QEMU brings a kernel so far that it looks for a file system, of which there is none."""
    words = [qemu, *how, "-smp", "2", "-M", "pc", "-m", "256", "-nodefaults", "-no-user-config", "-display", "none"]
    words += ["-no-reboot", "-serial", "stdio", "-kernel", str(kernel), "-append", "console=ttyS0,115200 panic=-1"]
    try:
        tried = subprocess.run(
            words, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience,
            start_new_session=True, preexec_fn=die_with_parent,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return LAST_WORD in tried.stdout
