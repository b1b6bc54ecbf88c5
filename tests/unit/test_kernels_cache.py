"""What is kept of machines: what is listed, what goes first, what is never removed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.errors import BadInput
from harness.kernels import cache, places

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

MEGABYTE = 1 << 20
DAY = 86400.0


@pytest.fixture
def keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts a file of some megabytes into a cache, used some days ago."""
    monkeypatch.setenv(places.CACHE, str(tmp_path))
    monkeypatch.delenv(cache.LIMIT, raising=False)

    def put(name: str, megabytes: int = 1, *, days: float = 0.0, about: cache.About | None = None) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(megabytes * MEGABYTE))
        if about is not None:
            cache.remember(file, about)
        for each in (file, cache.beside(file, cache.ABOUT)):
            if each.exists():
                os.utime(each, (time.time() - days * DAY,) * 2)
        return file

    return put


def harness(*words: str) -> Result:
    return CliRunner().invoke(cli, ["cache", *words])


def left() -> list[str]:
    return sorted(entry.path.name for entry in cache.entries())


def test_what_is_kept_is_listed_with_its_size_its_use_and_its_purpose(keep: Callable[..., Path]) -> None:
    about = cache.About("6.12.118 with /p: scenarios", "simulated time, 3072 MB, nokaslr", 61.2)
    keep("states/6.12.118-simulated-1-2-3", 3, days=2, about=about)
    # Used an hour ahead of the clock, so that it is 0 s ago however long the machine takes from here.
    keep("images/6.12.118-1.initrd", 2, days=-1 / 24)
    keep("kernels/6.12.118/image", 1, days=9)
    rows = harness("list").output.splitlines()
    assert [row.split() for row in rows[:-1]] == [
        ["KIND", "MB", "USED", "MADE", "IN", "FOR"],
        ["first", "files", "3", "0", "s", "ago", "-", "6.12.118-1.initrd"],
        ["state", "4", "2", "d", "ago", "61", "s", *f"{about.text}, {about.mode}".split()],
        ["kernel", "2", "9", "d", "ago", "-", "6.12.118"],
    ]
    assert f"{places.cache()}: 6 MB; 5 MB of them are kept within a limit of " in rows[-1]


def test_a_kernel_that_goes_while_all_is_listed_is_passed_over(keep: Callable[..., Path]) -> None:
    """`harness cache prune --kernels` beside it ended the listing with a traceback, some once in a hundred times."""
    modules, stop = keep("kernels/6.12.118/image").with_name("modules"), threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            for i in range(5):
                (modules / str(i) / "net").mkdir(parents=True)
            shutil.rmtree(modules)

    with futures.ThreadPoolExecutor(1) as other:
        comes_and_goes = other.submit(come_and_go)
        try:
            listed = {tuple(left()) for _ in range(2000)}
        finally:
            stop.set()
        comes_and_goes.result()
    assert listed == {("6.12.118",)}


def test_an_empty_cache_is_no_error(keep: Callable[..., Path]) -> None:
    assert harness("list").exit_code == 0
    assert harness("prune", "--all").output == "0 removed: 0 MB are free again\n"


def test_what_was_not_used_for_the_longest_time_goes_first(keep: Callable[..., Path]) -> None:
    for name, days in (("a", 3), ("b", 1), ("c", 2)):
        keep(f"states/{name}", 2, days=days)
    cache.make_room(7 * MEGABYTE)
    assert left() == ["a", "b", "c"]
    cache.make_room(5 * MEGABYTE)
    assert left() == ["b", "c"]
    with cache.held_if_there(places.states() / "c"):
        pass  # it has been used now
    cache.make_room(3 * MEGABYTE)
    assert left() == ["c"]


def test_kernels_do_not_go_by_themselves(keep: Callable[..., Path]) -> None:
    keep("kernels/6.12/image", 2, days=9)
    keep("states/a", 2)
    cache.make_room(0)
    assert left() == ["6.12"]
    assert harness("prune", "--all").output.startswith("0 removed")
    assert harness("prune", "--all", "--kernels").output == "1 removed: 2 MB are free again\n"
    assert left() == []


# Another process, as a machine is.
HOLDS = """
import sys
import threading
from pathlib import Path
from harness.kernels import cache
with cache.held_if_there(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["states/a", "kernels/6.12/image"])
def test_what_a_running_process_uses_is_never_removed(keep: Callable[..., Path], name: str) -> None:
    file = keep(name, 1, days=9)
    argv = [sys.executable, "-c", HOLDS, str(file)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "held\n"
        for words in (("--all", "--kernels"), ("--older", "0", "--kernels"), ("--keep", "0", "--kernels")):
            ran = harness("prune", *words)
            assert "in use, and left: " in ran.output
            assert "0 removed, 1 in use: 0 MB" in ran.output
        cache.make_room(0)
        assert file.exists()
        user.kill()
        user.wait()
    # However it ended, it uses nothing any more.
    assert "1 removed: 1 MB are free again" in harness("prune", "--all", "--kernels").output
    assert not file.exists()


def test_a_file_of_the_users_own_keeps_its_time(
    keep: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    image = tmp_path_factory.mktemp("linux") / "bzImage"
    image.touch()
    os.utime(image, (1, 1))
    cache.held_if_there(image).close()
    assert image.stat().st_mtime == 1


def test_a_file_that_goes_between_two_looks_is_made_again(keep: Callable[..., Path]) -> None:
    """Who waits for the lock of a file that is being removed does not get the file that is no more."""
    file = keep("states/a")
    made = []

    def make() -> None:
        made.append(1)
        file.write_bytes(b"new")

    with file.open("rb") as old:
        file.unlink()
        assert not cache._is_still(old, file)
    with cache.held(file, make) as opened:
        assert opened.read() == b"new"
    with cache.held(file, make):
        pass
    assert made == [1]


@pytest.mark.parametrize(
    ("words", "stay"),
    [((), ["a", "b", "c"]), (("--keep", "3M"), ["b"]), (("--older", "1.5"), ["b"]), (("--older", "2.5"), ["b", "c"]),
     (("--all",), [])],
)  # fmt: skip
def test_prune_removes_what_is_asked(keep: Callable[..., Path], words: tuple[str, ...], stay: list[str]) -> None:
    for name, days in (("a", 3), ("b", 1), ("c", 2)):
        keep(f"states/{name}", 2, days=days, about=cache.About(name))
    ran = harness("prune", *words)
    assert ran.exit_code == 0
    assert ran.output.startswith(f"{3 - len(stay)} removed: ")
    assert left() == stay
    # What was known of them went with them.
    assert sorted(file.name for file in places.states().glob("*.about")) == [f"{name}.about" for name in stay]


def test_the_limit_is_what_the_user_says(keep: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < cache.limit() <= cache.DEFAULT_LIMIT
    keep("states/a", 2, days=1)
    keep("states/b", 2)
    monkeypatch.setenv(cache.LIMIT, "3M")
    assert harness("prune").output.startswith("1 removed")
    assert left() == ["b"]
    monkeypatch.setenv(cache.LIMIT, "much")
    ran = harness("prune")
    assert isinstance(ran.exception, BadInput)
    assert str(ran.exception) == "HARNESS_CACHE_LIMIT much: write a size as 500M or 20G"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--keep", "x"), "--keep x: write a size as 500M or 20G"),
        (("--keep", "1G", "--all"), "--keep, --older and --all: choose one"),
    ],
)
def test_what_cannot_be_meant_is_one_line(keep: Callable[..., Path], words: tuple[str, ...], why: str) -> None:
    ran = harness("prune", *words)
    assert isinstance(ran.exception, BadInput)
    assert str(ran.exception) == why


def test_what_is_left_without_its_file_is_swept_after_a_day(keep: Callable[..., Path]) -> None:
    keep("states/.a.lock", 0, days=2)
    keep("states/.b.lock", 0, days=2)
    keep("states/b", 1, days=2, about=cache.About("b"))
    keep("states/c.about", 0, days=2)
    keep("states/.d.lock", 0)
    keep("images/1.digest", 0, days=2).write_text("gone")
    os.utime(places.images() / "1.digest", (1, 1))
    cache.sweep()
    names = sorted(path.name for place in (places.states(), places.images()) for path in place.iterdir())
    assert names == [".b.lock", ".d.lock", "b", "b.about"]


@pytest.mark.parametrize("damaged", [b"", b"\xff", b"n" * 300])
def test_what_is_damaged_is_swept_too(keep: Callable[..., Path], damaged: bytes) -> None:
    keep("images/1.digest").write_bytes(damaged)
    os.utime(places.images() / "1.digest", (1, 1))
    cache.sweep()
    assert list(places.images().iterdir()) == []
