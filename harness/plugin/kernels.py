"""Kernels as pytest-xdist workers: `--kernel 6.12` runs every test on that kernel too, in a virtual machine.

`--kernel ssh:HOST` runs them on a host that one has ssh to, on whatever kernel it runs.

Each test is parametrised with the kernels; a worker is of one kernel and has that kernel's tests only. The scheduler
has a queue a kernel, each of which pytest-xdist's own work stealing serves.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xdist.scheduler.protocol import Scheduling
    from xdist.workermanage import WorkerController

    from harness.kernels.catalogue import Kernel
    from harness.kernels.store import Stored

RUNNING = "running"
# What a worker is told beside its kernel.
KERNELS, REMEMBERED = "harness_kernels", "harness_remembered"
# What of pytest's cache decides which tests are run, and in which order.
REMEMBERS = ("cache/lastfailed", "cache/nodeids")
# The name of a worker's kernel, as the controller tells it.
KERNEL = "harness_kernel"
# Set for a worker on another host, whose files stand elsewhere.
FAR = "harness_far"
# How many machines may be lost, for each that was asked for, before the run is given up.
RESTARTS = 3
# The parameter of every test.
PARAMETER = "harness_kernel"


def add_options(group: pytest.OptionGroup) -> None:
    """`--kernel`, `--real-time`."""
    group.addoption(
        "--kernel",
        action="append",
        default=[],
        metavar="KERNEL",
        help="run on this kernel in a virtual machine (repeatable): 6.12, '>=6.12', newest, all, a full release, "
        "path/to/bzImage[,modules=DIR], a built kernel tree; `running` is the machine's own; "
        "ssh:HOST[,python=PATH] is a host, vagrant:MACHINE a machine of vagrant/ that is up",
    )
    group.addoption("--mirror", metavar="ADDRESS", help="the archive to take kernels from, in place of those of apt")
    group.addoption("--suite", action="append", default=[], metavar="NAME", help="a suite of --mirror (repeatable)")
    group.addoption("--keyring", metavar="FILE", help="the keys that sign the archive of --mirror (default: Debian's)")
    group.addoption("--ssh-config", metavar="FILE", help="the file that says how to reach the HOST of ssh:HOST")
    group.addoption("--real-time", action="store_true", help="let the virtual machines' time be real")


def choose(config: pytest.Config) -> None:
    """Settle which kernels are meant, and put a worker for each, or as many as -n says, in place of xdist's own.

    With --collect-only nothing is brought and there are no workers; the kernels' names go into the tests' ids all the
    same.
    """
    option = config.option
    collect_only = bool(config.getoption("collectonly"))
    each = _number(config)
    try:
        kernels = _kernels(config, fetch=not collect_only)
        specs = [] if collect_only else [_spec(config, name, kernel) for name, kernel in kernels.items()]
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from None
    _project_is_found(config)
    option.harness_kernels = list(kernels)
    if not collect_only:
        option.numprocesses = None
        option.maxprocesses = None
        option.dist = "worksteal"
        option.tx = [spec for spec in specs for _ in range(each)]
        # One that ends is replaced, so that the tests behind a panic are run; one that cannot begin is not, for ever.
        option.maxworkerrestart = option.maxworkerrestart or str(RESTARTS * len(option.tx))


def _project_is_found(config: pytest.Config) -> None:
    """Refuse a path that pytest has taken for a place of tests: it looks for the project before it knows our options.

    What would be delivered to the machines then is all that is below a common parent of both.
    """
    if config.inipath is not None or config.rootpath == config.invocation_params.dir:
        return
    for name in ("kernel", "keyring", "ssh-config"):
        values = config.getoption(name.replace("-", "_")) or []
        for value in [values] if isinstance(values, str) else values:
            if value in config.invocation_params.args and Path(value).exists():
                raise pytest.UsageError(f"write --{name}={value}: pytest takes the path by itself for a place of tests")


@contextlib.contextmanager
def trouble_told(config: pytest.Config) -> Iterator[None]:
    """While workers are started: why one has not come up becomes the error, in place of what execnet makes of it."""
    if not getattr(config.option, "harness_kernels", None):
        yield
        return
    from harness.kernels.gateway import TROUBLE

    told = os.memfd_create("trouble")
    os.environ[TROUBLE] = f"/proc/{os.getpid()}/fd/{told}"
    try:
        yield
    except (OSError, EOFError):
        if text := os.pread(told, 1 << 20, 0).decode().strip():
            raise pytest.UsageError(text) from None
        raise
    finally:
        del os.environ[TROUBLE]
        os.close(told)


def _number(config: pytest.Config) -> int:
    number = config.getoption("numprocesses", None)
    if number in ("auto", "logical"):
        number = config.hook.pytest_xdist_auto_num_workers(config=config)
    if config.getoption("usepdb", False) or number == 0:
        raise pytest.UsageError("--kernel runs tests in workers: leave out --pdb and -n 0")
    return int(number or 1)


def _kernels(config: pytest.Config, *, fetch: bool) -> dict[str, str | None]:
    """The kernels meant: the name in test ids, and the release in the cache, the absolute path or the user's word for a
    host (None: running).
    """
    from harness.kernels import hosts, machine, store

    wanted = [word for given in config.getoption("kernel") for word in hosts.split(given)]
    far = [word for word in wanted if hosts.is_host(word)]
    paths = [word for word in wanted if word != RUNNING and word not in far and store.is_path(word)]
    others = [word for word in wanted if word != RUNNING and word not in far and word not in paths]
    if (paths or others) and fetch:
        machine.qemu()
    found = [(hosts.short(word), hosts.short(word), word) for word in far]
    for word in paths:
        one = store.named(word)
        found.append((one.version, one.release, store.absolute(word)))
    if others:
        found += [(one.version, one.release, one.release) for one in _of_the_archive(config, others, fetch=fetch)]
    return ({RUNNING: None} if RUNNING in wanted else {}) | _told_apart(found)


def _told_apart(found: list[tuple[str, str, str]]) -> dict[str, str | None]:
    """Kernels by version; by release or path where two have the same. What is named twice is there once."""
    names: dict[str, str | None] = {}
    for one in dict.fromkeys(found):
        rivals = [other for other in dict.fromkeys(found) if other != one]
        name = next((name for n, name in enumerate(one) if all(name != other[n] for other in rivals)), one[-1])
        # A path may have what ids, and the words for workers, cannot.
        names[re.sub(r"[^\w.+~-]+", "_", name).strip("_")] = one[-1]
    return names


def _of_the_archive(config: pytest.Config, wanted: list[str], *, fetch: bool) -> list[Kernel] | list[Stored]:
    """Kernels of the cache or of the archive, brought if missing."""
    from harness.kernels.selection import Selection

    mirror, suites, keyring = (config.getoption(name) for name in ("mirror", "suite", "keyring"))
    selection = Selection(mirror, suites, keyring, say=lambda text: print(f"harness: {text}", file=sys.stderr))
    chosen = selection.choose(wanted)
    return [selection.fetch(one) for one in chosen] if fetch else chosen


def _spec(config: pytest.Config, name: str, kernel: str | None) -> str:
    """execnet's word for a worker."""
    if kernel is None:
        return f"popen//{KERNEL}={name}"
    from harness.kernels import gateway, hosts

    if hosts.is_host(kernel):
        host = hosts.named(kernel, config.rootpath, config.getoption("ssh_config"))
        python = hosts.command(host, config.rootpath, config.invocation_params.dir)
        return f"popen//python={python}//{FAR}=1//{KERNEL}={name}"
    real_time: bool = config.getoption("real_time")
    here = config.invocation_params.dir
    python = gateway.command(kernel, config.rootpath, map(str, config.args), directory=here, real_time=real_time)
    return f"popen//python={python}//{KERNEL}={name}"


def tell_worker(node: WorkerController) -> None:
    """Say to a worker which kernel it is, which others there are, and what pytest remembers of earlier runs."""
    kernel = getattr(node.gateway.spec, KERNEL, None)
    if kernel is None:
        return
    node.workerinput[KERNEL] = kernel
    if getattr(node.gateway.spec, FAR, None):
        node.workerinput[FAR] = True
        # What pytest-xdist asks this for now is whether our sys.path is to be that of the worker.
        node.gateway.spec.popen = None
    node.workerinput[KERNELS] = node.config.option.harness_kernels
    cache = getattr(node.config, "cache", None)
    node.workerinput[REMEMBERED] = {} if cache is None else {name: cache.get(name, None) for name in REMEMBERS}


def remember(config: pytest.Config) -> None:
    """In a guest: have pytest's cache say what it says outside, before pytest reads it (--lf, --ff, --nf)."""
    if kernel_of(config) in (None, RUNNING):
        return
    told: dict[str, Any] = getattr(config, "workerinput", {}).get(REMEMBERED, {})
    if not told:  # nor is there a setting of where it would be
        return
    place = Path(config.rootpath, os.path.expandvars(config.getini("cache_dir"))).expanduser()
    for name, value in told.items():
        if value:
            file = place / "v" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(value))


def failed_elsewhere(config: pytest.Config, items: list[pytest.Item]) -> bool:
    """With --lf, whether of these tests some failed, but on other kernels of this run only.

    pytest knows nothing of kernels, and where nothing failed it runs everything.
    """
    own = kernel_of(config)
    if own is None or not config.getoption("lf", False):
        return False
    given: dict[str, Any] = getattr(config, "workerinput", {})
    failed = given[REMEMBERED].get("cache/lastfailed") or {}
    here = {item.nodeid for item in items}
    if here & set(failed):
        return False
    there = {_on(own, nodeid, other) for nodeid in failed for other in given[KERNELS] if other != own}
    return bool(here & there)


def _on(own: str, nodeid: str, other: str) -> str:
    """The id of the same test on our kernel; the same id if the test is not one of the other kernel."""
    before = nodeid.removesuffix(f"{other}]")
    return f"{before}{own}]" if before != nodeid and before.endswith(("[", "-")) else nodeid


def end_machine(node: WorkerController) -> None:
    """End a worker's machine, if it has one: in simulated time one that idles keeps a processor busy with its ticks."""
    if getattr(node.gateway.spec, KERNEL, RUNNING) not in (None, RUNNING):
        node.gateway.exit()


def kernel_of(config: pytest.Config) -> str | None:
    """The kernel that this worker is for, if it is for one."""
    found: str | None = getattr(config, "workerinput", {}).get(KERNEL)
    return found


def parametrise(metafunc: pytest.Metafunc) -> None:
    """Give every test the worker's kernel as a parameter, for its id; with --collect-only, all the kernels."""
    kernel = kernel_of(metafunc.config)
    kernels = [kernel] if kernel is not None else getattr(metafunc.config.option, "harness_kernels", None)
    if kernels:
        metafunc.fixturenames.append(PARAMETER)
        metafunc.parametrize(PARAMETER, kernels, ids=kernels, indirect=True)


@pytest.fixture
def harness_kernel(request: pytest.FixtureRequest) -> str:
    """The kernel that the test runs on, by the name in its id."""
    return str(request.param)


class ByKernel:
    """A scheduler of tests whose workers are of different kernels: for each kernel a scheduler of its own."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        from xdist.scheduler import WorkStealingScheduling

        specs: list[str] = config.option.tx
        self.config = config
        self._of: dict[str, Scheduling] = {}
        for kernel in config.option.harness_kernels:
            scheduler = WorkStealingScheduling(config, log)
            scheduler.numnodes = sum(spec.endswith(f"//{KERNEL}={kernel}") for spec in specs)
            self._of[kernel] = scheduler

    def _for(self, node: WorkerController) -> Scheduling:
        return self._of[getattr(node.gateway.spec, KERNEL)]

    @property
    def nodes(self) -> list[WorkerController]:
        """All workers."""
        return [node for one in self._of.values() for node in one.nodes]

    @property
    def collection_is_completed(self) -> bool:
        """Whether some kernel's workers have collected: they need not wait for other kernels' machines."""
        return any(one.collection_is_completed for one in self._of.values())

    @property
    def tests_finished(self) -> bool:
        """Whether nothing is left to be given out."""
        return all(one.collection_is_completed and one.tests_finished for one in self._of.values())

    @property
    def has_pending(self) -> bool:
        """Whether something waits."""
        return any(one.has_pending for one in self._of.values())

    def add_node(self, node: WorkerController) -> None:
        """A worker is there."""
        self._for(node).add_node(node)

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        """A worker has collected."""
        self._for(node).add_node_collection(node, collection)

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float | None = None) -> None:
        """A test has ended."""
        self._for(node).mark_test_complete(node, item_index, duration or 0)

    def mark_test_pending(self, item: str) -> None:
        """A test has to be run again."""
        raise NotImplementedError(item)

    def remove_pending_tests_from_node(self, node: WorkerController, indices: Sequence[int]) -> None:
        """A worker gives tests back."""
        self._for(node).remove_pending_tests_from_node(node, indices)

    def remove_node(self, node: WorkerController) -> str | None:
        """A worker has gone; the test that it was at, if it was at one."""
        item: str | None = self._for(node).remove_node(node)
        return item

    def schedule(self) -> None:
        """Begin with whatever can begin."""
        for one in self._of.values():
            if one.collection_is_completed:
                one.schedule()


def guest_folders(config: pytest.Config) -> None:
    """In a guest the folder that the controller chose for temporary files is not there yet; on a host it cannot be."""
    basetemp = getattr(config.option, "basetemp", None)
    if FAR in getattr(config, "workerinput", {}):
        config.option.basetemp = None
        return
    if kernel_of(config) not in (None, RUNNING) and basetemp:
        Path(basetemp).parent.mkdir(parents=True, exist_ok=True)
