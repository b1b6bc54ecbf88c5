"""Machines that are ready at once: the states they are restored from, made when they are missing.

Two states a kernel. The first is saved when the system has booted and the libraries are imported; the second is made
from it when the project, with what its tests need beside it, has been delivered and they have been collected once, so
that a changed scenario costs seconds, and no boot. Each is named for everything that went into it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness.kernels import guest, image, places
from harness.kernels.machine import Mode, VirtualMachine, environment, made_with
from harness.kernels.modules import in_order
from harness.kernels.project import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.kernels.project import Project
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


def start(kernel: Stored, mode: Mode, project: Project, *, say: Say | None = None) -> VirtualMachine:
    """A machine with the project in it, ready to become an interpreter; made ready first if need be."""
    initrd, booted = boot(kernel, mode, say=say)
    packed = project.archive()
    world = project.world
    beside = "" if world is None else world.stem
    collected = booted.with_name(f"{booted.name}-{_digest(packed, beside, str(project.place), *project.arguments)}")
    with _only_one(collected):
        if not collected.exists():
            _say(say, f"{kernel.release}: delivering the project")
            with VirtualMachine(kernel, mode, initrd=initrd, state=booted) as machine:
                machine.resume()
                for archive in (packed,) if world is None else (world.read_bytes(), packed):
                    machine.tell(archive, do="deliver", bytes=len(archive), path=_path(project))
                    machine.ready()
                machine.tell(do="collect", argv=list(project.arguments), directory=str(project.place))
                machine.ready()
                _forget(booted.parent.glob(f"{booted.name}-*"), but=collected)
                machine.save(collected)
    return VirtualMachine(kernel, mode, initrd=initrd, state=collected)


def _path(project: Project) -> list[str]:
    """Where modules are to be found beside what the guest's interpreter knows by itself."""
    return [str(project.root), str(PACKAGE.parent), *(place for place in sys.path[1:] if place)]


def boot(kernel: Stored, mode: Mode, *, say: Say | None = None) -> tuple[Path, Path]:
    """The first file system of a kernel's machine, and its state when it has booted; the kernel boots if it has not.

    MachineDied if it does not come up, CannotRun if it has not what labs are made of.
    """
    initrd, key = _initrd(kernel)
    name = f"{_called(kernel)}-{mode.name_with(kernel)}"
    booted = places.states() / f"{name}-{key}"
    with _only_one(booted):
        if not booted.exists():
            places.sweep()
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
                _forget(booted.parent.glob(f"{name}-*"), but=booted)
                machine.save(booted)
    return initrd, booted


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


class Say:
    """Tells whoever waits what is being made."""

    def __call__(self, text: str) -> None:
        """One line on standard error."""
        print(f"harness: {text}", file=sys.stderr, flush=True)


def _say(say: Say | None, text: str) -> None:
    if say is not None:
        say(text)


def _called(kernel: Stored) -> str:
    """Which kernel it is: one that is built anew takes the place of the old, another of the same release does not."""
    return f"{kernel.release}-{_digest(os.path.realpath(kernel.image))[:6]}"


def _initrd(kernel: Stored) -> tuple[Path, str]:
    """The first file system of a kernel's machine, the system and its modules; and what identifies it all."""
    system, digest = _system()
    modules = image.Tree()
    ordered = in_order(kernel.modules)
    for file in ordered:
        modules.text(f"modules/{file.name}", file.read_bytes())
    modules.text("modules/order", "\n".join(file.name for file in ordered))
    key = _digest(digest, modules.digest(), kernel.image.read_bytes(), Path(__file__).read_bytes(), made_with())
    joined = places.images() / f"{_called(kernel)}-{key}.initrd"
    if not joined.exists():
        _forget(places.images().glob(f"{_called(kernel)}-*.initrd"), but=joined)
        image.write(joined, [system.read_bytes(), *modules.cpio()])
    return joined, key


def _system() -> tuple[Path, str]:
    """The guests' system and its digest.

    It is not put together again as long as what it is made of looks the same: sizes and times of the programs, of the
    interpreter and of the lists of what each library consists of.
    """
    looks = hashlib.sha256(f"{sys.version} {sys.prefix} {sys.executable}".encode())
    for file in image.witnesses():
        about = file.stat()
        looks.update(f"{file} {about.st_size} {about.st_mtime_ns}\n".encode())
    remembered = places.images() / f"{looks.hexdigest()[:24]}.digest"
    if remembered.exists():
        digest = remembered.read_text()
        system = places.images() / f"{digest}.cpio"
        if system.exists():
            return system, digest
    tree = image.system()
    init = Path(guest.__file__).read_text(encoding="utf-8")
    tree.text("init", f"#!{sys.executable}\n{init}", 0o755)
    system = image.build(tree, places.images())
    image.write(remembered, [system.stem.encode()])
    return system, system.stem


def _digest(*parts: str | bytes) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part.encode() if isinstance(part, str) else part).digest())
    return total.hexdigest()[:16]


def _forget(files: Iterable[Path], *, but: Path) -> None:
    """Remove what has been replaced: these files are large, and only the newest of each is used."""
    for file in files:
        if file != but:
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def _only_one(state: Path) -> Iterator[None]:
    """Several workers of a kernel start at once: one makes the state, the others wait for it."""
    state.parent.mkdir(parents=True, exist_ok=True)
    with (state.parent / f".{state.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
