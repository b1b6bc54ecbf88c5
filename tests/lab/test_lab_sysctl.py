"""Sysctls: read back, in their scope, and refused clearly where they cannot be set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import GlobalSysctl, SysctlRefused, UnknownSysctl
from harness.lab.netns import Namespace
from harness.lab.sysctl import Sysctls

if TYPE_CHECKING:
    from harness.lab import Lab, Pair

SOMAXCONN = "net.core.somaxconn"
COOKIES = "net.ipv4.tcp_syncookies"


def outside(name: str) -> str:
    """The value in the namespace of the process itself, read without Sysctls."""
    with Namespace.of_this_process():
        return Path("/proc/sys", *name.split(".")).read_text()


def test_a_value_counts_in_its_host_alone(pair: Pair) -> None:
    before = outside(SOMAXCONN), pair.client.sysctl[SOMAXCONN]
    pair.server.sysctl[SOMAXCONN] = 17
    assert pair.server.sysctl[SOMAXCONN] == "17"
    assert (outside(SOMAXCONN), pair.client.sysctl[SOMAXCONN]) == before
    assert pair.server.run("sysctl", "-n", SOMAXCONN).stdout == "17\n"


def test_a_value_for_all_hosts(lab: Lab) -> None:
    hosts = lab.hosts("a", "b")
    hosts[0].sysctl[SOMAXCONN] = 17
    lab.set_all(SOMAXCONN, 18)
    assert [host.sysctl[SOMAXCONN] for host in hosts] == ["18", "18"]
    lab.set_each(SOMAXCONN, {hosts[0]: 19, hosts[1]: 20})
    assert [host.sysctl[SOMAXCONN] for host in hosts] == ["19", "20"]


def test_values_of_several_fields(lab: Lab) -> None:
    sysctl = lab.host("a").sysctl
    sysctl["net.ipv4.ip_local_port_range"] = "40000   40009"
    assert sysctl["net.ipv4.ip_local_port_range"] == "40000 40009"


def test_a_name_with_slashes(pair: Pair) -> None:
    pair.server.sysctl["net/ipv4/conf/eth0/rp_filter"] = 2
    assert pair.server.sysctl["net.ipv4.conf.eth0.rp_filter"] == "2"


def test_what_was_changed_is_kept(lab: Lab) -> None:
    sysctl = lab.host("a").sysctl
    first = sysctl[COOKIES]
    sysctl[COOKIES] = 0
    sysctl[COOKIES] = 2
    with pytest.raises(UnknownSysctl):
        sysctl["net.ipv4.tcp_syncookie"] = 1
    assert sysctl.changed == {COOKIES: (first, "2")}


def test_a_misspelt_name_is_refused_with_those_near_it(lab: Lab) -> None:
    sysctl = lab.host("a").sysctl
    message = r"tcp_syncokies: kernel .* no such sysctl; near it: .*tcp_syncookies"
    with pytest.raises(UnknownSysctl, match=message):
        sysctl["net.ipv4.tcp_syncokies"] = 1
    with pytest.raises(UnknownSysctl, match=message):
        assert sysctl["net.ipv4.tcp_syncokies"]
    assert ("net.ipv4.tcp_syncokies" in sysctl, COOKIES in sysctl) == (False, True)


@pytest.mark.parametrize("name", ["net.ipv4", "net..ipv4.tcp_syncookies", "net.ipv4...tcp_syncookies", ""])
def test_what_is_no_name_is_refused(lab: Lab, name: str) -> None:
    with pytest.raises(UnknownSysctl):
        lab.host("a").sysctl[name] = 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("fs.file-max", "1000"), ("fs.nr_open", "1000"), ("net.ipv4.tcp_mem", "1 2 3"), ("kernel.pid_max", "400")],
)
def test_what_belongs_to_the_whole_machine_is_refused(lab: Lab, name: str, value: str) -> None:
    path = Path("/proc/sys", *name.split("."))
    before = path.read_text() if path.exists() else None
    sysctl = lab.host("a").sysctl
    with pytest.raises(GlobalSysctl, match=rf"{name} belongs to the whole machine on kernel .*in a kernel of its own"):
        sysctl[name] = value
    assert (path.read_text() if path.exists() else None) == before
    assert sysctl.changed == {}


@pytest.mark.parametrize(
    ("name", "value"), [(SOMAXCONN, -1), (COOKIES, "yes"), ("net.ipv4.ip_local_port_range", "9 1")]
)
def test_a_value_that_the_kernel_refuses(lab: Lab, name: str, value: object) -> None:
    sysctl = lab.host("a").sysctl
    before = sysctl[name]
    with pytest.raises(SysctlRefused, match=r"the kernel refuses .*Invalid argument"):
        sysctl[name] = value
    assert (sysctl[name], sysctl.changed) == (before, {})


def test_a_value_that_the_kernel_takes_in_part(lab: Lab) -> None:
    """A sysctl of one number reads one and is content (kernel/sysctl.c, do_proc_dointvec())."""
    sysctl = lab.host("a").sysctl
    with pytest.raises(SysctlRefused, match=r"wrote '100 200', the kernel reads back '100'"):
        sysctl[SOMAXCONN] = "100 200"
    assert sysctl.changed == {}


def test_a_value_that_reaches_other_namespaces_is_taken_back() -> None:
    """The process's own namespace stands for another one: what is set there is seen from outside."""
    before = outside(COOKIES)
    sysctl = Sysctls(Namespace.of_this_process())
    with pytest.raises(GlobalSysctl, match="writing it changed other namespaces as well"):
        sysctl[COOKIES] = 2
    assert (outside(COOKIES), sysctl.changed) == (before, {})
