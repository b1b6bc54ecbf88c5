"""vagrant/Vagrantfile is valid for both providers, and its machines are the kernels of the box."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VAGRANT = shutil.which("vagrant")

pytestmark = pytest.mark.skipif(VAGRANT is None, reason="vagrant is not installed; on Debian: apt-get install vagrant")


def run(*words: str, scratch: Path, provider: str = "libvirt", file: Path | None = None) -> str:
    """What vagrant printed, as it ended with status 0 or not: "0: ..."; nothing of it is left outside of `scratch`."""
    programs = scratch / "programs"
    programs.mkdir(exist_ok=True)
    # All of VirtualBox that Vagrant asks before it reads the provider's settings.
    (programs / "VBoxManage").write_text("#!/bin/sh\necho 7.0.20r163906\n")
    (programs / "VBoxManage").chmod(0o755)
    ran = subprocess.run(
        ["vagrant", *words],
        cwd=(file or ROOT / "vagrant" / "Vagrantfile").parent,
        env=os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "TCP_HARNESS_VAGRANT": str(scratch),
            "VAGRANT_HOME": str(scratch / "home"),
            "VAGRANT_DOTFILE_PATH": str(scratch / "dotfiles"),
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_DEFAULT_PROVIDER": provider,
        },
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return f"{ran.returncode}: {ran.stdout}{ran.stderr}"


def with_libvirt(provider: str) -> None:
    if provider == "libvirt" and not Path("/usr/share/doc/vagrant-libvirt").exists():
        pytest.skip("vagrant-libvirt is not installed; on Debian: apt-get install vagrant-libvirt")


@pytest.mark.parametrize("provider", ["libvirt", "virtualbox"])
def test_it_is_valid(provider: str, tmp_path: Path) -> None:
    with_libvirt(provider)
    assert run("validate", scratch=tmp_path, provider=provider).startswith("0: ")


@pytest.mark.parametrize(("provider", "setting"), [("libvirt", "libvirt.memory"), ("virtualbox", "virtualbox.memory")])
def test_a_mistake_in_a_provider_s_settings_would_be_found(provider: str, setting: str, tmp_path: Path) -> None:
    with_libvirt(provider)
    file = tmp_path / "Vagrantfile"
    file.write_text((ROOT / "vagrant" / "Vagrantfile").read_text().replace(f"{setting} =", f"{setting}_of_it ="))
    assert run("validate", scratch=tmp_path, provider=provider, file=file).startswith("1: ")


def test_the_machines_are_named_after_the_kernels_of_the_box(tmp_path: Path) -> None:
    with_libvirt("libvirt")
    for kernel in ("6.9", "6.12", "7.3"):
        boot = tmp_path / "box" / "boot" / kernel
        boot.mkdir(parents=True)
        (boot / "cmdline").write_text("root=/dev/vda\n")
    told = run("status", "--machine-readable", scratch=tmp_path)
    assert [line.split(",")[1] for line in told.splitlines() if ",provider-name," in line] == ["k6.9", "k6.12", "k7.3"]
