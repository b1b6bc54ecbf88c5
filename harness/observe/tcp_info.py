"""struct tcp_info: what the kernel knows of one connection beyond its addresses and queues."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

MILLISECONDS = 1e-3
MICROSECONDS = 1e-6
NEVER_MEASURED = 0xFFFFFFFF


class Field(NamedTuple):
    """One member of struct tcp_info; a scale turns it into seconds."""

    name: str
    code: str
    scale: float = 0.0


# include/uapi/linux/tcp.h. The struct only grows at its end; an older kernel sends fewer bytes.
FIELDS = (
    Field("state", "B"),
    Field("ca_state", "B"),
    Field("retransmits", "B"),
    Field("probes", "B"),
    Field("backoff", "B"),
    Field("options", "B"),
    Field("wscales", "B"),
    Field("flags", "B"),
    Field("rto", "I", MICROSECONDS),
    Field("ato", "I", MICROSECONDS),
    Field("snd_mss", "I"),
    Field("rcv_mss", "I"),
    Field("unacked", "I"),
    Field("sacked", "I"),
    Field("lost", "I"),
    Field("retrans", "I"),
    Field("fackets", "I"),
    Field("last_data_sent", "I", MILLISECONDS),
    Field("last_ack_sent", "I", MILLISECONDS),
    Field("last_data_recv", "I", MILLISECONDS),
    Field("last_ack_recv", "I", MILLISECONDS),
    Field("pmtu", "I"),
    Field("rcv_ssthresh", "I"),
    Field("rtt", "I", MICROSECONDS),
    Field("rttvar", "I", MICROSECONDS),
    Field("snd_ssthresh", "I"),
    Field("snd_cwnd", "I"),
    Field("advmss", "I"),
    Field("reordering", "I"),
    Field("rcv_rtt", "I", MICROSECONDS),
    Field("rcv_space", "I"),
    Field("total_retrans", "I"),
    Field("pacing_rate", "Q"),
    Field("max_pacing_rate", "Q"),
    Field("bytes_acked", "Q"),
    Field("bytes_received", "Q"),
    Field("segs_out", "I"),
    Field("segs_in", "I"),
    Field("notsent_bytes", "I"),
    Field("min_rtt", "I", MICROSECONDS),
    Field("data_segs_in", "I"),
    Field("data_segs_out", "I"),
    Field("delivery_rate", "Q"),
    Field("busy_time", "Q", MICROSECONDS),
    Field("rwnd_limited", "Q", MICROSECONDS),
    Field("sndbuf_limited", "Q", MICROSECONDS),
    Field("delivered", "I"),
    Field("delivered_ce", "I"),
    Field("bytes_sent", "Q"),
    Field("bytes_retrans", "Q"),
    Field("dsack_dups", "I"),
    Field("reord_seen", "I"),
    Field("rcv_ooopack", "I"),
    Field("snd_wnd", "I"),
    Field("rcv_wnd", "I"),
    Field("rehash", "I"),
    Field("total_rto", "H"),
    Field("total_rto_recoveries", "H"),
    Field("total_rto_time", "I", MILLISECONDS),
)


def _layouts() -> tuple[struct.Struct, ...]:
    """One Struct for each number of leading fields, shortest first."""
    codes = "".join(field.code for field in FIELDS)
    return tuple(struct.Struct("=" + codes[: count + 1]) for count in range(len(codes)))


LAYOUTS = _layouts()


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """struct tcp_info of one socket; a field that the running kernel lacks is None.

    Times are in seconds, rates in bytes a second, windows and cwnd as the kernel counts them (bytes,
    segments). Of a listening socket, `unacked` is the length of its accept queue and `sacked` the limit
    (net/ipv4/tcp.c, tcp_get_info). `min_rtt` is None, too, when nothing was measured yet.
    """

    state: int
    ca_state: int
    retransmits: int
    probes: int
    backoff: int
    options: int
    snd_wscale: int
    rcv_wscale: int
    delivery_rate_app_limited: bool
    fastopen_client_fail: int
    rto: float
    ato: float
    snd_mss: int
    rcv_mss: int
    unacked: int
    sacked: int
    lost: int
    retrans: int
    fackets: int
    last_data_sent: float
    last_ack_sent: float
    last_data_recv: float
    last_ack_recv: float
    pmtu: int
    rcv_ssthresh: int
    rtt: float
    rttvar: float
    snd_ssthresh: int
    snd_cwnd: int
    advmss: int
    reordering: int
    rcv_rtt: float
    rcv_space: int
    total_retrans: int
    pacing_rate: int | None = None
    max_pacing_rate: int | None = None
    bytes_acked: int | None = None
    bytes_received: int | None = None
    segs_out: int | None = None
    segs_in: int | None = None
    notsent_bytes: int | None = None
    min_rtt: float | None = None
    data_segs_in: int | None = None
    data_segs_out: int | None = None
    delivery_rate: int | None = None
    busy_time: float | None = None
    rwnd_limited: float | None = None
    sndbuf_limited: float | None = None
    delivered: int | None = None
    delivered_ce: int | None = None
    bytes_sent: int | None = None
    bytes_retrans: int | None = None
    dsack_dups: int | None = None
    reord_seen: int | None = None
    rcv_ooopack: int | None = None
    snd_wnd: int | None = None
    rcv_wnd: int | None = None
    rehash: int | None = None
    total_rto: int | None = None
    total_rto_recoveries: int | None = None
    total_rto_time: float | None = None

    @property
    def timestamps(self) -> bool:
        """Whether both ends agreed on TCP timestamps (TCPI_OPT_TIMESTAMPS)."""
        return bool(self.options & 1)

    @property
    def sack(self) -> bool:
        """Whether both ends agreed on selective acknowledgements (TCPI_OPT_SACK)."""
        return bool(self.options & 2)

    @property
    def window_scaling(self) -> bool:
        """Whether both ends agreed on window scaling (TCPI_OPT_WSCALE)."""
        return bool(self.options & 4)

    @property
    def ecn(self) -> bool:
        """Whether both ends agreed on explicit congestion notification (TCPI_OPT_ECN)."""
        return bool(self.options & 8)


def decode(raw: bytes) -> TcpInfo:
    """Decode INET_DIAG_INFO, or what getsockopt(TCP_INFO) returned."""
    layout = next(layout for layout in reversed(LAYOUTS) if layout.size <= len(raw))
    values: dict[str, int | float | None] = {
        field.name: value * field.scale if field.scale else value
        for field, value in zip(FIELDS, layout.unpack_from(raw), strict=False)
    }
    if values.get("min_rtt") == NEVER_MEASURED * MICROSECONDS:
        values["min_rtt"] = None
    return _build(values)


def _build(values: dict[str, int | float | None]) -> TcpInfo:
    """Split the two members that are bit fields: low bits first, as on every little-endian machine."""
    wscales, flags = int(values.pop("wscales") or 0), int(values.pop("flags") or 0)
    return TcpInfo(
        snd_wscale=wscales & 0xF,
        rcv_wscale=wscales >> 4,
        delivery_rate_app_limited=bool(flags & 1),
        fastopen_client_fail=flags >> 1 & 3,
        **values,  # type: ignore[arg-type]
    )
