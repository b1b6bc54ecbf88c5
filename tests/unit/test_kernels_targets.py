"""What the words of --kernel mean: which type, which name, and how a worker on it starts."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import pytest

from harness.errors import BadInput
from harness.kernels import gateway, targets
from harness.kernels.catalogue import Kernel
from harness.kernels.hosts import RemoteHost
from harness.kernels.mode import Mode
from harness.kernels.project import Project
from harness.kernels.targets import Archived, Built, Remote, Running, Target, Wanted, Ways, parse, told_apart
from harness.plugin import world
from tests.unit.test_kernels_store import image, module

if TYPE_CHECKING:
    from harness.kernels.selection import Selection


def no_archive() -> Selection:
    raise AssertionError("the archive is not to be asked")


def vagrant(machine: str, python: str | None) -> RemoteHost:
    return RemoteHost(machine, "192.0.2.1", python=python or "/its/python", sudo=True, ours=True)


WAYS = Ways(no_archive, vagrant)


def words_of(target: Target, mode: Mode | None = None) -> tuple[list[str], dict[str, str]]:
    """The command that execnet starts for a worker, decoded, and what the word for it says beside."""
    kind, *settings = target.worker(Project(Path("/p=1//2"), ("t.py",)), mode).split("//")
    assert kind == "popen"
    pairs = dict(setting.split("=", 1) for setting in settings)
    return [unquote(word) for word in shlex.split(pairs.pop("python", ""))], pairs


def test_the_running_kernel_is_this_interpreter() -> None:
    (target,) = parse("running", WAYS)
    assert target == Running()
    assert isinstance(target, Running)
    assert (target.name, target.is_virtual) == ("running", False)
    assert words_of(target) == ([], {"harness_kernel": "running"})


@pytest.mark.parametrize("text", ["6.12", "all", "newest", ">=6.12,<7.1", "6.12.117+deb13-amd64", "latest"])
def test_words_for_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    if text != "latest":
        (tmp_path / text).touch()
    assert parse(text, WAYS) == [Wanted(text)]


def test_a_kernel_of_the_archive_is_a_gateway_to_its_release() -> None:
    target = targets.archived(Kernel("6.12.117+deb13-amd64", "6.12.117", "trixie", ()))
    assert target == Archived("6.12.117+deb13-amd64", "6.12.117")
    mode = Mode(simulated=False, cpus=4, memory=1024, append=('a="b // c"', "nokaslr"))
    words, beside = words_of(target, mode)
    assert words[2:5] == ["harness.kernels.gateway", "--release", "6.12.117+deb13-amd64"]
    assert words[words.index("--root") + 1] == words[words.index("--directory") + 1] == "/p=1/2"
    assert words[-1] == "t.py"
    assert gateway.parser().parse_args(map(quote, words[3:])).mode == mode
    assert beside == {"harness_kernel": "6.12.117"}


@pytest.mark.parametrize("text", ["bzImage", "./bzImage", "{}/bzImage"])
def test_an_image_is_known_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    place = image(tmp_path / "bzImage")
    (target,) = parse(text.format(tmp_path), WAYS)
    assert target == Built(str(place), place, None, "6.12.1-test", "6.12.1")
    assert isinstance(target, Built)
    words, _ = words_of(target)
    assert words[3:5] == ["--image", str(place)]
    assert "--modules" not in words


def test_an_image_with_its_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image(tmp_path / "bzImage")
    module(tmp_path / "m", "veth")
    (target,) = parse("bzImage,modules=m", WAYS)
    assert isinstance(target, Built)
    assert target.path == f"{tmp_path}/bzImage,modules={tmp_path}/m"
    assert words_of(target)[0][5:7] == ["--modules", str(tmp_path / "m")]


@pytest.mark.parametrize("option", ["modules=/nowhere", "moduls=/", "x"])
def test_an_option_that_is_none_is_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(BadInput, match=r"write modules=DIRECTORY after the comma"):
        parse(f"{image(tmp_path / 'bzImage')},{option}", WAYS)


def test_a_built_tree(tmp_path: Path) -> None:
    (tmp_path / "arch" / "x86" / "boot").mkdir(parents=True)
    bzimage = image(tmp_path / "arch" / "x86" / "boot" / "bzImage", b"7.0.0-rc3+ (me@here) #2\0")
    module(tmp_path / "drivers" / "net", "veth", release="7.0.0-rc3+")
    assert parse(str(tmp_path), WAYS) == [Built(str(tmp_path), bzimage, tmp_path, "7.0.0-rc3+", "7.0.0")]


def test_a_folder_without_a_kernel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no kernel is built there \(.*bzImage is missing; make bzImage\)"):
        parse(str(tmp_path), WAYS)
    # One in which only vmlinux was made, or that file itself.
    (tmp_path / "vmlinux").write_bytes(b"\x7fELF" + bytes(0x300))
    with pytest.raises(BadInput, match=r"bzImage is missing; make bzImage"):
        parse(str(tmp_path), WAYS)
    with pytest.raises(BadInput, match=r"not a Linux kernel image for x86 .*; of a built tree take arch/x86/boot/bzIm"):
        parse(str(tmp_path / "vmlinux"), WAYS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ssh:a", ["ssh:a"]),
        ("vagrant:k6.12,vagrant:k5.10", ["vagrant:k6.12", "vagrant:k5.10"]),
        ("ssh:a,python=/v/bin/python,ssh:b", ["ssh:a,python=/v/bin/python", "ssh:b"]),
    ],
)
def test_hosts_are_separated_by_commas(text: str, words: list[str]) -> None:
    hosts = parse(text, WAYS)
    assert [host.word for host in hosts if isinstance(host, Remote)] == words


def test_a_host_is_reached_by_ssh_when_a_worker_starts(tmp_path: Path) -> None:
    missing = Ways(no_archive, vagrant, str(tmp_path / "config"))
    (target,) = parse("ssh:a,python=/v/bin/python", missing)
    assert isinstance(target, Remote)
    with pytest.raises(BadInput, match="no such file"):
        words_of(target)
    (tmp_path / "config").touch()
    words, beside = words_of(target)
    assert words[2:5] == ["harness.kernels.hosts", "--host", "a"]
    assert words[-2:] == ["--python", "/v/bin/python"]
    assert beside == {"harness_far": "1", "harness_kernel": "a"}


def test_a_machine_of_vagrant_is_reached_as_whoever_knows_it_says() -> None:
    (target,) = parse("vagrant:k6.12", WAYS)
    assert isinstance(target, Remote)
    words, beside = words_of(target)
    assert words[4] == "192.0.2.1"
    assert words[-4:] == ["--python", "/its/python", "--sudo", "--ours"]
    assert beside["harness_kernel"] == "k6.12"


@pytest.mark.parametrize(
    "text", ["", "ssh:", "vagrant:", "ssh:a b", "ssh:-oProxyCommand=touch", "ssh:a,python", "ssh:a,port=1"]
)
def test_what_is_no_kernel_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--kernel"):
        parse(text, WAYS)


ARCHIVE = Archived("6.12.117+deb13-amd64", "6.12.117")
BUILT = Built("/src/linux", Path("/b"), None, "6.12.117+", "6.12.117")
AGAIN = Built("/src/linux two", Path("/c"), None, "6.12.117+", "6.12.117")
ALIKE = Built("/src/linux_two", Path("/d"), None, "6.12.117+", "6.12.117")


@pytest.mark.parametrize(
    ("kernels", "names"),
    [
        ([ARCHIVE], ["6.12.117"]),
        ([ARCHIVE, ARCHIVE], ["6.12.117"]),
        ([ARCHIVE, BUILT], ["6.12.117+deb13-amd64", "6.12.117+"]),
        ([ARCHIVE, BUILT, AGAIN], ["6.12.117+deb13-amd64", "src_linux", "src_linux_two"]),
        # Two paths that an id spells alike: none may take the place of the other.
        ([AGAIN, ALIKE], ["src_linux_two", "src_linux_two-2"]),
        ([Running(), *parse("ssh:running", WAYS)], ["running", "ssh_running"]),
        ([*parse("ssh:a", WAYS), *parse("vagrant:a", WAYS)], ["ssh_a", "vagrant_a"]),
    ],
)
def test_kernels_are_called_by_what_tells_them_apart(kernels: list[Target], names: list[str]) -> None:
    assert [target.name for target in told_apart(kernels)] == names


def test_all_words_together(tmp_path: Path) -> None:
    bzimage = image(tmp_path / "bzImage")
    old, new = Kernel("5.10.0-46-amd64", "5.10.262", "s", ()), Kernel("6.12.117+deb13-amd64", "6.12.117", "s", ())

    class Chooses:
        def choose(self, wanted: list[str]) -> list[Kernel]:
            assert wanted == ["6.12", ">=5"]
            return [old, new]

    ways = Ways(Chooses, vagrant)  # type: ignore[arg-type]
    words = ["6.12", str(bzimage), "ssh:a", ">=5", "running", "6.12"]
    words.pop()
    assert targets.meant(words, ways, fetch=False) == [
        Running(),
        *parse("ssh:a", WAYS),
        *parse(str(bzimage), WAYS),
        Archived(old.release, old.version),
        Archived(new.release, new.version),
    ]


@pytest.mark.parametrize(
    ("mode", "hook", "rewritten"), [("rewrite", False, True), ("plain", False, False), ("rewrite", True, False)]
)
def test_a_machine_rewrites_assertions_as_pytest_is_told_to(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, mode: str, hook: bool, rewritten: bool
) -> None:
    monkeypatch.setattr(pytestconfig.option, "assertmode", mode)
    monkeypatch.setitem(pytestconfig._inicache, "enable_assertion_pass_hook", hook)
    project = world.project_of(pytestconfig, [])
    assert project.rewritten is rewritten
    words = [unquote(word) for word in shlex.split(unquote(gateway.command(("--release", "6.12"), project)))]
    assert ("--not-rewritten" in words) is not rewritten
