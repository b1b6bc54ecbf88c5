"""What ss and netstat print, read as rows and numbers: every shape of a line that scenarios ask for."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BadInput
from harness.observe import netstat, shell, ss
from harness.observe.sockets import Socket, Timer

TAN = """\
State     Recv-Q Send-Q Local Address:Port  Peer Address:PortProcess
LISTEN    11     10           0.0.0.0:3000       0.0.0.0:*
ESTAB     0      500      10.1.0.1:8080      10.1.0.2:42002
LISTEN    0      5              [::1]:8080          [::]:*
TIME-WAIT 0      0              [::1]:42002        [::1]:8080 timer:(timewait,59sec,0)
"""
ONE_STATE = """\
Recv-Q Send-Q Local Address:Port  Peer Address:PortProcess
0      0              [::1]:42002        [::1]:8080 timer:(timewait,59sec,0)
"""
WITHOUT_T = """\
Netid Recv-Q Send-Q Local Address:Port  Peer Address:Port    Process
tcp   0      0              [::1]:42002        [::1]:http-alt timer:(timewait,1min,0)
"""
INFO = """\
Netid State Recv-Q Send-Q Local Address:Port     Peer Address:Port    Process
tcp   ESTAB 0      0              [::1]:http-alt        [::1]:42002
\t ts cubic wscale:10,10 rto:204 rtt:0.019/0.009
tcp   ESTAB 0      7              [::1]:42002           [::1]:http-alt users:(("python3",pid=1,fd=4))
\t ts cubic rto:216
"""


def test_rows_of_every_state() -> None:
    listener, established, other, closing = ss.parse(TAN)
    assert listener == ss.Row("LISTEN", 11, 10, "0.0.0.0:3000", "0.0.0.0:*")
    assert (established.queues, established.local_port, established.remote_port) == ((0, 500), "8080", "42002")
    assert (other.local, other.remote, other.remote_port) == ("[::1]:8080", "[::]:*", "*")
    assert closing.timer == Timer("timewait", 59, 0)
    assert listener.timer is None


def test_columns_that_are_left_out() -> None:
    assert ss.parse(ONE_STATE) == [ss.Row("", 0, 0, "[::1]:42002", "[::1]:8080", ("timer:(timewait,59sec,0)",))]
    assert ss.parse(WITHOUT_T) == [ss.Row("", 0, 0, "[::1]:42002", "[::1]:http-alt", ("timer:(timewait,1min,0)",))]
    without_header = TAN.partition("\n")[2]
    assert ss.parse(without_header) == ss.parse(TAN)
    assert ss.parse("") == ss.parse(TAN.partition("\n")[0]) == []


def test_numbers_below_a_row_belong_to_it() -> None:
    first, second = ss.parse(INFO)
    assert (first.state, first.local, first.details[:2]) == ("ESTAB", "[::1]:http-alt", ("ts", "cubic"))
    assert (second.send_q, second.details[-1]) == (7, "rto:216")


def test_numbers_by_name() -> None:
    first, second = ss.parse(INFO)
    assert first.numbers == {"rto": 204.0, "rtt": 0.019}
    assert second.numbers == {"rto": 216.0}
    assert ss.parse(ONE_STATE)[0].numbers == {}


@pytest.mark.parametrize("printed", ["Total: 182", "nstat 7", "ESTAB 0 x 10.1.0.1:1 10.1.0.2:2", "LISTEN 0 5"])
def test_what_is_no_row(printed: str) -> None:
    with pytest.raises(BadInput, match="not a row of ss"):
        ss.parse(printed)


@pytest.mark.parametrize(
    ("printed", "seconds"),
    [("59sec", 59), ("1min", 60), ("2min5sec", 125), ("1.203ms", 1.203), ("203ms", 0.203), ("", 0), ("120min", 7200)],
)
def test_times(printed: str, seconds: float) -> None:
    (row,) = ss.parse(f"ESTAB 0 0 10.1.0.1:1 10.1.0.2:2 timer:(on,{printed},3)")
    assert row.timer == Timer("on", seconds, 3)


def test_a_time_of_another_unit() -> None:
    (row,) = ss.parse("ESTAB 0 0 10.1.0.1:1 10.1.0.2:2 timer:(on,3h,3)")
    with pytest.raises(BadInput, match="3h"):
        _ = row.timer


@given(
    st.sampled_from(["LISTEN", "ESTAB", "SYN-RECV", "TIME-WAIT"]),
    st.tuples(*[st.integers(0, 2**32 - 1)] * 2),
    st.sampled_from(["10.1.0.1", "::1", "fd00::1", "0.0.0.0", "::ffff:10.1.0.1"]),
    st.tuples(*[st.integers(0, 65535)] * 2),
)
def test_what_ss_should_print_of_a_socket_is_read_back(
    state: str, queues: tuple[int, int], address: str, ports: tuple[int, int]
) -> None:
    ends = [(address, port) for port in ports]
    row = ss.expected(Socket(state, socket.AF_INET, ends[0], ends[1], *queues, None, 0, 0, 0, 0))
    assert ss.parse(f"{row.state} {row.recv_q} {row.send_q} {row.local}      {row.remote}") == [row]


NETSTAT = """\
Active Internet connections (servers and established)
Proto Recv-Q Send-Q Local Address           Foreign Address         State       PID/Program name
tcp        0      0 0.0.0.0:2024            0.0.0.0:*               LISTEN      19445/python3
tcp6       7      0 ::1:8080                ::1:42002               FIN_WAIT2   -
tcp        0      0 10.1.0.1:80             10.1.0.2:41000          SYN_RECV
udp        0      0 0.0.0.0:53              0.0.0.0:*                           7/dns
"""


def test_rows_of_netstat() -> None:
    listener, closing, half_open = netstat.parse(NETSTAT)
    assert listener == netstat.Row("tcp", 0, 0, "0.0.0.0:2024", "0.0.0.0:*", "LISTEN", ("19445/python3",))
    assert (closing.protocol, closing.recv_q, closing.local, closing.state) == ("tcp6", 7, "::1:8080", "FIN_WAIT2")
    assert (half_open.state, half_open.details) == ("SYN_RECV", ())


SAID = """\
TcpExt:
    7 times the listen queue of a socket overflowed
    1207 SYNs to LISTEN sockets dropped
    Quick ack mode was activated 37 times
    TCPTimeouts: 2
    3 DSACKs sent for old packets
    2 DSACKs sent for out of order packets
"""


def test_sentences_of_netstat_as_numbers() -> None:
    assert netstat.statistic_in(SAID, netstat.OVERFLOWED) == 7
    assert netstat.statistic_in(SAID, "SYNs to LISTEN") == 1207
    assert netstat.statistic_in(SAID, "Quick ack mode was activated") == 37
    assert netstat.statistic_in(SAID, "TCPTimeouts") == 2
    assert netstat.statistic_in(SAID, netstat.REJECTED_BY_TIMESTAMP) == 0


def test_words_that_say_too_little() -> None:
    with pytest.raises(BadInput, match="2 lines with 'DSACKs sent'"):
        netstat.statistic_in(SAID, "DSACKs sent")
    with pytest.raises(BadInput, match="no number"):
        netstat.statistic_in(SAID, "TcpExt")


def test_a_number_at_the_begin_of_what_is_printed() -> None:
    assert [shell.leading_number(text) for text in ("13\n", "    7 times", "", "none", "x 3")] == [13, 7, 0, 0, 0]
