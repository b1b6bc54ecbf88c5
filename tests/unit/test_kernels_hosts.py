"""What ssh is told for a host."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest

from harness.errors import Unsupported
from harness.kernels import hosts, interpreters
from harness.kernels.project import Project


def test_a_host_survives_the_words_of_execnet() -> None:
    strange = "/a directory//with=what execnet%takes for its own"
    host = hosts.RemoteHost("a", "u@a", strange, (("IdentityFile", f'"{strange}"'),), f"{strange}/python", sudo=True)
    words = hosts.command(host, Project(Path("/p=1//2"), (), Path("/p=1//2/below")))
    assert "//" not in words
    assert "=" not in words
    values = [unquote(word) for word in shlex.split(words)]
    assert {"u@a", "/p=1/2", "/p=1/2/below", strange, f'IdentityFile="{strange}"', f"{strange}/python"} <= {*values}
    assert "--sudo" in values
    assert "--ours" not in values


def test_settings_of_pytest_go_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker here would inherit; nothing that is about this process or its directories."""
    there = {"PYTEST_ADDOPTS": "--timeout 9", "PYTEST_TIMEOUT": "9", "CI": "true", "LANG": "C.UTF-8"}
    for name, value in {**there, "PYTEST_XDIST_WORKER": "gw0", "PYTEST_DEBUG_TEMPROOT": "/x", "SECRET": "x"}.items():
        monkeypatch.setenv(name, value)
    known = interpreters.variables(("LANG",))
    assert {name: known.get(name) for name in there} == there
    assert not {"PYTEST_XDIST_WORKER", "PYTEST_DEBUG_TEMPROOT", "PYTEST_CURRENT_TEST", "SECRET"} & {*known}
    words = hosts.interpreter(hosts.RemoteHost("a", "a"), "/p", "/python", Path())
    assert "PYTEST_TIMEOUT=9" in shlex.split(shlex.split(words[-1])[-1])


def test_one_who_is_not_alone_asks_nothing_of_the_host() -> None:
    plain = hosts.RemoteHost("a", "a").ssh("true")
    assert "-oBatchMode=yes" in plain
    assert plain[-2:] == ["a", "exec sh -c true"]
    assert hosts.RemoteHost("a", "a", sudo=True).ssh("true")[-1] == "exec sudo -n -H sh -c true"
    # The user's word comes before ours.
    assert "-oConnectTimeout=1" in hosts.RemoteHost("a", "a", options=(("ConnectTimeout", "1"),)).ssh("true")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("", "it answers '', and not where the project stands there: is there a shell that runs what it is told?"),
        ("This account is closed.\\n", "it answers 'This account is closed.', and not where"),
        ("\\377\\n", "it answers '\ufffd', and not where"),
        ("Welcome!\\n\\n/there\\n/python\\n", "its shell says 'Welcome!' before it does what it is told"),
    ],
)
def test_a_host_that_answers_something_else_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, why: str
) -> None:
    """An ssh that came to an account without a shell was a traceback."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f"#!/bin/sh\ncat >/dev/null\nprintf '{answer}'\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")
    project = tmp_path / "project"
    project.mkdir()
    with pytest.raises(Unsupported) as refused:
        hosts.deliver(hosts.RemoteHost("there", "there"), Project(project))
    assert str(refused.value).startswith(f"there cannot run scenarios: {why}")
