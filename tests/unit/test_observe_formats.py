"""Formats of the kernel: netlink attributes, struct tcp_info, kernel log records, tracepoint formats, pcapng."""

from __future__ import annotations

import struct
from io import BytesIO
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from harness.errors import BadInput, HarnessError
from harness.lab.netlink import attributes
from harness.observe import pcapng, tcp_info
from harness.observe.diag import extension
from harness.observe.kernel_log import Record, parse_record
from harness.observe.packet import Packet
from harness.observe.pcapng import read_pcapng, write_pcapng
from harness.observe.sockets import Timer, timer_of
from harness.observe.tracepoint import parse_format

if TYPE_CHECKING:
    from pathlib import Path


def test_attributes_are_padded_to_four_bytes() -> None:
    block = struct.pack("=HH1s3xHH4sHH", 5, 8, b"\x01", 8, 4, b"bbr\0", 4, 9)
    assert attributes(block) == {8: b"\x01", 4: b"bbr\0", 9: b""}
    assert attributes(b"") == {}
    assert attributes(bytes(4)) == {}  # a length of 0 would never end


def test_extensions_are_bits_from_one() -> None:
    assert extension(2, 4, 7) == 0b1001010


@pytest.mark.parametrize(("number", "kind"), [(1, "on"), (5, "delack"), (6, "unknown")])
def test_a_timer_that_the_kernel_has_and_we_do_not_know(number: int, kind: str) -> None:
    message = cast("Any", SimpleNamespace(timer=number, expires=28, retransmits=3))
    assert timer_of(message) == Timer(kind, 0.028, 3)


# sizeof(struct tcp_info) of released kernels: 4.9, 5.10, 6.1, 6.12.
@pytest.mark.parametrize(
    ("size", "last", "missing"),
    [
        (168, "delivery_rate", "busy_time"),
        (232, "snd_wnd", "rcv_wnd"),
        (240, "rehash", "total_rto"),
        (248, "total_rto_time", None),
        (400, "total_rto_time", None),
    ],
)
def test_fields_that_a_kernel_lacks_are_none(size: int, last: str, missing: str | None) -> None:
    info = tcp_info.decode(bytes(size))
    assert getattr(info, last) == 0
    assert missing is None or getattr(info, missing) is None


def test_offsets_units_and_bit_fields_of_tcp_info() -> None:
    raw = bytearray(248)
    raw[0:8] = bytes((1, 4, 2, 0, 1, 0b111, 0x7A, 0b011))
    struct.pack_into("=I", raw, 8, 204_000)  # rto
    struct.pack_into("=I", raw, 24, 11)  # unacked
    struct.pack_into("=I", raw, 52, 1500)  # last_data_recv
    struct.pack_into("=I", raw, 68, 33)  # rtt
    struct.pack_into("=I", raw, 100, 6)  # total_retrans
    struct.pack_into("=Q", raw, 120, 10**12)  # bytes_acked
    struct.pack_into("=I", raw, 148, 0xFFFFFFFF)  # min_rtt
    struct.pack_into("=Q", raw, 168, 2_500_000)  # busy_time
    struct.pack_into("=I", raw, 228, 65535)  # snd_wnd
    struct.pack_into("=HHI", raw, 240, 3, 1, 700)  # total_rto ...
    info = tcp_info.decode(bytes(raw))
    assert (info.state, info.ca_state, info.retransmits, info.backoff) == (1, 4, 2, 1)
    assert (info.snd_wscale, info.rcv_wscale) == (10, 7)
    assert (info.delivery_rate_app_limited, info.fastopen_client_fail) == (True, 1)
    assert info.timestamps and info.sack and info.window_scaling  # noqa: PT018
    assert info.rto == pytest.approx(0.204)
    assert info.rtt == pytest.approx(33e-6)
    assert (info.unacked, info.total_retrans, info.bytes_acked) == (11, 6, 10**12)
    assert info.last_data_recv == pytest.approx(1.5)
    assert info.min_rtt is None
    assert info.busy_time == pytest.approx(2.5)
    assert (info.snd_wnd, info.total_rto, info.total_rto_recoveries) == (65535, 3, 1)
    assert info.total_rto_time == pytest.approx(0.7)


def test_kernel_log_records() -> None:
    raw = b"6,1568,5469692897,-;TCP: request_sock_TCP: Possible SYN flooding on port 80.\n SUBSYSTEM=net\n"
    record = Record(1568, 5469.692897, 6, "TCP: request_sock_TCP: Possible SYN flooding on port 80.")
    assert parse_record(raw) == record
    assert parse_record(b"30,7,12,c,more=fields;user's; text").level == 6  # a facility of 3 in the upper bits
    assert str(record) == "[ 5469.692897] TCP: request_sock_TCP: Possible SYN flooding on port 80."


FORMAT = """\
name: kfree_skb
ID: 2310
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:void * location;\toffset:16;\tsize:8;\tsigned:0;
\tfield:char name[16];\toffset:24;\tsize:16;\tsigned:0;
\tfield:unsigned short protocol;\toffset:40;\tsize:2;\tsigned:0;
\tfield:enum skb_drop_reason reason;\toffset:44;\tsize:4;\tsigned:0;

print fmt: "reason: %s", __print_symbolic(REC->reason, { 2, "NOT_SPECIFIED" }, { 0x3, "NO_SOCKET" })
"""


def test_tracepoint_formats() -> None:
    layout = parse_format(FORMAT)
    assert layout.number == 2310
    assert layout.fields["reason"] == (44, 4, False)
    assert layout.fields["name"] == (24, 16, False)
    assert layout.symbols == {2: "NOT_SPECIFIED", 3: "NO_SOCKET"}
    record = struct.pack("=HHi8xQ16xH2xI", 2310, 0, -1, 2**63, 0x0800, 3)
    assert layout.value(record, "reason") == 3
    assert layout.value(record, "protocol") == 0x0800
    assert layout.value(record, "location") == 2**63
    assert layout.value(record, "common_pid") == -1
    with pytest.raises(HarnessError, match="not the format"):
        parse_format("nothing")


def captured(host: str, *packets: Packet) -> Any:
    return SimpleNamespace(host=SimpleNamespace(name=host), packets=lambda: list(packets))


def test_a_pcapng_file_read_by_scapy() -> None:
    from scapy.utils import RawPcapNgReader

    first = Packet(1_700_000_000_123_456_789, "out", "eth0", 60, b"\x01" * 60, True)
    second = Packet(1_700_000_000_123_456_790, "in", "eth0", 1514, b"\x02" * 61, True)
    tunnel = Packet(1_700_000_000_123_456_788, "out", "tun0", 20, b"\x45" + bytes(19), False)
    text = pcapng([captured("client", first, tunnel), captured("server", second)])

    with cast("Any", RawPcapNgReader)(BytesIO(text)) as reader:
        read = list(reader)
    assert [frame for frame, _ in read] == [tunnel.frame, first.frame, second.frame]
    assert [meta.ifname for _, meta in read] == [b"client:tun0", b"client:eth0", b"server:eth0"]
    assert [meta.linktype for _, meta in read] == [101, 1, 1]
    assert [meta.wirelen for _, meta in read] == [20, 60, 1514]
    times = [(meta.tshigh << 32 | meta.tslow) for _, meta in read]
    assert times == [packet.time_ns for packet in (tunnel, first, second)]
    assert {meta.tsresol for _, meta in read} == {10**9}
    assert [meta.direction for _, meta in read] == [2, 2, 1]


@pytest.mark.parametrize(("order", "nanoseconds"), [("<", False), (">", False), ("<", True), (">", True)])
def test_a_classic_pcap_is_called_so(tmp_path: Path, order: str, nanoseconds: bool) -> None:
    """Not read as a recording without packets."""
    from scapy.layers.l2 import Ether
    from scapy.utils import PcapWriter

    path = tmp_path / "x.pcap"
    with PcapWriter(str(path), endianness=order, nano=nanoseconds) as writer:
        writer.write(Ether() / b"x")
    with pytest.raises(BadInput, match=r"it is a classic pcap, not a pcapng; `editcap -F pcapng"):
        read_pcapng(path.read_bytes())


def test_captures_of_others_are_not_misread(tmp_path: Path) -> None:
    from scapy.layers.l2 import Ether
    from scapy.utils import PcapNgWriter

    path = tmp_path / "x.pcapng"
    with cast("Any", PcapNgWriter)(str(path)) as writer:
        writer.write(Ether() / b"x")
    with pytest.raises(BadInput, match="its times are not in nanoseconds"):
        read_pcapng(path.read_bytes())
    whole = pcapng([captured("client", Packet(1, "out", "eth0", 2, b"ab", True))])
    with pytest.raises(BadInput, match="no pcapng that a machine of this byte order"):
        read_pcapng(whole[:8] + whole[8:12][::-1] + whole[12:])
    with pytest.raises(BadInput, match="no pcapng"):
        read_pcapng(b"no capture at all")
    assert len(read_pcapng(whole).packets) == 1


def test_a_capture_file_is_whole_or_absent(tmp_path: Path) -> None:
    class LostError(Exception):
        pass

    def lost() -> list[Packet]:
        raise LostError

    broken = SimpleNamespace(host=SimpleNamespace(name="client"), packets=lost)
    with pytest.raises(LostError):
        write_pcapng(tmp_path / "x.pcapng", [cast("Any", broken)])
    assert list(tmp_path.iterdir()) == []
    write_pcapng(tmp_path / "x.pcapng", [captured("client")])
    assert [path.name for path in tmp_path.iterdir()] == ["x.pcapng"]
