"""What a kernel lacks is read out of its configuration, wherever that is: beside it, in its tree, or within it.

And `harness kernels config`, which prints what it needs, and checks.
"""

from __future__ import annotations

import gzip
import lzma
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cli import cli
from harness.errors import BadInput
from harness.kernels import configuration, configured, needs
from harness.kernels.targets import Ways, meant
from tests.unit.test_kernels_store import module

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.kernels.targets import Target

ENOUGH = {option: "y" for need in needs.HARNESS for option in need.options}
RELEASE = "4.4.178"
PROJECT = Path(__file__).parents[2]


def written(options: dict[str, str]) -> str:
    """A .config."""
    lines = [f"CONFIG_{name}={value}" for name, value in options.items()]
    return "\n".join(["# CONFIG_VT is not set", "CONFIG_HZ=250", *lines, ""])


def bzimage(inside: bytes = b"", pack: str = "gzip") -> bytes:
    """A file that is laid out like a kernel image, with something packed in it."""
    packed = gzip.compress(inside) if pack == "gzip" else lzma.compress(inside)
    head = bytearray(0x600)
    head[0x1F1] = 1
    head[0x202:0x208] = b"HdrS\x0f\x02"
    banner = f"{RELEASE} (a@b) #1 SMP\0".encode()
    struct.pack_into("<H", head, 0x20E, 0x100)
    head[0x300 : 0x300 + len(banner)] = banner
    struct.pack_into("<II", head, 0x248, 0x200, len(packed))
    return bytes(head) + packed


# The middle of the kernel within is gone.
DAMAGED = bzimage(bytes(range(256)) * 99)
DAMAGED = DAMAGED[:-300] + b"\xaa" * 200 + DAMAGED[-100:]


def image(directory: Path, content: bytes) -> Path:
    file = directory / "bzImage"
    file.write_bytes(content)
    return file


def carrying(options: dict[str, str]) -> bytes:
    """What the kernel of an image built with CONFIG_IKCONFIG has in it somewhere."""
    return b"\x7fELF code IKCFG_ST" + gzip.compress(written(options).encode()) + b"IKCFG_ED data"


def named(file: Path) -> Target:
    """What --kernel=FILE means."""
    (target,) = meant(
        [str(file)], Ways(lambda: pytest.fail("no archive"), lambda *_: pytest.fail("no host")), fetch=False
    )
    return target


@pytest.mark.parametrize("pack", ["gzip", "xz"])
def test_an_image_carries_its_configuration(tmp_path: Path, pack: str) -> None:
    file = image(tmp_path, bzimage(carrying({"VETH": "m", "NET_NS": "y"}), pack))
    assert configuration.of(file, RELEASE) == {"VETH": "m", "NET_NS": "y"}


def test_without_it_the_configuration_is_not_known(tmp_path: Path) -> None:
    assert configuration.of(image(tmp_path, bzimage(b"\x7fELF nothing")), RELEASE) is None
    assert configuration.of(image(tmp_path, bzimage()[:0x600] + b"packed by nobody"), RELEASE) is None


def test_it_stands_beside_the_image_or_in_the_tree(tmp_path: Path) -> None:
    boot = tmp_path / "arch" / "x86" / "boot"
    boot.mkdir(parents=True)
    file = image(boot, bzimage())
    (tmp_path / ".config").write_text(written({"VETH": "y"}))
    assert configuration.of(file, RELEASE) == {"VETH": "y"}
    (boot / f"config-{RELEASE}").write_text(written({"VETH": "m"}))
    assert configuration.of(file, RELEASE) == {"VETH": "m"}


def test_what_is_built_in_or_at_hand_as_a_module_is_not_lacking() -> None:
    assert configuration.lacking(ENOUGH, ()) == []
    assert configuration.lacking(ENOUGH | {"VETH": "m"}, {"veth"}) == []
    assert configuration.lacking(ENOUGH | {"VETH": "m"}, {"dummy"}) == ["veth (CONFIG_VETH)"]


def test_a_file_called_config_counts_only_if_it_is_one(tmp_path: Path) -> None:
    file = image(tmp_path, bzimage(carrying({"VETH": "m"})))
    (tmp_path / "config").write_text("[settings]\ncolour = blue\n")
    assert configuration.of(file, RELEASE) == {"VETH": "m"}
    (tmp_path / "config").write_text(written({"VETH": "y"}))
    assert configuration.of(file, RELEASE) == {"VETH": "y"}


@pytest.mark.parametrize("option", sorted(ENOUGH))
def test_each_of_them_is_missed(option: str) -> None:
    (lacks,) = configuration.lacking({name: value for name, value in ENOUGH.items() if name != option}, ())
    assert f"(CONFIG_{option})" in lacks


def test_a_kernel_that_lacks_something_is_one_mistake_of_usage(tmp_path: Path) -> None:
    few = {name: value for name, value in ENOUGH.items() if name not in ("VETH", "NF_TABLES")}
    file = image(tmp_path, bzimage(carrying(few)))
    with pytest.raises(BadInput) as raised:
        named(file)
    assert str(raised.value).startswith(
        f"--kernel {file}: kernel {RELEASE} cannot run scenarios: it has no veth (CONFIG_VETH) and no nftables "
        "(CONFIG_NF_TABLES); if these are modules"
    )
    assert named(image(tmp_path, bzimage(carrying(ENOUGH)))).names[0] == RELEASE


# The command.


@pytest.fixture
def config(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str]]]:
    """Run `harness kernels config`: its exit code, and the lines that it printed."""

    def run(*words: str) -> tuple[int, list[str]]:
        try:
            cli(["kernels", "config", *words], standalone_mode=True)
        except SystemExit as ended:
            return int(ended.code or 0), capsys.readouterr().out.splitlines()
        raise AssertionError("click ends the process")

    return run


def test_the_fragment_has_all_that_is_asked_for(config: Callable[..., tuple[int, list[str]]], tmp_path: Path) -> None:
    code, lines = config()
    assert code == 0
    assert "CONFIG_VETH=y" in lines
    assert "# veth: the cables of a lab" in lines
    (tmp_path / "fragment").write_text("\n".join(lines))
    assert config(str(tmp_path / "fragment")) == (
        0, [f"{tmp_path}/fragment: nothing missing that every scenario needs, nothing that some need"]
    )  # fmt: skip


@pytest.mark.parametrize("option", ["VETH", "NF_TABLES"])
def test_what_a_config_lacks_is_a_line_each(
    config: Callable[..., tuple[int, list[str]]], tmp_path: Path, option: str
) -> None:
    lines = [line for line in needs.fragment() if line != f"CONFIG_{option}=y"]
    (tmp_path / ".config").write_text("\n".join(lines))
    (need,) = (need for need in needs.HARNESS if option in need.options)
    for word in (tmp_path, tmp_path / ".config"):
        code, (line, summary) = config(str(word))
        assert (code, line) == (1, f"CONFIG_{option} is not set: {need.what}: {need.why}")
        assert summary.endswith(".config: 1 missing that every scenario needs, nothing that some need")


def test_lines_may_end_as_on_windows(config: Callable[..., tuple[int, list[str]]], tmp_path: Path) -> None:
    """The kernel's own scripts take them so (scripts/kconfig/confdata.c)."""
    file = tmp_path / "odd.config"
    file.write_bytes(written(ENOUGH).replace("\n", "\r\n").encode())
    assert config(str(file))[0] == 0


def test_what_some_scenarios_need_and_what_helps_is_told_and_no_failure(
    config: Callable[..., tuple[int, list[str]]], tmp_path: Path
) -> None:
    without = ("CONFIG_SYN_COOKIES=y", "CONFIG_IKCONFIG=y")
    packed = gzip.compress("\n".join(line for line in needs.fragment() if line not in without).encode())
    (tmp_path / "config.gz").write_bytes(packed)
    code, lines = config(str(tmp_path / "config.gz"))
    assert code == 0
    assert lines[0] == (
        "CONFIG_SYN_COOKIES is not set: SYN cookies: the claims of syncookies and syn-queue; some scenarios need it"
    )
    assert lines[1].startswith("CONFIG_IKCONFIG is not set")
    assert lines[1].endswith("; it helps")
    assert lines[2].endswith("nothing missing that every scenario needs, 1 that some need")


def test_a_module_has_to_be_at_hand_where_a_kernel_is_built(
    config: Callable[..., tuple[int, list[str]]], tmp_path: Path
) -> None:
    options = ENOUGH | {"VETH": "m"}
    (tmp_path / ".config").write_text(written(options))
    assert config(str(tmp_path))[0] == 0  # it will be, when it is built
    file = image(tmp_path, bzimage(carrying(options)))
    (tmp_path / ".config").rename(tmp_path / "moved")
    code, lines = config(str(file))
    assert (code, lines[0]) == (1, "CONFIG_VETH is a module that is not at hand: veth: the cables of a lab")
    module(tmp_path / "m", "veth", release=RELEASE)
    assert config(f"{file},modules={tmp_path}/m")[0] == 0


@pytest.mark.parametrize(
    ("files", "wrong"),
    [
        ({}, "none: there is no such file or directory"),
        ({"none/x": b""}, r"none: neither configured nor built: there is no .config \(make defconfig\)"),
        (
            {"none": b"#!/bin/sh"},
            r"none: not a Linux kernel image .*, and no \.config: no line of it says CONFIG_NAME=y",
        ),
        ({"none": b"CONFIG_NET=maybe\nCONFIG_VETH\n"}, "and no .config"),
        ({"none": b""}, "and no .config"),
        ({"none": b"\x1f\x8bnot packed"}, "none: packed by gzip, and damaged"),
        ({"none": bzimage()}, r"none: how kernel 4.4.178 was configured is not known: .* name its .config"),
        ({"none": bzimage()[:-1]}, "none: a kernel image that is cut off: .*, 1 of them are missing"),
        (
            {"none": DAMAGED},
            r"none: the kernel in this image cannot be unpacked \(.*\): build or copy",
        ),
    ],
)
def test_what_cannot_be_checked_is_bad_input(tmp_path: Path, files: dict[str, bytes], wrong: str) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=wrong):
        configured.look(str(tmp_path / "none"))


def test_the_small_kernel_of_the_mutants_has_all_of_it() -> None:
    """It is known to run every scenario."""
    files = [PROJECT / "bench" / "mutants" / name for name in ("kernel.config", "older.config")]
    options = configuration.parse("".join(file.read_text() for file in files))
    for table in (needs.HARNESS, needs.SCENARIOS):
        assert configuration.missing(options, None, table) == []
