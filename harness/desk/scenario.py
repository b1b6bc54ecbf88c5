"""A finding as a scenario for pytest: one file, to take home and keep, made from a template for each experiment."""

from __future__ import annotations

import ast
import textwrap
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING

from harness.desk.scale import UNSAFE, harmless

if TYPE_CHECKING:
    from jinja2 import Environment

    from harness.desk.catalogue import Case
    from harness.desk.nearest import Nearest

WIDTH = 116


def file_name(case: Case) -> str:
    """What the file is to be called, so that pytest finds it."""
    return f"test_{case.finding.diagnosis.replace('-', '_')}.py"


def render(case: Case, kernel: Nearest, file: str) -> str:
    """The whole file; `file` is where it will be, as far as is known. It is Python, or nothing is returned."""
    experiment = case.experiment
    template = _templates().get_template(f"{experiment.TEMPLATE}.py.jinja")
    text = template.render(story=story(case, kernel, file), **experiment.words())
    ast.parse(text)
    return text


def story(case: Case, kernel: Nearest, file: str) -> str:
    """What the scenario's docstring says: the finding, the machine's numbers, the scale, the kernel, the command."""
    machine = f"On the machine{f' (Linux {case.kernel})' if case.kernel else ''}: {'; '.join(case.reasons)}."
    scale = "; ".join(
        f"{setting.what}: {setting.here}{f' for {setting.there}' if setting.there else ''}"
        for setting in case.experiment.scale
    )
    parts = [
        machine,
        " ".join((f"On the desk: {scale}.", *case.experiment.notes)),
        f"Kernel: {harmless(kernel.why, 300)}. To run it:",
    ]
    wrapped = [textwrap.fill(part, WIDTH, break_on_hyphens=False) for part in parts]
    command = "    " + kernel.command(_safe_name(file, case))
    first, *more = textwrap.wrap(f"{case.what}.", WIDTH, break_on_hyphens=False)
    return "\n\n".join(["\n".join([first, *more]), *wrapped, command])


def _safe_name(file: str, case: Case) -> str:
    """A file's name as it may stand in the file, without the directory, which is the user's own."""
    name = PurePath(file).name
    return file_name(case) if UNSAFE.search(name) else name


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # No page, so nothing is escaped: what comes from files has gone through harmless().
    return Environment(
        loader=PackageLoader("harness.desk", "templates"), autoescape=False, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
