"""Machines that are ready at once: the states they are restored from, made when they are missing.

Two states a kernel. The first is saved when the system has booted and the libraries are imported; the second is made
from it when the project, with what its tests need beside it, has been delivered and they have been collected once. Each
is named for the contents of everything that went into it, wherever that stands.

When a file of the project has changed, the next state is made from the second: there the process that collected ends,
the one before it, which has seen nothing of the project, takes what has changed, and another one collects. So a changed
scenario costs seconds, and no boot.
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
from harness.kernels import cache, guest, image, places, whole
from harness.kernels import project as project_files
from harness.kernels.machine import VirtualMachine, environment, made_with, name_of
from harness.kernels.mode import LEAST_MEBIBYTES
from harness.kernels.modules import in_order
from harness.kernels.project import PACKAGE
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
# pytest's exit codes of a collection without errors: some tests, or none.
COLLECTED = (0, 5)
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
    with _booted(kernel, mode, say) as (initrd, booted):
        files = project.files()
        wanted = _Wanted(project, {path: file.digest for path, file in files.items()}, _base(booted, project))
        collected = places.states() / wanted.name

        def make() -> None:
            before = _nearest(wanted)
            with contextlib.nullcontext() if before is None else before[0]:
                state = booted if before is None else before[1]
                with VirtualMachine(kernel, mode, initrd=initrd, state=state) as machine:
                    machine.resume()
                    if before is None:
                        _say(say, f"{kernel.release}: delivering the project")
                        _bring(machine, project, files)
                    else:
                        _bring_changes(machine, project, files, before[2])
                    _collect(machine, project)
                    machine.save(collected)

        began = time.monotonic()
        with cache.held(collected, make):
            if not cache.beside(collected, cache.ABOUT).exists():
                text = f"{kernel.release} with {project.root}: {' '.join(project.arguments) or 'all tests'}"
                seconds = time.monotonic() - began
                cache.remember(collected, cache.About(text, str(mode), seconds, wanted.base, wanted.digests))
                _replace_older(collected, text, wanted.base)
                cache.make_room(cache.limit())
            console = None if consoles is None else _new_console(consoles, kernel, booted)
            return VirtualMachine(kernel, mode, initrd=initrd, state=collected, console=console)


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
    with _booted(kernel, mode, say) as (initrd, booted):
        files = project.files()
        wanted = _Wanted(project, {path: file.digest for path, file in files.items()}, _base(booted, project))
        before = _nearest(wanted)
        with contextlib.ExitStack() as stack:
            if before is not None:
                stack.enter_context(before[0])
            state = booted if before is None else before[1]
            machine = VirtualMachine(kernel, mode, initrd=initrd, state=state, gdb=gdb)
            stack.callback(machine.end)
            machine.resume()
            if before is None:
                _bring(machine, project, files)
            else:
                _bring_changes(machine, project, files, before[2])
            _deliver(machine, project_files.packed(also))
            stack.pop_all()
            return machine


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
    parts = (str(project.root), str(project.place), world, rewritten, *_path(project))
    return f"{booted.name}-{_digest(*parts)[:8]}"


def _nearest(wanted: _Wanted) -> tuple[IO[bytes], Path, cache.About] | None:
    """The state to begin with: of the same base, the one that was used last; held as long as the file is open."""
    states = sorted(places.states().glob(f"{wanted.base}-*{cache.ABOUT}"), key=lambda file: -file.stat().st_mtime)
    for file in states:
        state = file.with_name(file.name.removesuffix(cache.ABOUT))
        known = cache.about(state)
        with contextlib.suppress(FileNotFoundError):
            if known.base == wanted.base:
                return cache.held_if_there(state), state, known
    return None


def _bring(machine: VirtualMachine, project: Project, files: Mapping[str, File]) -> None:
    """Deliver the project, with what its tests need beside it, to a machine that has booted."""
    if project.world is not None:
        _deliver(machine, project.world.read_bytes(), path=_path(project))
    _deliver(machine, project_files.packed(project.with_bytecode(files)), path=_path(project))


def _bring_changes(machine: VirtualMachine, project: Project, files: Mapping[str, File], known: cache.About) -> None:
    """Deliver what differs to a machine that has the project as it was, to a process that has seen nothing of it."""
    changed = {path: file for path, file in files.items() if known.files.get(path) != file.digest}
    machine.tell(do="return")
    machine.ready()
    gone = [f"/{path}" for path in sorted({*changed, *known.files} - ({*files} - {*changed}))]
    machine.tell(do="forget", files=gone)
    machine.ready()
    _deliver(machine, project_files.packed(project.with_bytecode(changed)), path=_path(project))


def _deliver(machine: VirtualMachine, archive: bytes, **words: object) -> None:
    """Have a machine unpack an archive."""
    machine.tell(archive, do="deliver", bytes=len(archive), **words)
    machine.ready()


def _collect(machine: VirtualMachine, project: Project) -> None:
    """In a process of its own, so that there is one that has seen nothing of the project for the next change."""
    machine.tell(do="branch")
    machine.ready()
    machine.tell(do="collect", argv=list(project.arguments), directory=str(project.place))
    if machine.ready().code not in COLLECTED:
        # A module that could not be imported stays in sys.modules when pytest imports by importlib: whoever collects
        # there again finds it empty, and no error.
        machine.tell(do="return")
        machine.ready()
        machine.tell(do="branch")
        machine.ready()


def _replace_older(state: Path, text: str, base: str) -> None:
    """Remove the states of the same project as it was before, if nobody uses them."""
    for file in places.states().glob(f"{base}-*{cache.ABOUT}"):
        older = file.with_name(file.name.removesuffix(cache.ABOUT))
        if older != state and cache.about(older).text == text:
            cache.remove_unused(older)


def _path(project: Project) -> list[str]:
    """Where modules are to be found beside what the guest's interpreter knows by itself."""
    return [str(project.root), str(PACKAGE.parent), *(place for place in sys.path[1:] if place)]


def boot(kernel: Stored, mode: Mode, *, say: Callable[[str], None] | None = None) -> None:
    """Boot a kernel, unless there is its state when it has.

    MachineDied if it does not come up, CannotRun if it has not what labs are made of.
    """
    began, usual = time.monotonic(), cache.usually(str(mode), with_project=False)
    booting = screen.Work(f"{kernel.release}: booting", lambda: (time.monotonic() - began, usual), "seconds")
    with screen.following(booting), _booted(kernel, mode, say):
        pass


@contextlib.contextmanager
def _booted(kernel: Stored, mode: Mode, say: Callable[[str], None] | None) -> Iterator[tuple[Path, Path]]:
    """The first file system of a kernel's machine, and its state when it has booted; both stay while the block runs."""
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
                machine.save(booted)
                image.write(cache.beside(booted, cache.CONSOLE), [machine.whole_console()])

        stack.enter_context(cache.held(booted, make))
        if not cache.beside(booted, cache.ABOUT).exists():
            seconds = time.monotonic() - began
            of_the_archive = kernel.image.is_relative_to(places.kernels())
            text = kernel.release if of_the_archive else f"{kernel.release}, {kernel.image}"
            cache.remember(booted, cache.About(text, str(mode), seconds))
            cache.make_room(cache.limit())
        yield initrd, booted


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
    key = _digest(digest, modules.digest(), kernel.image.read_bytes(), Path(__file__).read_bytes(), made_with())
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


def _digest(*parts: str | bytes) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part.encode() if isinstance(part, str) else part).digest())
    return total.hexdigest()[:16]
