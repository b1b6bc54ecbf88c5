"""A Sphinx extension: the directive `generated`, for what stands in the code or in docs/matrix.json.

`{generated} options` is the table of pytest's options; `settings`, `markers`, `fixtures`, `schemas` likewise.
`{generated} claims` is the matrix of claims and kernels, `claims GROUP` the claims of a group one by one, `sysctls`,
`counters` and `numbers` the tables of these. A page is written for each group, in docs/matrix/claims.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive

from harness.claims.documents import load_documents
from harness.evidence.codec import harness_version
from harness.laws.kernel import KernelVersion
from harness.report.matrix.making import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sphinx.application import Sphinx

    from harness.report.matrix.types import Cell, ClaimRow, KernelColumn, Matrix

HERE = Path(__file__).parents[1]
MATRIX = HERE / "matrix.json"
GROUPS = HERE / "matrix" / "claims"
# How a cell looks: the mark, and what a reader of the page hears.
MARKS = {"holds": "✓", "refuted": "✗", "not applicable": "–", "not settled": "?"}
SCHEMAS = {
    "evidence": "what a run measured of a claim",
    "results": "`harness report --format json`: the matrix of a run",
    "snapshot": "what `harness snapshot` prints on a machine",
    "diagnosis": "`harness diagnose --json`",
    "remedies": "`harness remedy --json`",
}


@dataclass
class At:
    """A cell of a table: a text with `code` in it, a class for its looks, where it leads, what it is called."""

    text: str
    look: str = ""
    href: str = ""
    anchor: str = ""
    says: str = ""
    scope: str = ""


Row = list["At | str"]


def table(head: Row, rows: Iterable[Row], look: str = "") -> nodes.table:
    """A table as docutils has it; of a row, the first cell is its heading."""
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    group += nodes.thead("", _row(head))
    body = nodes.tbody()
    for row in rows:
        body += _row(row)
    group += body
    return nodes.table("", group, classes=look.split())


def _row(cells: Row) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        at = At(cell) if isinstance(cell, str) else cell
        entry = nodes.entry(classes=at.look.split(), ids=[at.anchor] if at.anchor else [])
        content = inline(at.text)
        if at.href:
            link = nodes.reference("", "", refuri=at.href, internal=True)
            link += content
            if at.says:
                link["reftitle"] = at.says
            content = [link]
        entry += nodes.paragraph("", "", *content)
        row += entry
    return row


def inline(text: str) -> list[nodes.Node]:
    """A text, with what stands in `backticks` as code."""
    parts = text.split("`")
    return [nodes.literal("", part) if number % 2 else nodes.Text(part) for number, part in enumerate(parts) if part]


def paragraph(text: str) -> nodes.paragraph:
    """A paragraph."""
    return nodes.paragraph("", "", *inline(text))


@cache
def matrix() -> Matrix:
    """What the documentation keeps."""
    return load(MATRIX)


def short(version: str) -> str:
    """A kernel as the head of a column has it: 6.12, or 6.18.15 where there are several of its series."""
    series = ".".join(version.split(".")[:2])
    alike = [column for column in matrix().kernels if column.version.startswith(f"{series}.")]
    return version if len(alike) > 1 else series


@dataclass
class Anchors:
    """Identifiers on a page: a claim, and a claim on a kernel."""

    taken: set[str] = field(default_factory=set)

    @staticmethod
    def claim(name: str) -> str:
        """Of a claim."""
        return name.replace(".", "-").lower()

    @classmethod
    def cell(cls, name: str, version: str) -> str:
        """Of a claim on a kernel."""
        return f"{cls.claim(name)}-{version.replace('.', '-')}"


def looks(said: str) -> str:
    """The class of a verdict."""
    return f"said {said.replace(' ', '-') if said in MARKS else 'wrong'}"


# ------------------------------------------------------------------------------------------------- of the code


def options() -> Iterator[nodes.Node]:
    """Options of pytest."""
    from harness.plugin.options import OPTIONS

    yield table(
        ["option", "value", "meaning"],
        (
            [
                At(f"`{option.written}`", anchor=option.written.lstrip("-")),
                f"`{option.metavar}`" if option.metavar else "",
                option.help + (" (repeatable)" if option.many else ""),
            ]
            for option in sorted(OPTIONS, key=lambda option: option.name)
        ),
    )


def settings() -> Iterator[nodes.Node]:
    """Settings that no option has."""
    from harness.plugin.options import DEFAULTS, SETTINGS, key

    yield table(
        ["setting", "meaning", "default"],
        ([f"`{key(name)}`", about, f"`{DEFAULTS[name]}`" if name in DEFAULTS else ""] for name, _, about in SETTINGS),
    )


def markers() -> Iterator[nodes.Node]:
    """Markers."""
    from harness.plugin.options import MARKERS

    yield table(
        ["marker", "meaning"], ([f"`{name}`", about] for name, _, about in (m.partition(": ") for m in MARKERS))
    )


def fixtures() -> Iterator[nodes.Node]:
    """Fixtures, with their docstrings."""
    from harness import plugin

    for name in sorted(plugin.__all__):
        function: Any = getattr(plugin, name)
        function = getattr(function, "_get_wrapped_function", lambda function=function: function)()
        kind = str(function.__annotations__.get("return", "")).strip("'")
        section = nodes.section(ids=[f"fixture-{name}"], names=[f"fixture {name}"])
        section += nodes.title("", "", nodes.literal("", name))
        section += nodes.paragraph("", "", nodes.Text("Type: "), nodes.literal("", kind))
        for text in (function.__doc__ or "").split("\n\n"):
            section += paragraph(" ".join(text.split()))
        yield section


def schemas() -> Iterator[nodes.Node]:
    """The schemas: what each is for, and its top level."""
    for name, what in SCHEMAS.items():
        schema = json.loads((HERE / f"{name}.schema.json").read_text())
        section = nodes.section(ids=[f"schema-{name}"], names=[f"schema {name}"])
        section += nodes.title("", f"{name}.schema.json")
        section += paragraph(f"{what[0].upper()}{what[1:]}. `docs/{name}.schema.json`")
        top = schema
        if "$ref" in schema:
            top = schema["$defs"][schema["$ref"].rpartition("/")[2]]
        if "properties" in top:
            section += table(
                ["field", "type", "required"],
                (
                    [f"`{field}`", _type(its), "yes" if field in top.get("required", ()) else "no"]
                    for field, its in top["properties"].items()
                ),
            )
        yield section


def _type(its: dict[str, Any] | bool) -> str:
    if isinstance(its, bool):
        return "any"
    if "$ref" in its:
        return its["$ref"].rpartition("/")[2]
    if "anyOf" in its:
        return " or ".join(map(_type, its["anyOf"]))
    if its.get("type") == "array":
        return f"list of {_type(its.get('items', {}))}"
    return str(its.get("type", its.get("enum", its.get("const", "any"))))


# ---------------------------------------------------------------------------------------------- of the evidence


def measured() -> list[KernelColumn]:
    """The kernels of which there is evidence."""
    return [column for column in matrix().kernels if column.measured]


def claims() -> Iterator[nodes.Node]:
    """Claims and kernels."""
    columns = measured()
    groups: dict[str, list[ClaimRow]] = {}
    for row in matrix().claims:
        groups.setdefault(row.group, []).append(row)
    for group, rows in groups.items():
        section = nodes.section(ids=[group], names=[group])
        section += nodes.title("", group)
        section += table(["claim", *(At(short(c.version), "kernel") for c in columns)],
                         (_row_of(row, columns) for row in rows), "matrix filtered")  # fmt: skip
        yield section


def _row_of(row: ClaimRow, columns: Sequence[KernelColumn]) -> Row:
    page = f"matrix/claims/{row.group}.html"
    cells: Row = [At(row.name.partition(".")[2], href=f"{page}#{Anchors.claim(row.name)}", says=row.statement)]
    for column in columns:
        cell = row.cells.get(column.version)
        if cell is None:
            cells.append("")
            continue
        where = f"{page}#{Anchors.cell(row.name, column.version)}"
        says = f"{row.name} on Linux {column.version}: {cell.said}"
        cells.append(At(MARKS.get(cell.said, "!"), looks(cell.said), where, says=says))
    return cells


@cache
def headings() -> dict[tuple[str, str], str]:
    """The headings of the documents in English."""
    documents = load_documents(HERE.parent / "scenarios" / "documents.toml")
    return {
        (document.id, heading): english
        for document in documents.values()
        for heading, english in zip(document.headings, document.in_english, strict=True)
    }


def in_english(document: str, heading: str) -> str:
    """A heading in English, as far as it is known."""
    return headings().get((document, heading), heading)


def claims_of(group: str) -> Iterator[nodes.Node]:
    """The claims of a group, one by one."""
    columns = {column.version: column for column in measured()}
    for row in matrix().claims:
        if row.group != group:
            continue
        section = nodes.section(ids=[Anchors.claim(row.name)], names=[row.name])
        section += nodes.title("", row.name)
        section += paragraph(row.statement)
        section += nodes.paragraph(
            "",
            "Documents: "
            + "; ".join(f"{document} “{in_english(document, heading)}”" for document, heading in row.sources),
        )
        cells = [(columns[version], cell) for version, cell in row.cells.items() if version in columns]
        cells.sort(key=lambda pair: KernelVersion.parse(pair[0].version).release)
        section += table(
            ["Linux", "verdict", "because", "commit", "measured (document, our account)"],
            (_cell_row(row, column, cell) for column, cell in cells),
            "cells",
        )
        if cells:
            section += paragraph(f"To repeat it: `{cells[-1][1].command}`")
        yield section


def _cell_row(row: ClaimRow, column: KernelColumn, cell: Cell) -> Row:
    commit = f"`{cell.commit}` {cell.subject}" if cell.commit else cell.subject
    since = f", since {cell.tool or 'Linux'} {cell.release}" if cell.release else ""
    numbers = "; ".join(f"{n.what}: {n.measured} ({n.document}, {n.kernel})" for n in dict.fromkeys(cell.numbers))
    more = f"; and {cell.left_out} more" if cell.left_out else ""
    about = f"{column.version}, {column.measured}"
    return [
        At(about, anchor=Anchors.cell(row.name, column.version)),
        At(f"{MARKS.get(cell.said, '!')} {cell.said}", looks(cell.said)),
        cell.reason if cell.said not in MARKS or cell.said == "not settled" else cell.because,
        f"{commit}{since}",
        f"{numbers}{more}".replace("`", "'"),
    ]


def told() -> list[KernelColumn]:
    """The kernels whose defaults and counters are known."""
    return [column for column in matrix().kernels if column.sysctls]


def sysctls() -> Iterator[nodes.Node]:
    """The default of every sysctl of TCP, by kernel; where it changed."""
    columns = told()
    names = sorted({name for column in columns for name in column.sysctls})
    yield table(["sysctl", *(At(short(column.version), "kernel") for column in columns)],
                (_sysctl(name, columns) for name in names), "values filtered")  # fmt: skip


def _sysctl(name: str, columns: Sequence[KernelColumn]) -> Row:
    row: Row = [At(f"`{name}`", anchor=name.replace(".", "-"))]
    before: str | None = None
    for number, column in enumerate(columns):
        value = column.sysctls.get(name)
        look = "changed" if number and value != before else ""
        row.append(
            At("—" if value is None else " ".join(value.split()), look if value is not None else f"{look} absent")
        )
        before = value
    return row


def counters() -> Iterator[nodes.Node]:
    """The counters, and the first of the kernels that has each."""
    columns = told()
    rows: list[Row] = []
    for name in sorted({name for column in columns for name in column.counters}):
        having = [column for column in columns if name in column.counters]
        since = "all" if having[0] is columns[0] else f"{short(having[0].version)}"
        gone = "" if having[-1] is columns[-1] else f"last in {short(having[-1].version)}"
        rows.append([At(f"`{name}`", anchor=name.replace(".", "-")), since, gone])
    yield table(["counter", "first kernel that has it", "gone"], rows, "filtered")


def numbers() -> Iterator[nodes.Node]:
    """What was measured where a document says a number."""
    columns = measured()
    for group in dict.fromkeys(row.group for row in matrix().claims):
        rows: list[Row] = []
        for row in (row for row in matrix().claims if row.group == group):
            rows += _numbers_of(row, columns)
        if rows:
            section = nodes.section(ids=[f"numbers-{group}"], names=[f"numbers {group}"])
            section += nodes.title("", group)
            head = ["claim", "what", "the document", *(At(short(column.version), "kernel") for column in columns)]
            section += table(head, rows, "values filtered")
            yield section


def _numbers_of(row: ClaimRow, columns: Sequence[KernelColumn]) -> Iterator[Row]:
    """A row for each measurement that has a digit in it, and is of the same place on all kernels."""
    places: dict[tuple[str, str], dict[str, list[tuple[str, str]]]] = {}
    for version, cell in row.cells.items():
        for each in cell.numbers:
            if re.search(r"\d", each.measured):
                by_version = places.setdefault((each.where, each.what), {})
                by_version.setdefault(version, []).append((each.measured, each.document))
    for (where, what), found in places.items():
        documents = dict.fromkeys(document for values in found.values() for _, document in values)
        cells: Row = [
            At(row.name.partition(".")[2], href=f"claims/{row.group}.html#{Anchors.claim(row.name)}", says=row.name),
            f"{what} ({where})".replace("`", "'"),
            " / ".join(documents).replace("`", "'"),
        ]
        for column in columns:
            values = dict.fromkeys(value for value, _ in found.get(column.version, ()))
            cells.append(" / ".join(values).replace("`", "'"))
        yield cells


class Generated(Directive):
    """`{generated} WHAT [OF]`."""

    required_arguments = 1
    optional_arguments = 1
    has_content = False
    KINDS: ClassVar[dict[str, Callable[..., Iterator[nodes.Node]]]] = {
        "options": options,
        "settings": settings,
        "markers": markers,
        "fixtures": fixtures,
        "schemas": schemas,
        "claims": claims,
        "sysctls": sysctls,
        "counters": counters,
        "numbers": numbers,
        "kernels": lambda: iter([_kernels()]),
    }

    def run(self) -> list[nodes.Node]:
        """Make the nodes; the page is made anew when the matrix changes."""
        self.state.document.settings.env.note_dependency(str(MATRIX))
        kind, *of = self.arguments
        if kind == "claims" and of:
            return list(claims_of(of[0]))
        return list(self.KINDS[kind]())


def _kernels() -> nodes.Node:
    return table(
        ["Linux", "release", "evidence of", "by tcp-harness", "defaults and counters"],
        ([c.version, f"`{c.release}`", c.measured, c.harness, "yes" if c.sysctls else "no"] for c in matrix().kernels),
    )


def write_group_pages(_: Sphinx) -> None:
    """A page for each group of claims, before Sphinx looks which there are."""
    GROUPS.mkdir(parents=True, exist_ok=True)
    wanted = {}
    for group in dict.fromkeys(row.group for row in matrix().claims):
        wanted[GROUPS / f"{group}.md"] = f"# Claims: {group}\n\n```{{generated}} claims {group}\n```\n"
    for page in GROUPS.glob("*.md"):
        if page not in wanted:
            page.unlink()
    for page, text in wanted.items():
        if not page.exists() or page.read_text() != text:
            page.write_text(text)


# In the corrected edition places have the names of claims, as HTML has them: <a id="accept-queue.capacity">.
_PLACE = re.compile(r"\[([^\]]+)\]\(#([\w.-]+)\)")
# What is in the project and not on the site: its name remains.
_OF_THE_PROJECT = re.compile(r"\[([^\]]+)\]\(\.\./(?!claims|matrix|README)[^)]*\)")


def changes(app: Sphinx, name: str, source: list[str]) -> None:  # noqa: ARG001
    """What is new since the last release: the fragments of docs/changes, joined as the release will join them."""
    if name != "changelog" or not any(file.name != "README.md" for file in HERE.glob("changes/*.*.md")):
        return
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", harness_version()]
    joined = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True).stdout
    marker = "<!-- towncrier release notes start -->"
    source[0] = source[0].replace(marker, f"{marker}\n\n{joined[joined.index('## ') :]}\n", 1)


def links(app: Sphinx, name: str, source: list[str]) -> None:  # noqa: ARG001
    """Links as the site has them."""

    def place(found: re.Match[str]) -> str:
        text = re.sub(r"`([^`]+)`", r"<code>\1</code>", found[1])
        return f'<a href="#{found[2]}">{text}</a>'

    if name.startswith("claims"):
        source[0] = _PLACE.sub(place, source[0])
    if "/" not in name:
        source[0] = _OF_THE_PROJECT.sub(r"\1", source[0])


def levels(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: object) -> None:  # noqa: ARG001
    """The captions of the theme's navigation are headings: of which level, it does not say."""
    for name in ("furo_navigation_tree", "toctree"):
        if isinstance(context.get(name), str):
            context[name] = context[name].replace('role="heading"', 'role="heading" aria-level="2"')


# In a docstring these are no markup: *args, a|b, name_.
_MARKUP = re.compile(r"([*|]|(?<=\w)_(?!\w))")


def plain(app: Sphinx, *of: Any) -> None:  # noqa: ARG001
    """Docstrings are prose with `code`, not reStructuredText: escape what only looks like markup."""
    lines: list[str] = of[-1]
    for number, line in enumerate(lines):
        parts = line.split("`")
        lines[number] = "`".join(part if odd % 2 else _MARKUP.sub(r"\\\1", part) for odd, part in enumerate(parts))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register all of it."""
    app.add_directive("generated", Generated)
    app.connect("builder-inited", write_group_pages)
    app.connect("source-read", changes)
    app.connect("source-read", links)
    app.connect("html-page-context", levels, priority=900)
    app.connect("autodoc-process-docstring", plain)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
