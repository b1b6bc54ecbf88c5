"""Hosts that one has ssh to, as workers: `--kernel ssh:HOST`, and machines of vagrant/: `--kernel vagrant:k6.12`.

    python -m harness.kernels.hosts --host HOST --root DIR --directory DIR [--config FILE] [--option KEY=VALUE]…
                                   [--python PATH] [--sudo] [--ours]

What execnet takes for a Python interpreter: the project is delivered, then this process becomes ssh, whose input and
output are those of an interpreter over there. It ends when the connection does, whichever end that began at.

Over there the project stands in ~/.cache/tcp-harness/projects, in a directory named for what is in it; so several runs,
of several versions, do not disturb each other. What has not been used for a day is removed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from harness.errors import BadInput, HarnessError, MissingProgram, Unsupported
from harness.kernels.gateway import TROUBLE, own_words, report
from harness.kernels.warm import Project
from harness.orphans import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Mapping

SSH, VAGRANT = "ssh:", "vagrant:"
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


def is_host(text: str) -> bool:
    """Whether a user's word for a kernel means a host."""
    return text.startswith((SSH, VAGRANT))


def split(text: str) -> list[str]:
    """The hosts of `ssh:A,vagrant:B`; other words, whose commas mean something else, as they are."""
    return re.split(rf",(?={SSH}|{VAGRANT})", text) if is_host(text) else [text]


def short(text: str) -> str:
    """What a host is called in the ids of tests."""
    return text.partition(":")[2].partition(",")[0]


def named(text: str, root: Path, config: str | None = None) -> RemoteHost:
    """The host that a user's word means: ssh:HOST[,python=PATH] or vagrant:MACHINE.

    `config` is a file for ssh. Vagrant is asked how to reach its machines. BadInput or Unsupported when that fails.
    """
    kind, _, rest = text.partition(":")
    name, *settings = rest.split(",")
    python = None
    for setting in settings:
        key, _, value = setting.partition("=")
        if key != "python" or not value:
            raise BadInput(f"--kernel {text}: {setting!r} is not python=PATH")
        python = value
    if not name or name.startswith("-") or re.search(r"\s", name):
        raise BadInput(f"--kernel {text}: write ssh:HOST[,python=PATH] or vagrant:MACHINE")
    if f"{kind}:" == SSH:
        if config is not None and not Path(config).is_file():
            raise BadInput(f"--ssh-config {config}: there is no such file")
        return RemoteHost(name, name, None if config is None else str(Path(config).absolute()), python=python)
    from harness.vagrant import reach

    # Machines of ours, in which we are root as on a kernel of --kernel 6.12.
    options = reach.ssh_config(name, root)
    address = options.pop("HostName")
    return RemoteHost(name, address, None, tuple(options.items()), python or reach.PYTHON, sudo=True, ours=True)


def command(host: RemoteHost, root: Path, directory: Path) -> str:
    """This program as the value of python= in execnet's word for a worker: every value is percent-encoded."""
    words = ["--host", host.address, "--root", str(root), "--directory", str(directory)]
    words += ["--config", host.config] if host.config else []
    words += [word for key, value in host.options for word in ("--option", f"{key}={value}")]
    words += ["--python", host.python] if host.python else []
    words += ["--sudo"] * host.sudo + ["--ours"] * host.ours
    encoded = [word if word.startswith("--") else quote(word, safe="") for word in words]
    return shlex.join([os.path.normpath(sys.executable), "-m", "harness.kernels.hosts", *encoded])


def main() -> None:
    """Run one worker's connection."""
    die_with_parent()
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True, type=unquote)
    parser.add_argument("--root", required=True, type=lambda value: Path(unquote(value)))
    parser.add_argument("--directory", required=True, type=lambda value: Path(unquote(value)))
    parser.add_argument("--config", type=unquote)
    parser.add_argument("--option", action="append", default=[], type=unquote)
    parser.add_argument("--python", type=unquote)
    parser.add_argument("--sudo", action="store_true")
    parser.add_argument("--ours", action="store_true")
    asked = parser.parse_args(own_words())
    options = tuple((key, value) for key, _, value in (option.partition("=") for option in asked.option))
    host = RemoteHost(asked.host, asked.host, asked.config, options, asked.python, asked.sudo, asked.ours)
    try:
        place, python = deliver(host, asked.root)
        words = interpreter(host, place, python, asked.directory.relative_to(asked.root))
        os.execvp(words[0], words)
    except (HarnessError, OSError) as error:
        report(str(error), to=os.environ.get(TROUBLE))
        sys.exit(2)


def deliver(host: RemoteHost, root: Path) -> tuple[str, str]:
    """Bring the project to a host; where it stands there, and the interpreter to run it with."""
    packed = Project(root, ()).archive(below=root)
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
    place, python = done.stdout.decode().splitlines()[-2:]
    return place, python


def interpreter(host: RemoteHost, place: str, python: str, below: Path) -> list[str]:
    """The command line of an interpreter over there, in the project, as execnet would start one here."""
    words = [f"{key}={value}" for key, value in _environment(host).items()]
    directory = str(Path(place) / below)
    return host.ssh(f"cd {shlex.quote(directory)} && exec env {shlex.join([*words, python, '-u', '-c', BOOTSTRAP])}")


def _environment(host: RemoteHost) -> Mapping[str, str]:
    """What of our environment matters there too."""
    kept = {name: os.environ[name] for name in ("LANG", "TERM", "COLUMNS") if name in os.environ}
    return kept | ({"TCP_HARNESS_OWN_KERNEL": "1"} if host.ours else {})


if __name__ == "__main__":
    main()
