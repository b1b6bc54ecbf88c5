"""Machines that are ready at once: the states they are restored from, made when they are missing.

Three states a kernel. The first is saved when the system has booted and the libraries are imported; the second is made
from it when this package is there and imported, unless it is part of the system; the third, from the second, when the
project, with what its tests need beside it, has been delivered and they have been collected once. Each is named for the
contents of everything that went into it, wherever that stands.

When a file of the project has changed, the next state is made from the third: harness.kernels.levels says how. So a
changed scenario costs seconds, and no boot.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import secrets
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from harness import screen
from harness.errors import BadInput
from harness.kernels import cache, guest, image, levels, places, whole
from harness.kernels.machine import VirtualMachine, environment, made_with, name_of
from harness.kernels.mode import LEAST_MEBIBYTES
from harness.kernels.modules import in_order
from harness.kernels.project import PACKAGE, is_in_image, packed
from harness.simulated import IS_SIMULATED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.kernels.mode import Mode
    from harness.kernels.project import File, Project
    from harness.kernels.store import Stored

# Not those that pytest rewrites the assertions of, its plugins: pytest imports them, when it collects.
LIBRARIES = (
    *(
        "pytest",
        "execnet",
        "pyroute2",
        "scapy.layers.inet",
        "scapy.layers.inet6",
        "lark",
        "tenacity",
        "jinja2",
        "click",
    ),
    *("packaging.specifiers", "tomllib", "difflib", "json", "subprocess", "asyncio", "pdb", "unittest", "doctest"),
)
WITHOUT_PROJECT = ("-p", "no:harness.plugin", "/var/tmp")


def start(
    kernel: Stored,
    mode: Mode,
    project: Project,
    *,
    consoles: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> VirtualMachine:
    """A machine with the project in it, ready to become an interpreter; made ready first if need be.

    What its kernel says, from its boot on, is kept in a file of the directory `consoles`.
    """
    with _collected(kernel, mode, project, say) as (booted, collected):
        console = None if consoles is None else _new_console(consoles, kernel, booted.state)
        return booted.machine(collected, console=console)


def make(kernel: Stored, mode: Mode, project: Project, *, say: Callable[[str], None] | None = None) -> None:
    """Make what start() restores, if it is not there."""
    with _collected(kernel, mode, project, say):
        pass


@contextlib.contextmanager
def _collected(
    kernel: Stored, mode: Mode, project: Project, say: Callable[[str], None] | None
) -> Iterator[tuple[_Booted, Path]]:
    """What a kernel's machine is restored from, with the project's tests collected; it stays while the block runs."""
    with _booted(kernel, mode, say) as booted:
        files = project.files()
        wanted = _Wanted(project, {path: file.digest for path, file in files.items()}, _base(booted.state, project))
        collected = places.states() / wanted.name

        def make() -> None:
            with contextlib.ExitStack() as stack:
                before = _nearest(wanted)
                if before is None:
                    _say(say, f"{kernel.release}: delivering the project")
                    state = stack.enter_context(_equipped(booted, project, files))
                else:
                    stack.enter_context(before[0])
                    state = before[1]
                machine = stack.enter_context(booted.machine(state, is_to_be_saved=True))
                machine.resume()
                if before is None:
                    if is_in_image() and (package := levels.of_the_package(files)):
                        # The system may have them as they were when the package was installed.
                        levels.equip_anew(machine, project, package, package)
                    levels.bring(machine, project, levels.without_the_package(files))
                else:
                    levels.bring_changes(machine, project, files, before[2].files)
                levels.collect(machine, project)
                machine.save(collected)

        began = time.monotonic()
        with cache.held(collected, make):
            if not cache.beside(collected, cache.ABOUT).exists():
                text = f"{kernel.release} with {project.root}: {' '.join(project.arguments) or 'all tests'}"
                seconds = time.monotonic() - began
                cache.remember(collected, cache.About(text, str(mode), seconds, wanted.base, wanted.digests))
                _replace_older(collected, text, wanted.base)
                cache.make_room(cache.limit())
            yield booted, collected


def _new_console(directory: Path, kernel: Stored, booted: Path) -> Path:
    """A new file in a directory, with what the kernel said until it had booted."""
    with places.writing(directory, "what the machine says"):
        directory.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            file = directory / (f"{kernel.release}.txt" if number == 1 else f"{kernel.release}-{number}.txt")
            with contextlib.suppress(FileExistsError), file.open("xb") as new:
                with contextlib.suppress(FileNotFoundError):
                    new.write(cache.beside(booted, cache.CONSOLE).read_bytes())
                return file
    raise AssertionError("numbers do not end")


def waiting(
    kernel: Stored,
    mode: Mode,
    project: Project,
    *,
    also: Mapping[str, File],
    gdb: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> VirtualMachine:
    """A running machine that has the project's files, and others by path, and waits for something to do.

    A debugger finds it at `gdb`. Nothing is collected there, and no state is saved but that of the kernel that has
    booted.
    """
    with _booted(kernel, mode, say) as booted:
        files = project.files()
        wanted = _Wanted(project, {path: file.digest for path, file in files.items()}, _base(booted.state, project))
        before = _nearest(wanted)
        with contextlib.ExitStack() as stack:
            if before is not None:
                stack.enter_context(before[0])
            machine = booted.machine(booted.state if before is None else before[1], gdb=gdb)
            stack.callback(machine.end)
            machine.resume()
            if before is None:
                levels.bring(machine, project, files)
            else:
                levels.replace(machine, project, files, before[2].files)
            levels.deliver(machine, packed(also))
            stack.pop_all()
            return machine


@dataclass(frozen=True)
class _Booted:
    """A kernel that has booted: the first file system of its machine, and the state of that."""

    kernel: Stored
    mode: Mode
    initrd: Path
    state: Path

    def machine(
        self, state: Path, *, gdb: Path | None = None, console: Path | None = None, is_to_be_saved: bool = False
    ) -> VirtualMachine:
        """A machine that is restored from a state, this one or one that was made from it."""
        return VirtualMachine(
            self.kernel, self.mode, initrd=self.initrd, state=state, gdb=gdb, console=console,
            is_to_be_saved=is_to_be_saved,
        )  # fmt: skip


@dataclass(frozen=True)
class _Wanted:
    """A state with a project: the digests of its files by path, and what it has in common with others (`base`)."""

    project: Project
    digests: dict[str, str]
    base: str

    @property
    def name(self) -> str:
        files = (f"{path} {digest}" for path, digest in sorted(self.digests.items()))
        return f"{self.base}-{_digest(*files, '', *self.project.arguments)}"


def _base(booted: Path, project: Project) -> str:
    """What states must have in common for one to be made from the other: all but the project's files."""
    world = "" if project.world is None else project.world.stem
    rewritten = "" if project.rewritten else "not rewritten"
    parts = (str(project.root), str(project.place), world, rewritten, *levels.path(project))
    return f"{booted.name}-{_digest(*parts)[:8]}"


def _nearest(wanted: _Wanted) -> tuple[IO[bytes], Path, cache.About] | None:
    """The state to begin with: of the same base, the one that was used last; held as long as the file is open."""
    for file in sorted(places.states().glob(f"{wanted.base}-*{cache.ABOUT}"), key=_changed, reverse=True):
        state = file.with_name(file.name.removesuffix(cache.ABOUT))
        known = cache.about(state)
        with contextlib.suppress(FileNotFoundError):
            if known.base == wanted.base:
                return cache.held_if_there(state), state, known
    return None


def _changed(file: Path) -> float:
    """When a file was written last; 0 if somebody has removed it meanwhile, to make room."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _replace_older(state: Path, text: str, base: str) -> None:
    """Remove the states of the same project as it was before, if nobody uses them."""
    for file in places.states().glob(f"{base}-*{cache.ABOUT}"):
        older = file.with_name(file.name.removesuffix(cache.ABOUT))
        if older != state and cache.about(older).text == text:
            cache.remove_unused(older)


def boot(kernel: Stored, mode: Mode, *, say: Callable[[str], None] | None = None) -> None:
    """Boot a kernel, unless there is its state when it has.

    MachineDied if it does not come up, CannotRun if it has not what labs are made of.
    """
    began, usual = time.monotonic(), cache.usually(str(mode), with_project=False)
    booting = screen.Work(f"{kernel.release}: booting", lambda: (time.monotonic() - began, usual), "seconds")
    with screen.following(booting), _booted(kernel, mode, say):
        pass


@contextlib.contextmanager
def _booted(kernel: Stored, mode: Mode, say: Callable[[str], None] | None) -> Iterator[_Booted]:
    """What a kernel's machine is restored from when it has booted; it stays while the block runs."""
    with contextlib.ExitStack() as stack:
        initrd, key = stack.enter_context(_initrd(kernel))
        _enough_memory(initrd, mode)
        booted = places.states() / f"{kernel.release}-{name_of(mode, kernel)}-{key}"
        began = time.monotonic()

        def make() -> None:
            places.sweep()
            cache.sweep()
            _say(say, f"{kernel.release}: booting once")
            with VirtualMachine(kernel, mode, initrd=initrd) as machine:
                machine.ready()
                machine.tell(do="import", modules=list(LIBRARIES))
                machine.ready()
                machine.tell(do="check")
                if lacking := machine.ready().lacking:
                    raise machine.useless(*lacking)
                machine.tell(do="collect", argv=WITHOUT_PROJECT, directory="/")
                machine.ready()
                if is_in_image():
                    levels.equip(machine)
                machine.save(booted)
                image.write(cache.beside(booted, cache.CONSOLE), [machine.whole_console()])

        stack.enter_context(cache.held(booted, make))
        if not cache.beside(booted, cache.ABOUT).exists():
            seconds = time.monotonic() - began
            of_the_archive = kernel.image.is_relative_to(places.kernels())
            text = kernel.release if of_the_archive else f"{kernel.release}, {kernel.image}"
            cache.remember(booted, cache.About(text, str(mode), seconds))
            cache.make_room(cache.limit())
        yield _Booted(kernel, mode, initrd, booted)


@contextlib.contextmanager
def _equipped(booted: _Booted, project: Project, files: Mapping[str, File]) -> Iterator[Path]:
    """The state of a machine that has this package, and has imported it; it stays while the block runs."""
    if is_in_image():
        yield booted.state
        return
    package = levels.of_the_package(files)
    kind = "imported" if levels.is_to_be_imported(project) else "not imported"
    base = f"{booted.state.name}-with-{_digest(kind, *levels.path())[:8]}"
    equipped = (
        places.states() / f"{base}-{_digest(*(f'{path} {file.digest}' for path, file in sorted(package.items())))}"
    )
    began = time.monotonic()

    def make() -> None:
        with booted.machine(booted.state, is_to_be_saved=True) as machine:
            machine.resume()
            levels.equip(machine, project, package)
            machine.save(equipped)

    with cache.held(equipped, make):
        if not cache.beside(equipped, cache.ABOUT).exists():
            text = f"{booted.kernel.release} with {PACKAGE}"
            seconds = time.monotonic() - began
            cache.remember(equipped, cache.About(text, str(booted.mode), seconds, base))
            _replace_older(equipped, text, base)
        yield equipped


def _enough_memory(initrd: Path, mode: Mode) -> None:
    """BadInput for a machine that could not hold its own system: as it comes, unpacked, and what runs then."""
    size = initrd.stat().st_size >> 20
    least = 2 * size + LEAST_MEBIBYTES
    if mode.memory < least:
        raise BadInput(
            f"--guest-memory {mode.memory}: the system of a machine has {size} MB, all of it in memory: {least} or more"
        )


def become_interpreter(machine: VirtualMachine, project: Project, *, variables: dict[str, str], user: int = 0) -> None:
    """Let a restored machine become what execnet talks to."""
    machine.tell(
        do="become",
        clock=time.time(),
        seed=secrets.token_hex(guest.SEED),
        environment=environment() | variables,
        directory=str(project.place),
        user=user,
    )
    machine.resume()


def variables(mode: Mode) -> dict[str, str]:
    """What says to whatever runs in a machine where it is."""
    simulated = {IS_SIMULATED: "1"} if mode.simulated else {}
    return {"TCP_HARNESS_OWN_KERNEL": "1", "TCP_HARNESS_GUEST": "1"} | simulated


class Say:
    """Tells whoever waits what is being made."""

    def __call__(self, text: str) -> None:
        """One line on standard error."""
        print(f"harness: {text}", file=sys.stderr, flush=True)


def _say(say: Callable[[str], None] | None, text: str) -> None:
    if say is not None:
        say(text)


@contextlib.contextmanager
def _initrd(kernel: Stored) -> Iterator[tuple[Path, str]]:
    """The first file system of a kernel's machine, the system and its modules; and what identifies it all."""
    with first_files(kernel, *_system()) as found:
        yield found


@contextlib.contextmanager
def first_files(kernel: Stored, system: Path, digest: str) -> Iterator[tuple[Path, str]]:
    """The same, of a system with this digest; made if it is not there, or is cut off."""
    modules = image.Tree()
    ordered = in_order(kernel.modules)
    for file in ordered:
        modules.text(f"modules/{file.name}", file.read_bytes())
    modules.text("modules/order", "\n".join(file.name for file in ordered))
    key = _digest(digest, modules.digest(), kernel.image.read_bytes(), *_own(), made_with())
    joined = places.images() / f"{kernel.release}-{key}.initrd"

    def make() -> None:
        image.write(joined, [system.read_bytes(), *modules.cpio()])
        cache.remember(joined, cache.About(f"{kernel.release}, python {sys.executable}"))

    with cache.held(joined, make, is_whole=whole.has_its_end):
        yield joined, key


def _system() -> tuple[Path, str]:
    """The guests' system and its digest.

    It is not put together again as long as what it is made of looks the same: sizes and times of the programs, of the
    interpreter and of the lists of what each library consists of.
    """
    looks = hashlib.sha256(f"{sys.version} {sys.prefix} {sys.executable}".encode())
    for file in image.witnesses():
        about = file.stat()
        looks.update(f"{file} {about.st_size} {about.st_mtime_ns}\n".encode())

    def tree() -> image.Tree:
        made = image.system()
        init = Path(guest.__file__).read_text(encoding="utf-8")
        made.text("init", f"#!{sys.executable}\n{init}", 0o755)
        return made

    system = image.build_once(tree, looks.hexdigest()[:24], places.images())
    if not cache.beside(system, cache.ABOUT).exists():
        cache.remember(system, cache.About(f"python {sys.executable}"))
    return system, system.stem


def _own() -> tuple[bytes, bytes]:
    """What states are made by here."""
    return Path(__file__).read_bytes(), Path(levels.__file__).read_bytes()


def _digest(*parts: str | bytes) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part.encode() if isinstance(part, str) else part).digest())
    return total.hexdigest()[:16]
