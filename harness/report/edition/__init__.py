"""A corrected edition of the documents: what they say, heading by heading and line by line, and what is true.

In English in full, and in Chinese what is to be corrected; both from the same claims, texts and evidence.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from harness.errors import BadInput
from harness.evidence.codec import read_directory
from harness.report.edition import prose
from harness.report.edition.building import Sources, build

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from jinja2 import Environment

    from harness.evidence.types import Kernel
    from harness.report.edition.measured import Runs
    from harness.report.edition.model import Edition

__all__ = ["Sources", "make", "write", "write_chinese"]


def make(sources: Sources, evidence: Path, also: Iterable[Path] = ()) -> Edition:
    """The edition of the kernel that `evidence` is of; `also` has evidence of other kernels.

    BadInput if there is no evidence, or if the first is of several kernels.
    """
    runs: Runs = {}
    kernels = _gather(evidence, sources, runs)
    if len(kernels) > 1:
        versions = ", ".join(sorted({kernel.version for kernel in kernels}))
        raise BadInput(f"{evidence}: evidence of several kernels ({versions}); an edition is of one")
    for directory in also:
        _gather(directory, sources, runs)
    return build(sources, kernels.pop(), runs)


def write(edition: Edition) -> str:
    """The edition as Markdown, in English. A claim that stands in several places is told in full at the first."""
    return _written("edition.md.jinja", edition)


def write_chinese(edition: Edition) -> str:
    """The corrections alone, as Markdown in Chinese."""
    return _written("edition.zh.md.jinja", edition)


def _written(template: str, edition: Edition) -> str:
    text = _environment().get_template(template).render(edition=edition)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("harness.report", "templates"), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.filters |= {
        "sentence": prose.sentence,
        "capital": prose.capital,
        "when": prose.when,
        "when_zh": prose.when_in_chinese,
        "known": prose.known,
        "known_zh": prose.known_in_chinese,
        "in_words": prose.in_words,
        "in_chinese": prose.in_chinese,
    }
    return environment


def _gather(directory: Path, sources: Sources, runs: Runs) -> set[Kernel]:
    """Add the runs of a directory; the kernels that settled a claim there."""
    contents = read_directory(directory)
    if contents.notices:
        raise BadInput(f"{directory}: {contents.notices[0]}")
    kernels: dict[str, Kernel] = {}
    for file in contents.files:
        for run in file.runs if file.claim.name in sources.claims else ():
            runs.setdefault(file.claim.name, {}).setdefault(run.kernel.version, []).append(run)
            if run.verdict:
                kernels[run.kernel.version] = run.kernel
    if not kernels:
        raise BadInput(f"{directory}: no evidence of a settled claim here; run `pytest scenarios/` first")
    return set(kernels.values())
