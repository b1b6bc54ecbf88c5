"""Kernels as pytest-xdist workers: `--kernel 6.12` runs every test on that kernel too, in a virtual machine.

Each test is parametrised with the kernels; a worker is of one kernel and has that kernel's tests only. The scheduler
has a queue a kernel, each of which pytest-xdist's own work stealing serves.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xdist.scheduler.protocol import Scheduling
    from xdist.workermanage import WorkerController

    from harness.kernels.store import Stored

RUNNING = "running"
# The name of a worker's kernel, as the controller tells it.
KERNEL = "harness_kernel"
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
        "path/to/bzImage[,modules=DIR], a built kernel tree; `running` is the machine's own",
    )
    group.addoption("--mirror", metavar="ADDRESS", help="the archive to take kernels from, in place of those of apt")
    group.addoption("--suite", action="append", default=[], metavar="NAME", help="a suite of --mirror (repeatable)")
    group.addoption("--keyring", metavar="FILE", help="the keys that sign the archive of --mirror (default: Debian's)")
    group.addoption("--real-time", action="store_true", help="let the virtual machines' time be real")


def workers_of(config: pytest.Config) -> None:
    """Put a worker for each kernel, or as many as -n says, in place of xdist's own."""
    wanted: list[str] = config.getoption("kernel")
    each = _number(config)
    try:
        kernels = list(_kernels(config, wanted))
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from None
    option = config.option
    option.numprocesses = None
    option.maxprocesses = None
    option.dist = "worksteal"
    option.tx = [_spec(config, name, release) for name, release in kernels for _ in range(each)]
    option.harness_kernels = [name for name, _ in kernels]


def _number(config: pytest.Config) -> int:
    number = config.getoption("numprocesses", None)
    if number in ("auto", "logical"):
        number = config.hook.pytest_xdist_auto_num_workers(config=config)
    if config.getoption("usepdb", False) or number == 0:
        raise pytest.UsageError("--kernel runs tests in workers: leave out --pdb and -n 0")
    return int(number or 1)


def _kernels(config: pytest.Config, wanted: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """The kernels meant, as the name in test ids, and the release in the cache (None: the running one)."""
    if RUNNING in wanted:
        yield RUNNING, None
    from_archive = []
    for word in wanted:
        if word == RUNNING:
            continue
        if Path(word.partition(",")[0]).exists():
            from harness.kernels.store import named

            yield named(word).version, word
        else:
            from_archive.append(word)
    if from_archive:
        for stored in _fetched(config, from_archive):
            yield stored.version, stored.release


def _fetched(config: pytest.Config, wanted: list[str]) -> list[Stored]:
    """Kernels of the cache or of the archive, brought if missing."""
    from harness.kernels.selection import Selection

    mirror, suites, keyring = (config.getoption(name) for name in ("mirror", "suite", "keyring"))
    selection = Selection(mirror, suites, keyring, say=lambda text: print(f"harness: {text}", file=sys.stderr))
    return [selection.fetch(one) for one in selection.choose(wanted)]


def _spec(config: pytest.Config, name: str, release: str | None) -> str:
    """execnet's word for a worker."""
    if release is None:
        return f"popen//{KERNEL}={name}"
    from harness.kernels import gateway

    real_time: bool = config.getoption("real_time")
    python = gateway.command(release, config.rootpath, map(str, config.args), real_time=real_time)
    return f"popen//python={python}//{KERNEL}={name}"


def tell_worker(node: WorkerController) -> None:
    """Say to a worker which kernel it is."""
    kernel = getattr(node.gateway.spec, KERNEL, None)
    if kernel is not None:
        node.workerinput[KERNEL] = kernel


def kernel_of(config: pytest.Config) -> str | None:
    """The kernel that this worker is for, if it is for one."""
    found: str | None = getattr(config, "workerinput", {}).get(KERNEL)
    return found


def parametrise(metafunc: pytest.Metafunc) -> None:
    """Give every test the worker's kernel as a parameter, for its id."""
    kernel = kernel_of(metafunc.config)
    if kernel is not None:
        metafunc.fixturenames.append(PARAMETER)
        metafunc.parametrize(PARAMETER, [kernel], ids=[kernel], indirect=True)


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
    """In a guest the folder that the controller chose for temporary files is not there yet."""
    basetemp = getattr(config.option, "basetemp", None)
    if kernel_of(config) not in (None, RUNNING) and basetemp:
        Path(basetemp).parent.mkdir(parents=True, exist_ok=True)
