"""Kernels in packages on disk: image, configuration and modules out of them, and what is no kernel's package."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from harness import unpacking
from harness.errors import BadInput, MissingProgram
from harness.kernels import configuration, places, targets
from harness.kernels.packages import is_package, unpack
from harness.lab.isolation import in_user_namespace
from tests.unit import distribution_packages
from tests.unit.test_kernels_store import image, module

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RELEASE = "6.8.0-31-generic"
BANNER = f"{RELEASE} (me@here) #31-Ubuntu SMP\0".encode()
CONFIG = "CONFIG_VETH=m\n"
KINDS = {
    "deb": (distribution_packages.ubuntu, distribution_packages.missing("dpkg-deb")),
    "rpm": (distribution_packages.fedora, distribution_packages.missing("rpmbuild", "bsdtar")),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv(places.CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=KINDS)
def package(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A kernel in packages of a kind: the one with the image."""
    make, lacking = KINDS[request.param]
    if lacking:
        pytest.skip(lacking)
    directory = tmp_path / "packages"
    directory.mkdir()
    made = tmp_path / "made"
    files = [
        module(made, "veth", release=RELEASE),
        module(made, "nft-ct", depends="nf_conntrack", release=RELEASE),
        module(made, "nf_conntrack", release=RELEASE),
        module(made, "floppy", release=RELEASE),
    ]
    content = image(tmp_path / "bzImage", BANNER).read_bytes()
    return make(directory, RELEASE, content, {file.stem: file.read_bytes() for file in files}, CONFIG)


def test_a_kernel_comes_out_of_its_packages(package: Path, cache: Path) -> None:
    assert is_package(package)
    built, kernel = targets.located(str(package))
    assert (built.path, kernel.release, kernel.version) == (str(package), RELEASE, "6.8.0")
    assert set(kernel.modules) == {"veth", "nft_ct", "nf_conntrack"}
    assert all(file.read_bytes().startswith(b"\x7fELF") for file in kernel.modules.values())
    assert configuration.of(built.image, RELEASE) == {"VETH": "m"}
    # Once for all, wherever the packages stand.
    (kept,) = (cache / "packages").iterdir()
    before = kept.stat().st_mtime_ns
    moved = package.parent.rename(package.parent.with_name("elsewhere"))
    assert targets.located(str(moved / package.name))[1].image == kernel.image
    assert [file.stat().st_mtime_ns for file in (cache / "packages").iterdir()] == [before]
    # What was cut off there is unpacked anew.
    for file in (kernel.image, kernel.modules["veth"]):
        content = file.read_bytes()
        file.write_bytes(content[:-1])
        targets.located(str(moved / package.name))
        assert file.read_bytes() == content


def test_modules_may_stand_in_another_directory(package: Path, tmp_path: Path) -> None:
    (with_modules,) = (file for file in package.parent.iterdir() if "modules" in file.name)
    elsewhere = tmp_path / "modules"
    elsewhere.mkdir()
    with_modules.rename(elsewhere / with_modules.name)
    assert targets.located(str(package))[1].modules == {}
    assert "veth" in targets.located(f"{package},modules={elsewhere}")[1].modules


def test_modules_of_another_version_or_flavour_are_left_alone(package: Path) -> None:
    (with_modules,) = (file for file in package.parent.iterdir() if "modules" in file.name)
    other = with_modules.name.replace("6.8.0", "6.9.0")
    with_modules.rename(with_modules.with_name(other))
    assert targets.located(str(package))[1].modules == {}


@pytest.mark.skipif(bool(KINDS["deb"][1]), reason=KINDS["deb"][1])
def test_of_two_flavours_of_a_version_each_has_its_own(tmp_path: Path) -> None:
    def packed(flavour: str, config: str) -> tuple[Path, bytes]:
        release = f"6.8.0-31-{flavour}"
        content = image(tmp_path / "bzImage", f"{release} (me@here) #31\0".encode()).read_bytes()
        veth = module(tmp_path / flavour, "veth", release=release).read_bytes()
        return distribution_packages.ubuntu(tmp_path, release, content, {"veth": veth}, config), veth

    made = {"generic": packed("generic", "CONFIG_VETH=m\n"), "lowlatency": packed("lowlatency", "CONFIG_VETH=y\n")}
    for (flavour, (package, veth)), value in zip(made.items(), "my", strict=True):
        built, kernel = targets.located(str(package))
        assert kernel.release == f"6.8.0-31-{flavour}"
        assert configuration.of(built.image, kernel.release) == {"VETH": value}
        assert kernel.modules["veth"].read_bytes() == veth


def test_the_package_with_the_modules_is_not_the_one_to_name(package: Path, cache: Path) -> None:
    (with_modules,) = (file for file in package.parent.iterdir() if "modules" in file.name)
    with pytest.raises(BadInput, match=r"there is no kernel image in this package; the image is in linux-image-unsign"):
        targets.located(str(with_modules))
    assert list((cache / "packages").iterdir()) == []


@pytest.mark.parametrize("left", [200, -100])
def test_a_damaged_package_is_called_so(package: Path, cache: Path, left: int) -> None:
    package.write_bytes(package.read_bytes()[:left])
    with pytest.raises(BadInput, match=rf"{package.name}: damaged, or no package: \S"):
        targets.located(str(package))
    assert list((cache / "packages").iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_that_ends_within_a_file_is_called_damaged(tmp_path: Path, cache: Path, kind: str) -> None:
    """As a download that was interrupted: what comes before has been unpacked by then."""
    make, lacking = KINDS[kind]
    if lacking:
        pytest.skip(lacking)
    content = image(tmp_path / "bzImage", BANNER).read_bytes() + os.urandom(6 << 20)
    veth = module(tmp_path / "made", "veth", release=RELEASE).read_bytes()
    package = make(tmp_path, RELEASE, content, {"veth": veth}, CONFIG)
    whole = package.read_bytes()
    for part in (3, 5, 7):
        package.write_bytes(whole[: len(whole) * part // 8])
        with pytest.raises(BadInput, match=rf"{package.name}: damaged, or no package: \S"):
            targets.located(str(package))
    assert list((cache / "packages").iterdir()) == []


def test_a_program_that_is_missing_is_named(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingProgram, match=r"apt-get install (dpkg|libarchive-tools)"):
        targets.located(str(package))


def test_an_image_is_no_package(tmp_path: Path) -> None:
    assert not is_package(image(tmp_path / "bzImage"))
    assert not is_package(tmp_path / "none")


# A package that was made to do harm.


def deb(file: Path, fill: Callable[[tarfile.TarFile], None]) -> Path:
    """A package whose files are whatever `fill` puts into its archive."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        fill(archive)
    control = io.BytesIO()
    with tarfile.open(fileobj=control, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("./control"))
    members = {"debian-binary": b"2.0\n", "control.tar": control.getvalue(), "data.tar": data.getvalue()}
    with file.open("wb") as written:
        written.write(b"!<arch>\n")
        for name, content in members.items():
            written.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode())
            written.write(content + b"\n" * (len(content) % 2))
    return file


def put(archive: tarfile.TarFile, name: str, content: bytes = b"", **about: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in about.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(content))


needs_dpkg = pytest.mark.skipif(bool(KINDS["deb"][1]), reason=KINDS["deb"][1])


@needs_dpkg
def test_nothing_is_put_where_a_package_says(tmp_path: Path, cache: Path) -> None:
    kernel = image(tmp_path / "bzImage", BANNER).read_bytes()
    veth = module(tmp_path, "veth", release=RELEASE).read_bytes()
    target = tmp_path / "target"
    target.write_text("untouched")

    def fill(archive: tarfile.TarFile) -> None:
        put(archive, f"./boot/vmlinuz-{RELEASE}", type=tarfile.SYMTYPE, linkname=str(target))
        put(archive, f"./evil/boot/vmlinuz-{RELEASE}", kernel)
        put(archive, f"./lib/modules/{RELEASE}/veth.ko", type=tarfile.SYMTYPE, linkname=str(target))
        put(archive, f"./lib/modules/{RELEASE}/dummy.ko", type=tarfile.LNKTYPE, linkname=str(target))
        put(archive, f"./lib/modules/{RELEASE}/tun.ko", type=tarfile.CHRTYPE)
        put(archive, "./lib/modules/another/veth.ko", b"another release")
        put(archive, f"./x/lib/modules/{RELEASE}/x/veth.ko", veth)
        put(archive, "./lib/modules/a/b;c.ko", b"no name of a module")

    found = unpack(deb(tmp_path / "linux-image_1_amd64.deb", fill))
    assert target.read_text() == "untouched"
    assert not (tmp_path / "evil").exists()
    assert found.image.read_bytes() == kernel
    # Of all that only what is a regular file with a module's name, and of the image's release, counts.
    assert [(file.name, file.read_bytes()) for file in found.modules.iterdir()] == [("veth.ko", veth)]
    assert {file.name for file in found.image.parent.iterdir()} == {"image", "modules", "sizes.json"}


@needs_dpkg
@pytest.mark.parametrize(
    "name",
    ["../../../../evil", "/evil", f"./lib/modules/../{RELEASE}/veth.ko", f"lib/modules/{RELEASE}/x/../../veth.ko"],
)
def test_of_a_package_with_a_name_that_leads_out_of_it_nothing_is_used(name: str, tmp_path: Path, cache: Path) -> None:
    kernel = image(tmp_path / "bzImage", BANNER).read_bytes()

    def fill(archive: tarfile.TarFile) -> None:
        put(archive, f"./boot/vmlinuz-{RELEASE}", kernel)
        put(archive, name, b"x")

    with pytest.raises(BadInput, match="which leads out of it: nothing of it is used"):
        unpack(deb(tmp_path / "linux-image_1_amd64.deb", fill))
    assert not list(cache.glob("packages/*"))


@needs_dpkg
@pytest.mark.skipif(
    os.geteuid() != 0 or in_user_namespace(), reason="only root has to be careful with whom the program is"
)
def test_as_root_a_package_is_unpacked_by_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stranger has packed is read by a program that may do nothing."""
    package = deb(tmp_path / "x.deb", lambda archive: put(archive, "./x", b"x"))
    program = ["sh", "-c", "cat /proc/self/status >&2; exit 1"]
    with pytest.raises(BadInput, match=r"Uid: 65534 65534 65534 65534 Gid: 65534 65534 65534 65534.*Groups: NStgid"):
        list(unpacking.members(package, program, "coreutils"))


@needs_dpkg
@pytest.mark.parametrize(("limit", "told"), [("LARGEST_FILE", "a file of more than"), ("LARGEST", "more than 0 GB")])
def test_what_is_larger_than_any_kernel_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, limit: str, told: str
) -> None:
    kernel = image(tmp_path / "bzImage", BANNER).read_bytes()
    package = deb(tmp_path / "linux-image_1_amd64.deb", lambda archive: put(archive, f"boot/vmlinuz-{RELEASE}", kernel))
    monkeypatch.setattr(unpacking, limit, len(kernel) - 1)
    with pytest.raises(BadInput, match=told):
        unpack(package)
    assert list((cache / "packages").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setenv(places.CACHE, str(tmp_path / "cache"))
    assert unpack(package).image.read_bytes() == kernel
