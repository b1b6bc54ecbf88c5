"""The options and settings that pytest has of us: each option `--tcp-NAME` has a setting `tcp_NAME` beside it.

The prefix keeps them apart from options of other plugins: pytest-reporter has a `--report`, conftest files have a
`--kernel`. What the command line says comes before the settings; `settle()` puts both together, once, so that everybody
else asks `config.getoption("tcp_kernel")`.

The names of before (`--kernel`, `guest_cpus`) work until 0.3, unless another plugin has an option of that name, and a
warning says the new one. They are added when all plugins and conftest files have added theirs.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX = "--tcp-"
DEFAULT_EVIDENCE = "out/evidence"
# Until which release the names of before work.
GONE_IN = "0.3"
# Where the names of before that were used are kept, in the namespace that pytest parses into.
USED = "tcp_names_of_before"
MARKERS = (
    "claim(name): the test settles this claim of the claim files",
    "ipv4_only(reason): the test's lab is for IPv4 alone",
    "ipv6_only(reason): the test's lab is for IPv6 alone",
    "slow(seconds=10): how long the test waits for timers of the kernel, or works hard; the longest begin first",
    "full_size(reason): the test waits too long for real time; runs only with --tcp-full-size",
    "machine_wide(*sysctls): the test sets knobs of the whole machine; runs only with --tcp-own-kernel, and alone",
)


@dataclass(frozen=True)
class Option:
    """An option and its setting: `name` without the prefix, `metavar` of its value ("" for a switch).

    `many`: it can be repeated, and its setting is a list of lines. `place`: its value is a file or directory, which a
    setting names from the directory of the settings file. `apart`: whoever uses it reads the setting himself.
    """

    name: str
    help: str
    metavar: str = ""
    many: bool = False
    place: bool = False
    apart: bool = False

    @property
    def written(self) -> str:
        """As it is typed."""
        return f"{PREFIX}{self.name}"

    @property
    def key(self) -> str:
        """What `getoption` and `getini` call it."""
        return key(self.name)

    @property
    def nothing(self) -> Any:
        """Its value where nobody says anything."""
        if self.many:
            return []
        return None if self.metavar else False


OPTIONS = (
    Option("claim", "run only the scenarios of this claim or group of claims: accept-queue.capacity, tw-reuse", "NAME",
           many=True),
    Option("evidence", f"the directory for the evidence, one JSON file per claim (default: {DEFAULT_EVIDENCE})", "DIR",
           place=True),
    Option("kernel", "run on this kernel in a virtual machine: 6.12, '>=6.12', newest, all, a full release, "
           "path/to/bzImage[,modules=DIR], a built kernel tree, a .deb or .rpm file; `running` is this machine's; "
           "ssh:HOST[,python=PATH] is another host; vagrant:MACHINE is a running machine of vagrant/", "KERNEL",
           many=True),
    Option("report", "write the results as one HTML page", "PATH", place=True),
    Option("ktap", "write the results in the kernel's own test format", "PATH", place=True),
    Option("kcidb", "write the results as JSON for KCIDB", "PATH", place=True),
    Option("baseline", "fail the run where a verdict or a measurement differs from this evidence of an earlier run "
           "(a directory or an archive) on the same line of kernels", "DIR", place=True),
    Option("fail-on-skip", "fail the run if a chosen test is skipped or a claim is not settled"),
    Option("full-size", "also run the tests that wait for minutes or hours; they are meant for simulated time"),
    Option("own-kernel", "this machine is a virtual machine for these tests alone: they may set any sysctl"),
    Option("hold", "when a test with a lab fails, keep the lab, print how to enter its hosts, and wait for Enter"),
    Option("gdb", "stop the virtual machine before the first test and print how to attach gdb; without workers"),
    Option("mirror", "take kernels from this archive instead of those that apt knows", "ADDRESS"),
    Option("suite", "a suite of the archive that --tcp-mirror names", "NAME", many=True),
    Option("keyring", "the keys that sign the archive of --tcp-mirror (default: Debian's)", "FILE", place=True),
    Option("ssh-config", "the ssh configuration that says how to reach the HOST of ssh:HOST", "FILE", place=True),
    Option("real-time", "run virtual machines in real time instead of simulated time"),
    Option("guest-cpus", "the number of CPUs of virtual machines, with --tcp-real-time (default: 2)", "N", apart=True),
    Option("guest-memory", "the memory of virtual machines: 2G, 2048M (default: 3G)", "SIZE", apart=True),
    Option("guest-append", "words for the kernel's command line in virtual machines: 'tcp_early_retrans=0 nokaslr'",
           "WORDS", many=True, apart=True),
    Option("guest-program", "bring this program, its libraries and the files of its package into the virtual machines",
           "NAME", many=True, apart=True),
    Option("guest-package", "bring this Debian package and its dependencies into the virtual machines, installed here "
           "or not; it is unpacked, and none of its scripts runs", "NAME", many=True, apart=True),
    Option("packetdrill", "run the packetdrill scripts (*.pkt) among the tests with this program, each in a namespace "
           "of its own", "PATH", place=True),
    Option("kselftest", "run the kernel's test programs (tools/testing/selftests) that are named, or that a Makefile "
           "beside them lists, in a kernel of their own"),
)  # fmt: skip
BY_NAME = {option.name: option for option in OPTIONS}
# Settings without an option: their names, pytest's type, and what they are for.
SETTINGS = (
    ("claim-files", "paths", "files or directories with claims (default: claims/ beside the test or above it)"),
    ("lab-isolation", "string", "when an ordinary user's process makes its user namespace: first-use or startup"),
    ("lab-capture", "string", "whether the hosts of tests without a claim are captured, to keep the packets of a "
     "failed test: failed or never"),
    ("workers", "string", "whether the workers of pytest -n, where they are eight or more, are forks of one process "
     "that imports plugins and conftest files once for all: started or forked"),
)  # fmt: skip
DEFAULTS = {"lab-isolation": "first-use", "lab-capture": "failed", "workers": "started"}
# Settings of before, and the names that they have now.
_SETTINGS_OF_BEFORE = {
    "claims": "tcp_claim_files",
    "lab_isolation": "tcp_lab_isolation",
    "lab_capture": "tcp_lab_capture",
    "packetdrill": "tcp_packetdrill",
    "guest_cpus": "tcp_guest_cpus",
    "guest_memory": "tcp_guest_memory",
    "guest_append": "tcp_guest_append",
}
_OF_BEFORE: pytest.StashKey[dict[str, str]] = pytest.StashKey()
_SETTLED: pytest.StashKey[bool] = pytest.StashKey()
_UNPREFIXED = re.compile(rf"(?<![\w-])--({'|'.join(BY_NAME)})(?![\w-])")


def key(name: str) -> str:
    """What `getoption` and `getini` call an option: tcp_guest_cpus for "guest-cpus"."""
    return f"tcp_{name.replace('-', '_')}"


def in_pytest(text: str) -> str:
    """A message as pytest's user reads it: other rooms name options as the command `harness` has them, --kernel."""
    return _UNPREFIXED.sub(rf"{PREFIX}\1", text)


def add(parser: pytest.Parser) -> None:
    """Add options and settings."""
    group = parser.getgroup("tcp-harness", "TCP claims, labs and kernels (tcp-harness)")
    for option in OPTIONS:
        repeated = " (repeatable)" if option.many else ""
        attributes: dict[str, Any] = {"dest": option.key, "default": option.nothing, "help": option.help + repeated}
        if option.metavar:
            attributes["metavar"] = option.metavar
        attributes["action"] = _action(option)
        group.addoption(option.written, **attributes)
        kind: Any = "linelist" if option.many else "string" if option.metavar else "bool"
        parser.addini(option.key, f"like {option.written}", type=kind, default=option.nothing)
    for name, kind, about in SETTINGS:
        its_kind: Any = kind
        parser.addini(key(name), about, type=its_kind, default=DEFAULTS.get(name, []))


def add_names_of_before(parser: pytest.Parser, config: pytest.Config) -> None:
    """Add the names of before that nobody else has: called when everybody has added his own."""
    group = parser.getgroup("tcp-harness")
    free = _free(parser, [f"--{option.name}" for option in OPTIONS])
    for option in OPTIONS:
        if f"--{option.name}" in free:
            group.addoption(
                f"--{option.name}", dest=option.key, action=_OfBefore, nargs=None if option.metavar else 0,
                default=argparse.SUPPRESS, help=argparse.SUPPRESS,
            )  # fmt: skip
    known = config.stash.setdefault(_OF_BEFORE, {})
    for old, new in _SETTINGS_OF_BEFORE.items():
        try:
            config.getini(old)
        except ValueError:
            many = new in (BY_NAME["guest-append"].key,)
            kind: Any = "paths" if old == "claims" else "linelist" if many else "string"
            parser.addini(old, f"the name of {new} before {GONE_IN}", type=kind, default=None)
            known[old] = new


def settle(config: pytest.Config) -> None:
    """Put the settings where the command line says nothing; UsageError for a name of before that is forbidden.

    In a worker the options are those of the session; its own settings files say nothing more.
    """
    if config.stash.get(_SETTLED, False):
        return
    config.stash[_SETTLED] = True
    if hasattr(config, "workerinput"):
        return
    for option in OPTIONS:
        if not option.apart and config.getoption(option.key) == option.nothing:
            setattr(config.option, option.key, _of_settings(config, option))
    if config.option.tcp_evidence is None:
        config.option.tcp_evidence = DEFAULT_EVIDENCE


def warn_of_names_of_before(config: pytest.Config) -> None:
    """Say what the names that were used are now; UsageError where a warning is an error."""
    renamed = {f"--{name}": f"{PREFIX}{name}" for name in getattr(config.option, USED, ())}
    renamed |= {old: new for old, new in config.stash.get(_OF_BEFORE, {}).items() if _is_set(config, old)}
    for old, new in renamed.items():
        warning = pytest.PytestDeprecationWarning(f"{old} is {new} now; the old name works until {GONE_IN}")
        try:
            config.issue_config_time_warning(warning, stacklevel=2)
        except pytest.PytestDeprecationWarning as error:
            raise pytest.UsageError(str(error)) from None


def setting(config: pytest.Config, name: str) -> Any:
    """The value of a setting, under its name of now or of before."""
    value = config.getini(key(name))
    before = [old for old, new in config.stash.get(_OF_BEFORE, {}).items() if new == key(name)]
    for old in before:
        if _is_set(config, old) and value in (None, "", [], DEFAULTS.get(name)):
            return config.getini(old)
    return value


def add_markers(config: pytest.Config) -> None:
    """Make the markers known."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


def _action(option: Option) -> str:
    if option.many:
        return "append"
    return "store" if option.metavar else "store_true"


def _of_settings(config: pytest.Config, option: Option) -> Any:
    value = setting(config, option.name)
    if option.place and value and config.inipath is not None:
        return str(Path(config.inipath.parent, value))
    return value or option.nothing


def _free(parser: pytest.Parser, written: Sequence[str]) -> set[str]:
    """Those options that nobody has: pytest leaves a word alone that it does not know."""
    words = {f"{each}=x": each for each in written}
    try:
        unknown = parser.parse_known_and_unknown_args([*words])[1]
    except (pytest.UsageError, SystemExit):  # one of them is known, and a switch
        return set() if len(written) == 1 else {free for each in written for free in _free(parser, [each])}
    return {words[word] for word in unknown if word in words}


def _is_set(config: pytest.Config, old: str) -> bool:
    return bool(config.getini(old))


class _OfBefore(argparse.Action):
    """An option under its name of before: notes that it was used, and does what the new one does."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - argparse's
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Take the value."""
        name = (option_string or self.option_strings[0]).removeprefix("--")
        used = [*getattr(namespace, USED, ()), name]
        setattr(namespace, USED, list(dict.fromkeys(used)))
        option = BY_NAME[name]
        value: Any = values if option.metavar else True
        if option.many:
            value = [*getattr(namespace, self.dest, ()), values]
        setattr(namespace, self.dest, value)
