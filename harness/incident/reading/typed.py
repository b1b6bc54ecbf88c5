"""What was typed at a prompt: the command, and the network namespace that it ran in.

A command may be started through another, which enters a namespace (ip-netns(8), nsenter(1), the tools of containers) or
changes nothing that we read (sudo, env).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the arguments of each can begin with: a word of a sentence is none.
ARGUMENTS = {
    "ss": r"[-|'\"(]|state |src |dst |[sd]port ",
    "netstat": r"[-|]",
    "nstat": r"[-|]|[A-Z]",
    "sysctl": r"[-|]|[a-z]+[./]",
    "cat": r"/",
    "dmesg": r"[-|]",
    "journalctl": r"[-|]",
    "uname": r"-",
    "uptime": r"[-|]",
    "conntrack": r"-",
    "ethtool": r"-",
    "lscpu": r"[-|]",
    "date": r"[-+]",
}
PROGRAMS = "|".join(ARGUMENTS)
CALL = re.compile("|".join(rf"{program}(?:\s+(?:{argument}).*)?" for program, argument in ARGUMENTS.items()))
PROMPT = re.compile(r"\s*(?:[^$#]{0,80}[$#]\s+)?")
SHELL = re.compile(r"(?:\S*/)?(?:ba|da|k|z)?sh")
# `sh -c 'ss -lnt'`, as kubectl and docker are often given it.
QUOTED = re.compile(r"(?:\S*/)?(?:ba|da|k|z)?sh\s+-\w*c\s+(['\"])(?P<command>.*)\1$")
DIRECTORY = re.compile(r"\A(?:/[\w.+-]+)*/(?=[\w-]+(?:\s|$))")
# Of a namespace, a container or a pod, or a variable that has it.
NAME = re.compile(r"[\w.@:${}-]+(?:/[\w.@:${}-]+)?")
OF_PROCESS = re.compile(r"/proc/(\d+)/ns/net")
ENDS = {"exit", "logout"}
MARK = re.compile(r"[$#] ")
ASSIGNED = re.compile(r"[A-Z_]\w*=\S*")


@dataclass(frozen=True)
class Typed:
    """A command or a shell, and its namespace: None for the one that it was typed in; a shell's end has neither."""

    command: str = ""
    namespace: str | None = None
    is_shell: bool = False


Options = list[tuple[str, str]]


def _entered(options: Options) -> str | None:
    """The network namespace that nsenter enters: of a file, of a process, or none."""
    of = dict(options)
    file = of.get("-n") or of.get("--net") or ""
    process = OF_PROCESS.fullmatch(file)
    if file and not process:
        return file.rpartition("/")[2]
    target = process[1] if process else of.get("-t") or of.get("--target")
    return f"pid {target}" if target and of.keys() & {"-n", "--net", "-a", "--all"} else None


class Enters(Enum):
    """What says which network namespace a program enters for what it starts."""

    NOTHING = auto()
    OPERAND = auto()
    OPTIONS = auto()


@dataclass(frozen=True)
class Wrapper:
    """A program that starts another.

    Its words of command, the options that have a value, whether an operand stands before what is started, and what says
    which network namespace it enters.
    """

    words: tuple[str, ...] = ()
    valued: frozenset[str] = frozenset()
    has_operand: bool = False
    enters: Enters = Enters.NOTHING

    def namespace(self, options: Options, operand: str) -> str | None:
        """The namespace that it enters, a pod by its name alone: pod/web is web."""
        if self.enters is Enters.OPTIONS:
            return _entered(options)
        return operand.removeprefix("pod/").removeprefix("pods/") if self.enters is Enters.OPERAND else None


OF_DOCKER = frozenset({"-e", "--env", "--env-file", "-u", "--user", "-w", "--workdir", "--detach-keys", "--index"})
DOCKER_ITSELF = frozenset({"-H", "--host", "-c", "--context", "--config", "-l", "--log-level", "-f", "--file", "-p"})
OF_KUBECTL = frozenset(
    {
        "-n", "--namespace", "-c", "--container", "-f", "--filename", "-s", "--server", "-v", "--context",
        "--kubeconfig", "--cluster", "--user", "--token", "--as", "--request-timeout", "--pod-running-timeout",
    }
)  # fmt: skip
OF_CONTAINERS = DOCKER_ITSELF | OF_DOCKER
WRAPPERS: dict[str, tuple[Wrapper, ...]] = {
    "ip": (Wrapper(("netns", "exec"), has_operand=True, enters=Enters.OPERAND),),
    "nsenter": (Wrapper(valued=frozenset({"-t", "--target", "-S", "-G"}), enters=Enters.OPTIONS),),
    **{
        tool: tuple(
            Wrapper(words, OF_CONTAINERS, has_operand=True, enters=Enters.OPERAND)
            for words in (("compose", "exec"), ("container", "exec"), ("exec",))
        )
        for tool in ("docker", "podman", "nerdctl")
    },
    "docker-compose": (Wrapper(("exec",), OF_CONTAINERS, has_operand=True, enters=Enters.OPERAND),),
    "crictl": (Wrapper(("exec",), frozenset({"-r", "--timeout"}), has_operand=True, enters=Enters.OPERAND),),
    "kubectl": (Wrapper(("exec",), OF_KUBECTL, has_operand=True, enters=Enters.OPERAND),),
    "oc": tuple(Wrapper((word,), OF_KUBECTL, has_operand=True, enters=Enters.OPERAND) for word in ("exec", "rsh")),
    "lxc": (Wrapper(("exec",), frozenset({"--env", "--cwd", "--user"}), has_operand=True, enters=Enters.OPERAND),),
    "sudo": (Wrapper(valued=frozenset({"-u", "--user", "-g", "--group", "-C", "-D", "-h", "-p", "-r", "-t", "-U"})),),
    "doas": (Wrapper(valued=frozenset({"-u", "-C"})),),
    "env": (Wrapper(valued=frozenset({"-u", "-C"})),),
    "timeout": (Wrapper(valued=frozenset({"-s", "--signal", "-k"}), has_operand=True),),
    "chroot": (Wrapper(has_operand=True),),
}
FIRST_WORDS = {*ARGUMENTS, *WRAPPERS, *ENDS, "date;"}


def typed(line: str) -> Typed | None:
    """What a line gives as a command or a shell, with a prompt or without; None for what is neither."""
    if not _may_be_typed(line):
        return None
    prompt = PROMPT.match(line)
    rest = re.sub(r"^date\s*;\s*", "", line[prompt.end() if prompt else 0 :].strip())
    if rest in ENDS:
        return Typed(is_shell=True)
    namespace = None
    while True:
        if quoted := QUOTED.fullmatch(rest):
            rest = quoted["command"].strip()
        rest = DIRECTORY.sub("", rest, count=1)
        if CALL.fullmatch(rest):
            return Typed(rest, namespace)
        program, *words = rest.split() or [""]
        if namespace and SHELL.fullmatch(program) and all(word.startswith("-") for word in words):
            return Typed(namespace=namespace, is_shell=True)
        started = _started(program, words)
        if started is None:
            return None
        rest, entered = started
        namespace = entered or namespace


def _may_be_typed(line: str) -> bool:
    """Whether it is worth a closer look: most lines are not."""
    first, *_ = line.split(None, 1) or [""]
    return first in FIRST_WORDS or first[:1] == "/" or "=" in first or MARK.search(line) is not None


def _started(program: str, words: list[str]) -> tuple[str, str | None] | None:
    """What a program starts, and the namespace that it enters for that; None for a program that starts none."""
    if ASSIGNED.fullmatch(program):
        return " ".join(words), None
    tried = (_taken_apart(wrapper, words) for wrapper in WRAPPERS.get(program, ()))
    return next((started for started in tried if started), None)


def _taken_apart(wrapper: Wrapper, words: list[str]) -> tuple[str, str | None] | None:
    """What stands behind a wrapper's words, options and operand; None where these are not all there."""
    options: Options = []
    expected = [*wrapper.words, *([None] if wrapper.has_operand else [])]
    operand = ""
    left = iter(words)
    for word in left:
        if word == "--" and not expected:
            return " ".join(left), wrapper.namespace(options, operand)
        if word[0] == "-":
            options += _option(word, wrapper.valued, left)
        elif not expected:
            return " ".join((word, *left)), wrapper.namespace(options, operand)
        elif (wanted := expected.pop(0)) is None:
            operand = word
            if wrapper.enters is Enters.OPERAND and not NAME.fullmatch(word):
                return None
        elif word != wanted:
            return None
    return None


def _option(word: str, valued: frozenset[str], following: Iterator[str]) -> Options:
    """The options in a word, with their values: `--net=FILE`, `-n/proc/7/ns/net`, `-nt 7`, `-it`."""
    if word.startswith("--"):
        name, _, value = word.partition("=")
        return [(name, next(following, "") if name in valued and "=" not in word else value)]
    options: Options = []
    for at, letter in enumerate(word[1:], 2):
        name, rest = f"-{letter}", word[at:]
        if name in valued:
            return [*options, (name, rest.removeprefix("=") or next(following, ""))]
        if rest[:1] in ("/", "="):
            return [*options, (name, rest.removeprefix("="))]
        options.append((name, ""))
    return options
