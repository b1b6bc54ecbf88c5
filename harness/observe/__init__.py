"""What the kernel says: its counters, sockets, packets, log and reasons for dropping."""

# Imported at once, not when asked for: functions share their names with the modules that hold them, and an import
# of a submodule would put the module in the function's place. Nothing here imports more than the standard library and
# msgspec.
from harness.observe.backlog import backlog_drops
from harness.observe.capture import Capture, capture
from harness.observe.counters import Counters, Counting, Delta, counters, counting
from harness.observe.drop_reasons import Dropped, DropReasons, drop_reasons
from harness.observe.kernel_log import KernelLog, Record, kernel_log
from harness.observe.packet import Packet
from harness.observe.pcapng import Recording, pcapng, read_pcapng, write_pcapng
from harness.observe.queues import AcceptQueue, accept_queue, half_open
from harness.observe.segments import Segment, exchange
from harness.observe.sockets import (
    Socket,
    Timer,
    count,
    end_between,
    ends_at,
    info_of,
    socket_of,
    sockets,
    states_at,
    states_between,
    survey,
    tally,
)
from harness.observe.tcp_info import TcpInfo

__all__ = [
    "AcceptQueue",
    "Capture",
    "Counters",
    "Counting",
    "Delta",
    "DropReasons",
    "Dropped",
    "KernelLog",
    "Packet",
    "Record",
    "Recording",
    "Segment",
    "Socket",
    "TcpInfo",
    "Timer",
    "accept_queue",
    "backlog_drops",
    "capture",
    "count",
    "counters",
    "counting",
    "drop_reasons",
    "end_between",
    "ends_at",
    "exchange",
    "half_open",
    "info_of",
    "kernel_log",
    "pcapng",
    "read_pcapng",
    "socket_of",
    "sockets",
    "states_at",
    "states_between",
    "survey",
    "tally",
    "write_pcapng",
]
