"""Kernels out of an archive that the user names, and everything that can be wrong with one: one line, nothing kept."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from bench.probes import sandbox
from harness import cli
from harness.cli import bisect
from harness.errors import Unsupported
from harness.kernels import apt, archive, indices, places, selection
from harness.kernels.store import Store
from tests.nobody import skip_without_a_sandbox
from tests.report.made_evidence import claim as made_claim
from tests.report.made_evidence import compared, phases, run, save
from tests.unit import debian_archive
from tests.unit.debian_archive import DebianArchive, Key
from tests.unit.test_kernels_store import image, module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(bool(debian_archive.missing()), reason=debian_archive.missing())

OLD, OLDER, SPLIT = "4.9.0-19-amd64", "3.16.0-11-amd64", "7.1.13+deb13-amd64"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Key, Key]]:
    """The archive's key, and another one."""
    where = tmp_path_factory.mktemp("keys")
    both = Key(where / "one"), Key(where / "other")
    yield both
    for one in both:
        one.end()


def kernel_image(directory: Path, release: str, version: str) -> bytes:
    banner = f"{release} (debian-kernel@lists.debian.org) #1 SMP Debian {version}\0"
    return image(directory / "image", banner.encode()).read_bytes()


def kernels_of_all_years(tmp_path: Path) -> DebianArchive:
    """An archive with kernels as Debian has packed them over the years."""
    made = DebianArchive(tmp_path / "mirror")
    for release, version in ((OLDER, "3.16.84-1"), (OLD, "4.9.320-2")):
        below = f"lib/modules/{release}/kernel"
        veth = module(tmp_path / "ko", "veth", release=release).read_bytes()
        files = {
            f"boot/vmlinuz-{release}": kernel_image(tmp_path, release, version),
            f"{below}/drivers/net/veth.ko": veth,
        }
        files[f"{below}/sound/snd.ko"] = module(tmp_path / "ko", "snd", release=release).read_bytes()
        made.add(f"linux-image-{release}", version, files, depends="kmod, linux-base (>= 4.3~), initramfs-tools")
    parts = {name: f"linux-{name}-{SPLIT}" for name in ("image", "binary", "modules")}
    ko = lzma.compress(module(tmp_path / "ko", "veth", release=SPLIT).read_bytes())
    vmlinuz = kernel_image(tmp_path, SPLIT, "7.1.13-1")
    made.add(parts["binary"], "7.1.13-1", {f"usr/lib/modules/{SPLIT}/vmlinuz": vmlinuz})
    made.add(parts["modules"], "7.1.13-1", {f"usr/lib/modules/{SPLIT}/kernel/drivers/net/veth.ko.xz": ko})
    made.add(parts["image"], "7.1.13-1", {}, depends=f"{parts['binary']} (= 7.1.13-1), {parts['modules']} (= 7.1.13-1)")
    return made


@dataclass
class Here:
    """An archive that is served, its key and another one, an empty cache, and the command."""

    mirror: DebianArchive
    address: str
    key: Key
    other: Key
    cache: Path
    run: Callable[..., tuple[int, str, str]]

    def named(self, key: Key, *more: str, address: str | None = None) -> list[str]:
        """The options that name the archive."""
        return ["--mirror", address or self.address, "--suite", "stretch", "--keyring", str(key.keyring), *more]

    def publish(self, key: Key) -> None:
        """Sign the suite, with whatever packages there are by now."""
        self.mirror.publish("stretch", key)


@pytest.fixture
def here(
    tmp_path: Path,
    keys: tuple[Key, Key],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Here]:
    """Everything; run() returns the command's status, standard output and standard error."""
    monkeypatch.setenv(places.CACHE, str(tmp_path / "cache"))

    def run(*argv: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["harness", *map(str, argv)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    mirror = kernels_of_all_years(tmp_path)
    mirror.publish("stretch", keys[0])
    with contextmanager(debian_archive.served)(mirror.root) as address:
        yield Here(mirror, address, *keys, tmp_path / "cache", run)


def nothing_is_kept(cache: Path) -> bool:
    """Neither a kernel nor a part of one."""
    kernels = list((cache / "kernels").iterdir()) if (cache / "kernels").exists() else []
    return not kernels and not list(cache.rglob("*.part")) and not list(cache.rglob("*.deb"))


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_kernels_of_other_years_are_listed_and_fetched(here: Here, scheme: str) -> None:
    where = here.address if scheme == "http" else f"file:{here.mirror.root}"
    status, out, err = here.run("kernels", "list", *here.named(here.key, address=where))
    assert (status, err) == (0, "")
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["3.16", OLDER, "3.16.84", "stretch", "-"],
        ["4.9", OLD, "4.9.320", "stretch", "-"],
        ["7.1", SPLIT, "7.1.13", "stretch", "-"],
    ]
    status, out, err = here.run("kernels", "fetch", "all", *here.named(here.key, address=where))
    assert status == 0, err
    kernels = Store(places.kernels()).all()
    assert {(one.release, one.version, *one.modules) for one in kernels} == {
        (OLDER, "3.16.84", "veth"),
        (OLD, "4.9.320", "veth"),
        (SPLIT, "7.1.13", "veth"),
    }
    assert not any(one.enforce for one in kernels)
    for one in kernels:
        assert one.image.read_bytes()[0x202:0x206] == b"HdrS"
        assert one.modules["veth"].read_bytes().startswith(b"\x7fELF")
    # What is here needs no archive any more, and is listed where no archive has it.
    chosen = selection.Selection().choose([OLD])
    assert [(one.release, one.suite) for one in chosen] == [(OLD, selection.CACHE_ALONE)]


def test_a_mirror_is_read_once_a_day_or_when_asked(here: Here) -> None:
    assert "4.9.0-20" not in here.run("kernels", "list", *here.named(here.key))[1]
    here.mirror.add("linux-image-4.9.0-20-amd64", "4.9.330-1", {"boot/vmlinuz-4.9.0-20-amd64": b""})
    here.publish(here.key)
    assert "4.9.0-20" not in here.run("kernels", "list", *here.named(here.key))[1]
    assert "4.9.0-20" in here.run("kernels", "list", *here.named(here.key, "--update"))[1]


def test_a_signature_by_another_key_is_refused(here: Here) -> None:
    status, out, err = here.run("kernels", "fetch", "4.9", *here.named(here.other))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"{here.address} stretch: not signed by a key of {here.other.keyring} (NO_PUBKEY " in err
    assert "--keyring FILE" in err
    assert nothing_is_kept(here.cache)


def test_a_suite_that_another_key_signs_since_yesterday_is_refused_though_its_old_index_is_here(here: Here) -> None:
    assert here.run("kernels", "list", *here.named(here.key))[0] == 0
    here.publish(here.other)
    status, out, err = here.run("kernels", "fetch", "4.9", *here.named(here.key, "--update"))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "stretch: not signed by a key of" in err
    assert nothing_is_kept(here.cache)
    # And again without being asked to look: what was wrong is not forgotten.
    assert here.run("kernels", "fetch", "4.9", *here.named(here.key))[0] == 2


def test_an_index_that_was_changed_after_it_was_signed_is_refused(here: Here) -> None:
    release = here.mirror.root / "dists" / "stretch" / "InRelease"
    release.write_text(release.read_text().replace("Label: Debian", "Label: Elsewhere"))
    status, _, err = here.run("kernels", "fetch", "4.9", *here.named(here.key))
    assert (status, err.count("\n")) == (2, 1)
    assert "stretch: not signed by a key of" in err
    assert nothing_is_kept(here.cache)


def test_an_index_that_is_cut_short_is_refused(here: Here) -> None:
    for file in (here.mirror.root / "dists" / "stretch" / "main" / "binary-amd64").iterdir():
        file.write_bytes(file.read_bytes()[:-10])
    status, _, err = here.run("kernels", "fetch", "4.9", *here.named(here.key))
    assert (status, err.count("\n")) == (2, 1)
    assert "no archive of kernels can be read" in err
    assert "Hash Sum mismatch" in err
    assert nothing_is_kept(here.cache)


@pytest.mark.parametrize("how", ["changed", "cut short", "gone"])
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_a_package_that_is_not_what_was_signed_is_refused(here: Here, how: str, scheme: str) -> None:
    (package,) = (here.mirror.root / "pool").rglob(f"linux-image-{OLD}_*.deb")
    content = package.read_bytes()
    package.write_bytes(content[:-1] + b"x" if how == "changed" else content[:-100])
    if how == "gone":
        package.unlink()
    where = here.address if scheme == "http" else f"file:{here.mirror.root}"
    status, out, err = here.run("kernels", "fetch", "4.9", *here.named(here.key, address=where))
    assert (status, out) == (2, "")
    (line,) = [line for line in err.splitlines() if " MB to download" not in line]
    assert line.startswith(f"harness: linux-image-{OLD} 4.9.320-2 of stretch cannot be had: ")
    assert ("404" in line or "not found" in line.lower()) if how == "gone" else "size" in line or "Hash Sum" in line
    assert nothing_is_kept(here.cache)


def test_a_mirror_that_refuses_is_named(here: Here) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        status, out, err = here.run("kernels", "list", *here.named(here.key, address=address))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"no archive of kernels can be read: {address} stretch: Could not connect" in err
    assert not list(here.cache.rglob("*list*"))


def test_a_suite_that_a_mirror_does_not_have_is_named(here: Here) -> None:
    for suites in (["jessie"], ["stretch", "jessie"]):
        more = [word for suite in suites for word in ("--suite", suite)]
        where = ["--mirror", here.address, "--keyring", here.key.keyring]
        status, _, err = here.run("kernels", "list", *where, *more)
        assert (status, err.count("\n")) == (2, 1)
        assert f"{here.address} jessie: the mirror has no such suite" in err
    assert nothing_is_kept(here.cache)


def test_a_kernel_that_the_mirror_does_not_have_is_named(here: Here) -> None:
    status, _, err = here.run("kernels", "fetch", "6.12", *here.named(here.key))
    assert (status, err.count("\n")) == (2, 1)
    assert "no kernel is meant by '6.12'; there are 3.16, 4.9, 7.1" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--suite", "stretch"], "--suite needs --mirror"),
        (["--mirror", "http://127.0.0.1/"], "name the suites of http://127.0.0.1/ as well: --suite stretch"),
        (["--mirror", "example.org", "--suite", "x"], "--mirror example.org: not the address of a mirror"),
        (["--mirror", "file:/a b", "--suite", "x"], "--mirror file:/a b: not the address of a mirror"),
        (["--mirror", "file:/a", "--suite", "x [trusted=yes]"], "not the name of a suite"),
        (["--mirror", "file:/a", "--suite", "./"], "not the name of a suite"),
        (["--mirror", "file:/a", "--suite", "x", "--keyring", "/none"], "/none: this keyring of archives cannot be"),
    ],
)
def test_what_is_asked_for_wrongly_is_said(here: Here, words: list[str], told: str) -> None:
    if "--keyring" not in words:
        words = [*words, "--keyring", str(here.key.keyring)]
    status, out, err = here.run("kernels", "list", *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert told in err
    assert not here.cache.exists()


def test_a_keyring_that_is_none_is_refused(here: Here) -> None:
    rubbish = here.mirror.root / "rubbish.gpg"
    rubbish.write_text("no keys\n")
    where = ["--mirror", here.address, "--suite", "stretch", "--keyring", rubbish]
    status, _, err = here.run("kernels", "list", *where)
    assert (status, err.count("\n")) == (2, 1)
    assert f"not signed by a key of {rubbish}" in err


def test_a_package_that_holds_no_kernel_is_refused(here: Here) -> None:
    here.mirror.add("linux-image-4.9.0-20-amd64", "4.9.330-1", {"usr/share/doc/x": b""})
    here.mirror.add("linux-image-4.9.0-21-amd64", "4.9.331-1", {"boot/vmlinuz-4.9.0-21-amd64": b"no kernel"})
    here.publish(here.key)
    for release, told in (("4.9.0-20-amd64", "hold no kernel image"), ("4.9.0-21-amd64", "not a Linux kernel image")):
        status, _, err = here.run("kernels", "fetch", release, *here.named(here.key))
        assert status == 2
        assert told in err.splitlines()[-1]
        assert nothing_is_kept(here.cache)


def test_where_the_machines_own_archive_cannot_be_read_the_cache_has_to_do(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    named_one = selection.Selection(f"file:{here.mirror.root}", ["stretch"], str(here.key.keyring))
    for one in named_one.choose(["4.9"]):
        named_one.fetch(one)
    monkeypatch.setattr(archive, "machine_sources", lambda: [indices.Source("file:/nowhere", "sid")])
    said: list[str] = []
    assert [one.release for one in selection.Selection(say=said.append).choose([">=3"])] == [OLD]
    (line,) = said
    assert "no archive of kernels can be read" in line
    assert "only the kernels of the cache count" in line
    with pytest.raises(Unsupported, match="no archive of kernels can be read"):
        selection.Selection().choose(["7.1"])


def test_parts_that_no_index_lists_are_modules_alone(tmp_path: Path) -> None:
    beside = indices.Package("linux-modules-x", "1", "sid")
    with pytest.raises(Unsupported, match="linux-binary-x 1 is no longer listed in sid: take another release"):
        archive.Archive(tmp_path, [indices.Source("file:/m", "sid")]).unlisted("linux-binary-x", beside)


def test_what_was_read_is_kept_for_the_day(here: Here) -> None:
    """The indices are large; what is in them is read once."""
    found = archive.the_archive(f"file:{here.mirror.root}", ["stretch"], str(here.key.keyring))
    read = json.loads((found.directory / archive.READ).read_text())
    assert {one["name"] for one in read["suites"]["stretch"]["packages"]} == {one.name for one in found.packages()}
    assert found.problems() == {}


def test_an_index_that_has_not_changed_is_not_brought_again(here: Here) -> None:
    listed = here.run("kernels", "list", *here.named(here.key))[1]
    for file in (here.mirror.root / "dists" / "stretch" / "main" / "binary-amd64").iterdir():
        file.unlink()
    assert here.run("kernels", "list", *here.named(here.key, "--update")) == (0, listed, "")
    here.publish(here.key)
    here.mirror.add("linux-image-4.9.0-20-amd64", "4.9.330-1", {"boot/vmlinuz-4.9.0-20-amd64": b""})
    here.publish(here.key)
    assert "4.9.0-20" in here.run("kernels", "list", *here.named(here.key, "--update"))[1]


@pytest.mark.parametrize("there", ["by its hash", "by its name"])
def test_an_index_is_had_by_its_hash_or_by_its_name(here: Here, there: str) -> None:
    """A mirror that is being renewed has the old index by its hash alone; some have none by their hashes."""
    release = here.mirror.root / "dists" / "stretch" / "Release"
    release.write_text(f"Acquire-By-Hash: yes\n{release.read_text()}")
    here.key.sign(release, release.with_name("InRelease"))
    if there == "by its hash":
        below = release.parent / "main" / "binary-amd64"
        hashed = below / "by-hash" / "SHA256"
        hashed.mkdir(parents=True)
        for file in (below / "Packages", below / "Packages.gz"):
            content = file.read_bytes()
            (hashed / hashlib.sha256(content).hexdigest()).write_bytes(content)
            file.write_text("of tomorrow\n")
    status, out, err = here.run("kernels", "list", *here.named(here.key))
    assert (status, err) == (0, "")
    assert OLD in out


def test_of_two_suites_whose_names_begin_alike_the_right_one_is_missing(here: Here, tmp_path: Path) -> None:
    sources = [indices.Source(here.address, suite) for suite in ("stretch", "stretch-backports")]
    found = archive.Archive(tmp_path / "apt", sources, keyring=str(here.key.keyring))
    found.update()
    assert found.problems() == {"stretch-backports": f"{here.address} stretch-backports: the mirror has no such suite"}
    assert {package.suite for package in found.packages()} == {"stretch"}


def test_a_suite_that_is_out_of_reach_says_what_it_said_before_and_one_of_another_key_nothing(
    here: Here, tmp_path: Path
) -> None:
    here.mirror.publish("buster", here.key)
    sources = [indices.Source(here.address, suite) for suite in ("stretch", "buster")]
    found = archive.Archive(tmp_path / "apt", sources, keyring=str(here.key.keyring))
    found.update()
    (here.mirror.root / "dists" / "buster").rename(tmp_path / "buster")
    found.update(older_than=0)
    assert list(found.problems()) == ["buster"]
    assert {package.suite for package in found.packages()} == {"stretch", "buster"}
    (tmp_path / "buster").rename(here.mirror.root / "dists" / "buster")
    here.mirror.publish("buster", here.other)
    found.update(older_than=0)
    assert {package.suite for package in found.packages()} == {"stretch"}


def test_what_this_machine_runs_after_an_update_of_its_own_is_not_run(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks = "".join(f'APT::Update::Post-Invoke{when} {{ "touch {tmp_path}/ran"; }};\n' for when in ("", "-Success"))
    (tmp_path / "machine.conf").write_text(hooks)
    monkeypatch.setattr(apt, "ENVIRONMENT", apt.ENVIRONMENT | {"APT_CONFIG": str(tmp_path / "machine.conf")})
    sources = [indices.Source(here.address, "stretch")]
    archive.Archive(tmp_path / "apt", sources, keyring=str(here.key.keyring)).update()
    assert not (tmp_path / "ran").exists()


def test_what_was_read_and_is_damaged_is_read_again(here: Here) -> None:
    found = archive.the_archive(f"file:{here.mirror.root}", ["stretch"], str(here.key.keyring))
    whole = (found.directory / archive.READ).read_bytes()
    for damaged in (b"", whole[:-9], b"[" * 10_000, b"\xff", b"{}"):
        (found.directory / archive.READ).write_bytes(damaged)
        again = archive.the_archive(f"file:{here.mirror.root}", ["stretch"], str(here.key.keyring))
        assert again.packages() == found.packages() != []


def test_a_kernel_that_is_damaged_in_the_cache_is_brought_again(here: Here) -> None:
    here.run("kernels", "fetch", "4.9", *here.named(here.key))
    about = here.cache / "kernels" / OLD / "kernel.json"
    whole = about.read_bytes()
    for damaged in (b"", whole[:-5], b"\xff", whole.replace(OLD.encode(), b"../../x")):
        about.write_bytes(damaged)
        assert here.run("kernels", "fetch", "4.9", *here.named(here.key))[0] == 0
        assert about.read_bytes() == whole
    # What the power left of a file: each machine of it panicked, and nothing brought it again.
    for file in (about.parent / "image", *(about.parent / "modules").iterdir(), about.parent / "sizes.json"):
        content = file.read_bytes()
        file.write_bytes(content[:-1])
        assert here.run("kernels", "fetch", "4.9", *here.named(here.key))[0] == 0
        assert file.read_bytes() == content


ODD = """Package: {name}
Version: {version}
Depends: linux-modules-6.1.0/../../x-amd64
Filename: pool/x.deb
{size}SHA256: {hash}
"""


@pytest.mark.parametrize(
    ("name", "version", "size"),
    [
        ("linux-image-6.1.0/../4.9.0-19-amd64", "6.1.1-1", "Size: 1\n"),
        ("linux-image-6.1.0-1-amd64", "6.1/../x", "Size: 1\n"),
        ("linux-image-6.1.0-1-amd64", "6.1.1-1", ""),
        ("linux-image-6.1.0-1-amd64", "6.1.1-1", "Size: many\n"),
        ("linux-image-6.1.0-1-amd64", "9" * 5000 + ".1", "Size: 1\n"),
    ],
)
def test_odd_packages_of_a_signed_index_are_left_out(here: Here, name: str, version: str, size: str) -> None:
    """The archive's key says who wrote the index, not that the names in it lead nowhere."""
    here.run("kernels", "fetch", "4.9", *here.named(here.key))
    before = sorted((here.cache / "kernels").rglob("*"))
    here.mirror.also = ODD.format(name=name, version=version, size=size, hash="0" * 64)
    here.publish(here.key)
    status, out, err = here.run("kernels", "list", *here.named(here.key, "--update"))
    assert status == 0
    assert [line.split()[1] for line in out.splitlines()[1:]] == [OLDER, OLD, SPLIT]
    assert "Traceback" not in err
    assert sorted((here.cache / "kernels").rglob("*")) == before


def test_an_index_that_should_have_been_replaced_is_said_to_be_so(here: Here) -> None:
    """Whoever holds newer kernels back sends an old index, and its signature is good."""
    here.mirror.valid_until = "Fri, 02 Jan 2026 00:00:00 UTC"
    here.publish(here.key)
    status, _, err = here.run("kernels", "list", *here.named(here.key))
    said = "its index was to be replaced by Fri, 02 Jan 2026 00:00:00 UTC: newer kernels may be held back"
    assert (status, err) == (0, f"harness: stretch: {said}\n")


def test_of_a_mirror_that_is_mistyped_nothing_stays(here: Here) -> None:
    here.run("kernels", "list", *here.named(here.key, address="http://127.0.0.1:1/nothing"))
    assert list((here.cache / "apt").iterdir()) == []


def test_pytest_takes_kernels_of_a_mirror(here: Here, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "test_one.py").write_text("def test_one(): pass\n")

    def of_pytest(word: str) -> str:
        return f"--tcp-{word[2:]}" if word in ("--mirror", "--suite", "--keyring") else word

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "--collect-only", "-q", "--tcp-kernel", ">=4", *map(of_pytest, argv)],
            cwd=tmp_path / "project", check=False, capture_output=True, text=True,
            env=os.environ | {places.CACHE: str(here.cache)},
        )  # fmt: skip

    # pytest takes a path that stands by itself for one of tests, unless it has found the project.
    mistaken = run(*here.named(here.key))
    assert mistaken.returncode == pytest.ExitCode.USAGE_ERROR
    assert mistaken.stderr.startswith(f"ERROR: write --tcp-keyring={here.key.keyring}: ")
    (tmp_path / "project" / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    listed = run(*here.named(here.key), "test_one.py")
    assert listed.stdout.splitlines()[:2] == ["test_one.py::test_one[4.9.320]", "test_one.py::test_one[7.1.13]"]
    refused = run(*here.named(here.other), "test_one.py")
    assert refused.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = refused.stderr.strip().splitlines()
    assert line.startswith(f"ERROR: no archive of kernels can be read: {here.address} stretch: not signed by a key")
    assert nothing_is_kept(here.cache)


def test_halving_between_kernels_of_a_mirror_and_those_of_the_cache(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4.9 is here, from an archive that is named no more; the other one has an older and a newer kernel."""
    fetched = here.run("kernels", "fetch", "4.9", *here.named(here.key))
    assert fetched[0] == 0
    here.mirror.packages = [one for one in here.mirror.packages if OLD not in one.name]
    here.publish(here.key)

    def settle(claim: str, step: bisect.Step, directory: Path, scenarios: Path, how: list[str]) -> None:
        release = step.word
        assert how == ["--tcp-real-time", "--tcp-guest-cpus=4", "--tcp-guest-append=nokaslr"]
        assert scenarios == bisect.SCENARIOS
        assert selection.Selection().choose([release])[0].release == release  # known without an archive
        verdict = "holds" if release == OLDER else "refuted"
        waiting = int(release[0])
        settled = run(version=release, verdict=verdict, phases=phases(compared("waiting", waiting, waiting)))
        save(directory / release, made_claim(claim), settled)

    monkeypatch.setattr(bisect, "settle", settle)
    described = ["--real-time", "--guest-cpus", "4", "--guest-append", "nokaslr"]
    words = ["a.claim", "--from", "3.16", "--to", "7.1", *described, *here.named(here.key, "--update")]
    status, out, err = here.run("bisect", *words)
    assert (status, err) == (0, "")
    assert out.splitlines()[-2:] == [
        f"a.claim: holds on {OLDER}, refuted on {OLD}",
        "  test_limit[ipv4]  effect 1: nobody accepts: waiting: 3 -> 4  (+1, ×1.33)",
    ]


def test_the_machines_apt_is_asked_and_not_touched(tmp_path: Path) -> None:
    """As root `apt-get indextargets` wrote the machine's /var/cache/apt/*.bin anew, where its settings were newer."""
    skip_without_a_sandbox()
    for name in ("here", "home", "tmp", "cache"):
        (tmp_path / name).mkdir()
    argv = (sys.executable, "-c", "from harness.kernels import archive; archive._mirrors()")
    ended = sandbox.run(sandbox.Program(argv, sandbox.environment(PYTHONPATH=str(sandbox.PROJECT))), tmp_path)
    assert (ended.status, ended.said, ended.outside) == (0, "", ())
