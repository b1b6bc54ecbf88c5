"""The pytest plugin: options, hooks and fixtures that wire labs and claims to tests; the work is done elsewhere.

Options: `--evidence DIR` (default: out/evidence below the directory that pytest was started in), `--hold`,
`--own-kernel`, `--full-size`, `--kernel`, `--real-time`, `--report`, `--ktap`, `--kcidb`.
Ini options: `claims` (directories or files with claims; default: claims/ beside the test or above it, up to the
root directory), `lab_isolation` ("first-use", or "startup", which ordinary users need with xdist).
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import Forbidden, GlobalSysctl, HarnessError, MissingProgram, Unsupported
from harness.plugin import claims, formats, kernels, order
from harness.plugin.fixtures import behind_nat, claim, family, lab, lan, pair, restrict_family
from harness.plugin.kernels import harness_kernel

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from _pytest.outcomes import Skipped
    from _pytest.runner import CallInfo
    from xdist.workermanage import WorkerController

__all__ = ["behind_nat", "claim", "family", "harness_kernel", "lab", "lan", "pair"]

COLLECTED = pytest.StashKey[int]()
DEFAULT_EVIDENCE = "out/evidence"
# The plugin that keeps the line of progress, and how workers know where it listens.
PROGRESS = "harness-progress"
ADDRESS = "harness_progress"
BACKLOG = (
    "Meanwhile this machine's receive backlog dropped {} frames. Each CPU has one, of net.core.netdev_max_backlog "
    "frames, for all namespaces: a flood, also of another process, makes it drop what others send."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the module's docstring."""
    group = parser.getgroup("harness", "TCP claims")
    group.addoption(
        "--evidence",
        metavar="DIR",
        default=DEFAULT_EVIDENCE,
        help="where the evidence of claims goes, one JSON file a claim (default: %(default)s)",
    )
    group.addoption(
        "--hold",
        action="store_true",
        help="when a test that has a lab fails, keep the lab and print how to enter its hosts, until Enter",
    )
    group.addoption(
        "--claim",
        action="append",
        default=[],
        metavar="NAME",
        help="run only the scenarios of this claim (repeatable): accept-queue.capacity, or a group",
    )
    group.addoption(
        "--own-kernel",
        action="store_true",
        help="the running kernel is ours alone (a virtual machine): scenarios may set knobs of the whole machine",
    )
    group.addoption(
        "--full-size",
        action="store_true",
        help="run also what waits for minutes or hours, meant for a kernel with simulated time",
    )
    kernels.add_options(group)
    formats.add_options(group)
    parser.addini("claims", "files or directories with claims (default: claims/ beside the test)", type="paths")
    parser.addini("lab_isolation", "when an ordinary user's process makes its user namespace: first-use or startup",
                  default="first-use")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Markers, and who collects the results."""
    config.addinivalue_line("markers", "claim(name): the test settles this claim of the claim files")
    config.addinivalue_line("markers", "ipv4_only(reason): the test's lab is for IPv4 alone")
    for marker in order.MARKERS:
        config.addinivalue_line("markers", marker)
    if config.getoption("own_kernel"):
        from harness.lab import machine

        machine.take_over()
    if config.getini("lab_isolation") not in ("first-use", "startup"):
        raise pytest.UsageError(f"lab_isolation must be first-use or startup, not {config.getini('lab_isolation')!r}")
    if _is_worker(config):
        kernels.guest_folders(config)
        _tell_of_waits(config)
        return
    if config.getoption("hold"):
        if _distributes(config):
            raise pytest.UsageError("--hold waits at the terminal, which workers do not have: run with -n 0")
        from harness.plugin.hold import HoldLab

        config.pluginmanager.register(HoldLab(config), "harness-hold")
    from harness.plugin.summary import Results

    directory = Path(config.invocation_params.dir, config.getoption("evidence"))
    results = Results(config, directory)
    config.pluginmanager.register(results, "harness-results")
    if files := formats.wanted(config):
        config.pluginmanager.register(formats.Reports(results, files), "harness-reports")
    _show_progress(config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """With --kernel, choose the workers before pytest-xdist does."""
    if _is_worker(config):
        kernels.remember(config)
    elif config.getoption("kernel"):
        kernels.choose(config)
    return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    """Tell a worker its kernel, and where to say what it waits for."""
    kernels.tell_worker(node)
    progress = node.config.pluginmanager.get_plugin(PROGRESS)
    if progress is not None:
        node.workerinput[ADDRESS] = progress.address


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    """End the machine of a worker that has nothing more to do."""
    kernels.end_machine(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """With --kernel, a queue for each kernel."""
    return kernels.ByKernel(config, log) if config.getoption("kernel") else None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> Generator[None, None, None]:
    """Refuse malformed claim files before workers start; make an ordinary user's namespace before threads do."""
    problems = [] if _is_worker(session.config) else claims.malformed(session.config)
    if problems:
        raise pytest.UsageError(*problems)
    _isolate_early(session.config)
    with kernels.trouble_told(session.config):
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Workers are started in place of those that died."""
    with kernels.trouble_told(session.config):
        ran = yield
    # pytest-xdist takes the number of the worker that has collected last; there may be nothing on that kernel.
    session.testscollected = max(session.testscollected, session.config.stash.get(COLLECTED, 0))
    return ran


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: WorkerController, ids: Sequence[str]) -> None:
    """Count the tests of all workers."""
    node.config.stash[COLLECTED] = node.config.stash.get(COLLECTED, 0) + len(ids)


def _isolate_early(config: pytest.Config) -> None:
    wanted = config.getini("lab_isolation") == "startup" and not config.getoption("collectonly")
    if not wanted or os.geteuid() == 0 or _is_worker(config):
        return
    from harness.lab.isolation import isolate

    # Where it is forbidden, tests without a lab can run all the same; those with one skip for the same reason.
    with suppress(Forbidden):
        isolate(user_only=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None, None, None]:
    """Honour ipv4_only; in a worker of a kernel, add its name, last in the test's id."""
    restrict_family(metafunc)
    yield
    kernels.parametrise(metafunc)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test its claim; a claim that does not exist is a mistake of usage, not of a test."""
    order.choose(config, items)
    if kernels.failed_elsewhere(config, items):
        config.hook.pytest_deselected(items=items[:])
        items.clear()
    order.order(config, items)
    problems = claims.assign(config, items)
    if problems and not _is_worker(config):
        raise pytest.UsageError(*problems)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    """What this machine cannot do is skipped, with the reason."""
    try:
        yield
    except (MissingProgram, Unsupported, Forbidden) as error:
        raise _skipped(error) from error


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Run the test; if it has a claim, draw the verdict."""
    with _telling_of_drops(item), claims.settling(item):
        try:
            return (yield)
        except (MissingProgram, Unsupported, Forbidden) as error:
            raise _skipped(error) from error


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the evidence of a claim to the report, so that it travels with it."""
    report = yield
    claims.attach(item, call, report)
    return report


@contextmanager
def _telling_of_drops(item: pytest.Item) -> Iterator[None]:
    """When a test fails while the machine dropped frames that its lab may have needed, say so in the failure."""
    from harness.observe import backlog_drops

    before = backlog_drops()
    try:
        yield
    except BaseException:  # pytest.fail() raises no Exception
        if dropped := backlog_drops() - before:
            item.add_report_section("call", "machine", BACKLOG.format(dropped))
        raise


def _show_progress(config: pytest.Config) -> None:
    """Where somebody looks, show what is waited for."""
    if config.getoption("collectonly") or not sys.stdout.isatty() or not config.pluginmanager.has_plugin("terminal"):
        return
    from harness.plugin import progress as progress_line

    if not progress_line.is_watched(config):
        return
    progress = progress_line.Progress(config)
    config.pluginmanager.register(progress, PROGRESS)
    if _distributes(config):
        progress.begin()
    else:
        config.pluginmanager.register(progress_line.Teller(progress.note), "harness-teller")


def _tell_of_waits(config: pytest.Config) -> None:
    """In a worker, tell the process at the terminal; a guest's worker cannot reach it."""
    address = getattr(config, "workerinput", {}).get(ADDRESS)
    if address and Path(address).is_socket():
        from harness.plugin import progress as progress_line

        config.pluginmanager.register(progress_line.Teller(progress_line.over(address)), "harness-teller")


def _skipped(error: HarnessError) -> Skipped:
    reason = f"needs a kernel of its own: {error}" if isinstance(error, GlobalSysctl) else str(error)
    return pytest.skip.Exception(reason, _use_item_location=True)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _distributes(config: pytest.Config) -> bool:
    return bool(config.getoption("tx", None)) and config.getoption("dist", "no") != "no"
