"""Command lines, options and environments: `harness …` and `pytest …`, each in a sandbox with a small project."""

from __future__ import annotations

import os
import random
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.faults import CLAIM
from bench.probes import sandbox
from bench.probes.judges import Wrong, judged
from bench.probes.sandbox import PROJECT, ROOM, Program
from harness.cli import cli
from harness.plugin.options import OPTIONS
from tests.fuzz import made
from tests.fuzz.targets import INCIDENTS, TARGETS
from tests.report import made_evidence

if TYPE_CHECKING:
    from collections.abc import Iterator

HARNESS = str(Path(sys.executable).with_name("harness"))
TEST = """
import pytest

@pytest.mark.claim("queue.limit")
@pytest.mark.parametrize("n", range(2))
def test_limit(claim, lab, n):
    lab.host("a")
    with claim.effect("an effect") as effect:
        effect.compare("hosts", len(lab.all_hosts), document=1, kernel=1)
    with claim.control("a control") as control:
        control.expect("hosts", len(lab.all_hosts), 1)
"""
DOCUMENTS = """
[[document]]
id = "000"
title = "t"
title_english = "t"
subject = "s"
headings = ["h", "Of queues"]
headings_english = ["h", "Of queues"]
"""
SCENARIOS = str(PROJECT / "scenarios")
EVIDENCE = "out/evidence/queue.limit.json"
# Places of the project, and others; words that somebody could mean, or not.
PLACES = (
    "e", "e2", "web", "web/first", "scenarios", "scenarios/claims", "scenarios/documents.toml", "m.json", "image",
    "ssh", "new", "new/deeper/file", "file.toml", "e/queue.limit.json", "empty", "noise", "packed.tar.gz",
    "fifo", "loop", "file.toml/x", ".", "..", "-", "x" * 300, "/dev/full", "/dev/zero", "/dev/null", "/dev/stdout",
    "/proc/self/mem", "/proc/self/fd/1", "/", "/etc", "../beside", "a\nb", "\x1b[2J", "\udcff", "ﷺ", "~", "",
)  # fmt: skip
MEANT = (
    "queue.limit", "queue", "running", "6.1.2", "6.12.3", "image", "e", "e2", "2", "2G", "holds", "newest", "all",
    "6.12", ">=6.1,<6.13", "http://127.0.0.1:9/debian", "file:///mnt/here/mirror", "sid",
)  # fmt: skip
ODD = (
    *(word for word in made.ODD if "\0" not in word), "0", "-1", "1e999", "nan", "6.", ">=" + "9" * 400, "6.12,", ",",
    "ssh:", "ssh:x", "ssh:-oProxyCommand=x", "vagrant:x", "image,modules=e", "image,modules=", "http://[", "ftp://x",
    "file:", "%", "{",
    "queue.", ".limit", "*", "?", "$(id)", "`id`", "'", "٣", "²", "x" * 5000, "\udcff",
)  # fmt: skip
NUMBERS = ("0", "1", "2", "-1", "3.5", "nan", "inf", "1e999", "9" * 30, "9" * 5000, "٣", "")
ENVIRONMENT = {
    "HOME": (None, "", "/nowhere", "/dev/null", "~", "relative", "\udcff", "x" * 5000),
    "PATH": (None, "", "/nowhere", ":", "relative:/dev/null"),
    "TMPDIR": (None, "", "/nowhere", "/dev/null", "/mnt/here", "file.toml", "/mnt/tmp/" + "x" * 200),
    "LC_ALL": ("", "C", "POSIX", "xx_YY", "de_DE.ISO-8859-1", "tr_TR.UTF-8", "\udcff"),
    "LANG": (None, "xx", "C"),
    "COLUMNS": ("0", "1", "-1", "x", "9" * 30, ""),
    "LINES": ("0", "x"),
    "NO_COLOR": ("", "1"),
    "FORCE_COLOR": ("1",),
    "TERM": (None, "", "dumb", "xterm", "\x1b", "x" * 300),
    "CI": ("", "1", "true"),
    "PYTHONIOENCODING": ("ascii", "utf-16", "latin-1:replace"),
    "PYTHONUTF8": ("0", "1"),
    "PYTHONWARNINGS": ("error", "x", ""),
    "PYTHONDEVMODE": ("1",),
    "PYTHONOPTIMIZE": ("2",),
    "HARNESS_CACHE": (
        None,
        "",
        "/nowhere/x",
        "/dev/null",
        "file.toml",
        "relative",
        "/proc",
        "~/x",
        "\udcff",
        "x" * 5000,
    ),
    "HARNESS_CACHE_LIMIT": ("", "0", "-1", "x", "9" * 400, "1e9", "nanG", "5G"),
    "XDG_CACHE_HOME": ("", "/nowhere", "/dev/null", "relative"),
    "XDG_RUNTIME_DIR": ("", "/nowhere", "file.toml"),
    "PYTEST_ADDOPTS": ("", "-q", "--tcp-claim=queue", "--tcp-kernel=", "--tcp-evidence=/dev/null"),
    "PYTEST_DEBUG_TEMPROOT": (None,),
    "PYTEST_XDIST_WORKER_COUNT": ("x", "0", "-1", ""),
    "PYTEST_XDIST_AUTO_NUM_WORKERS": ("2", "x"),
    "USER": (None, "", "x\ny", "../x"),
    "SHELL": ("", "/nowhere"),
    "TZ": ("", "x", "Asia/Kathmandu", "\udcff"),
    "DISPLAY": ("x",),
    "http_proxy": ("x", "http://127.0.0.1:9"),
}
# Options of pytest itself that change what ours do.
OF_PYTEST = (
    ("--collect-only",), ("-q",), ("-v",), ("-x",), ("-n", "2"), ("-n", "0"), ("-k", "limit"), ("-k", "nothing"),
    ("-m", "claim"), ("-p", "no:cacheprovider"), ("-p", "no:xdist"), ("--tb=short",), ("-rA",), ("--lf",),
    ("-p", "no:terminal"), ("--maxfail=1",), ("-W", "error"), ("--dist", "loadgroup", "-n", "1"), ("--durations=3",),
    ("--setup-plan",), ("--fixtures",), ("--markers",), ("--help",), ("-s",), ("--no-header",), ("-qqq",),
)  # fmt: skip
GENERAL = {0, 1, 2}
# What each may end with beside: `check`'s are git bisect's, a shell's are those of what runs in it.
STATUSES = {"check": {0, 1, 125, 128}, "scenarios": {0, 1, 2, 4, 5, 128}, "shell": set(range(256)), "": {128}}
OF_A_SESSION = {0, 1, 2, 4, 5}


@dataclass
class Typed:
    """A command line with its environment; `statuses` are the documented ones."""

    argv: tuple[str, ...]
    statuses: set[int]
    environment: dict[str, str | None] = field(default_factory=dict)
    output: str = ""

    @property
    def is_command(self) -> bool:
        """Whether it is one of ours, and does not become pytest."""
        return self.argv[0] == HARNESS and self.argv[1] != "scenarios"

    @property
    def shown(self) -> str:
        """As it would be typed, nearly."""
        more = [f"{name}={value!r}" for name, value in self.environment.items()]
        return " ".join([*more, *map(repr, self.argv), *([f"> {self.output}"] if self.output else [])])


def small_scenarios(place: Path) -> None:
    """Claims, documents and what belongs to them, as few as there can be."""
    (place / "claims").mkdir(parents=True)
    (place / "corrections").mkdir()
    (place / "claims" / "queue.toml").write_text(CLAIM)
    (place / "documents.toml").write_text(DOCUMENTS)
    (place / "register.toml").write_text("[document]\n")


def project(room: Path) -> None:
    """What stands where these are typed."""
    sandbox.lay(room)
    here = room / "here"
    small_scenarios(here / "scenarios")
    (here / "scenarios" / "test_queue.py").write_text(TEST)
    (here / "scenarios" / "pytest.ini").write_text("[pytest]\n")
    for name, versions in (("e", ("6.1.2", "6.12.3")), ("e2", ("6.12.3",))):
        runs = [made_evidence.run(version=version, kernel_name=version) for version in versions]
        made_evidence.save(here / name, made_evidence.claim(), *runs)
    (here / "web").mkdir()
    for file in sorted((INCIDENTS / "full_queue" / "first").iterdir()):
        if file.is_file():
            (here / "web" / file.name).write_bytes(file.read_bytes())
    (here / "web" / "first").mkdir()
    (here / "image").write_bytes(next(iter(TARGETS["images"].seeds())))
    (here / "file.toml").write_text("a = 1\n")
    (here / "empty").touch()
    (here / "noise").write_bytes(random.Random(1).randbytes(5000))
    (here / "packed.tar.gz").write_bytes(b"\x1f\x8b\x08" + bytes(50))
    (here / "m.json").write_text('{"schema": 1}')
    (here / "ssh").write_text("Host x\n")
    (here / "mirror").mkdir()
    (here / "loop").symlink_to("loop")
    os.mkfifo(here / "fifo")


def typed(count: int, seed: int) -> Iterator[Typed]:
    """So many, the same for a seed."""
    chance = random.Random(seed)
    for number in range(count):
        kind = chance.choices(("command", "session", "environment"), (7, 2, 2))[0]
        one = _session(chance, number) if kind == "session" else _command(chance)
        if kind == "environment" and chance.random() < 0.3:
            one = _session(chance, number)
        if kind == "environment" or chance.random() < 0.15:
            for name in chance.sample(sorted(ENVIRONMENT), chance.choice((1, 1, 2, 3))):
                one.environment[name] = chance.choice(ENVIRONMENT[name])
            # pytest itself has a traceback where it can print nothing.
            one.output = chance.choices(("", "full", "closed"), (6, 1, 1))[0] if one.is_command else ""
        yield one


def tried(one: Typed, room: Path) -> list[Wrong]:
    """What was wrong with how it ended."""
    changed = {name: value for name, value in one.environment.items() if value is not None}
    environment = {
        name: value
        for name, value in sandbox.environment(**changed).items()
        if name not in one.environment or one.environment[name] is not None
    }
    kept = "" if one.is_command else EVIDENCE
    ended = sandbox.run(Program(one.argv, environment, tuple(_named(one)), output=one.output, kept=kept), room)
    wrong = judged(ended, one.statuses)
    passed = re.search(r"(\d+) passed", ended.said)
    wants_other = any("evidence" in word for word in one.argv) or "PYTEST_ADDOPTS" in one.environment
    if not one.is_command and passed and not wants_other and SCENARIOS not in one.argv:
        there = ended.kept.count('"nodeid"')
        if there != int(passed[1]):
            wrong.append(Wrong("lost", f"{passed[1]} passed, and there is evidence of {there}"))
    return wrong


def _named(one: Typed) -> Iterator[str]:
    """Each place that the words name."""
    for word in (*one.argv, *(value or "" for value in one.environment.values())):
        for part in (word, *word.split("=")[1:], *word.split("file://")[1:]):
            if 0 < len(part) < 4096 and "\0" not in part:
                yield part
    # Where the home is gone, or there is none, it may be what the user's entry says.
    yield str(ROOM / "home" / ".cache" / "tcp-harness")


def _command(chance: random.Random) -> Typed:
    """A command of ours with some of its options."""
    words: list[str] = []
    command: click.Command = cli
    while isinstance(command, click.Group):
        names = sorted(command.commands)
        word = chance.choice(names) if chance.random() < 0.98 else _word(chance)
        words.append(word)
        if word not in command.commands:
            break
        command = command.commands[word]
    if words[0] == "scenarios":
        return Typed((HARNESS, "scenarios", *_options_of_a_session(chance)), STATUSES["scenarios"])
    params = [] if isinstance(command, click.Group) else command.params
    options = [each for each in params if isinstance(each, click.Option)]
    for option in chance.sample(options, min(len(options), chance.choice((0, 1, 1, 2, 3, 4)))):
        words.append(chance.choice(option.opts))
        if not option.is_flag or chance.random() < 0.02:
            words.append(_value(chance, option))
    for argument in [each for each in params if isinstance(each, click.Argument)]:
        words += [_value(chance, argument) for _ in range(chance.choice((1, 1, 2)) if argument.nargs < 0 else 1)]
    if chance.random() < 0.1:
        words.insert(chance.randrange(len(words) + 1), _word(chance))
    allowed = STATUSES.get(words[0], GENERAL)
    return Typed((HARNESS, *words), allowed | GENERAL | STATUSES[""])


def _session(chance: random.Random, number: int) -> Typed:
    """pytest, on the small project; every twentieth collects the scenarios of ours."""
    words = ["-m", "pytest", *_options_of_a_session(chance)]
    if number % 20 == 0:
        words += ["--collect-only", SCENARIOS]
    elif chance.random() < 0.8:
        words.append("scenarios")
    return Typed((sys.executable, *words), OF_A_SESSION)


def _options_of_a_session(chance: random.Random) -> list[str]:
    words: list[str] = []
    for option in chance.sample(OPTIONS, chance.choice((0, 1, 1, 2, 3))):
        words.append(option.written)
        if option.metavar:
            value = _place(chance) if option.place else chance.choice(MEANT if chance.random() < 0.5 else ODD)
            words[-1:] = [f"{option.written}={value}"] if chance.random() < 0.5 else [option.written, value]
    for own in chance.sample(OF_PYTEST, chance.choice((0, 0, 1, 2))):
        words += own
    if chance.random() < 0.1:
        words.append(f"--junitxml={_place(chance)}")
    return words


def _value(chance: random.Random, param: click.Parameter) -> str:
    if isinstance(param.type, click.Choice) and chance.random() < 0.9:
        return str(chance.choice(list(param.type.choices)))
    if isinstance(param.type, (click.types.IntParamType, click.types.FloatParamType)):
        return chance.choice(NUMBERS)
    if param.name in ("files", "places"):
        # All files of a machine are too many to wait for.
        return chance.choice([each for each in PLACES if each != "/"])
    if isinstance(param.type, click.Path) or param.metavar in ("FILE", "DIR", "PATH"):
        return _place(chance) if chance.random() < 0.9 else _word(chance)
    return _word(chance)


def _place(chance: random.Random) -> str:
    return chance.choice(PLACES[:16] if chance.random() < 0.5 else PLACES)


def _word(chance: random.Random) -> str:
    return chance.choice(chance.choices((MEANT, PLACES, ODD), (4, 2, 3))[0])
