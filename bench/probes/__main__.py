"""python -m bench.probes [KIND …] [--most N] [--seed S] [--write]: what can be typed and handed over, odd and broken.

The kinds: words (command lines, options, environments; each a process), evidence (to report, in each format),
comparisons (evidence to compare, history and the edition), claims (files of claims and documents), captures, packages
(packages, archives and their signatures), faults (bench.faults), isolation (a run that must leave the machine as it
was). Of each: no traceback, an end, nothing written elsewhere, no process and no temporary file left, no result lost,
a status that is documented. The same seed tries the same. What was seen is kept in docs/probes.json; --write puts the
table into docs/reliability.md. Ends with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bench.probes.judges import KINDS as COLUMNS
from bench.probes.kinds import ALL
from bench.repeat import HERE, PAGE, commit, written

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.probes.kinds import Probed

SEEN = HERE / "docs" / "probes.json"
BEGIN, END = "<!-- measured by bench.probes -->\n", "<!-- end of bench.probes -->\n"


class Seen(msgspec.Struct):
    """How many probes of a kind were tried at a commit, and how many of them showed a defect, by its kind."""

    tried: int
    wrong: dict[str, int]
    seed: int
    commit: str


def counted(probes: Iterable[Probed], name: str) -> tuple[int, Counter[str], bool]:
    """Count them, and print what was wrong with each; whether Ctrl-C or SIGTERM came before the last."""
    tried, wrong = 0, Counter[str]()
    try:
        for probe in probes:
            tried += 1
            wrong.update({each.kind for each in probe.wrong})
            for each in probe.wrong:
                print(f"{name} {probe.number}: {probe.what[:600]}\n    {each.kind}: {_indented(each.seen)}", flush=True)
    except KeyboardInterrupt:
        return tried, wrong, True
    return tried, wrong, False


def _indented(text: str) -> str:
    return text.strip().replace("\n", "\n    ")


def read_seen() -> dict[str, Seen]:
    """What is kept."""
    return msgspec.json.decode(SEEN.read_bytes(), type=dict[str, Seen]) if SEEN.exists() else {}


def table(seen: dict[str, Seen]) -> str:
    """What was tried of each kind, and what it showed."""
    head = [
        "| what | tried | tracebacks | hangs | elsewhere | left behind | results lost | other statuses | commit |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    rows = [
        f"| {ALL[name].about} | {each.tried:,} | {' | '.join(str(each.wrong.get(kind, 0)) for kind in COLUMNS)} "
        f"| {each.commit} |"
        for name in ALL
        if (each := seen.get(name))
    ]
    return "\n".join([*head, *rows]) + "\n"


def options() -> argparse.ArgumentParser:
    """What can be typed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.probes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(ALL)} (default: all)")
    parser.add_argument("--most", type=int, help="of each kind so many at most; kept with --write alone")
    parser.add_argument("--seed", type=int, default=1, help="other probes (%(default)s)")
    parser.add_argument("--write", action="store_true", help="the table goes into docs/reliability.md as well")
    return parser


def main(words: list[str]) -> int:
    """Try them."""
    asked = options().parse_args(words)
    if unknown := [each for each in asked.kinds if each not in ALL]:
        print(f"probes: no kind is called {', '.join(unknown)}: {', '.join(ALL)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    good = True
    for name in asked.kinds or ALL:
        began, kind = time.monotonic(), ALL[name]
        most = kind.tried if asked.most is None else min(asked.most, kind.tried)
        with tempfile.TemporaryDirectory(prefix="harness-probes-") as directory:
            tried, wrong, interrupted = counted(kind.try_them(most, asked.seed, Path(directory)), name)
        good = good and not wrong
        told = ", ".join(f"{kind} {wrong[kind]}" for kind in COLUMNS if wrong[kind]) or "nothing wrong"
        print(f"{name}: {tried} tried in {time.monotonic() - began:.0f} s: {told}", flush=True)
        if asked.most is None or asked.write:
            seen = {**read_seen(), name: Seen(tried, dict(wrong), asked.seed, commit())}
            SEEN.write_bytes(msgspec.json.format(msgspec.json.encode(seen, order="deterministic"), indent=1) + b"\n")
        if interrupted:
            break
    if asked.write:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), table(read_seen()), (BEGIN, END)), encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
