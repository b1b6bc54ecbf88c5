"""`harness compare`: two runs agree, agree but for stamps, or differ; and their verdicts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from harness.cli import cli, main
from harness.report.agreement import reason_of
from tests.report.made_evidence import claim, compared, dropped_ack, phase, run, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to be in, with evidence of one run."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a", claim(), run(), run(params="ipv6"))
    return tmp_path


@pytest.fixture
def complaint(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`complaint(*words)`: what the command says of bad input."""

    def said(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["harness", "compare", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        return capsys.readouterr().err

    return said


def called(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["compare", "a", "b", *words], catch_exceptions=False)
    return result.exit_code, result.output


def waiting(measured: int) -> dict[str, Any]:
    """A run that measured another value."""
    return run(phases=[phase("effect", "nobody accepts", compared("waiting", measured, 10, measured))])


def test_the_same_bytes_are_identical(place: Path) -> None:
    save(place / "b", claim(), run(), run(params="ipv6"))
    code, told = called()
    assert code == 0
    assert told.splitlines()[0].split()[:2] == ["queue.limit", "identical"]
    assert told.endswith(
        "Linux 6.1.2-amd64: 1 claims: 1 identical, 0 the same but for stamps, 0 differ, 0 only in A, 0 only in B\n"
    )


def test_another_time_of_day_is_a_stamp_and_named(place: Path) -> None:
    save(place / "b", claim(), run(started=1.0), run(params="ipv6"))
    code, told = called()
    assert code == 0
    assert "queue.limit  but for stamps  " in told
    assert "date 2" in told
    assert told.endswith("0 identical, 1 the same but for stamps, 0 differ, 0 only in A, 0 only in B\n")


def test_another_measurement_differs_and_is_told_with_its_place(place: Path) -> None:
    save(place / "a", claim(), waiting(11))
    save(place / "b", claim(), waiting(12))
    code, told = called()
    assert code == 1
    assert "queue.limit  differs" in told
    assert "  test_limit[ipv4]  phases/0 effect/comparisons/0 waiting/measured: 11 -> 12\n" in told
    assert "claims that differ, by what differs: " in told


def test_a_capture_is_compared_too(place: Path, complaint: Callable[..., str]) -> None:
    for side, repeats in (("a", 2), ("b", 3)):
        save(place / side, claim(), run(packets="p.pcapng"))
        (place / side / "p.pcapng").write_bytes(dropped_ack(repeats=repeats))
    code, told = called("--all")
    assert code == 1
    assert "packets/server:eth0/connection 1/" in told
    (place / "b" / "p.pcapng").write_bytes(dropped_ack(repeats=2, source=50000))
    code, told = called()
    assert code == 0
    assert "0 identical, 1 the same but for stamps" in told
    (place / "b" / "p.pcapng").unlink()
    assert complaint("a", "b") == "harness: b/p.pcapng: cannot be read: No such file or directory\n"


def test_what_ran_on_one_side_alone_is_no_agreement(place: Path) -> None:
    save(place / "b", claim(), run())
    code, told = called()
    assert code == 1
    assert "  test_limit[ipv6]  run: there -> -\n" in told
    save(place / "a", claim("queue.more"), run())
    code, told = called()
    assert code == 1
    assert "queue.more   only in A\n" in told
    assert told.count("run: there -> -") == 1
    assert "1 differ, 1 only in A, 0 only in B\n" in told


def test_of_many_differences_the_first_are_shown_and_the_rest_counted(place: Path) -> None:
    many = [compared(f"value {n}", n, n) for n in range(9)]
    save(place / "a", claim(), run(phases=[phase("effect", "all", *many)]))
    save(place / "b", claim(), run(phases=[phase("effect", "all", *({**one, "measured": 99} for one in many))]))
    first = called()[1]
    assert "  … 6 more\n" in first
    assert "value 8/measured" not in first
    assert "value 8/measured: 8 -> 99" in called("--all")[1]


def test_what_a_terminal_would_obey_is_shown_and_not_done(place: Path) -> None:
    hostile = "\x1b[2J\u202e<script>"
    save(place / "a", claim(), run(phases=[phase("effect", "e") | {"notes": {hostile: hostile}}]))
    save(place / "b", claim(), run(phases=[phase("effect", "e") | {"notes": {hostile: "other"}}]))
    told = called("--all")[1]
    assert "notes/�[2J�<script>: �[2J�<script> -> other\n" in told
    assert "\x1b" not in told


def test_for_machines_there_is_everything(place: Path) -> None:
    save(place / "a", claim(), waiting(11))
    save(place / "b", claim(), waiting(12))
    code, told = called("--json")
    found = json.loads(told)
    assert code == 1
    assert found["counts"] == {"differs": 1}
    (one,) = found["claims"]
    assert (one["claim"], one["kernel"], one["result"]) == ("queue.limit", "6.1.2-amd64", "differs")
    first = one["differences"][0]
    assert (first["run"], first["a"], first["b"], first["reason"]) == ("test_limit[ipv4]", "11", "12", "measured")
    assert one["stamps"]["port"]


def test_what_was_cut_off_is_no_agreement(place: Path) -> None:
    save(place / "b", claim(), run(), run(params="ipv6"))
    (place / "b" / "cut.json").write_text('{"schema"')
    code, told = called()
    assert code == 1
    assert "cut.json: left out, it is not whole" in told


def test_the_same_verdicts_agree_whatever_was_measured(place: Path) -> None:
    save(place / "b", claim(), waiting(12), run(params="ipv6", started=5.0))
    told = "Linux 6.1.2-amd64: 1 claims: 1 with the same verdict, 0 with another, 0 only in A, 0 only in B\n"
    assert called("--verdicts") == (0, told)


def test_the_name_of_the_kernel_in_a_test_is_no_difference(place: Path) -> None:
    save(place / "b", claim(), run(params="ipv4-6.1.2"), run(params="ipv6-running"))
    assert called("--verdicts")[0] == 0
    save(place / "a", claim(), run(verdict="holds"), run(params="ipv6"))
    save(place / "b", claim(), run(params="ipv4-6.1.2"), run(params="ipv6-running", verdict="holds"))
    code, told = called("--verdicts")
    assert code == 1
    assert told.startswith("queue.limit  holds [ipv4], refuted [ipv6] -> refuted [ipv4], holds [ipv6]\n")


def test_another_verdict_is_told_with_what_was_measured(place: Path) -> None:
    save(place / "a", claim(), run(), run(params="ipv6"))
    other = waiting(10) | {"verdict": "holds", "params": "ipv4"}
    same = waiting(12) | {"params": "ipv6", "nodeid": "scenarios/test_queue.py::test_limit[ipv6]"}
    save(place / "b", claim(), other, same)
    code, told = called("--verdicts")
    assert code == 1
    assert told.splitlines()[:3] == [
        "queue.limit  refuted [ipv4] -> holds [ipv4]",
        "  ipv4: nobody accepts: waiting: 11 -> 10",
        "  ipv4: each is accepted: refused: 0 -> -",
    ]
    assert "ipv6: nobody accepts" not in told
    assert "0 with the same verdict, 1 with another" in told


def test_claims_of_one_side_are_listed(place: Path) -> None:
    save(place / "b", claim(), run(), run(params="ipv6"))
    save(place / "b", claim("queue.more"), run())
    code, told = called("--verdicts")
    assert code == 1
    assert "queue.more  - -> refuted\n" in told
    assert "1 with the same verdict, 0 with another, 0 only in A, 1 only in B" in told
    found = json.loads(called("--verdicts", "--json")[1])
    assert [one["result"] for one in found["claims"]] == ["with the same verdict", "only in B"]


@pytest.mark.parametrize(
    ("head", "version", "told"),
    [
        ({"schema": 2}, "6.1.2", "b/queue.limit.json: evidence of schema 2, this harness reads 1"),
        ({"harness": "9"}, "6.1.2", "evidence of different versions of the harness is not mixed"),
        ({}, "5.2.9", "no kernel in common: a is of 6.1.2-amd64; b is of 5.2.9-amd64."),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_two(
    place: Path, head: dict[str, Any], version: str, told: str, complaint: Callable[..., str]
) -> None:  # fmt: skip
    save(place / "b", claim(), run(version=version), **head)
    for mode in ((), ("--verdicts",)):
        said = complaint("a", "b", *mode)
        assert said.startswith(f"harness: {told}")
        assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("verdict", "verdict"),
        ("phases/0 effect/counters/server/Tcp.InSegs", "counters"),
        ("phases/1 control/series/TIME-WAIT/points/length", "number of polls"),
        ("phases/1 control/series/TIME-WAIT/points/3/1", "seen by a poll"),
        ("phases/0 effect/comparisons/0 bytes a connection/measured", "memory"),
        ("phases/0 effect/comparisons/0 waiting/kernel", "range that was computed"),
        ("phases/0 effect/comparisons/0 waiting/result", "judged"),
        ("packets/server:eth0/connection 1/3", "packets"),
        ("impairments/0/dropped", "impairments"),
    ],
)
def test_the_kind_of_a_difference_is_told_by_its_path(path: str, reason: str) -> None:
    assert reason_of(path) == reason
