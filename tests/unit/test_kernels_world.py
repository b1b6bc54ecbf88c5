"""What tests need in a guest beside their project: found by what they import, by name, or by Debian's packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.utils import canonicalize_name

from harness.errors import BadInput
from harness.kernels import debian, distributions, guest, image, imports, places, project, world
from tests.unit import debian_archive
from tests.unit.debian_archive import DebianArchive, Key

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(places.CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`install(name, {file: text}, requires=…)`: a distribution that is on the path; where it stands."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def put(name: str, files: dict[str, str], *requires: str, plugin: str = "", record: bool = True) -> Path:
        about = site / f"{name.replace('-', '_')}-1.dist-info"
        about.mkdir()
        lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: 1", *(f"Requires-Dist: {each}" for each in requires)]
        (about / "METADATA").write_text("\n".join(lines) + "\n")
        if plugin:
            (about / "entry_points.txt").write_text(f"[pytest11]\n{plugin} = {plugin}\n")
        for file, text in files.items():
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).write_text(text)
        if record:
            names = [*files, *(str(file.relative_to(site)) for file in about.iterdir()), f"{about.name}/RECORD"]
            (about / "RECORD").write_text("".join(f"{each},,\n" for each in names))
        distributions.owners.cache_clear()
        return site

    return put


def names_in(archive: Path) -> set[str]:
    with tarfile.open(archive) as tar:
        return {f"/{name}" for name in tar.getnames()}


# What is imported.


def test_the_names_of_modules_are_read_from_the_text() -> None:
    text = textwrap.dedent(
        """
        import os.path, numpy as np, yaml
        from requests.adapters import HTTPAdapter
        from . import helpers
        from ..shared.things import (
            thing,
        )
        pytest_plugins = ["plugged.fixtures",
                          'other']
        def test():
            import inner.part
            scipy = pytest.importorskip("scipy.stats", minversion="1")
            importlib.import_module("dynamic")
            "a sentence that has import in it"
        """
    )
    wanted = {"os", "numpy", "yaml", "requests", "plugged", "other", "inner", "scipy", "dynamic"}
    assert {name for dots, name in imports.of_text(text) if not dots} == wanted
    assert {(dots, name) for dots, name in imports.of_text(text) if dots} == {(1, ""), (2, "shared")}


def test_what_the_modules_of_a_project_import_is_found_too(tmp_path: Path) -> None:
    files = {
        "conftest.py": "import in_conftest",
        "src/app/__init__.py": "from app.core import run",
        "src/app/core.py": "import in_app\nimport json",
        "src/unused/__init__.py": "import in_unused",
        "tests/test_a.py": "import app\nfrom helper import x\nfrom tests.sub import y",
        "tests/helper.py": "import in_helper",
        "tests/sub/__init__.py": "from .deep import z",
        "tests/sub/deep.py": "import in_deep, known",
        "other/test_b.py": "import in_other",
        "venv/pyvenv.cfg": "",
        "venv/lib/x.py": "import in_environment",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    path = [tmp_path, tmp_path / "src"]
    found = imports.of_others([tmp_path / "tests"], tmp_path, path, {"known"})
    assert found == {"in_conftest", "in_app", "in_helper", "in_deep"}
    everything = imports.of_others([tmp_path], tmp_path, path, {"known"})
    assert everything == found | {"in_unused", "in_other"}


# Distributions.


def test_a_distribution_brings_what_it_requires(install: Callable[..., Path]) -> None:
    install("lately-plugin", {"lately.py": "import base"}, "lately_Base[extra]>=0", "gone", plugin="lately")
    install("lately-base", {"base/__init__.py": ""}, "more; extra == 'extra'", "less; extra == 'other'")
    install("more", {"more.py": ""})
    install("less", {"less.py": ""})
    assert [*distributions.needed({"Lately.Plugin": ()})] == ["lately-base", "lately-plugin", "more"]
    assert [*distributions.needed({"lately-base": ("other",)})] == ["lately-base", "less"]


def test_plugins_and_imports_are_delivered_at_their_places(install: Callable[..., Path], tmp_path: Path) -> None:
    site = install("lately-plugin", {"lately/__init__.py": "", "lately/data.txt": "x"}, "base", plugin="lately")
    install("base", {"base.py": ""}, "pytest")
    install("imported", {"im/ported.py": ""}, record=True)
    install("unasked", {"unasked.py": ""})
    archive = world.gather(world.Wishes(tmp_path / "project", frozenset({"lately-plugin"}), frozenset({"im"})))
    assert archive is not None
    names = names_in(archive)
    wanted = ("lately/__init__.py", "lately/data.txt", "base.py", "im/ported.py", "lately_plugin-1.dist-info/METADATA")
    assert {str(site / name) for name in wanted} <= names
    # Compiled here, where it costs less; what guests have anyway does not come again.
    assert any(name.startswith(f"{site}/lately/__pycache__/__init__.") for name in names)
    assert not [name for name in names if "unasked" in name or "/_pytest/" in name]


def test_a_plugin_without_a_list_of_its_files_is_found_by_its_modules(
    install: Callable[..., Path], tmp_path: Path
) -> None:
    site = install("lately", {"lately.py": ""}, plugin="lately", record=False)
    archive = world.gather(world.Wishes(tmp_path / "project", frozenset({"lately"})))
    assert archive is not None
    wanted = {f"{site}/lately.py", f"{site}/lately-1.dist-info/entry_points.txt"}
    assert wanted <= names_in(archive)


def test_an_extension_module_comes_with_the_libraries_that_it_needs(tmp_path: Path) -> None:
    """contourpy is installed here for the report: its module is linked with libstdc++, which no guest needs else."""
    archive = world.gather(world.Wishes(tmp_path / "project", modules=frozenset({"contourpy"})))
    assert archive is not None
    names = names_in(archive)
    assert any("/contourpy/" in name and name.endswith(".so") for name in names)
    assert any("/numpy/" in name for name in names)
    assert any("/libstdc++.so" in name for name in names)


def test_what_guests_have_is_not_delivered(tmp_path: Path) -> None:
    wishes = world.Wishes(tmp_path, frozenset({"pytest-xdist"}), frozenset({"msgspec"}))
    assert world.gather(wishes) is None
    assert {"pytest", "_pytest", "harness", "pyroute2", "xdist"} <= image.modules()


def test_an_archive_is_made_once_and_anew_when_something_has_changed(
    install: Callable[..., Path], tmp_path: Path
) -> None:
    site = install("base", {"base.py": ""})
    wishes = world.Wishes(tmp_path / "project", modules=frozenset({"base"}))
    first = world.gather(wishes)
    assert first is not None
    os.utime(first, (1, 1))
    assert world.gather(wishes) == first
    assert first.stat().st_mtime > 1  # what is used is not swept away
    content = first.read_bytes()
    first.write_bytes(content[:-1])  # as the power leaves it
    assert world.gather(wishes) == first
    assert first.read_bytes() == content
    (site / "base.py").write_text("changed = True")
    assert world.gather(wishes) != first
    # Another one goes where other things are in it: a machine that has fewer of them takes no state of this.
    assert world.gather(world.Wishes(tmp_path / "project", programs=("true",))) != first


def test_what_is_too_large_is_named(
    install: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "LARGEST", 1 << 20)
    install("heavy", {"heavy/data": "x" * (3 << 20)}, plugin="heavy")
    wanted = r"beside their project has 3 MB, and no more than 1 MB can be delivered .*: heavy \(3 MB\).*-p no:NAME"
    with pytest.raises(BadInput, match=wanted):
        world.gather(world.Wishes(tmp_path / "project", frozenset({"heavy"})))


# Programs.


def test_a_program_comes_with_what_its_package_depends_on(tmp_path: Path) -> None:
    """OpenSSL loads what no program is linked with; `file` reads what is of yet another package."""
    program = shutil.which("curl")
    if program is None or debian.owner_of(Path(program)) != "curl":
        pytest.skip("this is no Debian")
    archive = world.gather(world.Wishes(tmp_path, programs=("curl",)))
    assert archive is not None
    assert any(name.endswith("/ossl-modules/legacy.so") for name in names_in(archive))


def test_a_shells_script_comes_with_what_scripts_start(tmp_path: Path) -> None:
    if debian.owner_of(Path("/usr/bin/dirname")) is None:
        pytest.skip("this is no Debian")
    script = tmp_path / "mine"
    script.write_text('#!/bin/sh\ncat "$(dirname "$0")/data"\n')
    script.chmod(0o755)
    archive = world.gather(world.Wishes(tmp_path / "project", programs=(str(script),)))
    assert archive is not None
    assert {str(script), "/usr/bin/dirname"} <= names_in(archive)


def test_a_program_comes_with_what_its_package_has(tmp_path: Path) -> None:
    program = shutil.which("gzip")
    if program is None or debian.owner_of(Path(program)) != "gzip":
        pytest.skip("this is no Debian")
    archive = world.gather(world.Wishes(tmp_path, programs=("gzip",)))
    assert archive is not None
    names = names_in(archive)
    assert {os.path.realpath(program), os.path.realpath(shutil.which("zcat") or ""), "/etc/passwd"} <= names
    assert not [name for name in names if name.startswith(("/usr/share/doc", "/usr/share/man"))]
    with tarfile.open(archive) as tar:
        passwd = tar.extractfile("etc/passwd")
        assert passwd is not None
        users = passwd.read().decode().splitlines()
    assert users[0] == "root:x:0:0::/root:/bin/sh"
    assert any(line.startswith("mail:") for line in users)


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        (
            {"programs": ("nope-at-all",)},
            r"--guest-program nope-at-all: it is not installed here, .*--guest-package NAME",
        ),
        ({"packages": ("No Package",)}, "--guest-package No Package: not the name of a Debian package"),
    ],
)
def test_what_is_not_here_is_named(tmp_path: Path, wishes: dict[str, tuple[str, ...]], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        world.gather(world.Wishes(tmp_path, **wishes))  # type: ignore[arg-type]


# Packages, of an archive of our own.


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DebianArchive:
    """An archive that apt knows, and no other; what is installed is what is installed here."""
    if debian_archive.missing() or not debian.STATUS.exists():
        pytest.skip(debian_archive.missing() or "this is no Debian")
    mirror = DebianArchive(tmp_path / "mirror")
    mirror.add(
        "lately-server", "2:1-1", {"usr/bin/lately": b"#!/bin/sh\n", "etc/lately.conf": b"x", "lib/lately/y": b"y"},
        depends="lately-common (>= 1), gzip, libc6, nowhere | sed",
    )  # fmt: skip
    mirror.add("lately-common", "1-1", {"usr/share/lately/data": b"d", "usr/share/doc/lately/copyright": b"c"})
    key = Key(tmp_path / "key")
    mirror.publish("stable", key)
    key.end()
    apt = tmp_path / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True)
    (apt / "sources.list").write_text(f"deb [signed-by={key.keyring}] file:{mirror.root} stable main\n")
    options = {
        "Dir::Etc::sourcelist": apt / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": apt / "lists", "Dir::Cache": apt / "cache", "APT::Sandbox::User": "root",
    }  # fmt: skip
    (apt / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in options.items()))
    monkeypatch.setenv("APT_CONFIG", str(apt / "apt.conf"))
    subprocess.run(["apt-get", "-q", "update"], check=True, capture_output=True)
    return mirror


def test_a_package_is_brought_with_what_it_depends_on(archive: DebianArchive, tmp_path: Path) -> None:
    gathered = world.gather(world.Wishes(tmp_path / "project", packages=("lately-server",)))
    assert gathered is not None
    names = names_in(gathered)
    assert {"/usr/bin/lately", "/etc/lately.conf", "/usr/share/lately/data"} <= names
    # /lib is a link here, and stays one there.
    assert os.path.realpath("/lib") + "/lately/y" in names
    # What is installed here already comes from here; of the system itself nothing does.
    assert os.path.realpath(shutil.which("gzip") or "") in names
    assert not any(name.startswith(("/usr/share/doc", "/usr/bin/ldd")) for name in names)
    # That is remembered: the archive can be away the next time.
    shutil.rmtree(archive.root)
    assert world.gather(world.Wishes(tmp_path / "project", packages=("lately-server",))) == gathered


def test_a_package_that_cannot_be_had_is_named(archive: DebianArchive, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--guest-package lately-nothing: Unable to locate package lately-nothing"):
        world.gather(world.Wishes(tmp_path, packages=("lately-nothing",)))
    (package,) = archive.root.rglob("lately-common_*.deb")
    package.unlink()
    with pytest.raises(BadInput, match="--guest-package lately-server: "):
        world.gather(world.Wishes(tmp_path, packages=("lately-server",)))
    assert not list(places.worlds().glob("*.tar"))


# The guest's side.


class Bytes:
    """A port that has all there is to read."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def exactly(self, size: int) -> bytes:
        assert len(self.content) >= size
        data, self.content = self.content[:size], self.content[size:]
        return data


def deliver(tree: image.Tree, behind: bytes = b"behind") -> None:
    packed = b"".join(tree.tar())
    port = Bytes(packed + behind)
    guest.unpack(guest.Archive(port, len(packed)))  # type: ignore[arg-type]
    assert port.content == behind


def test_what_is_delivered_stands_where_it_stands_outside(tmp_path: Path) -> None:
    tree = image.Tree()
    tree.text(f"{tmp_path}/there/file", "text", 0o755)
    tree.link(f"{tmp_path}/there/link", "file")
    tree.directory(f"{tmp_path}/empty", 0o1777)
    tree.directory(f"{tmp_path}/here", 0o755)
    (tmp_path / "here").mkdir()
    (tmp_path / "here").chmod(0o1777)
    deliver(tree)
    deliver(tree)
    assert (tmp_path / "here").stat().st_mode & 0o7777 == 0o1777
    assert (tmp_path / "there" / "link").read_text() == "text"
    assert (tmp_path / "there" / "file").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "empty").stat().st_mode & 0o7777 == 0o1777


def test_what_is_in_use_is_replaced_and_not_written_to(tmp_path: Path) -> None:
    """The interpreter of an environment in a repository that does not ignore it: it cannot be written, it runs."""
    program = tmp_path / "program"
    shutil.copy(shutil.which("sleep") or "", program)
    running = subprocess.Popen([program, "600"])
    try:
        with pytest.raises(OSError, match="Text file busy"):
            program.open("r+b")
        tree = image.Tree()
        tree.text(str(program), "another")
        tree.text(f"{tmp_path}/more", "more")
        deliver(tree)
        assert (program.read_text(), (tmp_path / "more").read_text()) == ("another", "more")
        assert running.poll() is None
    finally:
        running.kill()
        running.wait()


def test_what_is_there_already_stays(tmp_path: Path) -> None:
    tree = image.Tree()
    tree.text(f"{tmp_path}/file", "text")
    deliver(tree)
    inode = (tmp_path / "file").stat().st_ino
    deliver(tree)
    assert (tmp_path / "file").stat().st_ino == inode


# The project itself.


@pytest.mark.parametrize("git", [True, False], ids=["in a repository", "alone"])
def test_an_environment_and_what_runs_write_is_no_part_of_a_project(tmp_path: Path, git: bool) -> None:
    root = tmp_path / "project"
    for name in (
        "test_a.py",
        "env/pyvenv.cfg",
        "env/bin/python",
        "out/evidence/x.json",
        "r.html",
        "sub/out/y",
        "tracked",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    if git:
        if not shutil.which("git"):
            pytest.skip("git is not installed; on Debian: apt-get install git")
        subprocess.run(["git", "init", "--quiet", root], check=True)
        subprocess.run(["git", "-C", root, "add", "tracked"], check=True)
    packed = project.Project(root, written=(root / "r.html",)).archive(below=root)
    (tmp_path / "packed.tar").write_bytes(packed)
    assert names_in(tmp_path / "packed.tar") == {"/test_a.py", "/tracked"}


def test_no_interpreter_of_ours_is_a_project(tmp_path: Path) -> None:
    assert project.is_no_part(Path(sys.prefix))
    assert not project.is_no_part(tmp_path)


def test_the_owners_of_modules_are_those_that_python_has(install: Callable[..., Path]) -> None:
    install(
        "one-thing",
        {"one/__init__.py": "", "one_more.py": "", "data.txt": "", f"fast{EXTENSION_SUFFIXES[0]}": ""},
        "two>=1",
    )
    install("two", {"one/other.py": ""}, "one-thing[extra]; python_version > '3'", ">no requirement<")
    expected = metadata.packages_distributions()
    found = distributions.owners()
    for name in ("one", "one_more", "pytest", "harness"):
        assert sorted(found[name]) == sorted(expected[name]), name
    assert found["fast"] == ["one-thing"]
    assert "data" not in found
    assert {*distributions.needed({"one-thing": ()})} == {"one-thing", "two"}
    assert distributions.extras_in_use()[canonicalize_name("one-thing")] == {"extra"}


def test_each_requirement_is_parsed_once(install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """There are hundreds, and they are asked for several times as a session begins."""
    install("one-thing", {"one.py": ""}, "two-that-no-other-needs>=1")
    distributions.extras_in_use()
    monkeypatch.setattr(distributions, "Requirement", None)
    assert "one-thing" in distributions.needed({"one-thing": ()})
