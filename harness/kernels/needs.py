"""What of a kernel's configuration is needed, by what, and why: a table, and the fragment of a .config made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Need:
    """Something that must be there: in words, and any of these options, each with the module that brings it.

    `why` says what it is for; `also` are options that those depend on, for whoever starts from nothing.
    """

    what: str
    options: Mapping[str, str]
    why: str
    also: tuple[str, ...] = ()


# Without one of these no scenario runs.
HARNESS = (
    Need("64-bit programs", {"64BIT": ""}, "the guest runs this machine's own programs"),
    Need("first file system in memory", {"BLK_DEV_INITRD": ""}, "all of the guest's system is in it"),
    Need("way to run programs", {"BINFMT_ELF": ""}, "the interpreter is one"),
    Need("way to run scripts", {"BINFMT_SCRIPT": ""}, "the guest's /init is one"),
    Need("/proc", {"PROC_FS": ""}, "counters, sysctls and namespaces are read there"),
    Need("/proc/sys", {"PROC_SYSCTL": ""}, "labs read and set sysctls", ("SYSCTL",)),
    Need("/sys", {"SYSFS": ""}, "devices and tracepoints are found there"),
    Need("/dev", {"DEVTMPFS": ""}, "the guest has no other way to its devices"),
    Need("tmpfs", {"TMPFS": ""}, "a lab's own /run, and /dev/shm", ("SHMEM",)),
    Need("futex", {"FUTEX": ""}, "threads wait with it"),
    Need("epoll", {"EPOLL": ""}, "nginx, wrk and pytest's workers wait with it"),
    Need("PCI for virtio", {"VIRTIO_PCI": "virtio_pci"}, "the guest's port is a PCI device", ("PCI", "VIRTIO_MENU")),
    Need("port to the outside", {"VIRTIO_CONSOLE": "virtio_console"}, "tests and results pass through it", ("TTY",)),
    Need("network namespaces", {"NET_NS": ""}, "each host of a lab is one", ("NET", "NAMESPACES")),
    Need("PID namespaces", {"PID_NS": ""}, "programs of a lab end with it"),
    Need("packet sockets", {"PACKET": "af_packet"}, "captures, raw peers and floods"),
    Need("Unix sockets", {"UNIX": ""}, "programs talk to each other"),
    Need("listing of TCP sockets", {"INET_TCP_DIAG": "tcp_diag"}, "queues, states and timers", ("INET", "INET_DIAG")),
    Need("veth", {"VETH": "veth"}, "the cables of a lab", ("NETDEVICES", "NET_CORE")),
    Need(
        "nftables",
        {"NF_TABLES": "nf_tables"},
        "segments are dropped, held and counted by it",
        # Options of their own up to 4.17 and 5.17.
        ("NETFILTER", "NETFILTER_ADVANCED", "NFT_META", "NFT_COUNTER"),
    ),
    # A module of its own until 4.17 (02c7b25e5f54, "netfilter: nf_tables: build-in filter chain type").
    Need(
        "nftables for both families",
        {"NF_TABLES_INET": "nf_tables_inet"},
        "one table for IPv4 and IPv6",
        ("IPV6", "NF_TABLES_IPV4", "NF_TABLES_IPV6"),
    ),
)

# Without one of these some scenarios do not run, or a failure says less.
SCENARIOS = (
    Need("SYN cookies", {"SYN_COOKIES": ""}, "the claims of syncookies and syn-queue"),
    Need("bridge", {"BRIDGE": "bridge"}, "labs with a switch: lan(), two proxies"),
    # Up to 4.20 in parts, for IPv4 and for IPv6.
    Need(
        "connection tracking",
        {"NF_CONNTRACK": "nf_conntrack"},
        "gateways and firewalls: behind_nat()",
        ("NF_CONNTRACK_IPV4", "NF_CONNTRACK_IPV6"),
    ),
    Need(
        "masquerading",
        {"NFT_MASQ": "nft_masq"},
        "gateways: behind_nat(), tw-recycle",
        (
            "NF_NAT",
            "NF_NAT_IPV4",
            "NF_NAT_IPV6",
            "NFT_CHAIN_NAT_IPV4",
            "NFT_CHAIN_NAT_IPV6",
            "NF_NAT_MASQUERADE_IPV4",
            "NF_NAT_MASQUERADE_IPV6",
            "NFT_MASQ_IPV4",
            "NFT_MASQ_IPV6",
        ),
    ),
    Need("NAT to an address of choice", {"NFT_NAT": "nft_nat"}, "gateways with ports of choice"),
    Need("ct of nftables", {"NFT_CT": "nft_ct"}, "firewalls that forget, a full table"),
    Need("reject of nftables", {"NFT_REJECT": "nft_reject"}, "a firewall that answers with RST"),
    Need(
        "numgen or limit of nftables",
        {"NFT_NUMGEN": "nft_numgen", "NFT_LIMIT": "nft_limit"},
        "drop(first=, count=): the n-th segment",
    ),
    Need("conntrack's table in /proc", {"NF_CONNTRACK_PROCFS": ""}, "incidents of a full table, of a gateway"),
    Need("listing of UDP sockets", {"INET_UDP_DIAG": "udp_diag"}, "the commands of ss"),
    Need("listing of raw sockets", {"INET_RAW_DIAG": "raw_diag"}, "the commands of ss"),
    Need("listing of Unix sockets", {"UNIX_DIAG": "unix_diag"}, "the commands of ss and netstat"),
    Need("listing of packet sockets", {"PACKET_DIAG": "packet_diag"}, "the commands of ss"),
    Need(
        "tracepoints",
        {"ENABLE_DEFAULT_TRACERS": "", "EVENT_TRACING": ""},
        "why the kernel dropped a packet",
        ("FTRACE", "PERF_EVENTS", "KALLSYMS"),
    ),
    Need("users", {"MULTIUSER": ""}, "programs that give up root: nginx, runuser"),
    Need(
        "what programs take for granted",
        {"POSIX_TIMERS": ""},
        "only CONFIG_EXPERT leaves it out",
        ("EVENTFD", "SIGNALFD", "TIMERFD", "FILE_LOCKING", "ADVISE_SYSCALLS", "AIO", "SYSVIPC"),
    ),
)

# Without these all is settled, but waits take longer, or less is known.
HELP = (
    Need(
        "netem",
        {"NET_SCH_NETEM": "sch_netem"},
        "cables with a delay, losses or a rate; without, a process of ours does that",
        ("NET_SCHED", "NETFILTER_INGRESS", "NF_TABLES_NETDEV"),
    ),
    Need("idle CPUs without a tick", {"NO_HZ_IDLE": "", "NO_HZ_FULL": ""}, "a long wait in simulated time is short"),
    Need("fine timers", {"HIGH_RES_TIMERS": ""}, "what a program waits for is not rounded to a tick"),
    Need("tun device", {"TUN": "tun"}, "scripts of packetdrill, with --tcp-packetdrill"),
    Need("console", {"SERIAL_8250_CONSOLE": ""}, "what a kernel said before it died", ("PRINTK", "SERIAL_8250")),
    Need("configuration within the image", {"IKCONFIG": ""}, "harness kernels config IMAGE needs no other file"),
)


def fragment() -> Iterator[str]:
    """The lines of a fragment of a .config that has all of it built in, with what each is for.

    Of several options that do, the first.
    """
    tables = {
        "Without these no scenario runs.": HARNESS,
        "Some scenarios need these.": SCENARIOS,
        "These help: waits are shorter, more is known.": HELP,
    }
    for heading, needs in tables.items():
        yield f"# {heading}"
        for need in needs:
            yield ""
            yield f"# {need.what}: {need.why}"
            yield from (f"CONFIG_{option}=y" for option in (*need.also, *list(need.options)[:1]))
        yield ""
