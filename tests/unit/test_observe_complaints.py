"""The kernel's complaints are found in its log, each with its kind and all its lines; and nothing else is one."""

from __future__ import annotations

import pytest

from harness.observe.complaints import complaints_in, letters
from harness.observe.kernel_log import Record

CUT = "------------[ cut here ]------------"
WARN = [
    CUT,
    "WARNING: CPU: 0 PID: 211 at net/ipv4/tcp.c:2833 tcp_close+0x1f/0x60",
    "Modules linked in: veth nf_tables",
    "CPU: 0 UID: 0 PID: 211 Comm: python3 Not tainted 6.12.1 #1",
    "RIP: 0010:tcp_close+0x1f/0x60",
    "Call Trace:",
    " <TASK>",
    " inet_release+0x42/0x80",
    " </TASK>",
    "---[ end trace 0000000000000000 ]---",
]
LOCKS = [
    "======================================================",
    "WARNING: possible circular locking dependency detected",
    "6.12.1 #1 Not tainted",
    "------------------------------------------------------",
    "python3/211 is trying to acquire lock:",
    "other info that might help us debug this:",
    "stack backtrace:",
]
HUNG = [
    "INFO: task python3:4242 blocked for more than 120 seconds.",
    "      Not tainted 6.12.1 #1",
    '"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.',
    "task:python3  state:D stack:0  pid:4242",
]
OOPS = [
    "BUG: kernel NULL pointer dereference, address: 0000000000000008",
    "#PF: supervisor read access in kernel mode",
    "Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI",
    "RIP: 0010:tcp_ack+0x1/0x2",
    "---[ end trace 0000000000000000 ]---",
    "Kernel panic - not syncing: Fatal exception in interrupt",
]
NOTHING = [
    "TCP: request_sock_TCP: Possible SYN flooding on port 0.0.0.0:80. Sending cookies.",
    "TCP: too many orphaned sockets",
    "nf_conntrack: nf_conntrack: table full, dropping packet",
    "ip_local_port_range: prefer different parity for start/end values.",
    "warning: `nginx' uses deprecated feature",
    "eth0: renamed from veth1",
]
SINGLE = {
    "KASAN": "BUG: KASAN: slab-use-after-free in tcp_ack+0x1/0x2",
    "KCSAN": "BUG: KCSAN: data-race in tcp_poll / tcp_rcv_established",
    "KFENCE": "BUG: KFENCE: out-of-bounds read in tcp_ack+0x1/0x2",
    "UBSAN": "UBSAN: shift-out-of-bounds in net/ipv4/tcp_input.c:123:4",
    "lockdep": "WARNING: suspicious RCU usage",
    "RCU stall": "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "hung task": HUNG[0],
    "lockup": "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [python3:211]",
    "leaked device": "unregister_netdevice: waiting for eth0 to become free. Usage count = 2",
    "WARN": "WARNING: net/ipv4/tcp.c:2833 at tcp_close+0x1f/0x60, CPU#0: python3/211",
    "BUG": "kernel BUG at net/core/skbuff.c:123!",
}


def log(*lines: str, begin: float = 10.0, step: float = 0.001) -> list[Record]:
    return [Record(number, begin + number * step, 4, line) for number, line in enumerate(lines)]


@pytest.mark.parametrize(("kind", "line"), SINGLE.items())
def test_each_kind_is_known_by_its_line(kind: str, line: str) -> None:
    (found,) = complaints_in(log(*NOTHING, line))
    assert (found.kind, found.headline) == (kind, line)


@pytest.mark.parametrize(
    ("kind", "lines", "headline"),
    [("WARN", WARN, WARN[1]), ("lockdep", LOCKS, LOCKS[1]), ("hung task", HUNG, HUNG[0]), ("BUG", OOPS[:5], OOPS[0])],
)
def test_a_complaint_has_all_its_lines_and_no_others(kind: str, lines: list[str], headline: str) -> None:
    records = log(*NOTHING, *lines) + log(*NOTHING, begin=100)
    (found,) = complaints_in(records)
    assert (found.kind, found.headline) == (kind, headline)
    assert [line.partition("] ")[2] for line in found.lines] == lines


def test_what_a_warning_says_itself_is_its_own() -> None:
    """WARN() prints it before the line that names the place; refcount_t's says what is wrong there alone."""
    said = ["refcount_t: underflow; use-after-free.", "a second line"]
    records = [*log(*NOTHING), *log(WARN[0], *said, *WARN[1:], WARN[0], said[0], *WARN[1:], begin=100)]
    first, second = complaints_in(records)
    assert [line.partition("] ")[2] for line in first.lines] == [WARN[0], *said, *WARN[1:]]
    assert [line.partition("] ")[2] for line in second.lines] == [WARN[0], said[0], *WARN[1:]]
    assert first.headline == second.headline == WARN[1]


def test_what_was_said_long_before_a_warning_is_not_its_own() -> None:
    (found,) = complaints_in([*log(CUT, "something", begin=10), *log(*WARN[1:], begin=100)])
    assert [line.partition("] ")[2] for line in found.lines] == WARN[1:]


def test_two_that_follow_each_other_are_two() -> None:
    assert [found.kind for found in complaints_in(log(*WARN, *LOCKS, *HUNG))] == ["WARN", "lockdep", "hung task"]
    assert [found.kind for found in complaints_in(log(*WARN, *WARN))] == ["WARN", "WARN"]


def test_what_a_healthy_kernel_says_is_no_complaint() -> None:
    assert complaints_in(log(*NOTHING)) == []


def test_a_hung_task_has_a_process() -> None:
    (found,) = complaints_in(log(*HUNG))
    assert found.task == 4242
    (other,) = complaints_in(log(*WARN))
    assert other.task is None


def test_taint_in_letters() -> None:
    assert (letters(0), letters(1 << 9), letters(1 | 1 << 9 | 1 << 14)) == ("", "W", "PWL")
    assert letters(1 << 25) == " and bits 25"
