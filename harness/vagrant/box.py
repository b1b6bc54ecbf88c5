"""The box: a Debian with several kernels beside it, of packages of Debian's and of requirements.lock.

The same packages give the same bytes. Nothing is mounted and no boot loader is needed: mmdebstrap makes the files,
mke2fs a file system of them, and QEMU is given kernel and initrd.
"""

from __future__ import annotations

import contextlib
import email
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from harness.errors import BadInput, Unsupported
from harness.kernels import acceleration, archive, machine
from harness.orphans import die_with_parent
from harness.vagrant import kernels, places, requirements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness.kernels.selection import Selection
    from harness.vagrant.kernels import MachineKernel

# The newest Debian that has a Python 3.11, which the project is written for.
SUITE = "bookworm"
PYTHON = "3.11"
# Beside what .ci/install wants on any machine.
PACKAGES = (
    *("systemd-sysv", "udev", "kmod", "initramfs-tools", "e2fsprogs", "openssh-server", "sudo", "rsync"),
    *("python3", "make", "git", "ca-certificates", "less", "iputils-ping"),
)
NAME = "tcp-harness"
# Of the file system: what is not used costs nothing.
GIGABYTES = 5
ROOM = 4.0
UUID = "7c9a4c54-0a6f-4a35-9b0a-7d2f3c1b5e11"
COMMAND_LINE = "root=/dev/vda rw console=ttyS0,115200 net.ifnames=0 mitigations=off oops=panic panic=-1 loglevel=5"
# Wheels of these platforms run in the box.
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)] + ["manylinux2014_x86_64", "linux_x86_64"]


def ensure(
    words: Sequence[str], selection: Selection, say: Callable[[str], None], *, anew: bool = False
) -> list[MachineKernel]:
    """Build the box for these kernels, unless it is there; the kernels.

    It appears whole or not at all. BadInput, MissingProgram, Unsupported.
    """
    requirements.programs(requirements.TO_BUILD)
    project = Path.cwd()
    if not (project / "vagrant" / "box" / "customise").is_file():
        raise BadInput(f"{project}: not the top of a clone of the project, which the box is made from")
    chosen = kernels.choose(words, selection)
    key = _key(chosen, project)
    if anew or not key <= _built(places.box()):
        places.need_room(ROOM, "building the box")
        places.downloads().mkdir(exist_ok=True)
        _sweep()
        with tempfile.TemporaryDirectory(prefix=".build-", dir=places.directory()) as temporary:
            Path(temporary).chmod(0o755)
            box = _build(chosen, selection, project, Path(temporary), say)
            (box / "key").write_text("\n".join(sorted(key)))
            _put(box, places.box())
    accelerator = acceleration.arguments(machine.qemu(), chosen[-1].stored.image)
    (places.box() / "driver").write_text("kvm\n" if accelerator == acceleration.KVM else "qemu\n")
    return chosen


def _key(chosen: Sequence[MachineKernel], project: Path) -> set[str]:
    """What the box is made from, as far as it is ours to say: each kernel, and all else. Debian's updates: --anew."""
    parts = {
        f"{kernel.series} {kernel.stored.release} {kernel.stored.enforce} {_digest([kernel.stored.image])}"
        for kernel in chosen
    }
    files = [project / name for name in ("requirements.lock", "pyproject.toml", ".ci/install")]
    files += [Path(__file__), Path(kernels.__file__)]
    files += [file for file in sorted((project / "vagrant" / "box").rglob("*")) if file.is_file()]
    return parts | {_digest(files)}


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {file.stat().st_mode & 0o100}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def _built(box: Path) -> set[str]:
    with contextlib.suppress(OSError):
        return set((box / "key").read_text().splitlines())
    return set()


def _sweep() -> None:
    """What a build left that was killed: we hold the lock, so nobody is at it."""
    for left in places.directory().glob(".build-*"):
        shutil.rmtree(left)


def _put(new: Path, box: Path) -> None:
    """Put the new box where the old one is; Vagrant's copy of the old one goes."""
    old = new.with_name("old")
    if box.exists():
        box.rename(old)
    new.rename(box)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(places.home(), ignore_errors=True)


def _build(
    chosen: Sequence[MachineKernel], selection: Selection, project: Path, work: Path, say: Callable[[str], None]
) -> Path:
    epoch = _moment(selection)
    root, box = work / "root", work / "box"
    files = work / "kernels" / "files"
    files.mkdir(parents=True)
    for kernel in chosen:
        say(f"{kernel.stored.release}: its modules")
        kernels.unpack(kernel, selection, files)
    say("the packages of requirements.lock")
    wheels = _wheels(project)
    say(f"Debian {SUITE}, {len(_packages(project))} packages and what they need")
    environment = {"KERNELS": files, "WHEELS": wheels, "PROJECT": project, "SOURCE_DATE_EPOCH": epoch}
    _debian(root, project, work, {name: str(value) for name, value in environment.items()})
    say("the file system")
    _settle_times(root, epoch)
    _assemble(root, chosen, files.parent / "initrd", box, epoch)
    return box


def _assemble(root: Path, chosen: Sequence[MachineKernel], initrds: Path, box: Path, epoch: int) -> None:
    """The box, out of the files of its Debian; beside it what QEMU boots."""
    box.mkdir()
    disk, image = box / "disk", box / "box.img"
    _file_system(root, disk, epoch)
    _run("qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd", str(disk), str(image))
    disk.unlink()
    _pack(image, box, epoch)
    image.unlink()
    for kernel in chosen:
        boot = box / "boot" / kernel.series
        boot.mkdir(parents=True)
        shutil.copyfile(kernel.stored.image, boot / "vmlinuz")
        shutil.copyfile(initrds / kernel.stored.release, boot / "initrd")
        enforce = " module.sig_enforce=1" * kernel.stored.enforce
        (boot / "cmdline").write_text(f"{COMMAND_LINE}{enforce}\n")
        (boot / "release").write_text(f"{kernel.stored.release}\n")


def _moment(selection: Selection) -> int:
    """The time of everything in the box, in seconds: that of the newest of Debian's indices which are read for it."""
    dates = []
    for suite in (SUITE, f"{SUITE}-security"):
        for file in selection.archive.directory.glob(f"state/lists/*dists_{suite}_*Release"):
            date = re.search(r"^Date: .*$", file.read_text(errors="replace"), re.MULTILINE)
            if date:
                dates.append(parsedate_to_datetime(email.message_from_string(date[0])["Date"]).timestamp())
    if not dates:
        raise Unsupported(f"no mirror that this machine's apt knows has Debian {SUITE}, which the box is made of")
    return int(max(dates))


def _packages(project: Path) -> list[str]:
    listed = subprocess.run(
        ["sh", ".ci/install", "packages"], cwd=project, check=True, capture_output=True, text=True
    ).stdout.split()
    return sorted({*PACKAGES, *listed})


def _wheels(project: Path) -> Path:
    """The wheels of requirements.lock for the box's Python, verified by the hashes that stand there."""
    lock = (project / "requirements.lock").read_text()
    wheels = places.downloads() / f"wheels-{hashlib.sha256(lock.encode()).hexdigest()[:12]}"
    if wheels.exists():
        return wheels
    for old in places.downloads().glob("wheels-*"):
        shutil.rmtree(old)
    with tempfile.TemporaryDirectory(prefix=".wheels-", dir=places.downloads()) as temporary:
        wanted = Path(temporary, "requirements.txt")
        wanted.write_text("".join(_for_the_box(lock)))
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        words += ["--only-binary", ":all:", "--disable-pip-version-check", "--no-input", "--no-cache-dir"]
        words += ["--python-version", PYTHON, "--implementation", "cp"]
        words += [word for platform in PLATFORMS for word in ("--platform", platform)]
        _run(*words, "--dest", f"{temporary}/wheels", "--requirement", str(wanted))
        Path(temporary, "wheels").rename(wheels)
    return wheels


def _for_the_box(lock: str) -> Iterator[str]:
    """The entries of the lock that the box's Python needs: pip judges their markers by the Python that it runs in."""
    environment = {
        "python_version": PYTHON, "python_full_version": f"{PYTHON}.2", "implementation_name": "cpython",
        "platform_python_implementation": "CPython", "os_name": "posix", "sys_platform": "linux",
        "platform_system": "Linux", "platform_machine": "x86_64",
    }  # fmt: skip
    for entry in re.findall(r"^[\w.-]+==(?:.*\\\n)*.*\n", lock, re.MULTILINE):
        head, hashes = re.split(r"\s*\\\n", entry, maxsplit=1)
        wanted = Requirement(head)
        if wanted.marker is None or wanted.marker.evaluate(environment):
            yield f"{wanted.name}{wanted.specifier} \\\n{hashes}"


def _debian(root: Path, project: Path, work: Path, environment: dict[str, str]) -> None:
    """Make the files, from the mirrors of this machine's apt, by way of its proxy if it has one."""
    mirrors = [source for source in archive.machine_sources() if source.suite in (SUITE, f"{SUITE}-security")]
    lines = [f"deb [signed-by={archive.KEYRING}] {mirror.uri} {mirror.suite} main" for mirror in mirrors]
    settings = work / "apt.conf"
    settings.write_text(_apt_settings())
    # In namespaces of its own: what it mounts and what it starts go with it, also when it is killed.
    _run(
        "unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--propagation=private", "--mount-proc",
        "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory", "--architectures=amd64",
        f"--include={','.join(_packages(project))}", f"--aptopt={settings}",
        '--customize-hook=sh "$PROJECT/vagrant/box/customise" "$1"',
        '--customize-hook=rm "$1/etc/apt/apt.conf.d/99mmdebstrap"',
        SUITE, str(root), *lines, environment=environment,
    )  # fmt: skip


def _apt_settings() -> str:
    """How this machine's apt reaches its mirrors."""
    settings = subprocess.run(["apt-config", "dump", "Acquire"], check=True, capture_output=True, text=True).stdout
    wanted = r"^Acquire::(?:https?::(?:Proxy|CaInfo|CAInfo|Verify-Peer|Timeout)|Retries)[\w:.-]* .*\n"
    return "".join(re.findall(wanted, settings, re.MULTILINE)) + 'Acquire::Languages "none";\n'


def _settle_times(root: Path, epoch: int) -> None:
    """What was written by the build itself is as old as its newest package."""
    for directory, folders, files in os.walk(root):
        for name in (*folders, *files, "."):
            path = os.path.join(directory, name)  # noqa: PTH118 - tens of thousands of them
            if os.lstat(path).st_mtime > epoch:
                os.utime(path, (epoch, epoch), follow_symlinks=False)


def _file_system(root: Path, image: Path, epoch: int, megabytes: int = GIGABYTES * 1024) -> None:
    """An ext4 of a directory, for Linux from 5.10 on. mke2fs copies the times of inodes as well: debugfs sets them."""
    settings = {"E2FSPROGS_FAKE_TIME": str(epoch), "SOURCE_DATE_EPOCH": str(epoch)}
    _run(
        "mke2fs", "-q", "-t", "ext4", "-O", "^orphan_file,^metadata_csum_seed", "-m", "1", "-L", NAME, "-U", UUID,
        "-E", f"hash_seed={UUID},root_owner=0:0,nodiscard", "-d", str(root), str(image), f"{megabytes}M",
        environment=settings,
    )  # fmt: skip
    described = _run("dumpe2fs", str(image))
    (count,) = re.findall(r"^Inode count: +(\d+)$", described, re.MULTILINE)
    free: set[int] = set()
    for line in re.findall(r"^  Free inodes: (.*)$", described, re.MULTILINE):
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", line):
            free.update(range(int(first), int(last or first) + 1))
    used = [inode for inode in range(1, int(count) + 1) if inode not in free]
    words = [f"set_inode_field <{inode}> {time} @{epoch}\n" for inode in used for time in ("ctime", "atime", "crtime")]
    _run("debugfs", "-w", "-f", "-", str(image), input_="".join(words), environment=settings)


def _pack(image: Path, into: Path, epoch: int) -> None:
    """The box as Vagrant takes it, and the catalogue that has its checksum, which Vagrant verifies."""
    about = json.dumps({"provider": "libvirt", "format": "qcow2", "virtual_size": GIGABYTES}).encode()
    box = into / f"{NAME}.box"
    with tarfile.open(box, "w", format=tarfile.USTAR_FORMAT) as out:
        for name, size, content in (
            ("metadata.json", len(about), io.BytesIO(about)),
            ("box.img", image.stat().st_size, image.open("rb")),
        ):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = size, epoch
            with content:
                out.addfile(entry, content)
    with box.open("rb") as opened:
        checksum = hashlib.file_digest(opened, "sha256").hexdigest()
    provider = {"name": "libvirt", "url": f"file://{places.box() / box.name}"}
    provider |= {"checksum_type": "sha256", "checksum": checksum}
    # Vagrant wants a number: boxes with other content have other numbers.
    version = f"{epoch}.{int(checksum[:8], 16)}"
    catalogue = {"name": NAME, "versions": [{"version": version, "providers": [provider]}]}
    (into / "catalogue.json").write_text(json.dumps(catalogue, indent=2) + "\n")


def _run(*words: str, environment: dict[str, str] | None = None, input_: str | None = None) -> str:
    """What a program printed; Unsupported, with what it said last, if it fails."""
    settings = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": requirements.SEARCH_PATH, **(environment or {})}
    ran = subprocess.run(
        words, check=False, env=settings,
        input=input_, stdin=None if input_ is not None else subprocess.DEVNULL, capture_output=True, text=True,
        preexec_fn=die_with_parent,
    )  # fmt: skip
    if ran.returncode:
        said = [line.strip() for line in (ran.stdout + ran.stderr).splitlines() if line.strip()]
        raise Unsupported(f"building the box: {Path(words[0]).name} fails: {' | '.join(said[-3:])}")
    return ran.stdout
