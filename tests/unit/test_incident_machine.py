"""The picture of a machine: what is missing is known to be missing, and a rate needs two samples with times."""

from __future__ import annotations

import msgspec
import pytest

from harness.evidence.types import Endpoint
from harness.incident.counters import LeftOut, Rate, Sample
from harness.incident.facts import Basis, Fact, Moment, Source, Unknown
from harness.incident.machine import Machine, Namespace
from harness.incident.sockets import Listener, Look, taker

OVERFLOWS = "TcpExt.ListenOverflows"


def sample(
    value: int, at: float | None = None, left_out: LeftOut = LeftOut.NOTHING, basis: Basis = Basis.SAID
) -> Sample:
    source = Source("netstat", 2)
    taken = None if at is None else Moment(at, basis)
    return Sample(source, {OVERFLOWS: Fact(value, source)}, ("TcpExt",), left_out, taken)


def test_a_source_reads_as_an_editor_takes_it() -> None:
    assert [str(Source("sos.tar!proc/uptime", 3)), str(Source("proc/uptime"))] == [
        "sos.tar!proc/uptime:3",
        "proc/uptime",
    ]


@pytest.mark.parametrize(
    ("left_out", "missing"),
    [
        (LeftOut.ZEROS, Fact(0, Source("netstat", 2))),
        (LeftOut.NOTHING, Unknown("the kernel has no such counter")),
        (LeftOut.SOME, Unknown("netstat has a choice of counters, without this one")),
    ],
)
def test_a_counter_that_is_left_out(left_out: LeftOut, missing: Fact[int] | Unknown) -> None:
    counted = sample(7, left_out=left_out)
    assert counted.of(OVERFLOWS) == Fact(7, Source("netstat", 2))
    assert counted.of("TcpExt.ListenDrops") == missing
    assert counted.of("Tcp.OutSegs") == Unknown("netstat does not have it")


def test_two_samples_give_a_rate() -> None:
    moved = Namespace("", counters=(sample(164550, 13.0), sample(142383, 0.0), sample(9))).rate(OVERFLOWS)
    assert isinstance(moved, Rate)
    assert (moved.amount, moved.seconds, round(moved.per_second)) == (22167, 13.0, 1705)
    assert str(moved) == "1.71e+03 a second (22167 in 13.0 s)"


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        ((), "no file has it"),
        ((sample(1, 5.0),), "there is one sample only"),
        ((sample(1), sample(2)), "nothing says when the samples were taken"),
        ((sample(1, 5.0), sample(2, 5.1)), "the samples are 0.1 s apart, too near for a rate"),
        (
            (sample(1, 5.0, basis=Basis.FILE), sample(2, 6.0, basis=Basis.FILE)),
            "the samples are 1.0 s apart, too near for a rate",
        ),
        (
            (sample(9, 1.0), sample(2, 5.0)),
            "it fell from 9 to 2: booted between the samples, or two machines",
        ),
    ],
)
def test_where_there_is_no_rate_it_says_why(samples: tuple[Sample, ...], why: str) -> None:
    assert Namespace("", counters=samples).rate(OVERFLOWS) == Unknown(why)


def test_an_average_since_boot_needs_the_uptime_and_the_machine_itself() -> None:
    own, other = Namespace("", counters=(sample(86400),)), Namespace("web", counters=(sample(5),))
    machine = Machine((own, other))
    assert machine.since_boot(OVERFLOWS) == Unknown("no file says how long the machine is up")
    machine = msgspec.structs.replace(machine, uptime=Fact(864000.0, Source("proc/uptime", 1)))
    average = machine.since_boot(OVERFLOWS)
    assert isinstance(average, Rate)
    assert str(average) == "0.1 a second (since boot, an average)"
    assert machine.since_boot(OVERFLOWS, other) == Unknown("nothing says how old the namespace is")


def test_a_sysctl_of_the_whole_machine_stands_in_its_own_namespace() -> None:
    here = Source("sysctl_-a", 4)
    own = Namespace("", sysctls={"net.ipv4.tcp_mem": Fact("1 2 3", here), "net.core.somaxconn": Fact("128", here)})
    web = Namespace("web", sysctls={"net.core.somaxconn": Fact("4096", here)})
    machine = Machine((own, web))
    assert machine.sysctl("net.ipv4.tcp_mem", web) == Fact("1 2 3", here)
    assert machine.sysctl("net.core.somaxconn", web) == Fact("4096", here)
    assert machine.sysctl("net.ipv4.tcp_tw_recycle", web) == Unknown("no file has it")


def test_a_queue_is_full_when_it_is_longer_than_its_limit() -> None:
    here = Source("ss", 2)
    assert [Look(here, *queue).is_full for queue in ((10, 10), (11, 10), (11, None))] == [False, True, False]
    listener = Listener(Endpoint("0.0.0.0", 3000), (Look(here, 11, 10), Look(here, 7, 10)))
    assert (listener.was_full, listener.last.is_full) == (True, False)


@pytest.mark.parametrize(
    ("listening", "to", "comes_to"),
    [
        (("0.0.0.0", "10.1.0.1"), "10.1.0.1", "10.1.0.1"),
        (("0.0.0.0", "10.1.0.1"), "10.1.0.9", "0.0.0.0"),
        (("::", "0.0.0.0"), "10.1.0.1", "0.0.0.0"),
        (("::", "0.0.0.0"), "fd00::1", "::"),
        (("::",), "10.1.0.1", "::"),
        (("0.0.0.0",), "fd00::1", None),
    ],
)
def test_a_connection_comes_to_the_listener_at_its_own_address_first(
    listening: tuple[str, ...], to: str, comes_to: str | None
) -> None:
    listeners = [Listener(Endpoint(address, 80), (Look(Source("ss", 2), 0),)) for address in listening]
    found = taker(listeners, Endpoint(to, 80))
    assert (found.local.address if found else None) == comes_to
    assert taker(listeners, Endpoint(to, 81)) is None


@pytest.mark.parametrize(
    ("release", "build", "version"),
    [("5.10.0-34-amd64", "#1 SMP Debian 5.10.234-1", (5, 10, 234)), ("3.10.0-957.el7.x86_64", "", (3, 10, 0))],
)
def test_the_version_of_the_kernel_is_as_exact_as_its_build(
    release: str, build: str, version: tuple[int, int, int]
) -> None:
    here = Source("uname", 1)
    machine = Machine((Namespace(""),), kernel=Fact(release, here), build=Fact(build, here))
    assert machine.version is not None
    assert machine.version.release == version
    assert Machine((Namespace(""),)).version is None


def test_it_travels_as_json() -> None:
    machine = Machine((Namespace("", counters=(sample(7, 5.0),)),), kernel=Fact("6.1", Source("uname", 1)))
    assert msgspec.json.decode(msgspec.json.encode(machine), type=Machine) == machine
