"""Hosts that one has ssh to, as workers.

    python -m harness.kernels.hosts --host HOST --root DIR --directory DIR [--config FILE] [--option KEY=VALUE]…
                                   [--python PATH] [--written PLACE]… [--sudo] [--ours]

What execnet takes for a Python interpreter: the project is delivered, then this process becomes ssh, whose input and
output are those of an interpreter over there. It ends when the connection does, whichever end that began at.

Over there the project stands in ~/.cache/tcp-harness/projects, in a directory named for what is in it; so several runs,
of several versions, do not disturb each other. What has not been used for a day is removed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from harness.errors import HarnessError, MissingProgram, Unsupported
from harness.kernels import interpreters
from harness.kernels.project import Project
from harness.orphans import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Nobody is there to type a password; a host that has gone is noticed within half a minute.
OPTIONS = {"BatchMode": "yes", "ServerAliveInterval": "10", "ServerAliveCountMax": "3", "ConnectTimeout": "20"}
# What execnet has an interpreter begin with.
BOOTSTRAP = "import sys;exec(eval(sys.stdin.readline()))"
# The exit status of ssh(1) when it is ssh that has failed.
SSH_FAILED = 255

# Runs over there, with the archive on standard input: prints the directory of the project and the interpreter.
DELIVER = """
set -eu
umask 022
[ "$(uname -s)" = Linux ] || { echo "is no Linux" >&2; exit 1; }
base=${XDG_CACHE_HOME:-$HOME/.cache}/tcp-harness/projects
mkdir -p "$base"
exec 9>"$base/.lock"
flock 9
place=$base/$1 python=$2
if [ -d "$place" ]; then cat >/dev/null; else
    part=$(mktemp -d "$base/.part-XXXXXX")
    trap 'rm -rf "$part"' EXIT
    tar -x -C "$part"
    chmod 755 "$part"
    mv "$part" "$place"
fi
touch "$place"
find "$base" -mindepth 1 -maxdepth 1 -type d ! -name "$1" ! -name 'venv-*' -mtime +0 -exec rm -rf {} +
cd "$place"
if [ -z "$python" ]; then
    if [ ! -f .ci/install ] || [ ! -f requirements.lock ]; then
        echo "there is no interpreter named that has the harness: add ,python=PATH" >&2; exit 1
    fi
    venv=$base/venv-$(cat requirements.lock pyproject.toml | sha256sum | cut -c1-16)
    [ -e "$venv/project.stamp" ] || VENV=$venv sh .ci/install venv >&2
    python=$venv/bin/python
fi
"$python" -c 'import execnet, pytest, harness.plugin' || { echo "$python has not what the harness needs" >&2; exit 1; }
printf '%s\\n%s\\n' "$place" "$python"
"""


@dataclass(frozen=True)
class RemoteHost:
    """A host as the user named it.

    `address` is what ssh takes, `config` a file for it, `options` those of ssh_config(5). `python` is an interpreter
    there that has the harness (None: an environment is made). With `sudo` everything is done as root. `ours` says that
    its kernel is nobody else's.
    """

    name: str
    address: str
    config: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    python: str | None = None
    sudo: bool = False
    ours: bool = False

    def ssh(self, command: str) -> list[str]:
        """The command line that has a shell over there run this."""
        options = [f"-o{key}={value}" for key, value in (OPTIONS | dict(self.options)).items()]
        options += [f"-F{self.config}"] if self.config else []
        shell = f"exec sudo -n -H sh -c {shlex.quote(command)}" if self.sudo else f"exec sh -c {shlex.quote(command)}"
        return ["ssh", "-T", *options, self.address, shell]


def command(host: RemoteHost, project: Project) -> str:
    """This program as the value of python= in execnet's word for a worker."""
    words = ["--host", host.address, "--root", str(project.root), "--directory", str(project.place)]
    words += ["--config", host.config] if host.config else []
    words += [word for key, value in host.options for word in ("--option", f"{key}={value}")]
    words += ["--python", host.python] if host.python else []
    words += [word for place in project.written for word in ("--written", str(place))]
    words += ["--sudo"] * host.sudo + ["--ours"] * host.ours
    return interpreters.command(__name__, words)


def main() -> None:
    """Run one worker's connection."""
    die_with_parent()
    # Ctrl-C at the terminal is for pytest, which ends us; ssh, which this becomes, minds what is ignored.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True, type=unquote)
    parser.add_argument("--root", required=True, type=lambda value: Path(unquote(value)))
    parser.add_argument("--directory", required=True, type=lambda value: Path(unquote(value)))
    parser.add_argument("--config", type=unquote)
    parser.add_argument("--option", action="append", default=[], type=unquote)
    parser.add_argument("--python", type=unquote)
    parser.add_argument("--written", action="append", default=[], type=lambda value: Path(unquote(value)))
    parser.add_argument("--sudo", action="store_true")
    parser.add_argument("--ours", action="store_true")
    asked = parser.parse_args(interpreters.own_words())
    options = tuple((key, value) for key, _, value in (option.partition("=") for option in asked.option))
    host = RemoteHost(asked.host, asked.host, asked.config, options, asked.python, asked.sudo, asked.ours)
    try:
        place, python = deliver(host, Project(asked.root, written=tuple(asked.written)))
        words = interpreter(host, place, python, asked.directory.relative_to(asked.root))
        os.execvp(words[0], words)
    except (HarnessError, OSError) as error:
        interpreters.report(str(error), came_up=False)
        sys.exit(2)


def deliver(host: RemoteHost, project: Project) -> tuple[str, str]:
    """Bring the project to a host; where it stands there, and the interpreter to run it with."""
    packed = project.archive(below=project.root)
    digest = hashlib.sha256(packed).hexdigest()[:16]
    script = f"sh -c {shlex.quote(DELIVER)} deliver {digest} {shlex.quote(host.python or '')}"
    try:
        done = subprocess.run(host.ssh(script), input=packed, check=False, capture_output=True)
    except FileNotFoundError:
        raise MissingProgram("ssh", "openssh-client") from None
    said = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode:
        what = "cannot be reached" if done.returncode == SSH_FAILED else "cannot run scenarios"
        raise Unsupported(f"{host.name} {what}: {said[-1] if said else f'exit status {done.returncode}'}")
    answer = done.stdout.decode(errors="replace").splitlines()
    if len(answer) < len(("place", "python")):
        raise Unsupported(
            f"{host.name} cannot run scenarios: it answers {_quoted(answer)}, and not where the project stands there: "
            "is there a shell that runs what it is told?"
        )
    if before := answer[:-2]:
        raise Unsupported(
            f"{host.name} cannot run scenarios: its shell says {_quoted(before)} before it does what it is told, where "
            "an interpreter is to answer: look into ~/.bashrc there"
        )
    place, python = answer
    return place, python


def _quoted(lines: Sequence[str]) -> str:
    """The first of some lines, as it can be shown."""
    return repr(next(iter(lines), "")[:80])


def interpreter(host: RemoteHost, place: str, python: str, below: Path) -> list[str]:
    """The command line of an interpreter over there, in the project, as execnet would start one here."""
    words = [f"{key}={value}" for key, value in _environment(host).items()]
    directory = str(Path(place) / below)
    return host.ssh(f"cd {shlex.quote(directory)} && exec env {shlex.join([*words, python, '-u', '-c', BOOTSTRAP])}")


def _environment(host: RemoteHost) -> Mapping[str, str]:
    """What of our environment matters there too."""
    variables = interpreters.variables(("LANG", "TERM", "COLUMNS"))
    return variables | ({"TCP_HARNESS_OWN_KERNEL": "1"} if host.ours else {})


if __name__ == "__main__":
    main()
