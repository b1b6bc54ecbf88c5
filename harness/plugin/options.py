"""The options and settings that pytest has of us.

Options: `--evidence DIR` (default: out/evidence below the directory that pytest was started in), `--hold`, `--claim`,
`--own-kernel`, `--full-size`; of other kernels `--kernel`, `--mirror`, `--suite`, `--keyring`, `--ssh-config`,
`--real-time`, `--guest-program`, `--guest-package`, `--guest-cpus`, `--guest-memory`, `--guest-append`, `--gdb`; of
results `--report`, `--ktap`, `--kcidb`, `--baseline`, `--fail-on-skip`; of tests that others wrote `--packetdrill`,
`--kselftest`.
Ini options: `claims` (directories or files with claims; default: claims/ beside the test or above it, up to the
root directory), `packetdrill`, `lab_isolation` ("first-use", or "startup", which ordinary users need with xdist),
`lab_capture` ("failed", or "never": whether hosts of tests without a claim are captured, to be kept when the test
fails), `guest_cpus`, `guest_memory`, `guest_append`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

DEFAULT_EVIDENCE = "out/evidence"
MARKERS = (
    "claim(name): the test settles this claim of the claim files",
    "ipv4_only(reason): the test's lab is for IPv4 alone",
    "ipv6_only(reason): the test's lab is for IPv6 alone",
    "slow(seconds=10): how long the test waits for timers of the kernel, or works hard; the longest begin first",
    "full_size(reason): the test waits too long for real time; runs only with --full-size",
    "machine_wide(*sysctls): the test sets knobs of the whole machine; runs only with --own-kernel, and alone",
)


def add(parser: pytest.Parser) -> None:
    """Add them all."""
    group = parser.getgroup("harness", "TCP claims")
    _of_running(group)
    _of_kernels(group)
    _of_results(group)
    _of_scripts(group)
    parser.addini("packetdrill", "the path of packetdrill, as --packetdrill", default="")
    parser.addini("claims", "files or directories with claims (default: claims/ beside the test)", type="paths")
    parser.addini("lab_isolation", "when an ordinary user's process makes its user namespace: first-use or startup",
                  default="first-use")  # fmt: skip
    parser.addini(
        "lab_capture",
        "whether the hosts of tests without a claim are captured, to be kept when the test fails: failed or never",
        default="failed",
    )
    parser.addini("guest_cpus", "how many CPUs virtual machines have in real time (default: 2)")
    parser.addini("guest_memory", "how much memory virtual machines have: 2G, 2048M (default: 3G)")
    parser.addini("guest_append", "words for the command line of kernels in virtual machines, a line each",
                  type="linelist")  # fmt: skip


def add_markers(config: pytest.Config) -> None:
    """Make the markers known."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


def _of_running(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--evidence",
        metavar="DIR",
        default=DEFAULT_EVIDENCE,
        help="where the evidence of claims goes, one JSON file a claim (default: %(default)s)",
    )
    group.addoption(
        "--hold",
        action="store_true",
        help="when a test that has a lab fails, keep the lab and print how to enter its hosts, until Enter",
    )
    group.addoption(
        "--claim",
        action="append",
        default=[],
        metavar="NAME",
        help="run only the scenarios of this claim (repeatable): accept-queue.capacity, or a group",
    )
    group.addoption(
        "--own-kernel",
        action="store_true",
        help="the running kernel is ours alone (a virtual machine): scenarios may set knobs of the whole machine",
    )
    group.addoption(
        "--full-size",
        action="store_true",
        help="run also what waits for minutes or hours, meant for a kernel with simulated time",
    )


def _of_kernels(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--kernel",
        action="append",
        default=[],
        metavar="KERNEL",
        help="run on this kernel in a virtual machine (repeatable): 6.12, '>=6.12', newest, all, a full release, "
        "path/to/bzImage[,modules=DIR], a built kernel tree, a .deb or .rpm on disk; `running` is the machine's own; "
        "ssh:HOST[,python=PATH] is a host, vagrant:MACHINE a machine of vagrant/ that is up",
    )
    group.addoption("--mirror", metavar="ADDRESS", help="the archive to take kernels from, in place of those of apt")
    group.addoption("--suite", action="append", default=[], metavar="NAME", help="a suite of --mirror (repeatable)")
    group.addoption("--keyring", metavar="FILE", help="the keys that sign the archive of --mirror (default: Debian's)")
    group.addoption("--ssh-config", metavar="FILE", help="the file that says how to reach the HOST of ssh:HOST")
    group.addoption("--real-time", action="store_true", help="let the virtual machines' time be real")
    group.addoption(
        "--gdb",
        action="store_true",
        help="stop the virtual machine before the first test and say how gdb comes to its kernel; without workers",
    )
    group.addoption(
        "--guest-cpus", metavar="N", help="how many CPUs virtual machines have, with --real-time (default: 2)"
    )
    group.addoption(
        "--guest-memory", metavar="SIZE", help="how much memory virtual machines have: 2G, 2048M (default: 3G)"
    )
    group.addoption(
        "--guest-append",
        action="append",
        default=[],
        metavar="WORDS",
        help="words for the kernel's command line in virtual machines (repeatable): 'tcp_early_retrans=0 nokaslr'",
    )
    group.addoption(
        "--guest-program",
        action="append",
        default=[],
        metavar="NAME",
        help="bring this program into the virtual machines, with its libraries and what its package has (repeatable)",
    )
    group.addoption(
        "--guest-package",
        action="append",
        default=[],
        metavar="NAME",
        help="bring this Debian package and what it depends on into the virtual machines, installed here or not; it is "
        "unpacked, and none of its scripts runs (repeatable)",
    )


def _of_scripts(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--packetdrill",
        metavar="PATH",
        help="this packetdrill runs the scripts (*.pkt) among the tests, each in a namespace of its own",
    )
    group.addoption(
        "--kselftest",
        action="store_true",
        help="programs of tools/testing/selftests that are named, or that a Makefile beside them calls tests, are "
        "run in a kernel of their own, with what they print as results",
    )


def _of_results(group: pytest.OptionGroup) -> None:
    group.addoption("--report", metavar="PATH", help="write the results as one HTML page that needs no network")
    group.addoption("--ktap", metavar="PATH", help="write the results in the kernel's own test format")
    group.addoption("--kcidb", metavar="PATH", help="write the results as JSON for KCIDB")
    group.addoption(
        "--baseline",
        metavar="DIR",
        help="the evidence of an earlier run, or an archive of it: where a verdict or a measurement differs from it on "
        "the same line of kernels, the run fails",
    )
    group.addoption(
        "--fail-on-skip", action="store_true", help="what was chosen and is skipped, or not settled, fails the run"
    )
