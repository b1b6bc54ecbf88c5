"""`harness reproduce`: scenarios in our style, of one screen, and with nothing of a file in the code but numbers."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.desk.catalogue import EXPERIMENTS, NOT_HERE, case_of
from harness.desk.experiment import CannotStand
from harness.desk.nearest import nearest
from harness.desk.scenario import render
from harness.diagnosis.catalogue import NAMES
from harness.errors import BadInput, Unsupported
from harness.evidence.types import Endpoint
from harness.incident.conntrack import Tracked
from harness.incident.facts import Fact, Source
from harness.kernels.catalogue import Kernel
from harness.laws.kernel import KernelVersion, running
from tests.unit.machines import HERE, coming, counted, going, listener, machine, silent, sockets, tracked
from tests.unit.test_scenarios_read_in_a_screen import SCREEN, lengths_in

if TYPE_CHECKING:
    from click.testing import Result

    from harness.incident.machine import Machine

ROOT = Path(__file__).parents[2]
FULL = Path(__file__).parent / "incident_files" / "full_queue"
PEER = Endpoint("10.9.0.1", 5432)
HOSTILE = '"""\nimport os; os.abort()\n"""\\ {{ 7*7 }} \x1b[31m<script>'


def full(*looks: int, limit: int = 128, **named: Any) -> Machine:
    """A machine with a full accept queue."""
    return machine(
        counters=counted({}, ListenOverflows=51, ListenDrops=51),
        listeners=(listener(3000, *(looks[0], limit, *looks[1:]), programs=("nginx",)),),
        **{"sysctls": {"net.core.somaxconn": "128"}, **named},
    )


def flooded(cookies: int) -> Machine:
    """A machine whose SYN queue is full of requests that nobody acknowledges."""
    return machine(
        sysctls={"net.ipv4.tcp_syncookies": str(cookies)},
        counters=counted(
            {}, **({"TCPReqQFullDoCookies": 900, "SyncookiesSent": 900} if cookies else {"TCPReqQFullDrop": 900})
        ),
        listeners=(listener(80, 0, 64),),
        sockets=(sockets(coming("SYN-RECV", 80, 65, retransmitting=60 * cookies)),),
    )


def crowded() -> Machine:
    """A machine whose SYN queue is full of real clients: the cookies come back."""
    return machine(
        counters=counted({}, TCPReqQFullDoCookies=900, SyncookiesSent=900, SyncookiesRecv=890),
        listeners=(listener(80, 0, 64),),
        sockets=(sockets(coming("SYN-RECV", 80, 65)),),
    )


def without_ports() -> Machine:
    """A machine that has no port left towards a destination."""
    return machine(sockets=(sockets(going("TIME-WAIT", PEER, 28231)),))


def unanswered() -> Machine:
    """A machine whose SYNs nobody answers."""
    return machine(sockets=(sockets(going("SYN-SENT", PEER, 3, retransmitting=3, most_retransmits=3)),))


def silenced() -> Machine:
    """A machine whose peer has fallen silent."""
    flow = going("ESTAB", PEER, 2, with_send_q=2, send_q=20, retransmitting=2, most_retransmits=6)
    return machine(sockets=(sockets(flow, notable=(silent(PEER, 6, rto=12_800, lastrcv=26_000),)),))


def hanging() -> Machine:
    """A machine of whose four workers one hangs."""
    workers = [listener(80, 6 if number == 1 else 0, 5, mark=str(number)) for number in range(1, 5)]
    return machine(listeners=tuple(workers))


def forgotten() -> Machine:
    """A machine whose connections to a service were idle, and are answered no more, while others go on."""
    flow = going("ESTAB", PEER, 5, with_send_q=3, send_q=30, retransmitting=3, most_retransmits=6)
    idle = silent(PEER, 6, rto=12_800, lastrcv=3_600_000)
    return machine(sockets=(sockets(flow, notable=(idle,)),))


def gateway() -> Machine:
    """A gateway that has no port left towards a destination."""
    flow = Tracked("tcp", "ESTABLISHED", PEER, 64_500, HERE, answers_from=PEER, seen_as="192.0.2.1", ports=64_500)
    return machine(conntrack=(tracked(flow),))


def firewall() -> Machine:
    """A firewall whose table is full."""
    table = {"net.netfilter.nf_conntrack_count": "262144", "net.netfilter.nf_conntrack_max": "262144"}
    return machine(sysctls=table)


def closes_too_soon() -> Machine:
    """A server that closes connections on which its clients still send."""
    return machine(
        counters=counted({}, TCPAbortOnData=60),
        listeners=(listener(8080, 0, 511),),
        sockets=(sockets(coming("TIME-WAIT", 8080, 50)),),
    )


def recycles() -> Machine:
    """An old server with tcp_tw_recycle, and clients behind NAT."""
    return machine(
        kernel="3.10.0-1160.el7", sysctls={"net.ipv4.tcp_tw_recycle": "1"}, counters=counted({}, PAWSPassive=40)
    )


def refuses() -> Machine:
    """A server with tcp_rfc1337 that refuses SYNs for their timestamps."""
    return machine(sysctls={"net.ipv4.tcp_rfc1337": "1"}, counters=counted({}, PAWSTimewait=40))


MACHINES = {
    "accept-queue-full": full(129),
    "accept-queue-full, always": full(6, 6, 6, 6, limit=5),
    "syn-flood": flooded(1),
    "syn-queue-full": flooded(0),
    "backlog-too-short": crowded(),
    "ports-used-up": without_ports(),
    "connect-unanswered": unanswered(),
    "silent-peer": silenced(),
    "worker-hangs": hanging(),
    "flow-forgotten": forgotten(),
    "gateway-ports-used-up": gateway(),
    "conntrack-full": firewall(),
    "keep-alive-too-short": closes_too_soon(),
    "nat-and-tw-recycle": recycles(),
    "timestamps-refused": refuses(),
}


def scenario(picture: Machine, wanted: str | None = None) -> str:
    case = case_of(picture, wanted)
    return render(case, nearest(running(), None, "", lambda: pytest.fail("no archive is needed")), "test_mine.py")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A scenario of each kind."""
    place = tmp_path_factory.mktemp("written")
    files = [place / f"test_{number}.py" for number, _ in enumerate(MACHINES)]
    for file, picture in zip(files, MACHINES.values(), strict=True):
        file.write_text(scenario(picture))
    return files


def test_there_is_a_machine_for_each_experiment() -> None:
    built = {case_of(picture).finding.diagnosis for picture in MACHINES.values()}
    assert built == set(EXPERIMENTS)


def test_each_diagnosis_is_built_or_has_its_reason() -> None:
    assert set(EXPERIMENTS) & set(NOT_HERE) == set()
    assert set(EXPERIMENTS) | set(NOT_HERE) <= set(NAMES)


@pytest.mark.parametrize("command", ["ruff format --check", "ruff check", "mypy"])
def test_what_is_written_is_in_our_style(written: list[Path], command: str, tmp_path: Path) -> None:
    config = [] if command == "mypy" else ["--config", ROOT / "pyproject.toml"]
    words = [sys.executable, "-m", *command.split(), *config, *written]
    # In a clone that is read-only they have no place for their caches.
    caches = {} if os.access(ROOT, os.W_OK) else {f"{tool}_CACHE_DIR": str(tmp_path) for tool in ("RUFF", "MYPY")}
    checked = subprocess.run(
        [str(word) for word in words], cwd=ROOT, env=os.environ | caches, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_each_is_one_screen_with_a_control(written: list[Path]) -> None:
    for file in written:
        tests = lengths_in(file.read_text())
        assert max(test.whole for test in tests) <= SCREEN
        assert any('"""The control' in ast.unparse(node) for node in ast.parse(file.read_text()).body), file


def test_the_scale_the_numbers_and_the_command_stand_in_it() -> None:
    text = scenario(MACHINES["accept-queue-full"])
    for part in (
        "16 for 128",
        "129 connections wait where 128 are allowed",
        "    pytest test_mine.py\n",
        "SOMAXCONN = 128, 16",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("somaxconn", "longer", "alone"),
    [
        ("128", "backlog 1024 and net.core.somaxconn = 1024, and listen() called again: a restart", "1024"),
        ("512", "backlog 1024 and net.core.somaxconn = 1024, and listen() called again: a restart", "1024"),
        ("4096", "backlog 1024, and listen() called again: a restart", "8192"),
    ],
)
def test_no_remedy_lowers_somaxconn(somaxconn: str, longer: str, alone: str) -> None:
    picture = full(129, 129, sysctls={"net.core.somaxconn": somaxconn})
    remedies = {remedy.title: remedy.type_in for remedy in case_of(picture).experiment.remedies()}
    assert remedies["a longer queue"] == longer
    assert remedies["somaxconn without a restart"] == f"net.core.somaxconn = {alone}"
    assert remedies["somaxconn alone, with a restart"] == f"net.core.somaxconn = {alone}, and a restart"


@pytest.mark.parametrize("picture", MACHINES.values(), ids=MACHINES)
def test_nothing_of_a_file_gets_into_the_code(picture: Machine) -> None:
    own = picture.namespaces[0]
    named = tuple(msgspec.structs.replace(each, programs=(HOSTILE,), mark=each.mark) for each in own.listeners)
    hostile = msgspec.structs.replace(
        picture,
        namespaces=(msgspec.structs.replace(own, listeners=named),),
        kernel=Fact(f"{getattr(picture.kernel, 'value', '')}-{HOSTILE}", Source(HOSTILE)),
        notices=(HOSTILE,),
    )
    mild, harmed = (ast.parse(scenario(each)) for each in (picture, hostile))
    for module in (mild, harmed):
        module.body.pop(0)  # the docstring
    assert ast.dump(mild) == ast.dump(harmed)
    assert scenario(hostile).isascii()
    assert "\x1b" not in scenario(hostile)
    assert scenario(hostile).count('"""') == scenario(picture).count('"""')


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (machine(sockets=(sockets(going("ESTAB", PEER, 28231)),)), "taken by connections that are open"),
        (
            machine(sysctls={"net.ipv4.tcp_syn_retries": "1"}, sockets=unanswered().own.sockets),
            "gives up after 3 s: there is no long wait",
        ),
        (machine(sysctls={"net.ipv4.tcp_retries2": "3"}, sockets=silenced().own.sockets), "tcp_retries2 is 3"),
        (machine(counters=counted({}, ListenOverflows=51, ListenDrops=51)), "do not show which listener's queue"),
        (machine(counters=counted({}, TCPReqQFullDrop=900)), "do not show the listener whose SYN queue it is"),
    ],
)
def test_files_that_do_not_allow_an_experiment_say_why(picture: Machine, why: str) -> None:
    with pytest.raises(CannotStand, match=why) as error:
        case_of(picture)
    assert "\n" not in str(error.value)


def test_a_hostile_file_name_does_not_stand_in_the_scenario() -> None:
    case = case_of(full(129))
    assert "test_accept_queue_full.py" in render(
        case, nearest(None, None, "", lambda: pytest.fail("none")), f"x{HOSTILE}.py"
    )


def test_without_a_finding_there_is_nothing_to_build() -> None:
    with pytest.raises(CannotStand, match="nothing is wrong"):
        case_of(machine())


def test_what_cannot_be_built_is_said_in_a_line() -> None:
    picture = machine(gauges={"sockstat.TCP.mem": 3000})
    with pytest.raises(
        CannotStand, match=r"no lab can show tcp-memory: the memory of TCP is the whole machine's"
    ) as error:
        case_of(picture)
    assert "\n" not in str(error.value)


def test_another_finding_by_name_or_number() -> None:
    both = machine(
        counters=counted({}, ListenOverflows=51, ListenDrops=51),
        listeners=(listener(3000, 129, 128),),
        sockets=(sockets(going("TIME-WAIT", PEER, 28231)),),
    )
    assert case_of(both).finding.diagnosis == "accept-queue-full"
    assert case_of(both).others == ("ports-used-up at 10.9.0.1:5432",)
    for wanted in ("ports-used-up", "2"):
        assert case_of(both, wanted).finding.diagnosis == "ports-used-up"
    for wanted, why in (
        ("loss", "the files show no loss"),
        ("9", "no finding is named"),
        (HOSTILE, "no finding is named"),
    ):
        with pytest.raises(BadInput, match=why):
            case_of(both, wanted)


class Archive:
    """Kernels that can be had: these series."""

    def __init__(self, *series: str, offline: bool = False) -> None:
        self.cached = [Kernel(f"{each}.1-amd64", f"{each}.1", "suite", ()) for each in series]
        self._offline = offline

    def all(self) -> list[Kernel]:
        """All of them, if the archive answers."""
        if self._offline:
            raise Unsupported("no archive")
        return self.cached


@pytest.mark.parametrize(
    ("version", "there", "word"),
    [
        ("5.10.0-8-amd64", Archive("5.10", "6.1"), "5.10"),
        ("5.10.0-8-amd64", Archive("5.10", "6.1", offline=True), "5.10"),
        ("5.4.0-100-generic", Archive("5.10", "6.1"), "5.10"),
        (str(running()), Archive(), ""),
    ],
)
def test_the_nearest_kernel(version: str, there: Any, word: str) -> None:
    assert nearest(KernelVersion.parse(version), None, "", lambda: there).word == word


def test_an_old_symptom_needs_an_old_kernel() -> None:
    for version, word in (("6.12.1", "4.9"), ("3.10.0-1160.el7", "3.10")):
        found = nearest(KernelVersion.parse(version), None, "tw-recycle-is-gone", lambda: Archive("6.1"))  # type: ignore[arg-type, return-value]
        assert found.word == word


def test_a_kernel_that_was_asked_for(tmp_path: Path) -> None:
    image = tmp_path / "bzImage"
    with pytest.raises(BadInput, match="is not there"):
        nearest(None, str(image), "", lambda: pytest.fail("none"))
    image.touch()
    assert nearest(None, f"{image},modules={tmp_path}", "", lambda: pytest.fail("none")).word.startswith(str(image))
    with pytest.raises(BadInput, match="no name for a kernel"):
        nearest(None, HOSTILE, "", lambda: pytest.fail("none"))


def reproduce(*words: object) -> Result:
    return CliRunner().invoke(cli, ["reproduce", *map(str, words)])


def test_the_command_writes_a_scenario(tmp_path: Path) -> None:
    file = tmp_path / "test_mine.py"
    said = reproduce(FULL, "-o", file, "--kernel", "running")
    assert (said.exit_code, f"pytest {file}" in said.stderr) == (0, True), said.output
    ast.parse(file.read_text())
    assert reproduce(FULL, "--kernel", "running").stdout.startswith('"""The accept queue of 10.1.0.2:14001')


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.write_text("hello\n")
    for words in ((nothing,), (tmp_path / "none",), (FULL, "--finding", "x"), (FULL, "-o", tmp_path)):
        said = reproduce(*words, "--kernel", "running")
        assert isinstance(said.exception, BadInput)
        assert "\n" not in str(said.exception)


def test_remedies_of_what_this_kernel_has_not_are_refused_in_a_line() -> None:
    with pytest.raises(CannotStand, match=r"only before 4\.12 \(4396e46187ca\): harness reproduce writes") as error:
        case_of(recycles(), here=True)
    assert "\n" not in str(error.value)


def test_remedies_are_tried_of_the_next_finding_that_this_kernel_can_show() -> None:
    both = machine(
        kernel="3.10.0-1160.el7",
        sysctls={"net.ipv4.tcp_tw_recycle": "1"},
        counters=counted({}, PAWSPassive=40, PAWSTimewait=40),
    )
    assert case_of(both).finding.diagnosis == "nat-and-tw-recycle"
    assert case_of(both, here=True).finding.diagnosis == "timestamps-refused"


def test_bad_input_for_remedies_is_one_line(tmp_path: Path) -> None:
    for words in ((tmp_path / "none",), (FULL, "--finding", "x"), (FULL, "--finding", "loss")):
        said = CliRunner().invoke(cli, ["remedy", *map(str, words)])
        assert isinstance(said.exception, BadInput)
        assert "\n" not in str(said.exception)


def test_nothing_to_build_is_exit_code_1() -> None:
    for command in ("reproduce", "remedy"):
        said = CliRunner().invoke(cli, [command, str(FULL / "first" / "uname_-a")])
        assert (said.exit_code, "nothing is wrong" in said.stderr) == (1, True)
