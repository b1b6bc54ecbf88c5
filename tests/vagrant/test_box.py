"""What a box is made of, and that the same files give the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from harness.errors import BadInput, Unsupported
from harness.kernels.catalogue import Kernel
from harness.kernels.indices import Package
from harness.kernels.store import Stored
from harness.vagrant import box, kernels, places, requirements
from tests.unit.test_kernels_packages import deb, needs_dpkg

ROOT = Path(__file__).parents[2]
EPOCH = 1_700_000_000
RELEASE = "6.12.1-amd64"
PROGRAMS = {"mke2fs", "debugfs", "dumpe2fs"}
needs_programs = pytest.mark.skipif(
    any(shutil.which(one, path="/usr/sbin:/sbin:/usr/bin:/bin") is None for one in PROGRAMS),
    reason="e2fsprogs is not installed; on Debian: apt-get install e2fsprogs",
)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(places.DIRECTORY, str(tmp_path / "ours"))
    return tmp_path / "ours"


def files(directory: Path, order: int) -> Path:
    """The same two hundred files, written in one order or the other."""
    directory.mkdir()
    for number in range(200)[::order]:
        (directory / f"f{number * 7919 % 10007}").write_text(f"{number}\n")
    (directory / "link").symlink_to("f0")
    os.utime(directory / "link", (1, 1), follow_symlinks=False)
    return directory


@needs_programs
def test_the_file_system_is_the_same_whenever_and_in_whichever_order_its_files_were_written(tmp_path: Path) -> None:
    images = []
    for order, name in ((1, "one"), (-1, "other")):
        made = files(tmp_path / name, order)
        os.utime(made / "f0", (order + 2, order + 2))
        os.utime(made / "f0", (3, 3))
        box._settle_times(made, EPOCH)
        image = tmp_path / f"{name}.img"
        box._file_system(made, image, EPOCH, megabytes=16)
        with image.open("rb") as opened:
            images.append(hashlib.file_digest(opened, "sha256").hexdigest())
    assert images[0] == images[1]


@needs_programs
def test_the_file_system_has_nothing_that_linux_5_10_does_not_know(tmp_path: Path) -> None:
    box._file_system(files(tmp_path / "files", 1), tmp_path / "image", EPOCH, megabytes=16)
    told = subprocess.run(["dumpe2fs", "-h", tmp_path / "image"], capture_output=True, text=True, check=True)
    (features,) = [line for line in told.stdout.splitlines() if line.startswith("Filesystem features:")]
    assert "extent" in features
    assert "orphan_file" not in features


def test_only_what_the_build_wrote_is_given_its_moment(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for file, time in ((old, EPOCH - 5), (new, EPOCH + 5)):
        file.touch()
        os.utime(file, (time, time))
    box._settle_times(tmp_path, EPOCH)
    assert [file.stat().st_mtime for file in (old, new, tmp_path)] == [EPOCH - 5, EPOCH, EPOCH]


def test_the_box_s_python_is_judged_and_not_ours() -> None:
    lock = (
        'for-old==1.0 ; python_full_version < "3.12" \\\n    --hash=sha256:aa\n'
        'for-new==1.0 ; python_full_version >= "3.12" \\\n    --hash=sha256:bb\n'
        "plain==2.0 \\\n    --hash=sha256:cc \\\n    --hash=sha256:dd\n    # via for-old\n"
        'windows==1.0 ; sys_platform == "win32" \\\n    --hash=sha256:ee\n'
    )
    assert list(box._for_the_box(lock)) == [
        "for-old==1.0 \\\n    --hash=sha256:aa\n",
        "plain==2.0 \\\n    --hash=sha256:cc \\\n    --hash=sha256:dd\n",
    ]


def test_every_entry_of_the_lock_is_understood() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert len(list(box._for_the_box(lock))) > 40
    assert {"pytest", "scapy"} <= {entry.partition("==")[0] for entry in box._for_the_box(lock)}


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        ("kernel/drivers/net/veth.ko.xz", True),
        ("kernel/drivers/block/virtio_blk.ko", True),
        ("kernel/net/netfilter/nf_tables.ko", True),
        ("kernel/net/sched/sch_netem.ko.xz", True),
        ("kernel/fs/ext4/ext4.ko", True),
        ("modules.builtin.modinfo", True),
        ("kernel/drivers/gpu/drm/drm.ko", False),
        ("kernel/net/bluetooth/bluetooth.ko", False),
        ("kernel/drivers/net/ethernet/intel/ice/ice.ko", False),
    ],
)
def test_modules_for_networks_and_virtual_machines_are_taken(module: str, wanted: bool) -> None:
    assert bool(kernels.WANTED.fullmatch(module)) is wanted


def package(directory: Path, content: bytes, **more: bytes) -> Path:
    """A kernel's package."""
    files = {
        f"./boot/vmlinuz-{RELEASE}": content,
        f"./usr/lib/modules/{RELEASE}/kernel/drivers/net/veth.ko": b"veth",
        f"./usr/lib/modules/{RELEASE}/kernel/drivers/gpu/drm/drm.ko": b"drm",
    } | more

    def fill(archive: tarfile.TarFile) -> None:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))

    return deb(directory / "linux-image.deb", fill)


def cached(tmp_path: Path) -> kernels.MachineKernel:
    image = tmp_path / "image"
    image.write_bytes(b"the kernel")
    return kernels.MachineKernel("6.12", Stored(RELEASE, "6.12.1", image, {}), ())


@needs_dpkg
def test_the_modules_come_from_the_package_of_the_very_kernel_in_the_cache(tmp_path: Path) -> None:
    assert kernels._unpack(package(tmp_path, b"the kernel"), cached(tmp_path), tmp_path / "out")
    there = [str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*.ko")]
    assert there == [f"usr/lib/modules/{RELEASE}/kernel/drivers/net/veth.ko"]


@needs_dpkg
@pytest.mark.parametrize("content", [b"another kernel", b"the kernel, and more", b""])
def test_another_build_of_the_same_release_is_noticed(tmp_path: Path, content: bytes) -> None:
    assert not kernels._unpack(package(tmp_path, content), cached(tmp_path), tmp_path / "out")


@needs_dpkg
@pytest.mark.parametrize(
    "name",
    [
        f"./usr/lib/modules/{RELEASE}/kernel/lib/../../../../../../../evil.ko",
        "../../evil",
        f"/usr/lib/modules/{RELEASE}/kernel/lib/evil.ko",
    ],
)
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.parent.rglob("*"))
    with pytest.raises(BadInput, match="which leads out of it: nothing of it is used"):
        kernels._unpack(package(tmp_path, b"the kernel", **{name: b"x"}), cached(tmp_path), tmp_path / "out")
    new = {*tmp_path.parent.rglob("*")} - {*before}
    assert not [file for file in new if "evil" in file.name]


def test_what_nobody_vouches_for_never_is_root() -> None:
    """Modules that no index lists any more have no hash: in the box they would be loaded, and their lists be read."""

    class HalfListed:
        def choose(self, _: object) -> list[Kernel]:
            part = Package("linux-binary-6.12.1", "6.12.1-1", "trixie")
            return [Kernel(RELEASE, "6.12.1", "trixie", (part,), missing=(f"linux-modules-{RELEASE}",))]

    with pytest.raises(Unsupported, match=f"linux-modules-{RELEASE}.*nobody vouches"):
        kernels.choose(["6.12"], HalfListed())  # type: ignore[arg-type]


def test_a_kernel_that_no_archive_has_any_more_is_refused(tmp_path: Path) -> None:
    class CacheAlone:
        def choose(self, _: object) -> list[Kernel]:
            return [Kernel("6.11.2-amd64", "6.11.2", "(cache)", ())]

    with pytest.raises(Unsupported, match="no archive has its packages any more"):
        kernels.choose(["6.11"], CacheAlone())  # type: ignore[arg-type]


def test_the_catalogue_has_the_box_s_checksum_and_a_version_of_it(tmp_path: Path) -> None:
    versions = set()
    for content in (b"one", b"other"):
        made = tmp_path / content.decode()
        made.mkdir()
        image = made / "box.img"
        image.write_bytes(content)
        box._pack(image, made, EPOCH)
        (version,) = json.loads((made / "catalogue.json").read_text())["versions"]
        checksum = hashlib.sha256((made / "tcp-harness.box").read_bytes()).hexdigest()
        assert version["providers"][0]["checksum"] == checksum
        versions.add(version["version"])
    assert len(versions) == 2


def test_no_room_is_said_before_anything_is_made(directory: Path) -> None:
    with pytest.raises(Unsupported, match=f"{directory}: building the box needs 1e\\+09 GB there.*TCP_HARNESS_VAGRANT"):
        places.need_room(1e9, "building the box")
    assert not directory.exists()


def test_it_is_built_from_the_top_of_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(requirements, "TO_BUILD", {})
    with pytest.raises(BadInput, match="not the top of a clone"):
        box.ensure(["6.12"], object(), print)  # type: ignore[arg-type]


def test_a_box_with_more_kernels_than_wanted_will_do_and_one_with_another_release_will_not(tmp_path: Path) -> None:
    def key(*wanted: tuple[str, str]) -> set[str]:
        chosen = []
        for series, release in wanted:
            image = tmp_path / f"vmlinuz-{release}"
            image.write_text(release)
            stored = Stored(f"{release}-amd64", release, image, {})
            chosen.append(kernels.MachineKernel(series, stored, ()))
        return box._key(chosen, ROOT)

    there = tmp_path / "box"
    there.mkdir()
    (there / "key").write_text("\n".join(sorted(key(("6.1", "6.1.5"), ("6.12", "6.12.9")))))
    assert key(("6.12", "6.12.9")) <= box._built(there)
    assert not key(("6.12", "6.12.10")) <= box._built(there)
    assert not key(("6.12", "6.12.9"), ("7.3", "7.3.4")) <= box._built(there)
    assert not key(("6.12", "6.12.9")) <= box._built(tmp_path / "none")
    (there / "key").write_text("\n".join(line for line in key(("6.12", "6.12.9")) if line.startswith("6.12 ")))
    assert not key(("6.12", "6.12.9")) <= box._built(there), "made from another lock or recipe"
