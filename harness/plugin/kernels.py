"""Kernels as pytest-xdist workers: `--tcp-kernel 6.12` runs every test on that kernel too, in a virtual machine.

`--tcp-kernel ssh:HOST` runs them on another host, reached by ssh, on whatever kernel it runs. A worker is of one
kernel, and has that kernel's tests only.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError
from harness.files import there_is
from harness.kernels.targets import FAR, KERNEL, Archived, Built, Remote, Running, Target, Ways, meant
from harness.plugin import trouble, world
from harness.plugin.options import PREFIX, in_pytest, key, setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xdist.workermanage import WorkerController

    from harness.kernels.hosts import RemoteHost
    from harness.kernels.mode import Mode
    from harness.kernels.selection import Selection

# Set where a whole pytest runs in a machine: the name of its kernel.
INSIDE = "TCP_HARNESS_INSIDE"
# What a worker is told beside its kernel: the names of all.
KERNELS = "harness_kernels"
# The options that say where kernels of an archive come from, and the one that is for hosts.
OF_ARCHIVES, SSH_CONFIG = ("mirror", "suite", "keyring"), "ssh-config"
# How many machines may be lost, for each that was asked for, before the run is given up.
RESTARTS = 3


@dataclass(frozen=True)
class Plan:
    """Which kernels a session runs on, and with how many workers each."""

    targets: tuple[Target, ...]
    each: int

    @property
    def names(self) -> list[str]:
        """The kernels' names in the ids of tests."""
        return [target.name for target in self.targets]


PLAN = pytest.StashKey[Plan]()


def choose(config: pytest.Config) -> None:
    """Settle which kernels are meant, and put a worker for each, or as many as -n says, in place of xdist's own.

    With --collect-only nothing is brought and there are no workers; the kernels' names go into the tests' ids all the
    same.
    """
    collect_only = bool(config.getoption("collectonly"))
    each = _workers_each(config)
    try:
        targets = meant(config.getoption("tcp_kernel"), ways(config), fetch=not collect_only)
        workers = [] if collect_only else _workers(config, targets)
    except HarnessError as error:
        raise pytest.UsageError(in_pytest(str(error))) from None
    _refuse_what_no_kernel_needs(config, targets)
    _project_is_found(config)
    config.stash[PLAN] = Plan(tuple(targets), each)
    if not collect_only:
        trouble.listen(config)
        option = config.option
        option.numprocesses = None
        option.maxprocesses = None
        option.dist = "worksteal"
        option.tx = [worker for worker in workers for _ in range(each)]
        # One that ends is replaced, so that the tests behind a panic are run; one that cannot begin is not, for ever.
        option.maxworkerrestart = option.maxworkerrestart or str(RESTARTS * len(option.tx))


def refuse_without_kernels(config: pytest.Config) -> None:
    """UsageError for what says how other kernels are come by, where no kernel is named: it would be of no use.

    What is set, and not typed, is for another time.
    """
    for name, written in _typed(config, *OF_ARCHIVES, SSH_CONFIG):
        raise pytest.UsageError(f"--tcp-{name} {written} needs a kernel: add --tcp-kernel KERNEL")


def _refuse_what_no_kernel_needs(config: pytest.Config, targets: Sequence[Target]) -> None:
    """The same where kernels are named, and none of them is come by so. What a kernel of a plugin's needs it knows."""
    if not all(isinstance(target, (Running, Remote, Built, Archived)) for target in targets):
        return
    unused = [] if any(isinstance(target, Archived) for target in targets) else [*OF_ARCHIVES]
    unused += [] if any(isinstance(target, Remote) for target in targets) else [SSH_CONFIG]
    names = ", ".join(target.name for target in targets)
    for name, written in _typed(config, *unused):
        whose = "a host, --tcp-kernel ssh:HOST" if name == SSH_CONFIG else "a kernel of an archive, --tcp-kernel 6.12"
        raise pytest.UsageError(f"--tcp-{name} {written} is for {whose}: of no use for {names}")


def _typed(config: pytest.Config, *names: str) -> Iterator[tuple[str, str]]:
    """Those of these options that were typed, and their values as they were."""
    typed = {word.partition("=")[0] for word in config.invocation_params.args}
    for name in names:
        value = config.getoption(key(name))
        if value and typed & {f"--tcp-{name}", f"--{name}"}:
            yield name, " ".join([value] if isinstance(value, str) else value)


def plan_of(config: pytest.Config) -> Plan | None:
    """The kernels of a session with --tcp-kernel."""
    return config.stash.get(PLAN, None)


def _workers_each(config: pytest.Config) -> int:
    """How many workers each kernel has; UsageError for options that workers cannot follow."""
    if not config.pluginmanager.has_plugin("xdist"):
        raise pytest.UsageError("--tcp-kernel runs tests in workers of pytest-xdist: leave out -p no:xdist")
    number = config.getoption("numprocesses", None)
    if number in ("auto", "logical"):
        number = config.hook.pytest_xdist_auto_num_workers(config=config)
    if number is not None and number < 1:
        raise pytest.UsageError(f"-n {number}: with --tcp-kernel, -n is how many workers each kernel has: 1 or more")
    return int(number or 1)


def ways(config: pytest.Config) -> Ways:
    """How this session comes by kernels."""

    def selection() -> Selection:
        from harness.kernels.selection import Selection

        mirror, suites, keyring = (config.getoption(key(name)) for name in ("mirror", "suite", "keyring"))
        return Selection(mirror, suites, keyring, say=lambda text: print(f"harness: {text}", file=sys.stderr))

    def vagrant(machine: str, python: str | None) -> RemoteHost:
        from harness.vagrant import reach

        return reach.host(machine, config.rootpath, python)

    def others(word: str) -> Target | None:
        known: Target | None = config.hook.pytest_tcp_kernel(config=config, word=word)
        return known

    return Ways(selection, vagrant, config.getoption("tcp_ssh_config"), others)


def _workers(config: pytest.Config, targets: list[Target]) -> list[str]:
    """execnet's words for a worker on each."""
    project = world.project_of(config, targets)
    mode = mode_of(config, targets)
    return [target.worker(project, mode) for target in targets]


def mode_of(config: pytest.Config, targets: Sequence[Target]) -> Mode:
    """How virtual machines are to run: as the options say, and where they say nothing, the settings.

    BadInput for what no machine can be; UsageError for an option where there is none.
    """
    from harness.kernels.mode import mode

    real_time: bool = config.getoption("tcp_real_time")
    asked = {name: config.getoption(key(name)) for name in ("guest-cpus", "guest-memory", "guest-append")}
    for name, value in asked.items():
        if value and not any(target.is_virtual for target in targets):
            written = " ".join([value] if isinstance(value, str) else value)
            raise pytest.UsageError(f"{PREFIX}{name} {written}: {world.NO_MACHINE}")
    # What is set there for real time is no mistake in simulated time, which has one CPU.
    cpus = asked["guest-cpus"] or (setting(config, "guest-cpus") if real_time else "")
    memory = asked["guest-memory"] or setting(config, "guest-memory")
    append = [*setting(config, "guest-append"), *asked["guest-append"]]
    return mode(real_time=real_time, cpus=cpus or None, memory=memory or None, append=append)


def _project_is_found(config: pytest.Config) -> None:
    """Refuse a path that pytest has taken for a place of tests: it looks for the project before it knows our options.

    What would be delivered to the machines then is all that is below a common parent of both.
    """
    if config.inipath is not None or config.rootpath == config.invocation_params.dir:
        return
    for name in ("kernel", "keyring", "ssh-config", "packetdrill"):
        values = config.getoption(key(name)) or []
        for value in [values] if isinstance(values, str) else values:
            if value in config.invocation_params.args and there_is(value):
                raise pytest.UsageError(
                    f"write {PREFIX}{name}={value}: pytest takes the path by itself for a place of tests"
                )


def tell_worker(node: WorkerController) -> None:
    """Say to a worker which kernel it is, and which others there are."""
    plan = plan_of(node.config)
    if plan is None:
        return
    node.workerinput[KERNEL] = name_of(node)
    node.workerinput[KERNELS] = plan.names
    if getattr(node.gateway.spec, FAR, None):
        node.workerinput[FAR] = True
        # What pytest-xdist asks this for now is whether our sys.path is to be that of the worker.
        node.gateway.spec.popen = None


def name_of(worker: Any) -> str | None:
    """The name of a worker's or gateway's kernel, as the controller sees it; None without --tcp-kernel."""
    name: str | None = getattr(getattr(worker, "gateway", worker).spec, KERNEL, None)
    return name


def may_be_replaced(node: WorkerController) -> None:
    """Undo what tell_worker() did to execnet's word for a worker: one in its place is started by the same word."""
    if getattr(node.gateway.spec, FAR, None):
        node.gateway.spec.popen = True


def end_machine(node: WorkerController) -> None:
    """End a worker's machine, if it has one: in simulated time one that idles keeps a processor busy with its ticks."""
    if name_of(node) not in (None, Running.NAME):
        node.gateway.exit()


def kernel_of(config: pytest.Config) -> str | None:
    """The kernel that this worker is for, if it is for one; or this whole pytest (harness.plugin.inside)."""
    name: str | None = getattr(config, "workerinput", {}).get(KERNEL, os.environ.get(INSIDE))
    return name


def is_elsewhere(config: pytest.Config) -> bool:
    """Whether this process is a worker that does not see the controller's files."""
    return kernel_of(config) not in (None, Running.NAME)


def guest_folders(config: pytest.Config) -> None:
    """In a guest the folder that the controller chose for temporary files is not there yet; on a host it cannot be."""
    basetemp = getattr(config.option, "basetemp", None)
    if FAR in getattr(config, "workerinput", {}):
        config.option.basetemp = None
    elif is_elsewhere(config) and basetemp:
        Path(basetemp).parent.mkdir(parents=True, exist_ok=True)
