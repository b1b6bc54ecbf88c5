"""Nothing is green that did not run: every kernel that was asked for, and every test that was collected for it.

pytest-xdist replaces a worker that is lost, and goes on without one that cannot begin. Here, in the process at the
terminal, is noted who came, what each has collected, and which tests have a report; what is missing at the end becomes
an error of its own, which the terminal, JUnit's XML and the exit status show as any other.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest

from harness.files import there_is
from harness.kernels.targets import KERNEL
from harness.plugin import claims, missing, relay, scheduler, telling, trouble
from harness.plugin.kernels import RESTARTS, Plan, name_of, plan_of
from harness.plugin.process import distributes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from xdist.workermanage import WorkerController

    # One of pytest-xdist's events: its name, and what DSession's method for it is called with.
    Event = tuple[str, dict[str, object]]

NAME = "harness-attendance"
# What pytest-xdist says of a worker that says nothing more, and what we do.
LOST, WITHOUT_A_WORD = "Not properly terminated", "its worker ended without a word"
# What a worker would have told of its end that has ended before it had run a test.
BEFORE_IT_BEGAN = {"exitstatus": int(pytest.ExitCode.USAGE_ERROR), "shouldfail": False, "shouldstop": False}

# Exceptions of pytest's whose message says it all.
SPEAK_FOR_THEMSELVES = ("UsageError", "ConftestImportFailure")


def begin(config: pytest.Config) -> None:
    """Take attendance in a session with workers."""
    if distributes(config) and not config.getoption("collectonly"):
        config.pluginmanager.register(Attendance(config), NAME)


def refuse_what_chooses_nothing(config: pytest.Config) -> None:
    """UsageError for -k or -m that is no expression, and for an argument that is no file and no directory.

    Workers would find out, each: pytest-xdist says nothing then, or has an internal error.
    """
    if not distributes(config):
        return
    if choosing := config.pluginmanager.get_plugin("mark"):
        choosing.pytest_collection_modifyitems(items=[], config=config)
    if config.getoption("pyargs"):
        return
    for argument in config.args:
        place = config.invocation_params.dir / argument.partition("::")[0].partition("[")[0]
        if not there_is(place):
            raise pytest.UsageError(f"file or directory not found: {argument}")


def refuse(config: pytest.Config) -> None:
    """End a session of which a worker could not be started; the results say it too."""
    error = config.stash.get(trouble.KEPT, None)
    if error is not None:
        attendance: Attendance | None = config.pluginmanager.get_plugin(NAME)
        if attendance is not None:
            attendance.could_not_start(trouble.why(config))
        raise error


@dataclass
class Worker:
    """What is known of a worker. `given_up`: it has ended before it had begun a test, and none takes its place."""

    kernel: str | None
    collected: telling.Collected | None = None
    has_begun: bool = False
    reason: str = ""
    is_over: bool = False
    given_up: bool = False

    @property
    def has_collected(self) -> bool:
        """Whether it knows its tests.

        Where an argument names no test pytest says, too, that it has collected; nothing, then.
        """
        return self.collected is not None and not (self.reason and not self.collected.tests)


class Attendance:
    """Who came, what was collected, what has a report."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._plan: Plan | None = plan_of(config)
        self._workers: dict[WorkerController, Worker] = {}
        self._lost: Counter[str | None] = Counter()
        self._to_run: dict[str | None, dict[str, None]] = {}
        self._reported: set[str] = set()
        self._specs: Sequence[object] = ()

    # Workers come, collect, and end.

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, specs: Sequence[object]) -> None:
        """Note which workers are to be started, one after the other."""
        self._specs = specs

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: WorkerController) -> None:
        """Give a worker something to tell us with."""
        worker = self._workers[node] = Worker(name_of(node))
        channel = node.gateway.newchannel()
        channel.setcallback(partial(self._hear, worker))
        node.workerinput[telling.CHANNEL] = channel
        if self._plan is not None:
            node.putevent = partial(self._pass_on, node, node.putevent)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: WorkerController, ids: Sequence[str]) -> None:
        """Note what is to be run."""
        self._to_run.setdefault(self._workers[node].kernel, {}).update(dict.fromkeys(ids))

    @pytest.hookimpl(wrapper=True, tryfirst=True, optionalhook=True)
    def pytest_testnodedown(self, node: WorkerController, error: object) -> Generator[None, object, object]:
        """A kernel's other workers need not wait for one that will run nothing.

        Plugins look here for what they left in the worker: where they never were, it is no error that it is not there.
        """
        worker = self._workers[node]
        worker.reason = worker.reason or _reason(error)
        if worker.given_up:
            scheduler.give_up(self._config, node)
        try:
            return (yield)
        except Exception:
            if not worker.given_up and not self._absent_plugins(worker):
                raise
            return []

    def _hear(self, worker: Worker, message: bytes) -> None:
        """In execnet's thread: a worker tells something."""
        said = telling.heard(message)
        if isinstance(said, telling.Collected):
            worker.collected = said
        else:
            worker.reason = said.reason

    def _pass_on(self, node: WorkerController, putevent: Callable[[Event], None], event: Event) -> None:
        """In execnet's thread, with --tcp-kernel: pass one of pytest-xdist's events on, or one that it can deal with.

        A worker that ends with an error before it has begun a test would do so again, unless it was lost: it is not
        replaced. And no worker is over twice.
        """
        worker = self._workers[node]
        name, details = event
        worker.has_begun |= name == "logstart"
        if name not in ("errordown", "internal_error", "workerfinished"):
            putevent(event)
        elif not worker.is_over:
            worker.is_over = True
            worker.reason = worker.reason or _reason(details.get("error") or details.get("formatted_error"))
            worker.given_up = self._would_end_so_again(worker)
            if worker.given_up:
                node.workeroutput = BEFORE_IT_BEGAN
                putevent(("workerfinished", {"node": node}))
            elif name == "internal_error":
                putevent(("errordown", {"node": node, "error": worker.reason}))
            else:
                putevent(event)

    def _would_end_so_again(self, worker: Worker) -> bool:
        """Whether a worker that is over has run nothing, and one in its place would not either."""
        if worker.has_begun or (worker.collected and not worker.reason):
            return False
        self._lost[worker.kernel] += 1
        each = self._plan.each if self._plan else 1
        return worker.reason != LOST or self._lost[worker.kernel] > RESTARTS * each

    # Tests are run, or lost.

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """The claim of a test whose worker was lost has failed."""
        node: WorkerController = report.node
        relay.settle(node)
        worker = self._workers[node]
        collected = worker.collected
        if collected is None:
            return
        how = trouble.loss(self._config, collected.release) or _spoken(worker.reason)
        report.sections.append(("its worker", how))
        if test := collected.claims.get(crashitem):
            lost = claims.Lost(test.claim, test.options, worker.kernel or "", collected.release, how)
            claims.attach_lost(report, lost, self._config)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note which tests have a report, other than that they are run again."""
        if report.outcome != claims.RUN_AGAIN:
            self._reported.add(report.nodeid)

    # At the end.

    def skipped(self) -> list[tuple[str, str]]:
        """The modules and directories that have skipped themselves in workers, each with the reason."""
        found: dict[tuple[str, str], None] = {}
        for worker in self._workers.values():
            where = f" on Linux {worker.kernel}" if worker.kernel else ""
            for place, reason in worker.collected.skipped.items() if worker.collected else ():
                found[f"{place}{where}", reason] = None
        return list(found)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """When nobody has stopped the run: whatever is missing is an error."""
        try:
            ran = yield
        except (OSError, EOFError):  # no worker could be started in place of one that was lost
            self._report(self._missing(trouble.why(self._config)))
            raise
        self._report(self._missing())
        return ran

    def could_not_start(self, why: str) -> None:
        """The next of the workers could not be started, and so nothing will be run."""
        kernels = [getattr(spec, KERNEL, None) for spec in self._specs]
        self._report([missing.Absence(kernel, missing.never_came(why)) for kernel in kernels[len(self._workers) :][:1]])

    def _report(self, absent: Iterable[missing.Absence]) -> None:
        for absence in absent:
            self._config.hook.pytest_collectreport(report=absence.report())

    def _missing(self, why: str = "") -> Sequence[missing.Absence]:
        kernels = [None] if self._plan is None else self._plan.names
        workers = list(self._workers.values())
        absent = [
            missing.Absence(kernel, missing.never_came(why or self._reason_of(kernel)))
            for kernel in kernels
            if not any(worker.has_collected for worker in workers if worker.kernel == kernel)
        ]
        for kernel, ids in self._to_run.items():
            if left := [nodeid for nodeid in ids if nodeid not in self._reported]:
                absent.append(missing.Absence(kernel, missing.not_run(left, len(ids), why or self._reason_of(kernel))))
        if self._plan is not None and not self._config.getoption("lf", False):
            came = [(worker.kernel, worker.collected) for worker in workers if worker.kernel and worker.collected]
            absent += missing.not_collected(came)
        own = telling.unknown_settings(self._config)
        for kernel in [each for each in kernels if all(absence.kernel != each for absence in absent)]:
            if unknown := {name for one in self._collected_by(kernel) for name in one.unknown - own}:
                absent.append(missing.Absence(kernel, missing.not_known(unknown)))
        return absent

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name the plugins that took no part where they are not installed."""
        workers = [worker for worker in self._workers.values() if worker.kernel is not None]
        absent = {worker.kernel: plugins for worker in workers if (plugins := self._absent_plugins(worker))}
        for kernel, plugins in absent.items():
            terminalreporter.write_line(missing.without_plugins(str(kernel), plugins), yellow=True)

    def _collected_by(self, kernel: str | None) -> Iterable[telling.Collected]:
        return (worker.collected for worker in self._workers.values() if worker.kernel == kernel and worker.collected)

    def _absent_plugins(self, worker: Worker) -> frozenset[str]:
        """The plugins of this session that a worker does not have."""
        return telling.plugins_of(self._config) - worker.collected.plugins if worker.collected else frozenset()

    def _reason_of(self, kernel: str | None) -> str:
        """Why the workers of a kernel have ended; "" if none had a reason to."""
        reasons = [worker.reason for worker in self._workers.values() if worker.kernel == kernel and worker.reason]
        return _spoken(reasons[-1]) if reasons else ""


def _spoken(reason: str) -> str:
    return WITHOUT_A_WORD if reason in ("", LOST) else reason


def _reason(error: object) -> str:
    """What went wrong in a worker, in a line; "" if nothing did.

    execnet brings a traceback as text. What counts is its last exception, the first line behind the last frames;
    argparse has it begin with the usage.
    """
    if not error:
        return ""
    text = str(error).strip()
    raised = list(re.finditer(r"^ .*\n([\w.]+)(?:: |$)", text, re.MULTILINE)) if "Traceback" in text else []
    if not raised:
        return text.rpartition("\n")[2]
    kind, message = raised[-1][1].rpartition(".")[2], text[raised[-1].end() :]
    usage = re.search(r": error: (.*)", message)
    line = " ".join((usage[1] if usage else message.partition("\n")[0]).split())
    return line if kind in SPEAK_FOR_THEMSELVES else f"{kind}: {line}".removesuffix(": ")
