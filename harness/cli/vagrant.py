"""`harness vagrant`: machines of Vagrant, a kernel each."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.errors import BadInput

if TYPE_CHECKING:
    from types import FrameType

    from harness.vagrant.kernels import MachineKernel
    from harness.vagrant.machine_room import MachineRoom
    from harness.vagrant.run import Outcome

_kernels = click.argument("words", nargs=-1, metavar="[KERNEL]...")


@click.group()
def vagrant() -> None:
    """Run the scenarios in Vagrant machines with Debian's kernels.

    KERNEL is as for --tcp-kernel: 6.12, newest. See docs/vagrant.md.
    """


@vagrant.command()
@_kernels
@click.option("--anew", is_flag=True, help="build it even if nothing has changed, with Debian's newest packages")
def box(words: tuple[str, ...], anew: bool) -> None:
    """Build the box that vagrant/Vagrantfile starts machines from, unless it is there."""
    from harness.vagrant import places

    _as_root(words)
    with places.alone():
        chosen = _box(words, anew=anew)
    for kernel in chosen:
        click.echo(f"k{kernel.series}: Linux {kernel.stored.release}")


@vagrant.command()
@_kernels
@click.option("--workers", type=click.IntRange(min=1), help="pytest processes in each machine [default: by its speed]")
@click.option("--args", "more", default="", metavar="TEXT", help="more words for pytest's command line")
@click.option("--with-parent", is_flag=True, help="end when the process that started this one ends")
def run(words: tuple[str, ...], workers: int | None, more: str, with_parent: bool) -> None:
    """Run the scenarios in a machine for each kernel, and write vagrant/results/KERNEL and one report."""
    from harness.vagrant import machine_room, places, requirements, run

    _end_politely(with_parent=with_parent)
    _as_root(words)
    _ready_to_run()
    try:
        with places.alone(), ExitStack() as until_the_end:
            chosen = _box(words)
            places.need_room(2.0, "running machines")
            here = machine_room.begin()
            until_the_end.callback(here.end)
            outcomes = run.scenarios(here, chosen, run.Wish(workers, more, _say))
        _report(outcomes)
    finally:
        requirements.give_back(run.RESULTS)
    sys.exit(0 if all(outcome.status == 0 for outcome in outcomes) else 1)


@vagrant.command()
@_kernels
def up(words: tuple[str, ...]) -> None:
    """Bring machines up and leave them; `exec`, `ssh-config` and `down` are for them."""
    from harness.vagrant import machine_room, places, run

    _end_politely()
    _as_root(words)
    _ready_to_run()
    here = machine_room.current()
    if here is None:
        with places.alone() as lock:
            chosen = [kernel.series for kernel in _box(words)]
            here = machine_room.begin(lock=lock)
        run.add_box(here)
    else:
        chosen = [_built(word) for word in words]
    for kernel in chosen:
        _say(f"k{kernel}: up")
        run.VagrantMachine(here, kernel).up()
    click.echo("enter one: harness vagrant exec vagrant ssh k" + chosen[-1])


@vagrant.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def enter(command: tuple[str, ...]) -> None:
    """Run a command where the machines are, in the directory of the Vagrantfile: vagrant ssh k6.12, virsh list."""
    import os

    _as_root()
    words = _room().command(*command, directory=Path.cwd() / "vagrant")
    os.execvp(words[0], words)


@vagrant.command("ssh-config")
@click.argument("kernel")
def ssh_config(kernel: str) -> None:
    """Print what ssh needs to reach a machine that `up` brought up, as `vagrant ssh-config` does."""
    from harness.vagrant import run

    _as_root()
    here = _room()
    click.echo(run.VagrantMachine(here, _built(kernel)).reached_from_outside(), nl=False)


@vagrant.command()
def down() -> None:
    """Take down what `up` brought up."""
    from harness.vagrant import machine_room

    _as_root()
    here = machine_room.current()
    if here is not None:
        here.end()


def _as_root(words: tuple[str, ...] | None = None) -> None:
    """Go on as root; if kernels are wanted, with those in this user's cache."""
    import os

    from harness.kernels.selection import Selection
    from harness.vagrant import kernels, requirements

    if os.geteuid() and words is not None and requirements.may_be_root():
        kernels.choose(words or kernels.DEFAULT, Selection(say=_say))
    requirements.root()


def _ready_to_run() -> None:
    from harness.vagrant import requirements

    requirements.programs(requirements.TO_RUN)
    requirements.parts()


def _box(words: tuple[str, ...], *, anew: bool = False) -> list[MachineKernel]:
    from harness.kernels import places as cache
    from harness.kernels.selection import Selection
    from harness.vagrant import box, kernels, requirements

    try:
        return box.ensure(words or kernels.DEFAULT, Selection(say=_say), _say, anew=anew)
    finally:
        requirements.give_back(cache.cache())


def _built(word: str) -> str:
    """A kernel's series, of those that the box has."""
    from harness.vagrant import places

    there = sorted(file.name for file in (places.box() / "boot").glob("*"))
    if word.removeprefix("k") not in there:
        raise BadInput(f"{word}: the box has {', '.join(f'k{series}' for series in there) or 'no kernel'}")
    return word.removeprefix("k")


def _room() -> MachineRoom:
    from harness.vagrant import machine_room

    here = machine_room.current()
    if here is None:
        raise BadInput("no machines are up; `harness vagrant up 6.12` brings one up")
    return here


def _report(outcomes: list[Outcome]) -> None:
    """A page of each kernel's evidence and one of all, and a line for each."""
    from harness.report.formats import render
    from harness.report.output import write
    from harness.report.table import read
    from harness.vagrant.run import RESULTS

    # Made here: in an emulated machine that alone takes a minute.
    directories = [RESULTS / outcome.kernel / "evidence" for outcome in outcomes]
    evidence = [directory for directory in directories if any(directory.glob("*.json"))]
    pages = {directory.parent / "report.html": [directory] for directory in evidence}
    pages[RESULTS / "report.html"] = evidence
    for page, sources in pages.items() if evidence else ():
        write(str(page), render("html", read(sources)))
        click.echo(str(page))
    for outcome in outcomes:
        click.echo(str(outcome))


def _end_politely(*, with_parent: bool = False) -> None:
    """SIGTERM, SIGHUP and Ctrl-C end the machines, and this with the status that a shell gives to such an end."""
    from harness.orphans import die_with_parent

    def interrupted(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    # A shell has its background jobs ignore SIGINT; whoever sends it all the same means it.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, interrupted)
    if with_parent:
        die_with_parent()


def _say(text: str) -> None:
    click.echo(f"harness: {text}", err=True)
