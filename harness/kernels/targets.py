"""What `--kernel WORD` means: a kernel that tests are to run on, and how a worker on it starts.

A word is looked at once, in parse(). From then on it is one of four types: the running kernel, one of the archive, one
that the user has built, and whatever kernel runs on a remote host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from harness import files
from harness.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.kernels.catalogue import Kernel
    from harness.kernels.hosts import RemoteHost
    from harness.kernels.mode import Mode
    from harness.kernels.project import Project
    from harness.kernels.selection import Selection
    from harness.kernels.store import Stored

# What execnet's word for a worker says beside how to start it: the kernel's name in the ids of tests, and whether the
# worker is on another host, whose files stand elsewhere.
KERNEL, FAR = "harness_kernel", "harness_far"

SSH, VAGRANT = "ssh:", "vagrant:"
# A word that means kernels of the archive, though a file may be called so.
_OF_THE_ARCHIVE = re.compile(r"[<>=!~].*|\d+\.\d+[\w.+~-]*|all|newest|running")


@dataclass(frozen=True)
class Target:
    """A kernel that tests are to run on; `name` is what ids of tests call it."""

    name: str = field(default="", compare=False, kw_only=True)
    # Whether a worker on it needs a virtual machine.
    is_virtual: ClassVar[bool] = False
    is_far: ClassVar[bool] = False

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be called, the shortest first; the last is nobody else's."""
        raise NotImplementedError

    def interpreter(self, project: Project, mode: Mode | None = None) -> str | None:
        """The command that execnet takes for a Python interpreter on it; None: this one here.

        `mode` is how a virtual machine is to run.
        """
        raise NotImplementedError

    def stored(self) -> Stored | None:
        """The image and modules that it boots from; None for one that runs already."""
        return None

    def worker(self, project: Project, mode: Mode | None = None) -> str:
        """execnet's word for a worker on it. BadInput or Unsupported where it cannot be reached."""
        interpreter = self.interpreter(project, mode)
        words = ["popen", *([f"python={interpreter}"] if interpreter else []), *([f"{FAR}=1"] if self.is_far else [])]
        return "//".join([*words, f"{KERNEL}={self.name or self.names[0]}"])


@dataclass(frozen=True)
class Running(Target):
    """The kernel that this machine runs."""

    NAME: ClassVar[str] = "running"

    @property
    def names(self) -> tuple[str, ...]:
        """It has one name."""
        return (self.NAME,)

    def interpreter(self, project: Project, mode: Mode | None = None) -> str | None:  # noqa: ARG002
        """This one."""
        return None


@dataclass(frozen=True)
class Archived(Target):
    """A kernel of the archive: `release` is its name in the cache, `version` the stable release, "6.12.117"."""

    release: str
    version: str
    is_virtual: ClassVar[bool] = True

    @property
    def names(self) -> tuple[str, ...]:
        """Version and release."""
        return self.version, self.release

    def stored(self) -> Stored:
        """What the cache has."""
        from harness.kernels import places
        from harness.kernels.store import Store

        return Store(places.kernels()).of_release(self.release)

    def interpreter(self, project: Project, mode: Mode | None = None) -> str:
        """One in a virtual machine."""
        from harness.kernels import gateway

        return gateway.command(("--release", self.release), project, mode)


@dataclass(frozen=True)
class Built(Target):
    """A kernel image that the user names, or that of a built tree, with the directory of its modules.

    `path` is what the user named, from wherever one looks.
    """

    path: str
    image: Path
    modules: Path | None
    release: str
    version: str
    is_virtual: ClassVar[bool] = True

    @property
    def names(self) -> tuple[str, ...]:
        """Version, release and path."""
        return self.version, self.release, self.path

    def stored(self) -> Stored:
        """What the user named."""
        from harness.kernels import store

        return store.built(self.image, self.modules)

    def interpreter(self, project: Project, mode: Mode | None = None) -> str:
        """One in a virtual machine."""
        from harness.kernels import gateway

        words = ["--image", str(self.image), *(["--modules", str(self.modules)] if self.modules else [])]
        return gateway.command(words, project, mode)


@dataclass(frozen=True)
class Remote(Target):
    """The kernel of another host; `reach` learns how ssh gets there when a worker is to be started."""

    host: str
    word: str
    reach: Callable[[], RemoteHost] = field(compare=False, repr=False)
    is_far: ClassVar[bool] = True

    @property
    def names(self) -> tuple[str, ...]:
        """The host's name and the user's word."""
        return self.host, self.word

    def interpreter(self, project: Project, mode: Mode | None = None) -> str:  # noqa: ARG002 - it is real there
        """One on that host."""
        from harness.kernels import hosts

        return hosts.command(self.reach(), project)


@dataclass(frozen=True)
class Wanted:
    """Kernels of the archive as a user asks for them: "6.12", ">=6.12", "newest". The archive knows which these are."""

    text: str


@dataclass(frozen=True)
class Ways:
    """How kernels are come by.

    `selection` chooses those of the archive, `ssh_config` is a file for ssh. `vagrant` says how ssh reaches a machine
    of Vagrant's, with an interpreter there if the user names one. `others` knows kernels of other kinds.
    """

    selection: Callable[[], Selection]
    vagrant: Callable[[str, str | None], RemoteHost]
    ssh_config: str | None = None
    # What a word means to somebody who knows kernels of another kind; None if nothing.
    others: Callable[[str], Target | None] = lambda _: None


def meant(words: Sequence[str], ways: Ways, *, fetch: bool = True) -> list[Target]:
    """The kernels that a user's words mean, each once, with names that tell them apart.

    The running one comes first, then hosts, images, and the archive's from the oldest on, which `fetch` brings if they
    are not here. BadInput, MissingProgram or Unsupported for what cannot be.
    """
    parsed = [meaning for word in words for meaning in parse(word, ways)]
    wanted = [meaning.text for meaning in parsed if isinstance(meaning, Wanted)]
    targets = [meaning for meaning in parsed if isinstance(meaning, Target)]
    if fetch and (wanted or any(target.is_virtual for target in targets)):
        from harness.kernels import machine

        machine.qemu()
    if wanted:
        selection = ways.selection()
        kernels = selection.choose(wanted)
        targets += [archived(selection.fetch(kernel) if fetch else kernel) for kernel in kernels]
    kinds = (Running, Remote, Built, Archived)
    return told_apart(sorted(targets, key=lambda target: _rank(target, kinds)))


def _rank(target: Target, kinds: Sequence[type[Target]]) -> int:
    """Where a target stands among the kinds; those of other kinds come last."""
    return next((number for number, kind in enumerate(kinds) if isinstance(target, kind)), len(kinds))


def archived(kernel: Kernel | Stored) -> Archived:
    """A kernel of the catalogue or of the cache as a target."""
    return Archived(kernel.release, kernel.version, name=kernel.version)


def parse(text: str, ways: Ways) -> list[Target | Wanted]:
    """What a word means: BadInput for one that means nothing."""
    if other := ways.others(text):
        return [other]
    if text == Running.NAME:
        return [Running(name=text)]
    if text.startswith((SSH, VAGRANT)):
        # ssh:A,vagrant:B. In other words commas mean something else.
        return [_remote(part, ways) for part in re.split(rf",(?={SSH}|{VAGRANT})", text)]
    if not text:
        raise BadInput("--kernel needs a kernel: 6.12, newest, running, a bzImage, ssh:HOST")
    if "/" in text or (not _OF_THE_ARCHIVE.fullmatch(text) and files.there_is(text.partition(",")[0])):
        return [_built(text)]
    return [Wanted(text)]


def _remote(text: str, ways: Ways) -> Remote:
    """ssh:HOST[,python=PATH] or vagrant:MACHINE."""
    kind, _, rest = text.partition(":")
    name, *settings = rest.split(",")
    python = None
    for setting in settings:
        key, _, value = setting.partition("=")
        if key != "python" or not value:
            raise BadInput(f"--kernel {text}: {setting!r} is not python=PATH")
        python = value
    if not name or name.startswith("-") or re.search(r"\s", name):
        raise BadInput(f"--kernel {text}: write ssh:HOST[,python=PATH] or vagrant:MACHINE")
    if f"{kind}:" == VAGRANT:
        return Remote(name, text, lambda: ways.vagrant(name, python))
    return Remote(name, text, lambda: _ssh(name, python, ways.ssh_config))


def _ssh(name: str, python: str | None, config: str | None) -> RemoteHost:
    from harness.kernels.hosts import RemoteHost

    if config is not None and not files.is_file(config):
        raise BadInput(f"--ssh-config {config}: there is no such file")
    return RemoteHost(name, name, None if config is None else str(Path(config).absolute()), python=python)


def _built(text: str) -> Built:
    """An image or a tree that scenarios can run on: CannotRun where it is known that they cannot."""
    from harness.kernels import configuration, store

    built, kernel = located(text)
    options = configuration.of(built.image, kernel.release)
    if options is not None and (lacks := configuration.lacking(options, kernel.modules)):
        raise store.CannotRun(f"--kernel {text}: {store.cannot_run(kernel, lacks)}")
    return built


def located(text: str) -> tuple[Built, Stored]:
    """The kernel of an image, a package, a built tree, with `,modules=DIR` if need be; BadInput where there is none."""
    from harness.kernels import store

    name, _, option = text.partition(",")
    place, modules = Path(name).absolute(), None
    if option:
        key, _, folder = option.partition("=")
        if key != "modules" or not files.is_directory(folder):
            raise BadInput(f"--kernel {text}: write modules=DIRECTORY after the comma")
        modules = Path(folder).absolute()
    image, found = _image_and_modules(place, modules)
    if not files.is_file(image) and files.is_directory(place):
        raise BadInput(f"--kernel {text}: no kernel is built there ({image} is missing; make bzImage)")
    kernel = store.built(image, found)
    path = f"{place},modules={modules}" if option else str(place)
    return Built(path, image, found, kernel.release, kernel.version), kernel


def _image_and_modules(place: Path, modules: Path | None) -> tuple[Path, Path | None]:
    """Where the image is that a user means, and its modules: of a tree, of a package, or as they were named."""
    from harness.kernels import packages

    if files.is_directory(place):
        return place / "arch" / "x86" / "boot" / "bzImage", modules or place
    if packages.is_package(place):
        unpacked = packages.unpack(place, modules)
        return unpacked.image, unpacked.modules
    return place, modules


def told_apart(targets: Sequence[Target]) -> list[Target]:
    """Each target once, with the shortest name that no other has: the version, otherwise release or path."""
    each = list(dict.fromkeys(targets))
    names: dict[str, Target] = {}
    for target in each:
        others = {name for other in each if other != target for name in other.names}
        shortest = next((name for name in target.names if name not in others), target.names[-1])
        # A path may have what ids, and the words for workers, cannot.
        spelled = re.sub(r"[^\w.+~-]+", "_", shortest).strip("_")
        name, number = spelled, 1
        while name in names:
            name, number = f"{spelled}-{number + 1}", number + 1
        names[name] = replace(target, name=name)
    return list(names.values())
