"""python -m bench.mutants [NAME…]: build kernels with a defect each, run the scenarios on them, write docs/mutants.md.

A NAME is that of a patch, its beginning, or a group of claims. What is built and what was found is kept below --build.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from bench.mutants import patches, table, trial
from bench.mutants.source import BuildFailed, Tree
from harness.errors import HarnessError
from harness.kernels import places

# What the kernel without a defect is called among the results.
BASE = "base"


def options() -> argparse.ArgumentParser:
    """What can be typed."""
    parser = argparse.ArgumentParser(prog="python -m bench.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a mutant, the beginning of its name, or a group")
    parser.add_argument("--build", type=Path, default=places.cache() / "mutants", help="where to build (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="how many programs build at a time (%(default)s)")
    parser.add_argument("--results", type=Path, help="where results are kept (results, below --build)")
    parser.add_argument("--far", choices=tuple(trial.STAGES), default="all", help="how far to look (%(default)s)")
    parser.add_argument("--list", action="store_true", help="list the mutants, and do nothing")
    parser.add_argument("--check", action="store_true", help="only see whether each patch applies")
    parser.add_argument("--compile", action="store_true", help="only build")
    parser.add_argument("--table", action="store_true", help="only write docs/mutants.md, of the results there are")
    parser.add_argument("--base", action="store_true", help="run all scenarios on the kernel without a defect, too")
    parser.add_argument("--again", action="store_true", help="try also what was tried as it is now")
    return parser


def main(words: list[str]) -> int:
    """Do what the command line says; 0 if every mutant was caught, 1 if not, 2 if something cannot be had."""
    asked = options().parse_args(words)
    # Whoever ends this ends what it has started: pytest and make are in sessions of their own.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        every = patches.read_all()
        chosen = patches.choose(asked.names, every)
        if asked.list:
            for mutant in chosen:
                print(f"{mutant.name}: {mutant.title} ({mutant.group}, {mutant.kind}, {mutant.family})")
            return 0
        tree = Tree(asked.build.absolute(), asked.jobs)
        # A table can be made while another process builds.
        if not asked.table or not tree.is_unpacked:
            tree.prepare()
        if asked.check:
            return _tell([refused for mutant in chosen if (refused := tree.check(mutant))])
        results = asked.results or tree.directory / "results"
        wrong = [] if asked.table else _build_and_try(asked, tree, patches.spread(chosen), results)
        if not asked.compile:
            _write_page(tree, every, results)
        return _tell(wrong)
    except (HarnessError, OSError) as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mutants: stopped; the same line goes on from here", file=sys.stderr)
        return 130


def _build_and_try(asked: argparse.Namespace, tree: Tree, chosen: list[patches.Mutant], results: Path) -> list[str]:
    """What is wrong, a line each. A mutant's result is written when it has one: whoever stops loses that of one."""
    _say(f"building {tree.version} without a defect")
    base = tree.build(None)
    wrong = _run_base(base, tree, results) if asked.base else []
    for mutant in chosen:
        try:
            wrong += _build_and_try_one(asked, tree, mutant, results)
        except (BuildFailed, trial.NotRun) as error:
            _say(str(error))
            wrong.append(str(error))
    return wrong


def _run_base(image: Path, tree: Tree, results: Path) -> list[str]:
    begun = time.monotonic()
    catches, died = trial.run(image, [trial.SCENARIOS], tree.directory / "trials" / BASE)
    seconds = round(time.monotonic() - begun, 1)
    table.write_trial(results, trial.Trial(BASE, tree.digest_of(None), image.name, "all", catches, seconds, died))
    wrong = [f"the kernel without a defect: {catch.claim}: {catch.says}" for catch in catches]
    return wrong + ([f"the kernel without a defect: {died}"] if died else [])


def _build_and_try_one(asked: argparse.Namespace, tree: Tree, mutant: patches.Mutant, results: Path) -> list[str]:
    digest = tree.digest_of(mutant)
    known = None if asked.again else table.read_trial(results, mutant.name, digest)
    if asked.compile or known is None or not _is_settled(known, asked.far):
        begun = time.monotonic()
        image = tree.build(mutant)
        _say(f"{mutant.name}: built, {time.monotonic() - begun:.0f} s")
        if asked.compile:
            return []
        known = trial.try_mutant(mutant, image, digest, tree.directory / "trials", far=asked.far, before=known)
        table.write_trial(results, known)
    _say(f"{mutant.name}: {_outcome(known)}, {known.seconds:.0f} s")
    return [] if known.catches else [f"{mutant.name} {_outcome(known)}: {mutant.title}"]


def _is_settled(known: trial.Trial, far: str) -> bool:
    names = list(trial.STAGES)
    return not known.survived or names.index(known.stage) >= names.index(far)


def _write_page(tree: Tree, every: list[patches.Mutant], results: Path) -> None:
    trials = [(mutant, table.read_trial(results, mutant.name, tree.digest_of(mutant))) for mutant in every]
    base = table.read_trial(results, BASE, tree.digest_of(None))
    table.PAGE.write_text(table.page(tree.version, trials, base), encoding="utf-8")
    table.keep([known for known in (base, *(trial for _, trial in trials)) if known])


def _outcome(tried: trial.Trial) -> str:
    if tried.catches:
        return "caught by " + ", ".join(sorted({catch.claim for catch in tried.catches}))
    return f"{tried.fate} ({table.FAR[tried.stage]})"


def _tell(wrong: list[str]) -> int:
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def _say(line: str) -> None:
    print(f"mutants: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
