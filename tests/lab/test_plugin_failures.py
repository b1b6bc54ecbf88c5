"""A failed test that has a lab and no claim: what its hosts saw is shown and kept; connections are not all printed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from harness.evidence import failed
from harness.observe import read_pcapng
from tests import plugins
from tests.claim_file import claim_file

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("labs_work_here")

OVERFLOW = """
import pytest
from harness.traffic import connect, listen
from harness.observe import counting
from harness.waiting import until

pytestmark = pytest.mark.ipv4_only("once is enough")

def overflow(pair):
    pair.server.sysctl["net.core.somaxconn"] = 5
    listener = listen(pair.server, 100, port=8080)
    with counting(pair.server) as moved:
        clients = connect(pair.client, listener, 7)
        until(lambda: moved.TcpExt.ListenOverflows >= 1)
    return clients

def test_fails(pair):
    assert overflow(pair).connected == 7

def test_passes(pair):
    assert overflow(pair).connected == 6

def test_fails_before_it_begins(pair, broken):
    pass

@pytest.fixture
def broken(pair):
    overflow(pair)
    raise RuntimeError("not ready")

def test_has_no_lab():
    assert False

@pytest.mark.xfail
def test_fails_as_expected(pair):
    assert overflow(pair).connected == 7
"""
MANY = """
import pytest
from harness.observe import capture, sockets
from harness.traffic import connect, listen

pytestmark = pytest.mark.ipv4_only("once is enough")

@pytest.fixture
def clients(pair):
    return connect(pair.client, listen(pair.server, 400), 300, wait=True)

def test_attempts(clients):
    assert clients.connected == 3

def test_sockets(pair, clients):
    assert sockets(pair.client, "state established") == []

def test_plain_list(pair, clients):
    assert [one for one in clients] == []

def test_arguments(pair, clients):
    check(clients, sockets(pair.client), list(clients))

def check(clients, found, each):
    assert False
"""


def kept(pytester: pytest.Pytester) -> dict[str, failed.FailedTest]:
    """The failed tests that were kept, by their names."""
    files = (pytester.path / "out" / "evidence" / failed.FOLDER).glob("*.json")
    read = map(failed.decode, (file.read_bytes() for file in files))
    return {test.nodeid.partition("::")[2]: test for test in read}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_the_hosts_saw_is_shown_and_kept(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult], workers: str
) -> None:
    pytester.makepyfile(test_lab=OVERFLOW)
    ran = session("-n", workers, "--junitxml", "r.xml")
    ran.assert_outcomes(passed=1, failed=2, errors=1, xfailed=1)
    tests = kept(pytester)
    assert set(tests) == {"test_fails[ipv4]", "test_fails_before_it_begins[ipv4]"}
    test = tests["test_fails[ipv4]"]
    assert test.failure.startswith("assert 6 == 7") or "6 == 7" in test.failure
    assert test.kernel.release == os.uname().release
    assert test.counters["server"]["TcpExt.ListenOverflows"].by >= 1
    assert test.sockets["server"].states["LISTEN"] == 1
    assert test.knobs["server"]["net.core.somaxconn"].now == "5"
    assert tests["test_fails_before_it_begins[ipv4]"].counters["server"]["TcpExt.ListenOverflows"].by >= 1
    # What making the lab moved is no news: datagrams went both ways.
    assert "Udp.InDatagrams" not in test.counters["server"]
    folder = pytester.path / "out" / "evidence" / failed.FOLDER
    packets = read_pcapng((folder / test.packets).read_bytes()).packets
    segments = [segment for _, packet in packets if (segment := packet.segment())]
    assert {host for host, _ in packets} == {"client", "server"}
    assert sum(segment.flags == "SA" for segment in segments) >= 12
    # At the terminal, and in JUnit's XML.
    ran.stdout.fnmatch_lines(
        [
            "*- lab -*",
            "knobs of server",
            "  net.core.somaxconn = 5  (was *)",
            "counters of client",
            "counters of server",
            "  TcpExt.ListenOverflows *",
            "sockets of server: 1 LISTEN, *",
            "packets at server",
            "*:8080 S seq 0 *",
            "packets and counters of 2 failed tests without a claim: out/evidence/failed",
        ]
    )
    cases = {case.attrib["name"]: case for case in ET.parse(pytester.path / "r.xml").getroot().iter("testcase")}
    told = {each.attrib["name"]: each.attrib["value"] for each in cases["test_fails[ipv4]"].iter("property")}
    assert told == {"kernel": os.uname().release, "evidence": "failed/test_lab.py__test_fails-ipv4.json"}
    assert (folder.parent / told["evidence"]).is_file()
    assert not [*cases["test_passes[ipv4]"].iter("property")]


def test_what_has_passed_since_is_not_kept_any_more(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile(test_lab=OVERFLOW)
    session("-k", "fails")
    pytester.makepyfile(test_lab=OVERFLOW.replace("connected == 7", "connected == 6"))
    ran = session("-k", "test_fails")
    assert set(kept(pytester)) == {"test_fails_before_it_begins[ipv4]"}
    assert "1 failed test without a claim" in ran.stdout.str()


def test_a_claim_has_evidence_of_its_own(pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]) -> None:
    pytester.makepyfile(test_lab=f"{OVERFLOW}\npytestmark = [pytestmark, pytest.mark.claim('queue.limit')]\n")
    pytester.mkdir("claims").joinpath("queue.toml").write_text(claim_file())
    session("-k", "test_fails")
    assert kept(pytester) == {}
    # And directories with both are read as before.
    assert [file.name for file in (pytester.path / "out" / "evidence").glob("*.json")] == ["queue.limit.json"]


@pytest.mark.skipif(bool(plugins.MISSING), reason=plugins.MISSING)
def test_of_several_attempts_the_last_is_kept(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(plugins.DIRECTORY), os.environ["PYTHONPATH"]]))
    pytester.makepyfile(
        test_lab=OVERFLOW.replace(
            "def test_fails(pair):\n",
            "def test_fails(pair, request):\n    if request.node.execution_count == 3: return\n",
        )
    )
    words = ("-p", "no:randomly", "-k", "test_fails and not before and not expected", "--junitxml", "r.xml")
    assert session(*words, "--reruns", "1").ret == pytest.ExitCode.TESTS_FAILED
    assert set(kept(pytester)) == {"test_fails[ipv4]"}
    for case in ET.parse(pytester.path / "r.xml").getroot().iter("testcase"):
        assert len([*case.iter("property")]) in (0, 2)
    assert session(*words, "--reruns", "2").ret == pytest.ExitCode.OK
    assert kept(pytester) == {}


def test_a_directory_that_cannot_be_written_is_said(
    pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]
) -> None:
    pytester.makepyfile(test_lab=OVERFLOW)
    (pytester.path / "file").touch()
    ran = session("-k", "test_fails and not before and not expected", "--tcp-evidence", "file")
    ran.assert_outcomes(failed=1)
    ran.stdout.fnmatch_lines(["not kept: */file/failed cannot be written: Not a directory; see --tcp-evidence"])


def test_the_setting_is_never_or_failed(pytester: pytest.Pytester, session: Callable[..., pytest.RunResult]) -> None:
    pytester.makepyfile(test_lab=OVERFLOW)
    words = ("-k", "test_fails and not before and not expected", "-o")
    ran = session(*words, "tcp_lab_capture=never")
    (test,) = kept(pytester).values()
    assert (test.packets, "server" in test.counters) == ("", True)
    assert "packets at" not in ran.stdout.str()
    wrong = session(*words, "tcp_lab_capture=always")
    assert wrong.ret == pytest.ExitCode.USAGE_ERROR
    assert "tcp_lab_capture must be failed or never, not 'always'" in wrong.stderr.str()


@pytest.mark.parametrize("options", [(), ("-vv",)], ids=["plain", "verbose"])
@pytest.mark.parametrize("automatic", [False, True], ids=["by hand", "in CI"])
def test_three_connections_are_printed_and_not_three_hundred(
    pytester: pytest.Pytester,
    session: Callable[..., pytest.RunResult],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    automatic: bool,
) -> None:
    """With CI set, or -vv, pytest cuts nothing."""
    monkeypatch.delenv("CI", raising=False)
    if automatic:
        monkeypatch.setenv("CI", "true")
    pytester.makepyfile(test_many=MANY)
    ran = session(*options, "-o", "tcp_lab_capture=never", "--show-capture=no")
    ran.assert_outcomes(failed=4)
    ran.stdout.fnmatch_lines(["E *assert 300 == 3", "E *where 300 = <300 connect() calls of client: 300 connected>.*"])
    text = ran.stdout.str()
    assert text.count("and 297 more") >= 3
    # Of each list three rows are printed, here and there once more as the first that differs.
    assert text.count("<ESTAB ") < 20
    assert text.count("<connect() from port") < 20
    assert max(map(len, ran.outlines)) < 500


def test_names_of_files_are_no_evidence_of_a_claim_s() -> None:
    from harness.evidence.directory import NAME

    names = ["test_a.py::test_b[ipv4]", "a.py::b", "a-b.c", "sub/test_a.py::TestC::test_d[x/y:z]", f"a::{'x' * 300}"]
    stems = [failed.stem_of(name) for name in names]
    assert len({*stems}) == len(names)
    assert not [stem for stem in stems if NAME.fullmatch(stem) or "/" in stem or len(stem) > 200]
    assert stems[3] == "sub-test_a.py__TestC__test_d-x-y-z"
