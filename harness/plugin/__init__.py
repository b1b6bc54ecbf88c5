"""The pytest plugin: hooks that wire labs, claims and kernels to tests; each only says which module does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness import screen
from harness.plugin import (
    beside,
    claims,
    collected,
    complaints,
    counting,
    deadline,
    drops,
    forks,
    inside,
    kernels,
    kselftest,
    lines,
    machine,
    memory,
    options,
    order,
    own_errors,
    packetdrill,
    parameter,
    relay,
    trouble,
    unused,
    wall_clock,
    witness,
)
from harness.plugin.fixtures import behind_nat, claim, family, lab, lan, long_form, pair, restrict_family
from harness.plugin.parameter import harness_kernel
from harness.plugin.process import is_worker

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    import execnet
    from _pytest.runner import CallInfo
    from xdist.workermanage import WorkerController

__all__ = ["behind_nat", "claim", "family", "harness_kernel", "lab", "lan", "long_form", "pair"]


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Options and settings, and who takes over what waits at the terminal."""
    screen.forget_odd_width()
    options.add(parser)
    pluginmanager.register(inside, "harness-inside")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser
) -> Generator[None, object, object]:
    """Add our options' names of before when all others have added theirs."""
    loaded = yield
    options.add_names_of_before(parser, early_config)
    return loaded


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """With --tcp-kernel, choose the workers before pytest-xdist does; isolate before any plugin starts a thread."""
    options.settle(config)
    deadline.begin(config)
    inside.begin(config)
    if is_worker(config):
        memory.remember(config)
        relay.begin(config)
    elif config.getoption("tcp_kernel") and not inside.is_wanted(config):
        kernels.choose(config)
    elif not config.getoption("tcp_kernel"):
        kernels.refuse_without_kernels(config)
    machine.isolate_early(config)
    return (yield)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """What conftest files and other plugins can implement."""
    from harness.plugin import hooks

    pluginmanager.add_hookspecs(hooks)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Of many connections, a failed comparison shows some."""
    from harness.plugin import asserting

    return asserting.explain(op, left, right)


def pytest_configure(config: pytest.Config) -> None:
    """Markers, whose machine it is, and who collects the results."""
    from harness.plugin import admission, attendance, baseline, far, formats, hold, progress, skips, summary, telling

    if collected.is_to_be_saved():
        from harness.plugin import parsed

        parsed.keep()
    options.settle(config)
    options.add_markers(config)
    if not is_worker(config) and not inside.is_inside():
        options.warn_of_names_of_before(config)
    machine.settle(config)
    witness.settle(config)
    complaints.begin(config)
    packetdrill.begin(config)
    beside.begin(config)
    if is_worker(config):
        admission.begin(config)
        kernels.guest_folders(config)
        progress.tell_of_waits(config)
        telling.begin(config)
        return
    hold.begin(config)
    attendance.begin(config)
    results = summary.begin(config)
    formats.begin(config, results)
    baseline.begin(config, results)
    skips.begin(config)
    far.begin(config)
    progress.begin(config)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> Generator[None, None, None]:
    """Refuse malformed claim files, and arguments that can choose nothing, before workers start."""
    from harness.plugin import attendance

    attendance.refuse_what_chooses_nothing(session.config)
    claims.refuse_malformed(session.config)
    if (plan := kernels.plan_of(session.config)) is not None and not is_worker(session.config):
        counting.begin(session, len(plan.targets))
    with trouble.is_kept(session.config):
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[execnet.XSpec]) -> None:
    """Where there are many workers, start one process that all are forks of; make states of machines side by side."""
    forks.begin(config, specs)
    if kernels.plan_of(config) is not None:
        from harness.plugin import states

        states.make(specs)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    """Tell a worker its kernel, what pytest remembers, where to say what it waits for, and how to reach us."""
    from harness.plugin import progress

    kernels.tell_worker(node)
    memory.tell_worker(node)
    relay.tell_worker(node)
    packetdrill.tell_worker(node)
    progress.tell_worker(node)


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    """End the machine of a worker that has nothing more to do; another may take its place."""
    kernels.end_machine(node)
    kernels.may_be_replaced(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """With --tcp-kernel, a queue for each kernel."""
    from harness.plugin import scheduler

    return scheduler.make(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: WorkerController, ids: Sequence[str]) -> None:
    """Count the tests of all kernels."""
    counting.add(node.config, kernels.name_of(node), len(ids))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Workers are started in place of those that died; nothing is run where one of the first could not start."""
    from harness.plugin import attendance

    attendance.refuse(session.config)
    with trouble.is_told(session.config):
        ran = yield
    counting.correct(session)
    return ran


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --tcp-claim, files of other claims, where that is known."""
    return True if collected.is_of_other_claims(collection_path, config) else None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """With --tcp-packetdrill its scripts are tests, with --tcp-kselftest the kernel's test programs."""
    return packetdrill.collect(file_path, parent) or kselftest.collect(file_path, parent)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None, None, None]:
    """Honour ipv4_only and ipv6_only; in a worker of a kernel, add its name, last in the test's id."""
    restrict_family(metafunc)
    yield
    parameter.parametrise(metafunc)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose tests, put them in order, and give each its claim."""
    collected.remember(items)
    if collected.is_to_be_saved():
        from harness.plugin import ahead, parsed

        ahead.prepare(config)
        parsed.read()
    order.choose(config, items)
    memory.choose(config, items)
    order.order(config, items)
    claims.give(config, items)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Each attempt of a test begins anew; what this machine cannot do is skipped."""
    claims.begin_anew(item)
    witness.begin_anew(item)
    complaints.begin_test(item)
    with machine.skipping():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Run the test; if it has a claim, draw the verdict."""
    witness.begin(item)
    with (
        complaints.plainly(),
        drops.shown_in_failures(item),
        wall_clock.shown_in_failures(item),
        lines.shown_in_failures(item),
        claims.settling(item),
    ):
        with complaints.fail(item, "call"), machine.skipping():
            return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """What the kernel complains of while a lab is taken down is its test's error."""
    with complaints.plainly(), complaints.fail(item, "teardown"):
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
    """An error of ours is called one."""
    return own_errors.status(report)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach what travels with the report: the evidence of a claim or of a failed test's lab, reports of others."""
    report = yield
    claims.attach(item, call, report)
    witness.attach(item, report)
    kselftest.attach(item, report)
    complaints.attach(item, report)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave out of the summary what has nothing to say, and would take its time over it."""
    unused.leave_out(session.config)
