"""The defects of bench/mutants: each says what it is, is small and in its place; every group of claims has some."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from bench.mutants import __main__ as command
from bench.mutants import patches, source, table
from bench.mutants.source import CONFIG, Tree
from bench.mutants.trial import Catch, Trial, files_of, stages
from harness.claims.files import load
from harness.errors import BadInput, MissingProgram

ROOT = Path(__file__).parents[2]
CLAIMS = load(ROOT / "scenarios" / "claims").values()
MUTANTS = patches.read_all()
PATCH = """The queue is too short.

Group: accept-queue
Kind: one off
Family: ipv4
Claims: capacity, tw-reuse.default

--- a/net/ipv4/tcp.c
+++ b/net/ipv4/tcp.c
@@ -1 +1 @@
-old
+new
"""


def written(directory: Path, text: str) -> Path:
    path = directory / "001-short.patch"
    path.write_text(text)
    return path


def test_a_patch_says_what_it_is(tmp_path: Path) -> None:
    mutant = patches.read(written(tmp_path, PATCH))
    assert (mutant.name, mutant.title, mutant.group) == ("001-short", "The queue is too short.", "accept-queue")
    assert mutant.claims == ("accept-queue.capacity", "tw-reuse.default")
    assert mutant.files == ("net/ipv4/tcp.c",)


@pytest.mark.parametrize(
    ("old", "new"), [("Kind: one off", "Kind: odd"), ("Group: ", "Groups: "), ("Family: ipv4", ""), ("---", "")]
)
def test_a_head_that_lacks_something_is_refused_by_file(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(BadInput, match=r"001-short\.patch: "):
        patches.read(written(tmp_path, PATCH.replace(old, new)))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_defect_is_a_few_lines_of_the_network(mutant: patches.Mutant) -> None:
    assert mutant.files
    assert all(file.startswith(patches.PLACES) for file in mutant.files)
    changed = re.findall(r"^[+-](?![+-] ?[ab]/|[+-]{2})", mutant.changes, re.MULTILINE)
    assert 0 < len(changed) <= 20


def test_groups_and_claims_that_are_named_exist() -> None:
    known = {claim.name for claim in CLAIMS}
    assert {name for mutant in MUTANTS for name in mutant.claims} <= known
    assert {mutant.group for mutant in MUTANTS} <= {claim.group for claim in CLAIMS}


def test_every_group_has_four() -> None:
    counts = Counter(mutant.group for mutant in MUTANTS)
    groups = {claim.group for claim in CLAIMS} - {"incidents"}
    assert {group: counts[group] for group in groups if counts[group] < 4} == {}
    assert len(MUTANTS) >= 40


def test_they_are_spread() -> None:
    assert {mutant.kind for mutant in MUTANTS} == set(patches.KINDS)
    assert sum(mutant.family == "ipv6" for mutant in MUTANTS) >= 5


def test_mutants_are_chosen_by_name_and_group() -> None:
    first = MUTANTS[0]
    assert patches.choose([first.name[:8]], MUTANTS) == [first]
    assert {mutant.group for mutant in patches.choose(["tw-reuse"], MUTANTS)} == {"tw-reuse"}
    with pytest.raises(BadInput, match="nonsense: "):
        patches.choose(["nonsense"], MUTANTS)


def test_the_first_of_each_group_come_first() -> None:
    groups = {mutant.group for mutant in MUTANTS}
    order = patches.spread(MUTANTS)
    assert {mutant.group for mutant in order[: len(groups)]} == groups
    assert sorted(mutant.name for mutant in order) == [mutant.name for mutant in MUTANTS]


def test_the_claims_are_asked_then_the_group_then_all(tmp_path: Path) -> None:
    mutant = patches.read(written(tmp_path, PATCH))
    files = ["scenarios/test_accept_queue_length.py", "scenarios/test_tw_reuse_when.py"]
    asked = [*files, "--tcp-claim", "accept-queue.capacity", "--tcp-claim", "tw-reuse.default"]
    everything = [
        ("claims", asked),
        ("group", ["scenarios/", "--tcp-claim", "accept-queue"]),
        ("all", ["scenarios/"]),
    ]
    assert list(stages(mutant)) == everything
    assert list(stages(mutant, "group")) == everything[:2]
    assert list(stages(mutant, "all", passed="group")) == everything[2:]
    assert list(stages(mutant, "group", passed="all")) == []
    unnamed = patches.read(written(tmp_path, PATCH.replace("Claims: capacity, tw-reuse.default\n", "")))
    assert [stage for stage, _ in stages(unnamed)] == ["group", "all"]


def test_only_the_files_of_the_claims_are_collected() -> None:
    assert files_of(["no.such-claim"]) == files_of(["accept-queue.capacity", "no.such-claim"]) == ["scenarios/"]
    for mutant in MUTANTS:
        if mutant.claims:
            assert all((ROOT / file).is_file() for file in files_of(mutant.claims)), mutant.name


def test_what_the_build_lacks_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(source, "PROGRAMS", {"no-such-compiler": "some-package"})
    assert command.main(["--build", str(tmp_path), "--check"]) == 2
    assert capsys.readouterr().err == (
        "mutants: no-such-compiler is not installed; on Debian: apt-get install some-package\n"
    )
    monkeypatch.delitem(source.PROGRAMS, "no-such-compiler")
    monkeypatch.setattr(source, "PROGRAMS", {})
    monkeypatch.setattr(source, "HEADERS", {str(tmp_path / "some.h"): "some-dev"})
    with pytest.raises(MissingProgram, match="some-dev"):
        Tree(tmp_path).prepare()


@pytest.mark.skipif(not shutil.which("patch"), reason="patch is not installed; on Debian: apt-get install patch")
def test_a_tree_that_was_left_changed_is_restored(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    changed = tree.source / "net/ipv4/tcp.c"
    changed.parent.mkdir(parents=True)
    changed.write_text("old\n")
    (tree.source / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 1\n")
    mutant = patches.read(written(tmp_path, PATCH))
    compiled = tree.objects / "net/ipv4/tcp.o"
    compiled.parent.mkdir(parents=True)
    compiled.write_text("of the old\n")
    os.utime(changed, (1, 1))
    os.utime(compiled, (2, 2))
    with tree.applied(mutant):
        assert changed.read_text() == "new\n"
        assert changed.stat().st_mtime > 2
        compiled.write_text("of the new\n")
    assert (changed.read_text(), compiled.read_text()) == ("old\n", "of the old\n")
    assert changed.stat().st_mtime == 1  # older than its object, which make takes for new
    assert compiled.stat().st_mtime > 2
    kept = tree.originals / changed.relative_to(tmp_path)
    kept.parent.mkdir(parents=True)
    kept.write_text("older\n")
    tree.restore()
    assert changed.read_text() == "older\n"
    assert not tree.originals.exists()
    assert "001-short does not apply to linux-source-6.12 6.12.1" in tree.check(mutant)


def test_what_the_compiler_said_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = tmp_path / "bin" / "make"
    make.parent.mkdir()
    make.write_text("#!/bin/sh\necho 'tcp.c:1: error: no such thing'\necho 'more of it'\nexit 2\n")
    make.chmod(0o755)
    monkeypatch.setenv("PATH", f"{make.parent}:{os.environ['PATH']}")
    with pytest.raises(source.BuildFailed, match=r"it does not compile:\ntcp\.c:1: error: no such thing\n"):
        Tree(tmp_path)._make("bzImage", "it")


def test_what_a_kernel_is_made_of_identifies_it(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.source.mkdir()
    (tree.source / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 1\n")
    digests = [tree.digest_of(None), *(tree.digest_of(mutant) for mutant in MUTANTS)]
    assert len(set(digests)) == len(digests)


def test_the_configuration_has_no_modules() -> None:
    assert "=m" not in CONFIG.read_text()
    assert "CONFIG_MODULES=y" not in CONFIG.read_text()


def test_a_trial_that_was_kept_is_known_elsewhere(tmp_path: Path) -> None:
    kept, nowhere = tmp_path / "trials.json", tmp_path / "nowhere"
    caught = Trial("0001-one", "d", "k", "claims", (Catch("a.b", "test_b", "broken", "5 (wanted 6)"),), 1.0)
    assert table.read_trial(nowhere, "0001-one", "d", kept) is None
    table.keep([caught], kept)
    assert table.read_trial(nowhere, "0001-one", "d", kept) == caught
    assert table.read_trial(nowhere, "0001-one", "another kernel", kept) is None


def test_the_table_says_what_survived(tmp_path: Path) -> None:
    mutant = patches.read(written(tmp_path, PATCH))
    catch = Catch("accept-queue.capacity", "test_capacity", "unexplained", "effect: 5 | connect: waiting: 5 (wanted 6)")
    caught = Trial(mutant.name, "d", "k", "claims", (catch,), 1.0)
    table.write_trial(tmp_path, caught)
    assert table.read_trial(tmp_path, mutant.name, "d") == caught
    assert table.read_trial(tmp_path, mutant.name, "another kernel") is None
    shown = table.page("6.12.1", [(mutant, caught)])
    assert "| `net/ipv4/tcp.c` | The queue is too short. |" in shown
    assert "`accept-queue.capacity` | effect: 5 \\| connect: waiting: 5 (wanted 6) |" in shown
    assert "1 caught, 0 not." in shown
    survived = table.page("6.12.1", [(mutant, Trial(mutant.name, "d", "k", "group", (), 1.0))])
    assert "**nothing** (its group alone was asked)" in survived
    assert "0 caught, 1 not." in survived
    assert "| accept-queue | 0 | 0 | 1 | 0 |" in table.page(
        "6.12.1", [(mutant, Trial(mutant.name, "d", "k", "all", (), 1.0, "it panicked"))]
    )


def test_the_table_says_how_the_kernel_without_a_defect_fared() -> None:
    catch = Catch("accept-queue.capacity", "test_capacity", "unexplained", "effect: 5")
    assert "not among the results" in table.page("6.12.1", [])
    assert "passes all scenarios." in table.page("6.12.1", [], Trial("base", "d", "k", "all", (), 1.0))
    failed = table.page("6.12.1", [], Trial("base", "d", "k", "all", (catch,), 1.0))
    assert "does **not** pass all scenarios: `accept-queue.capacity`." in failed


def test_a_trial_is_gone_on_with_only_where_it_survived() -> None:
    def is_settled(stage: str, far: str, catches: tuple[Catch, ...] = (), died: str = "") -> bool:
        return command._is_settled(Trial("m", "d", "k", stage, catches, 1.0, died), far)

    assert not is_settled("claims", "group")
    assert is_settled("group", "group")
    assert is_settled("claims", "all", (Catch("a.b", "t", "unexplained", ""),))
    assert is_settled("claims", "all", died="it panicked")
