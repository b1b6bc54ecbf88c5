"""`harness diagnose`: files in; findings, JSON, Markdown and a page out; exit codes; one line for bad input."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.diagnosis.findings import Diagnosis
from harness.errors import BadInput
from harness.evidence.types import Endpoint, Verdict

if TYPE_CHECKING:
    from click.testing import Result

FILES = Path(__file__).parent / "incident_files"
FULL = FILES / "full_queue" / "first"


def diagnose(*words: object) -> Result:
    return CliRunner().invoke(cli, ["diagnose", *map(str, words)])


def test_real_files_of_a_full_queue_name_it_first() -> None:
    said = diagnose("--json", FILES / "full_queue")
    assert said.exit_code == 1, said.output
    first = msgspec.json.decode(said.output, type=Diagnosis).findings[0]
    assert (first.diagnosis, first.place.endpoint) == ("accept-queue-full", Endpoint("10.1.0.2", 14001))
    assert any("ss_-lntm" in file for reason in first.reasons for file in reason.files)
    assert first.explanations[0].verdict is Verdict.REFUTED


def test_a_single_output_is_enough_and_what_is_missing_is_said() -> None:
    said = diagnose(FULL / "ss_-lntp")
    assert said.exit_code == 1
    assert "CERTAIN: The accept queue of 10.1.0.2:14001" in said.output
    assert "give sysctl -a" in said.output


def test_the_clients_files_name_the_server_that_does_not_answer() -> None:
    first = msgspec.json.decode(diagnose("--json", FILES / "full_queue_client").output, type=Diagnosis).findings[0]
    assert (first.diagnosis, first.place.name) == ("connect-unanswered", "10.1.0.2:14001")


CLIENT = ("netstat_-nat", "ss_-tanpoi", "proc/net/tcp")


@pytest.mark.parametrize("last", ["", *CLIENT])
def test_a_list_without_timers_does_not_hide_who_repeats_himself(last: str, tmp_path: Path) -> None:
    # An archive keeps whole seconds (zip: two), so that its files often have one time. netstat has a socket more.
    shutil.copytree(FILES / "full_queue_client", tmp_path / "client")
    for file in CLIENT:
        os.utime(tmp_path / "client" / file, (1e9, 1e9 + (file == last)))
    with (tmp_path / "client" / "netstat_-nat").open("a") as more:
        more.write("tcp        0      0 10.1.0.1:50000          10.1.0.3:80             TIME_WAIT\n")
    findings = msgspec.json.decode(diagnose("--json", tmp_path / "client").output, type=Diagnosis).findings
    assert [(each.diagnosis, each.place.name) for each in findings] == [("connect-unanswered", "10.1.0.2:14001")]


def test_of_netstat_without_timers_it_says_that_it_has_none() -> None:
    assert "netstat -nat prints no timers" in diagnose(FILES / "full_queue_client" / "netstat_-nat").output


def test_nothing_wrong_is_exit_code_0() -> None:
    said = diagnose(FULL / "uname_-a")
    assert (said.exit_code, "nothing wrong here" in said.output) == (0, True)


def test_a_page_and_markdown(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    said = diagnose("--markdown", "--page", page, FULL)
    assert said.output.startswith("# Linux ")
    assert "10.1.0.2:14001" in page.read_text()


def test_a_directory_without_claim_files_is_refused(tmp_path: Path) -> None:
    said = diagnose("--claims", tmp_path, FULL)
    assert isinstance(said.exception, BadInput)
    assert "no claim file here" in str(said.exception)


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.write_text("hello\n")
    for path in (nothing, tmp_path / "none"):
        said = diagnose(path)
        assert isinstance(said.exception, BadInput)
        assert "\n" not in str(said.exception)
        assert path.name in str(said.exception)
