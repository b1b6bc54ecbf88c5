"""python -m bench.mutants [NAME…]: build kernels with a defect each, run the scenarios on them, write docs/mutants.md.

A NAME is that of a patch, its beginning, or a group of claims. What is built and what was found is kept below --build.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.mutants import patches, table, trial
from bench.mutants.source import BuildFailed, Tree
from harness.errors import HarnessError
from harness.kernels import places


def parse(words: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a mutant, the beginning of its name, or a group")
    parser.add_argument("--build", type=Path, default=places.cache() / "mutants", help="where to build (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="how many programs build at a time (%(default)s)")
    parser.add_argument("--list", action="store_true", help="list the mutants, and do nothing")
    parser.add_argument("--check", action="store_true", help="only see whether each patch applies")
    parser.add_argument("--compile", action="store_true", help="only build")
    parser.add_argument("--base", action="store_true", help="run all scenarios on the kernel without a defect, too")
    parser.add_argument("--missing", action="store_true", help="leave out mutants that were caught as they are now")
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Do what the command line says; 0 if every mutant was caught, 1 if not, 2 if something cannot be had."""
    asked = parse(words)
    try:
        every = patches.read_all()
        chosen = patches.choose(asked.names, every)
        if asked.list:
            for mutant in chosen:
                print(f"{mutant.name}: {mutant.title} ({mutant.group}, {mutant.kind}, {mutant.family})")
            return 0
        tree = Tree(asked.build.absolute(), asked.jobs)
        tree.prepare()
        if asked.check:
            return _tell([wrong for mutant in chosen if (wrong := tree.check(mutant))])
        return _build_and_try(asked, tree, chosen, every)
    except HarnessError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2


def _build_and_try(
    asked: argparse.Namespace, tree: Tree, chosen: list[patches.Mutant], every: list[patches.Mutant]
) -> int:
    results = tree.directory / "results"
    wrong: list[str] = []
    _say(f"building {tree.version} without a defect")
    base = tree.build(None)
    if asked.base:
        catches, died = trial.run(base, [], tree.directory / "trials" / "base")
        wrong += [f"the kernel without a defect: {catch.claim}: {catch.says}" for catch in catches] + [died] * bool(
            died
        )
    for mutant in chosen:
        digest = tree.digest_of(mutant)
        known = table.read_trial(results, mutant.name, digest)
        if asked.missing and known and not known.survived:
            continue
        try:
            _say(f"{mutant.name}: building")
            image = tree.build(mutant)
        except BuildFailed as error:
            wrong.append(str(error))
            continue
        if asked.compile:
            continue
        tried = trial.try_mutant(mutant, image, digest, tree.directory / "trials")
        table.write_trial(results, tried)
        _say(f"{mutant.name}: {_outcome(tried)}, {tried.seconds:.0f} s")
        wrong += [f"{mutant.name} survived: {mutant.title}"] * tried.survived
    if not asked.compile:
        trials = [(mutant, table.read_trial(results, mutant.name, tree.digest_of(mutant))) for mutant in every]
        table.PAGE.write_text(table.page(tree.version, trials), encoding="utf-8")
    return _tell(wrong)


def _outcome(tried: trial.Trial) -> str:
    if tried.survived:
        return "survived"
    return "caught by " + ", ".join(sorted({catch.claim for catch in tried.catches}))


def _tell(wrong: list[str]) -> int:
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def _say(line: str) -> None:
    print(f"mutants: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
