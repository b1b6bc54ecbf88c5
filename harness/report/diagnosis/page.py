"""A diagnosis as a page: one HTML file that needs nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.diagnosis.findings import Diagnosis


def render(diagnosis: Diagnosis) -> str:
    """The page; everything in it is escaped, as files may be anybody's."""
    from harness.report.diagnosis.lines import headline, verdict
    from harness.report.page import templates

    template = templates().get_template("diagnosis.html.jinja")
    return template.render(diagnosis=diagnosis, headline=headline(diagnosis), verdict=verdict)
