"""A corrected edition of the documents: what they say, heading by heading, with verdict, measurement and since when."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from harness.claims.files import OLDEST
from harness.claims.stored import rounded
from harness.errors import BadInput
from harness.laws.kernel import KernelVersion
from harness.laws.releases import spell_release

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from harness.claims.data import Claim, Expectation
    from harness.claims.documents import Document
    from harness.laws.kernel import Release

MEASUREMENTS = 3
LONGEST = 160


def corrected(claims: Mapping[str, Claim], documents: Mapping[str, Document], evidence: Path) -> str:
    """The edition as Markdown; `evidence` is the directory with the evidence of a run, on one kernel.

    A claim that stands under several headings is told in full under the first. BadInput if there is no evidence.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    runs = {name: found for name in claims if (found := _run_of(evidence / f"{name}.json"))}
    if not any(run["verdict"] for run in runs.values()):
        raise BadInput(f"{evidence}: no evidence of a settled claim here; run `pytest scenarios/` first")
    kernels = sorted({run["kernel"]["version"] for run in runs.values()})
    if len(kernels) > 1:
        raise BadInput(f"{evidence}: evidence of several kernels ({', '.join(kernels)}); an edition is of one")
    kernel = KernelVersion.parse(kernels[0])
    environment = Environment(
        loader=PackageLoader("harness.claims", "."), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.filters["short"] = _short
    told: set[str] = set()
    chapters = []
    for document in documents.values():
        sections = []
        for heading in document.headings:
            under = [claim for claim in claims.values() if _stands(claim, document.id, heading)]
            entries = [_entry(claim, runs.get(claim.name), first=claim.name not in told) for claim in under]
            told.update(claim.name for claim in under)
            if entries:
                sections.append({"heading": heading, "entries": entries})
        chapters.append({"document": document, "sections": sections})
    verdicts = {name: _verdict(runs.get(name)) for name in claims}
    groups: dict[str, Counter[str]] = {}
    for name, claim in claims.items():
        groups.setdefault(claim.group, Counter())[verdicts[name]] += 1
    text = environment.get_template("edition.md.jinja").render(
        chapters=chapters, groups=groups, total=Counter(verdicts.values()), kernel=kernel
    )
    return text.rstrip() + "\n"


def _stands(claim: Claim, document: str, heading: str) -> bool:
    return any((source.document, source.heading) == (document, heading) for source in claim.sources)


def _run_of(file: Path) -> dict[str, Any] | None:
    """A run of a claim: the first that came to a verdict, if any did."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadInput(f"{file}: not evidence: {error}") from None
    runs: list[dict[str, Any]] = found.get("runs", [])
    return next((run for run in runs if run["verdict"]), runs[0] if runs else None)


def _verdict(run: dict[str, Any] | None) -> str:
    return "not settled" if run is None or not run["verdict"] else str(run["verdict"]).replace("-", " ")


def _entry(claim: Claim, run: dict[str, Any] | None, *, first: bool) -> dict[str, Any]:
    return {
        "claim": claim,
        "first": first,
        "verdict": _verdict(run),
        "expectations": _since(claim),
        "measured": [] if run is None else _measured(run),
        "absence": run.get("absence") if run else None,
        "unsettled": run["reason"] if run and not run["verdict"] else None,
    }


def _since(claim: Claim) -> list[dict[str, Any]]:
    """Each account of the kernel with the ranges that it holds for, in the order of the first of them.

    What went to several stable series has a range in each of them.
    """
    accounts: dict[tuple[str, str, str, str], list[Expectation]] = {}
    for one in claim.expectations:
        commit = (one.boundary.commit, one.boundary.subject) if one.boundary else ("", "")
        accounts.setdefault((str(one.verdict), one.because, *commit), []).append(one)
    return [
        {
            "verdict": verdict.replace("-", " "),
            "kernels": ", ".join(filter(None, (_spelled(one, alone=len(claim.expectations) == 1) for one in ranges))),
            "because": because,
            "boundary": _named(ranges),
            "subject": subject,
        }
        for (verdict, because, _, subject), ranges in accounts.items()
    ]


def _named(ranges: list[Expectation]) -> str:
    """The commit of a boundary, and each release that it came with."""
    boundaries = [one.boundary for one in ranges if one.boundary]
    if not boundaries:
        return ""
    first = boundaries[0]
    releases = ", ".join(dict.fromkeys(one.release for one in boundaries))
    return str(dataclasses.replace(first, release=releases))


def _spelled(one: Expectation, *, alone: bool) -> str:
    """The ranges in words; of a claim with one verdict for all kernels, nothing."""
    return ", ".join(filter(None, (_spelled_range(first, end, alone=alone) for first, end in one.ranges)))


def _spelled_range(first: Release, end: Release | None, *, alone: bool) -> str:
    if end is None:
        return "" if alone else f"since {spell_release(first)}"
    return (
        f"before {spell_release(end)}"
        if first <= OLDEST
        else f"from {spell_release(first)} to before {spell_release(end)}"
    )


def _measured(run: dict[str, Any]) -> list[dict[str, Any]]:
    """The measurements that the verdict rests on, by phase: of each thing measured one, those that refute first."""
    all_of_them = [
        {"phase": phase["title"], **one}
        for phase in run["phases"]
        for one in phase["comparisons"]
        if phase["kind"] == "effect" and "document" in one
    ]
    telling = [one for one in all_of_them if one["result"] == "kernel"] or all_of_them
    first_of_each: dict[str, dict[str, Any]] = {}
    for one in telling:
        first_of_each.setdefault(one["what"], one)
    phases: dict[str, list[dict[str, Any]]] = {}
    for one in list(first_of_each.values())[:MEASUREMENTS]:
        phases.setdefault(one["phase"], []).append(one)
    return [{"phase": phase, "each": each} for phase, each in phases.items()]


def _short(value: object) -> str:
    """A measured value in a sentence."""
    text = value if isinstance(value, str) else json.dumps(rounded(value), ensure_ascii=False)
    text = " ".join(str(text).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
