"""What is made of costs that were measured in pairs: a bound is met, or not, or the pairs do not agree."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from bench import against
from bench.against import BEGIN, END, Cost, Measure, Side
from harness.claims.files import load

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("values", "bound", "told"),
    [
        ([1, 2, 3, 4, 5], 4, "yes"),
        ([1, 2, 3, 4, 5], 1.5, "NO"),
        ([1, 2, 3, 4, 5], 3, "too noisy"),
        ([2], 2, "yes"),
        ([2], 1.9, "NO"),
    ],
)
def test_a_bound_is_judged_by_the_middle_half(values: list[float], bound: float, told: str) -> None:
    assert against.judged(against.quartiles(values), bound) == told


def test_the_ratio_is_that_of_pairs_and_of_processor_times() -> None:
    # The machine became slower for both: of the medians alone the ratio would be another.
    ours, theirs = [Cost(9, 1), Cost(9, 2), Cost(9, 10)], [Cost(1, 2), Cost(1, 4), Cost(1, 20)]
    found = against.outcome("x", Measure((), ratio=0.5), ours, theirs)
    assert found.ratio == (0.5, 0.5, 0.5)
    assert found.verdicts == ("ratio at most 0.5: yes",)
    assert found.row == "| x | 4.00 s | 1.00 s | 2.00 s | 9.00 s | 0.50 (0.50 to 0.50) | ratio at most 0.5: yes |"


@pytest.mark.parametrize(
    ("cost", "told"),
    [
        (Cost(3, 2), "at most 4 s: yes"),
        (Cost(5, 4), "at most 4 s: NO"),
        (Cost(9, 4.5), "at most 4 s: NO"),
        (Cost(9, 2), "at most 4 s: too noisy, the machine is busy"),
    ],
)
def test_seconds_that_others_took_do_not_count(cost: Cost, told: str) -> None:
    assert against.outcome("x", Measure((), seconds=4), [cost], [cost]).verdicts == (told,)


def test_a_side_runs_its_own_harness_with_its_own_cache(tmp_path: Path) -> None:
    (tmp_path / "other" / "harness").mkdir(parents=True)
    (tmp_path / "other" / "harness" / "__init__.py").write_text("")
    side = Side(tmp_path / "other", tmp_path / "work")
    check = "import harness, os, sys; open('here', 'w').write(f'{harness.__file__} {os.environ[\"HARNESS_CACHE\"]}')"
    cost = side.run(("-c", check))
    assert cost.seconds > 0
    assert cost.busy > 0
    said = (tmp_path / "other" / "here").read_text()
    assert said == f"{tmp_path}/other/harness/__init__.py {tmp_path}/work/cache"
    kept = tmp_path / "work" / "cache" / "states"
    kept.mkdir()
    side.run(("-c", ""), without=("images",))
    assert kept.exists()
    side.run(("-c", ""), without=("states",))
    assert not kept.exists()
    with pytest.raises(subprocess.CalledProcessError):
        side.run(("-c", "raise SystemExit(3)"))


def test_a_process_that_nobody_waits_for_is_counted(tmp_path: Path) -> None:
    side = Side(tmp_path, tmp_path / "work")
    # It works when its parent is gone.
    works = """import os, time
parent = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == parent:
    pass
began = time.process_time()
while time.process_time() < began + 1:
    pass
"""
    began = time.perf_counter()
    cost = side.run(("-c", works))
    assert cost.busy >= 1
    assert cost.seconds <= time.perf_counter() - began - 0.5


def test_new_rows_take_the_place_of_those_of_the_same_name() -> None:
    page = f"# Costs\n\n{BEGIN}{END}\nmore\n"
    head = "| what | a |\n|---|---|\n"
    once = against.written(page, f"{head}| one | 1 |\n| two | 2 |\n")
    assert once == f"# Costs\n\n{BEGIN}{head}| one | 1 |\n| two | 2 |\n{END}\nmore\n"
    again = against.written(once, f"{head}| two | 3 |\n")
    assert again == f"# Costs\n\n{BEGIN}{head}| one | 1 |\n| two | 3 |\n{END}\nmore\n"


@pytest.mark.parametrize("words", [[str(against.HERE), "nonsense"], ["/nowhere"]])
def test_what_is_asked_for_wrongly_is_said(words: list[str]) -> None:
    command = [sys.executable, "-m", "bench.against", *words]
    ran = subprocess.run(command, cwd=against.HERE, check=False, capture_output=True, text=True)
    assert ran.returncode == 2
    assert ran.stderr.splitlines()[-1].startswith(f"python -m bench.against: error: {words[-1]}: ")


def test_the_other_checkout_runs_what_it_has_in_its_place(tmp_path: Path) -> None:
    ours, theirs = (Side(tmp_path / name, tmp_path / f"{name} work") for name in ("ours", "theirs"))
    for side in (ours, theirs):
        side.checkout.mkdir()
    measure = Measure(("-c", "open('a', 'w')"), then=("-c", "open('b', 'w')"))
    against.compare("x", measure, ours, theirs, 2)
    assert [sorted(file.name for file in side.checkout.iterdir()) for side in (ours, theirs)] == [["a"], ["b"]]
    against.compare("x", Measure(("-c", "open('c', 'w')")), ours, theirs, 1)
    assert all((side.checkout / "c").exists() for side in (ours, theirs))


def test_claims_that_both_checkouts_have_are_selected(tmp_path: Path) -> None:
    for name, claims in (("ours", "abc"), ("theirs", "bcd")):
        file = tmp_path / name / "scenarios" / "incidents" / "test_it.py"
        file.parent.mkdir(parents=True)
        file.write_text("".join(f'@pytest.mark.claim("group.{claim}")\n' for claim in claims))
    both = against.claims_of_both(tmp_path / "ours", tmp_path / "theirs")
    assert both == ["group.b", "group.c"]
    side = Side(tmp_path / "ours", tmp_path / "work", both)
    side.run(("-c", "import sys; open('here', 'w').write(' '.join(sys.argv[1:]))", "before", "{claims}", "after"))
    assert (tmp_path / "ours" / "here").read_text() == "before --claim group.b --claim group.c after"


def test_the_claims_of_a_checkout_are_those_that_its_scenarios_name() -> None:
    assert against.claims_of_both(against.HERE) == sorted(load(against.HERE / "scenarios" / "claims"))


def test_where_no_claim_is_in_both_nothing_runs_that_would_select_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "theirs" / "harness").mkdir(parents=True)
    runs = ("-c", f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.setattr(against, "MEASURES", {"a": Measure((*runs, "{claims}")), "b": Measure(runs)})
    monkeypatch.setattr(sys, "argv", ["against", str(tmp_path / "theirs"), "a", "b", "--rounds", "1"])
    with pytest.raises(SystemExit):
        against.main()
    assert "error: a: " in (said := capsys.readouterr().err)
    assert "have no claim in common" in said
    assert not (tmp_path / "ran").exists()
    monkeypatch.setattr(sys, "argv", ["against", str(tmp_path / "theirs"), "b", "--rounds", "1"])
    assert against.main() == 0
    assert (tmp_path / "ran").exists()


def test_what_was_measured_before_a_run_failed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "theirs" / "harness").mkdir(parents=True)
    # Theirs is the first of a round.
    fails = f"import os; print('odd'); raise SystemExit(3 * (os.getcwd() != {str(tmp_path / 'theirs')!r}))"
    monkeypatch.setattr(against, "MEASURES", {"odd": Measure(("-c", fails)), "even": Measure(("-c", ""))})
    monkeypatch.setattr(sys, "argv", ["against", str(tmp_path / "theirs"), "--rounds", "1"])
    assert against.main() == 1
    said = capsys.readouterr()
    first, second, *rest = said.err.splitlines()
    assert first == "odd: a run ended with 3"
    assert second.startswith(f"odd in {tmp_path}/theirs: 0.")
    assert rest[0] == "odd"
    assert said.out.startswith("| even | ")
