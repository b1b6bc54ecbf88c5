"""What a user may write for a host, and what ssh is told for it."""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest

from harness.errors import BadInput
from harness.kernels import hosts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ssh:a", ["ssh:a"]),
        ("vagrant:k6.12,vagrant:k5.10", ["vagrant:k6.12", "vagrant:k5.10"]),
        ("ssh:a,python=/v/bin/python,ssh:b", ["ssh:a,python=/v/bin/python", "ssh:b"]),
        (">=6.12,<7.1", [">=6.12,<7.1"]),
        ("bzImage,modules=/m", ["bzImage,modules=/m"]),
    ],
)
def test_hosts_are_separated_by_commas_and_nothing_else_is(text: str, words: list[str]) -> None:
    assert hosts.split(text) == words


@pytest.mark.parametrize(
    "text", ["ssh:", "vagrant:", "ssh:a b", "ssh:-oProxyCommand=touch", "ssh:a,python", "ssh:a,port=1"]
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--kernel"):
        hosts.named(text, Path())


def test_a_file_for_ssh_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        hosts.named("ssh:a", tmp_path, str(tmp_path / "config"))


def test_a_host_survives_the_words_of_execnet() -> None:
    strange = "/a directory//with=what execnet%takes for its own"
    host = hosts.RemoteHost("a", "u@a", strange, (("IdentityFile", f'"{strange}"'),), f"{strange}/python", sudo=True)
    words = hosts.command(host, Path("/p=1//2"), Path("/p=1//2/below"))
    assert "//" not in words
    assert "=" not in words
    values = [unquote(word) for word in shlex.split(words)]
    assert {"u@a", strange, f'IdentityFile="{strange}"', f"{strange}/python"} <= {*values}
    assert "--sudo" in values
    assert "--ours" not in values


def test_one_who_is_not_alone_asks_nothing_of_the_host() -> None:
    plain = hosts.RemoteHost("a", "a").ssh("true")
    assert "-oBatchMode=yes" in plain
    assert plain[-2:] == ["a", "exec sh -c true"]
    assert hosts.RemoteHost("a", "a", sudo=True).ssh("true")[-1] == "exec sudo -n -H sh -c true"
    # The user's word comes before ours.
    assert "-oConnectTimeout=1" in hosts.RemoteHost("a", "a", options=(("ConnectTimeout", "1"),)).ssh("true")
