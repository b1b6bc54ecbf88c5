"""`harness compare` of stored evidence: what changed, the verdicts alone, everything exactly; and its exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from harness.cli import cli, main
from harness.cli.compare import EXACTLY
from harness.evidence.canonical import Topic
from harness.evidence.types import Note
from harness.evidence.values import value_of
from tests.report.made_evidence import claim, compared, crashed, dropped_ack, phase, phases, run, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.evidence.types import Run


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
    return result.exit_code, result.output.replace(f"harness: {EXACTLY.format('a', 'b')}\n", "")


def waiting(measured: int, **parts: Any) -> Run:
    """A run that measured another value."""
    return run(phases=phases(compared("waiting", measured, 10, measured)), **parts)


def test_two_runs_that_measured_the_same_do_not_differ(place: Path) -> None:
    save(place / "b", claim(), run(started=1.0), run(params="ipv6"))
    code, said = called()
    assert code == 0
    assert said == (
        "6.1.2 · a -> 6.1.2 · b: 1 claim compared: 1 the same, 0 with another verdict, 0 measured otherwise; "
        "0 measurements moved as they may\n"
    )


def test_what_changed_is_told_with_its_place_and_how_far(place: Path) -> None:
    save(place / "b", claim(), waiting(12), run(params="ipv6"))
    code, said = called()
    assert code == 1
    assert said.splitlines()[:2] == [
        "queue.limit: refuted",
        "  test_limit[ipv4]  effect 1: nobody accepts: waiting: 11 -> 12  (+1, ×1.09)",
    ]
    assert "0 the same, 0 with another verdict, 1 measured otherwise" in said


def test_another_verdict_is_told_test_by_test(place: Path) -> None:
    save(place / "b", claim(), run(), run(params="ipv6", verdict="holds", outcome="unexpected"))
    code, said = called()
    assert code == 1
    assert said.splitlines()[:2] == [
        "queue.limit: refuted -> unexpected",
        "  test_limit[ipv6]: refuted -> unexpected",
    ]


def test_two_kernels_are_compared_test_by_test_though_their_names_differ(place: Path) -> None:
    save(place / "a", claim(), run(version="5.2.9", kernel_name="5.2.9", verdict="holds"))
    save(place / "b", claim(), run(kernel_name="running"))
    code, said = called()
    assert code == 1
    assert said.startswith("queue.limit: holds -> refuted\n  test_limit[ipv4]: holds -> refuted\n")
    assert "5.2.9 -> 6.1.2: 1 claim compared" in said


def test_two_kernels_of_one_directory(place: Path) -> None:
    save(place / "both", claim(), run(version="5.2.9", verdict="holds"), run())
    result = CliRunner().invoke(cli, ["compare", "5.2", "6.1.2", "--evidence", "both"])
    assert (result.exit_code, result.output.splitlines()[0]) == (1, "queue.limit: holds -> refuted")


def test_kernels_of_two_directories_are_compared_each_with_itself(place: Path) -> None:
    for side in ("a", "b"):
        save(place / side, claim(), run(version="5.2.9", verdict="holds"), run())
    code, said = called()
    assert (code, said.count("1 claim compared: 1 the same")) == (0, 2)
    save(place / "b", claim(), run())
    code, said = called()
    assert code == 2
    assert "harness: b has no run of 5.2.9-amd64\n" in said


def test_only_the_claims_that_are_named_are_compared(place: Path, complaint: Callable[..., str]) -> None:
    for side, measured in (("a", 11), ("b", 12)):
        save(place / side, claim("queue.other"), waiting(measured))
        save(place / side, claim("queue.limit"), waiting(11))
    assert called()[0] == 1
    assert called("--claim", "queue.limit")[0] == 0
    assert complaint("a", "b", "--claim", "nonsense") == (
        "harness: a: no evidence of nonsense here; run `pytest scenarios/ --tcp-evidence a` first\n"
    )


def test_as_a_page(place: Path) -> None:
    save(place / "b", claim(), waiting(12), run(params="ipv6"))
    assert called("--page", "d.html") == (1, "")
    assert "From 6.1.2 · a to 6.1.2 · b" in (place / "d.html").read_text()
    code, said = called("--page", "d.html", "--exact")
    assert (code, "--page shows what changed, not --exact" in said) == (2, True)


def test_for_machines(place: Path) -> None:
    save(place / "b", claim(), waiting(12), run(params="ipv6"))
    code, said = called("--json")
    document = json.loads(said)
    assert (code, document["mode"], document["same"], document["missing"]) == (1, "changes", False, [])
    (pair,) = document["pairs"]
    assert (pair["before"]["label"], pair["compared"], pair["within"]) == ("6.1.2 · a", 1, 0)
    difference = pair["claims"][0]["tests"][0]["differences"][0]
    assert (difference["place"]["kind"], difference["what"], difference["changed"]) == ("effect", "waiting", True)
    assert (difference["before"]["measured"]["value"], difference["after"]["measured"]["value"]) == (11, 12)


# What did not run is never green.


def test_what_came_to_nothing_on_both_sides_is_no_comparison(place: Path) -> None:
    skipped = run(outcome="unsettled", verdict=None, phases=(), reason="needs root")
    for side in ("a", "b"):
        save(place / side, claim(), skipped)
    for mode in ((), ("--verdicts",), ("--exact",)):
        code, said = called(*mode)
        assert code == 2
        assert said.endswith("harness: nothing was compared: 1 tests came to nothing on either side\n")


def test_two_runs_that_died_before_they_measured_are_no_comparison(place: Path) -> None:
    for side in ("a", "b"):
        save(place / side, claim(), crashed())
    assert called()[0] == 2
    save(place / "b", claim(), run())
    code, said = called()
    assert (code, said.splitlines()[0]) == (1, "queue.limit: failed -> refuted")


@pytest.mark.parametrize("mode", [(), ("--verdicts",), ("--exact",)])
def test_what_was_cut_off_is_no_agreement(place: Path, mode: tuple[str, ...]) -> None:
    save(place / "b", claim(), run(), run(params="ipv6"))
    (place / "b" / "cut.json").write_text('{"schema"')
    code, said = called(*mode)
    assert code == 2
    assert "harness: not all can be read: b/cut.json: left out: not an evidence file" in said


def test_what_ran_on_one_side_alone_is_a_difference(place: Path) -> None:
    save(place / "b", claim(), run())
    code, said = called()
    assert (code, "only on 6.1.2 · a: queue.limit test_limit[ipv6]\n" in said) == (1, True)
    save(place / "b", claim("queue.more"), run("test_more"))
    assert "only on 6.1.2 · b: queue.more\n" in called()[1]


# Exactly.


def test_the_same_bytes_are_identical(place: Path) -> None:
    save(place / "b", claim(), run(), run(params="ipv6"))
    code, said = called("--exact")
    assert code == 0
    assert said.splitlines()[0].split()[:2] == ["queue.limit", "identical"]
    assert said.endswith(
        "Linux 6.1.2-amd64: 1 claim: 1 identical, 0 the same but for stamps, 0 differ, 0 only in A, 0 only in B\n"
    )


def test_another_time_of_day_is_a_stamp_and_named(place: Path) -> None:
    save(place / "b", claim(), run(started=1.0), run(params="ipv6"))
    code, said = called("--exact")
    assert code == 0
    assert "queue.limit  but for stamps  " in said
    assert "date 2" in said
    assert said.endswith("0 identical, 1 the same but for stamps, 0 differ, 0 only in A, 0 only in B\n")


def test_another_measurement_differs_and_is_told_with_its_place(place: Path) -> None:
    save(place / "a", claim(), waiting(11))
    save(place / "b", claim(), waiting(12))
    code, said = called("--exact")
    assert code == 1
    assert "queue.limit  differs" in said
    assert '  test_limit[ipv4]  phases/0/comparisons/0/measured: ["count", 11] -> ["count", 12]\n' in said
    assert "claims that differ, by what differs: " in said


def test_a_capture_is_compared_too(place: Path, complaint: Callable[..., str]) -> None:
    for side, repeats in (("a", 2), ("b", 3)):
        save(place / side, claim(), run(packets="p.pcapng"))
        (place / side / "p.pcapng").write_bytes(dropped_ack(repeats=repeats))
    code, said = called("--exact", "--all")
    assert code == 1
    assert "packets/server:eth0/1/" in said
    (place / "b" / "p.pcapng").write_bytes(dropped_ack(repeats=2, source=50000))
    code, said = called("--exact")
    assert code == 0
    assert "0 identical, 1 the same but for stamps" in said
    (place / "b" / "p.pcapng").write_bytes(bytes.fromhex("d4c3b2a1") + bytes(20))
    assert complaint("a", "b", "--exact").startswith("harness: b/p.pcapng: cannot be read: it is a classic pcap, not")
    (place / "b" / "p.pcapng").unlink()
    assert complaint("a", "b", "--exact") == "harness: b/p.pcapng: cannot be read: No such file or directory\n"


def test_a_test_or_a_claim_of_one_side_alone_is_no_exact_agreement(place: Path) -> None:
    save(place / "b", claim(), run())
    code, said = called("--exact")
    assert code == 1
    assert "  test_limit[ipv6]  run: there -> -\n" in said
    save(place / "a", claim("queue.more"), run())
    code, said = called("--exact")
    assert code == 1
    assert "queue.more   only in A\n" in said
    assert said.count("run: there -> -") == 1
    assert "1 differ, 1 only in A, 0 only in B\n" in said


def test_of_many_differences_the_first_are_shown_and_the_rest_counted(place: Path) -> None:
    for side, more in (("a", 0), ("b", 90)):
        many = [compared(f"value {n}", n + more, n, n + more) for n in range(9)]
        save(place / side, claim(), run(phases=(phase("effect", "all", *many),)))
    first = called("--exact")[1]
    assert "  … 24 more\n" in first
    assert "comparisons/8/measured" not in first
    assert 'comparisons/8/measured: ["count", 8] -> ["count", 98]' in called("--exact", "--all")[1]


def test_what_a_terminal_would_obey_is_shown_and_not_done(place: Path) -> None:
    hostile = "\x1b[2J\u202e<script>"
    for side, text in (("a", hostile), ("b", "other")):
        notes = (Note(hostile, value_of(text)),)
        effect = phase("effect", hostile, compared(hostile, text, text), notes=notes)
        save(place / side, claim(), run(phases=(effect,)))
    said = called("--exact", "--all")[1] + called()[1]
    assert "�[2J�<script>: �[2J�<script> -> other" in said
    assert "\x1b" not in said


def test_exactly_and_for_machines_there_is_everything(place: Path) -> None:
    save(place / "a", claim(), waiting(11))
    save(place / "b", claim(), waiting(12))
    code, said = called("--exact", "--json")
    (pair,) = json.loads(said)["pairs"]
    assert code == 1
    (agreement,) = pair["claims"]
    assert (pair["kernel"], agreement["claim"], agreement["agreement"]) == ("6.1.2-amd64", "queue.limit", "differs")
    first = agreement["lines"][0]
    assert (first["test"], first["before"], first["about"]) == ("test_limit[ipv4]", '["count", 11]', Topic.MEASURED)
    assert agreement["stamps"]["date"] == 1


# Verdicts alone.


def test_the_same_verdicts_agree_whatever_was_measured(place: Path) -> None:
    save(place / "b", claim(), waiting(12), run(params="ipv6", started=5.0))
    said = "Linux 6.1.2-amd64: 1 claim: 1 with the same verdict, 0 with another, 0 only in A, 0 only in B\n"
    assert called("--verdicts") == (0, said)


def test_the_name_of_the_kernel_in_a_test_is_no_difference(place: Path) -> None:
    save(place / "b", claim(), run(kernel_name="6.1.2"), run(params="ipv6", kernel_name="running"))
    assert called("--verdicts")[0] == 0
    save(place / "a", claim(), run(verdict="holds"), run(params="ipv6"))
    save(place / "b", claim(), run(kernel_name="6.1.2"), run(params="ipv6", kernel_name="running", verdict="holds"))
    code, said = called("--verdicts")
    assert code == 1
    assert said.startswith("queue.limit  holds [ipv4], refuted [ipv6] -> refuted [ipv4], holds [ipv6]\n")


def test_another_verdict_is_told_with_what_was_measured(place: Path) -> None:
    save(place / "a", claim(), run(), run(params="ipv6"))
    save(place / "b", claim(), waiting(10, verdict="holds"), waiting(12, params="ipv6"))
    code, said = called("--verdicts")
    assert code == 1
    assert said.splitlines()[:2] == [
        "queue.limit  refuted [ipv4] -> holds [ipv4]",
        "  test_limit[ipv4]  effect 1: nobody accepts: waiting: 11 -> 10  (-1, ×0.909)  kernel -> document",
    ]
    assert "ipv6]  effect" not in said
    assert "0 with the same verdict, 1 with another" in said


def test_claims_of_one_side_are_listed(place: Path) -> None:
    save(place / "b", claim(), run(), run(params="ipv6"))
    save(place / "b", claim("queue.more"), run())
    code, said = called("--verdicts")
    assert code == 1
    assert "queue.more  - -> refuted\n" in said
    assert "1 with the same verdict, 0 with another, 0 only in A, 1 only in B" in said
    (pair,) = json.loads(called("--verdicts", "--json")[1])["pairs"]
    assert [(each["claim"], each["before"]) for each in pair["claims"]] == [
        ("queue.limit", {"test_limit[ipv4]": "refuted", "test_limit[ipv6]": "refuted"}),
        ("queue.more", {}),
    ]


# Bad input.


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"schema": 1}, "b/queue.limit.json: evidence of schema 1, this harness reads schema 2: run the scenarios"),
        ({"harness": "9"}, "evidence of different versions of the harness is not mixed"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(
    place: Path, head: dict[str, Any], said: str, complaint: Callable[..., str]
) -> None:
    save(place / "b", claim(), run(), **head)
    for mode in ((), ("--verdicts",), ("--exact",)):
        line = complaint("a", "b", *mode)
        assert line.startswith(f"harness: {said}")
        assert line.count("\n") == 1


def test_kernels_that_cannot_be_compared_exactly_are_named(place: Path, complaint: Callable[..., str]) -> None:
    save(place / "b", claim(), run(version="5.2.9"))
    assert complaint("a", "b", "--exact") == (
        "harness: --exact compares two runs on the same kernel, not 6.1.2-amd64 with 5.2.9-amd64\n"
    )
    save(place / "b", claim(), run(version="5.2.9"), run(version="5.4.1"))
    assert complaint("a", "b").startswith("harness: no kernel in common: a is of 6.1.2-amd64; b is of 5.2.9-amd64, 5.4")


def test_a_kernel_is_named_by_its_version_or_the_beginning_of_it(place: Path, complaint: Callable[..., str]) -> None:
    save(place / "a", claim(), run(), run(version="6.12.7"))
    assert complaint("5.4", "6.1.2", "--evidence", "a") == (
        "harness: 5.4: no such kernel in the evidence; there are 6.1.2, 6.12.7\n"
    )
    assert complaint("6", "6.1.2", "--evidence", "a") == "harness: 6 means 6.1.2, 6.12.7: name one of them\n"
    assert complaint("6.1", "6.1.2", "--evidence", "a") == "harness: 6.1 6.1.2: both are 6.1.2; name two\n"


def test_facts_are_those_of_kernels(place: Path, complaint: Callable[..., str]) -> None:
    assert complaint("a", "a", "--facts") == (
        "harness: --facts starts kernels and reads them: name kernels, not evidence\n"
    )


def test_a_page_is_of_two_kernels(place: Path, complaint: Callable[..., str]) -> None:
    for side in ("a", "b"):
        save(place / side, claim(), run(), run(version="5.2.9"))
    assert complaint("a", "b", "--page", "x.html").startswith("harness: a page shows two kernels: name them")
    assert not (place / "x.html").exists()


# The words of before.


def test_who_had_two_directories_compared_byte_for_byte_is_told_the_new_word(place: Path) -> None:
    save(place / "b", claim(), run(), run(params="ipv6"))
    told = CliRunner().invoke(cli, ["compare", "a", "b"]).stderr
    assert told == "harness: this is what changed; byte for byte, as before: harness compare --exact a b\n"
    assert CliRunner().invoke(cli, ["compare", "a", "b", "--exact"]).stderr == ""
    assert CliRunner().invoke(cli, ["compare", "a", "b", "--json"]).stderr == ""


def test_report_diff_says_its_new_words(place: Path) -> None:
    save(place / "b", claim(), waiting(12), run(params="ipv6"))
    result = CliRunner().invoke(cli, ["report", "--diff", "a", "b", "-o", "d.html"])
    assert (result.exit_code, result.output) == (
        0, "harness: harness report --diff is now: harness compare a b --page d.html\nd.html\n"
    )  # fmt: skip
    result = CliRunner().invoke(cli, ["report", "a", "b", "--diff", "6.1.2 · a", "6.1.2 · b", "-o", "e.html"])
    assert result.exit_code == 0
    assert "--evidence a --evidence b --page e.html\n" in result.output
    assert (place / "d.html").read_text() == (place / "e.html").read_text()
