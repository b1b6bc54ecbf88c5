"""`harness compare` of kernels: scenarios are run on both, and what did not run is never the same."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.cli.question import is_evidence
from harness.cli.settling import Chosen, sessions
from harness.errors import BadInput
from harness.kernels import places
from harness.kernels.facts import Facts
from harness.kernels.mode import Mode
from harness.kernels.targets import Archived, Running
from tests.claim_file import claim_file
from tests.unit import debian_archive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SCENARIO = """
import os
from pathlib import Path
import pytest

@pytest.mark.claim("queue.limit")
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_limit(claim, family):
    with claim.effect("nobody accepts") as effect:
        effect.compare("waiting", 11, document=10, kernel=11)
    with claim.control("accepted at once") as control:
        control.expect("overflows", 0, 0)
"""


@pytest.fixture
def compare(tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """`compare(*words, scenario=…)`: in a project with a scenario; exit code, standard output and error."""

    def run(*words: str, scenario: str = SCENARIO) -> tuple[int, str, str]:
        (tmp_path / "mine" / "claims").mkdir(parents=True)
        (tmp_path / "mine" / "claims" / "queue.toml").write_text(claim_file())
        (tmp_path / "mine" / "test_mine.py").write_text(scenario)
        (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = ["-p", "no:cacheprovider"]\n')
        command = "from harness.cli import main; main()"
        argv = [sys.executable, "-c", command, "compare", "--scenarios", "mine", *words]
        ran = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
        return ran.returncode, ran.stdout, ran.stderr

    return run


def test_the_scenarios_are_run_on_both(compare: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = compare("running", "running", "--verdicts")
    assert (code, err) == (0, "harness: running mine on running and running\n")
    assert "1 claim: 1 with the same verdict, 0 with another" in out


@pytest.mark.parametrize("word", ["x" * 300, "x" * 5000, "e/" + "x" * 300, "image,modules=" + "x" * 300])
def test_a_word_that_is_too_long_for_a_path_is_one_line(
    compare: Callable[..., tuple[int, str, str]], word: str
) -> None:
    code, out, err = compare(word, "running")
    assert (code, out) == (2, "")
    assert err.startswith("harness: ")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ("running", "running", "--guest-memory", "2G"),
            "running and running: it runs in no virtual machine; leave out --guest-memory=2G",
        ),
        (
            ("running", "running", "--facts", "--real-time", "--guest-append", "quiet"),
            "running and running: it runs in no virtual machine; leave out --real-time --guest-append=quiet",
        ),
        (
            ("mine", "mine", "--guest-cpus", "1"),
            "--guest-cpus=1: no kernel is started: A and B are directories with evidence",
        ),
        (
            ("6.1", "7.3", "--evidence", "mine", "--real-time"),
            "--real-time: no kernel is started: A and B are kernels of evidence",
        ),
        (
            ("6.1", "7.3", "--guest-cpus", "2"),
            "--guest-cpus 2: simulated time counts the instructions of one CPU; for more, --real-time",
        ),
        (("6.1", "7.3", "--guest-memory", "much"), "--guest-memory much: write it in MB or GB: 2048, 2048M, 2G"),
    ],
)
def test_a_machine_that_nothing_runs_in_is_one_line(
    compare: Callable[..., tuple[int, str, str]], words: tuple[str, ...], why: str
) -> None:
    assert compare(*words) == (2, "", f"harness: {why}\n")


def test_the_machine_of_both_is_as_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pytest that runs scenarios is told; that of a kernel without a machine is not."""
    asked: list[Chosen] = []

    def sessions(kernels: list[Chosen], *_: Any, **__: Any) -> None:
        asked.extend(kernels)
        raise BadInput("enough")

    kernels = {"6.1": Archived("6.1.1-test", "6.1.1", name="6.1.1"), "running": Running(name="running")}
    monkeypatch.setattr("harness.cli.compare.target", lambda word, _: kernels[word])
    monkeypatch.setattr("harness.cli.settling.sessions", sessions)
    words = ["compare", "6.1", "running", "--scenarios", str(tmp_path), "--guest-memory", "3G", "--guest-append", "a b"]
    assert str(CliRunner().invoke(cli, words).exception) == "enough"
    # Also what is as it would be without a word: a setting of the project may say otherwise.
    how = ["--tcp-guest-memory=3G", "--tcp-guest-append=a b"]
    assert asked == [Chosen("6.1.1", "6.1.1-test", how), Chosen("running", "running", [])]


@pytest.mark.parametrize("described", [True, False])
def test_facts_are_those_of_the_machine(described: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """tcp_mem and other defaults come of a machine's memory."""
    modes: list[Mode | None] = []

    def of(_: object, __: Path, mode: Mode | None) -> Facts:
        modes.append(mode)
        return Facts({}, [])

    monkeypatch.setattr("harness.cli.question.target", lambda word, _: Archived(word, word))
    monkeypatch.setattr("harness.kernels.facts.of", of)
    words = ["compare", "6.1", "7.3", "--facts", *(["--guest-memory", "512"] if described else [])]
    assert CliRunner().invoke(cli, words).exit_code == 0
    assert modes == [Mode(memory=512) if described else Mode()] * 2


def test_what_was_interrupted_on_one_of_them_is_no_comparison(compare: Callable[..., tuple[int, str, str]]) -> None:
    interrupted = "\n\ndef test_more():\n    pytest.exit('enough', returncode=3)\n"
    code, out, err = compare("running", "running", scenario=SCENARIO + interrupted)
    assert code == 2
    assert "1 the same" in out
    assert "harness: running did not run to its end: pytest ended with " in err


def test_nothing_is_left_of_how_far_a_session_was(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "queue.toml").write_text(claim_file())
    (tmp_path / "test_mine.py").write_text(SCENARIO)
    with sessions([Chosen("running", "running")], tmp_path / "kept", scenarios=tmp_path) as (session,):
        assert session.shortfall() == ""
        assert (tmp_path / "kept" / "running.far").read_text() == "2 2"
    assert list((tmp_path / "kept").glob("*.far")) == []


def test_a_claim_that_does_not_exist_is_one_line(compare: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = compare("running", "running", "--claim", "nonsense")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()[1:]
    assert line.startswith(
        "harness: running did not run: pytest ended with 4: ERROR: --tcp-claim: no claim is named 'nonse"
    )


@pytest.mark.parametrize("words", [("running", "running"), ("running", "running", "--facts"), ("mine", "mine")])
def test_an_archive_that_no_kernel_comes_from_is_refused(
    compare: Callable[..., tuple[int, str, str]], words: tuple[str, ...]
) -> None:
    code, out, err = compare(*words, "--mirror", "http://127.0.0.1:9/x", "--suite", "y")
    said = "no kernel comes from an archive; leave out --mirror http://127.0.0.1:9/x --suite y"
    assert (code, out, err.partition(": ")[2].partition(": ")[2]) == (2, "", f"{said}\n")


def test_a_page_that_cannot_be_written_is_refused_before_anything_runs(
    compare: Callable[..., tuple[int, str, str]],
) -> None:
    """It was noticed when both kernels had run, and what they had measured was lost."""
    wanted = (2, "", "harness: mine: cannot be written: it is a directory\n")
    assert compare("running", "running", "--page", "mine") == wanted


def test_a_scenario_that_skips_everywhere_is_no_comparison(compare: Callable[..., tuple[int, str, str]]) -> None:
    skipping = SCENARIO.replace(
        '    with claim.effect("nobody', '    pytest.skip("later")\n    with claim.effect("nobody'
    )
    code, _, err = compare("running", "running", scenario=skipping)
    assert code == 2
    assert err.endswith("harness: nothing was compared: 2 tests came to nothing on either side\n")


@pytest.mark.skipif(bool(debian_archive.missing()), reason=debian_archive.missing())
def test_a_word_that_is_neither_kernel_nor_evidence_is_one_line(
    compare: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The archive of the machine is out of reach where this process has had a lab, unless its index is in the cache.
    monkeypatch.setenv(places.CACHE, str(tmp_path / "cache"))
    mirror, key = debian_archive.DebianArchive(tmp_path / "mirror"), debian_archive.Key(tmp_path / "key")
    mirror.add("linux-image-6.1.0-1-amd64", "6.1.1-1", {})
    mirror.publish("bookworm", key)
    key.end()
    where = ("--mirror", f"file:{mirror.root}", "--suite", "bookworm", "--keyring", str(key.keyring))
    code, out, err = compare("moday", "running", *where)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(
        "harness: moday is no directory with evidence, and no kernel is meant by 'moday'; there are 6.1"
    )


def test_an_archive_of_evidence_is_said_to_be_unpacked_first(
    compare: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """It was called no kernel image, as if a kernel had been meant."""
    with tarfile.open(tmp_path / "evidence.tar.gz", "w:gz") as archive:
        archive.add(__file__, "queue.limit.json")
    code, out, err = compare("running", "evidence.tar.gz")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"harness: {tmp_path}/evidence.tar.gz: not a Linux kernel image ")
    assert err.endswith("; of evidence name the directory: unpack an archive first\n")


def test_a_kernels_tree_is_no_evidence_whatever_json_it_has(tmp_path: Path) -> None:
    (tmp_path / "arch").mkdir()
    (tmp_path / "compile_commands.json").write_text("[]")
    assert not is_evidence(str(tmp_path))
    (tmp_path / "arch").rmdir()
    assert is_evidence(str(tmp_path))
