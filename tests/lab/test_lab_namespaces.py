"""Hosts are isolated from each other and from the machine, and a closed lab leaves nothing."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import BadInput, NotReady, Renamed
from harness.lab import IPV4, IPV6, Lab, isolation, pair
from harness.lab.netns import Namespace
from harness.traffic import connect, flood, listen
from harness.traffic.nginx import Nginx
from harness.waiting import until
from tests.lab import namespace_ids

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.lab import Host, Pair


def network_of_this_thread() -> int:
    return Path("/proc/thread-self/ns/net").stat().st_ino


def descriptors() -> dict[str, str]:
    """What this process holds open, by number."""
    return {fd.name: str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.exists()}


def test_each_host_is_a_network_of_its_own(lab: Lab) -> None:
    here = network_of_this_thread()
    seen = {here}
    for host in lab.hosts("a", "b", "c"):
        with host:
            seen.add(network_of_this_thread())
            assert socket.if_nameindex() == [(1, "lo")]
    assert len(seen) == 4
    assert network_of_this_thread() == here


def test_files_of_proc_net_are_the_hosts_own(pair: Pair) -> None:
    """Also where the kernel remembers the files that a thread has seen in another namespace (before 5.0)."""
    listen(pair.client, port=4711)
    for path in ("/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"):
        seen = []
        for host in (pair.server, pair.client, pair.server):
            with host.open(path) as table:
                seen.append(":1267 " in table.read())
        assert seen == [False, path.endswith("6") == (pair.client.family == IPV6), False]


def test_a_port_is_free_on_every_host_but_the_one_that_listens(pair: Pair) -> None:
    listener = listen(pair.server, port=8080)
    assert connect(pair.client, listener, wait=True).connected == 1
    assert connect(pair.client, (pair.client.ip, 8080), wait=True).results() == {"ECONNREFUSED": 1}
    listen(pair.client, port=8080)
    with Namespace.of_this_process(), socket.socket(pair.client.family) as outside:
        assert outside.connect_ex((pair.server.ip, 8080)) != 0


def test_hosts_nest_and_threads_have_their_own_place(lab: Lab) -> None:
    a, b = lab.hosts("a", "b")
    here = network_of_this_thread()
    with a:
        inside = network_of_this_thread()
        with b, a:
            assert network_of_this_thread() == inside
        assert network_of_this_thread() == inside
        elsewhere: list[int] = []
        thread = threading.Thread(target=lambda: elsewhere.append(network_in(b)))
        thread.start()
        thread.join()
        assert network_of_this_thread() == inside != elsewhere[0]
    assert network_of_this_thread() == here


def network_in(host: Host) -> int:
    with host:
        return network_of_this_thread()


def test_an_error_inside_leads_back_out(lab: Lab) -> None:
    here = network_of_this_thread()
    with pytest.raises(ZeroDivisionError), lab.host("a"):
        raise ZeroDivisionError
    assert network_of_this_thread() == here


def test_hosts_have_names_for_ip_netns(pair: Pair) -> None:
    with pair.server:
        inside = network_of_this_thread()
    named = pair.client.run("ip", "netns", "exec", "server", "readlink", "/proc/self/ns/net").stdout
    assert named.strip() == f"net:[{inside}]"


def test_two_labs_at_once_do_not_meet(family: socket.AddressFamily) -> None:
    with Lab(family) as one, Lab(family) as other:
        first, second = pair(one), pair(other)
        assert first.server.ip == second.server.ip
        listener = listen(first.server, port=8080)
        assert connect(first.client, listener, wait=True).connected == 1
        assert connect(second.client, (second.server.ip, 8080), wait=True).results() == {"ECONNREFUSED": 1}


def test_nothing_is_left_of_a_closed_lab(family: socket.AddressFamily) -> None:
    with Lab(family) as first:  # what is made once a process is made now
        pair(first)
    isolation.world()
    held, here = descriptors(), network_of_this_thread()
    with Lab(family) as lab:
        made = pair(lab)
        for number, host in enumerate(lab.all_hosts.values(), start=1):
            namespace_ids.give(host.namespace.fd, number)
        assert namespace_ids.alive() == {1, 2}
        listener = listen(made.server, accept=True)
        connect(made.client, listener, 3, wait=True)
        program = made.server.start("sleep", "1000")
        attack = flood(made.server, made.client, listener, seconds=60, rate=1000)
        until(lambda: attack.sent, what="the flood")
        assert {"server", "client"} == {path.name for path in Path("/run/netns").iterdir()}
        assert len(descriptors()) > len(held)
        directory = lab.directory
        assert directory.is_dir()
    assert descriptors() == held
    assert [*Path("/run/netns").iterdir()] == []
    assert not directory.exists()
    assert (program.alive(), attack.running()) == (False, False)
    assert not Path(f"/proc/{program.pid}").exists()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("flood")]
    until(lambda: namespace_ids.alive() == set(), what="the kernel to let go of the namespaces")
    assert network_of_this_thread() == here
    assert socket.if_nameindex() == [(1, "lo")]


def test_a_lab_that_fails_while_it_is_built_is_taken_down(family: socket.AddressFamily) -> None:
    with Lab(family):
        pass
    held = descriptors()
    with pytest.raises(BadInput, match="already"), Lab(family) as lab:
        lab.hosts("a", "b", "a")
    assert descriptors() == held


def test_the_children_of_nginx_end_with_the_lab(family: socket.AddressFamily) -> None:
    with Lab(family) as lab:
        nginx = Nginx(pair(lab).server, "8080", workers=2)
        processes = [nginx.program.pid, *nginx.workers()]
        assert len(processes) == 3
        assert all(Path(f"/proc/{pid}").exists() for pid in processes)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes), what="the end of all three")


def test_what_lab_on_close_registers_runs_last_first_and_before_the_hosts_go(family: socket.AddressFamily) -> None:
    order: list[object] = []
    with Lab(family) as lab:
        host = lab.host("a")
        lab.on_close(lambda: order.append(host.namespace.fd >= 0))
        lab.on_close(lambda: order.append("first"))
    assert order == ["first", True]
    assert host.namespace.fd < 0


def test_a_lab_without_traffic_is_not_handed_over(lab: Lab) -> None:
    a, b = lab.hosts("a", "b")
    lab.link(a, b)
    b.run("ip", "route", "add", "blackhole", a.address(socket.AF_INET))
    with pytest.raises(NotReady, match=r"a datagram from b to a and back.*not met within 0.2 s"):
        lab.ready(deadline=0.2)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda _, a: a.ip, "host a has no interface yet"),
        (lambda lab, a: lab.link(a, a), "host a cannot be linked to itself"),
        (lambda lab, a: lab.cable_of(a), "host a is not on any cable yet"),
        (lambda lab, a: (lab.cables.extend([lab.switch(a)] * 249), lab.switch()), "at most 250 cables"),
        (lambda lab, a: lab.gateway(a, inside=lab.switch(), outside=lab.switch()), "host a is not on cable 1"),
    ],
    ids=["no interface", "itself", "no cable", "too many cables", "gateway elsewhere"],
)
def test_mistakes_are_named(lab: Lab, mistake: Callable[[Lab, Host], object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        mistake(lab, lab.host("a"))


def test_a_host_has_an_address_in_both_families(pair: Pair) -> None:
    assert (pair.server.address(IPV4), pair.server.address(IPV6)) == ("10.1.0.2", "fd00:1::2")
    assert pair.server.ip == pair.server.address(pair.server.family)


def test_old_names_of_a_cable_say_the_new_ones(pair: Pair) -> None:
    lab = pair.server.lab
    with pytest.warns(Renamed, match=r"lab.segment_of\(\) is lab.cable_of\(\) now"):
        assert lab.segment_of(pair.client) is pair.cable
    with pytest.warns(Renamed, match=r"pair.segment is pair.cable now"):
        assert pair.segment is pair.cable
    with pytest.warns(Renamed, match=r"harness.lab.Segment is harness.lab.Cable now"):
        from harness.lab import Segment
    assert isinstance(pair.cable, Segment)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_outside_the_hosts_there_is_a_loopback(lab: Lab, address: str) -> None:
    """A plugin's workers, a pytest within a test: they talk to each other by it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as listening, socket.socket(family) as connecting:
        listening.bind((address, 0))
        listening.listen()
        connecting.connect(listening.getsockname())
        accepted, peer = listening.accept()
        with accepted:
            assert peer == connecting.getsockname()
