"""What a run of provoke.py left: who failed, by what, and where the kernel's own lines stand."""

from __future__ import annotations

import base64
import re
import zlib
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec

from bench.complaints.kernels import KERNELS
from bench.complaints.provoke import LATE, TESTS, Provoked
from bench.mutants.source import PACKAGE

# What was seen last of each kernel.
KEPT = Path(__file__).parent / "seen.json"
# What pytest's XML has below a test that did not pass.
FAILED = ("failure", "error", "skipped")


class Row(msgspec.Struct, frozen=True):
    """A test that provoked something: how its failure begins, how many lines it shows, and where else they are."""

    test: str
    kind: str
    fails: str
    lines: int
    in_junit: bool
    in_page: bool
    in_ktap: bool

    @property
    def is_told(self) -> bool:
        """Whether it failed by what the kernel said, and all three have it."""
        said = self.fails.startswith(f"the kernel complained ({self.kind}): ")
        return said and self.in_junit and self.in_page and self.in_ktap


class Seen(msgspec.Struct, frozen=True):
    """What was seen on a kernel: its rows, neighbours that passed and that did not."""

    kernel: str
    rows: tuple[Row, ...]
    passed: int
    blamed: tuple[str, ...]

    def wrong(self) -> list[str]:
        """What is not as it must be, a line each."""
        untold = [f"{self.kernel}: {row.test}: {row.fails or 'it passed'}" for row in self.rows if not row.is_told]
        return untold + [f"{self.kernel}: {test} failed, and had provoked nothing" for test in self.blamed]


def look(kernel: str, place: Path) -> Seen:
    """Read what the run left in a directory."""
    cases = _cases(place / "junit.xml")
    page, ktap = _page(place / "report.html"), _text(place / "results.ktap")
    rows, passed, blamed = [], 0, []
    for test in (*TESTS, *((LATE,) if kernel == LATE.kernel else ())):
        if test.kernel != kernel:
            continue
        said = next((text for name, text in cases.items() if _is_of(test, name)), "it did not run")
        if test.kind:
            rows.append(_row(test, said, page, ktap))
        elif said:
            blamed.append(test.name)
        else:
            passed += 1
    for name, said in cases.items():
        if name.startswith("test_meanwhile"):
            passed += not said
            blamed += [name] * bool(said)
    return Seen(kernel, tuple(rows), passed, tuple(blamed))


def _cases(junit: Path) -> dict[str, str]:
    """Tests by name, and what failed of each: "" if it passed, pytest's word if it was skipped."""
    found: dict[str, str] = {}
    for case in ET.parse(junit).getroot().iter("testcase"):
        name = case.get("name", "")
        said = [each.text or each.get("message") or "" for each in case if each.tag in FAILED]
        found[name] = "\n".join(filter(None, (found.get(name, ""), *said)))
    return found


def _is_of(test: Provoked, name: str) -> bool:
    return name.startswith("test_hangs_for_ever") if test == LATE else f"{test.id}-" in name


def _row(test: Provoked, said: str, page: str, ktap: str) -> Row:
    """`says` is how the kernel's line begins; what the machine's own words are, process and place, is in it too."""
    headline = next((line for line in said.splitlines() if test.says in line and "complained" not in line), "")
    # Numbers, as /dev/kmsg has none: a time and a process of their own make a line this test's alone.
    shown = headline.strip()
    # UBSAN names a file by the path that it was compiled by.
    first = re.sub(rf"\S+/{PACKAGE}/", "", said.partition("\n")[0])
    return Row(
        test.name, test.kind, first, len(said.splitlines()) - 1,
        bool(shown) and shown in said, bool(shown) and shown in page, bool(shown) and shown in ktap,
    )  # fmt: skip


def _page(report: Path) -> str:
    """All the text of a page, with what is folded in it."""
    html = _text(report)
    packed = re.findall(r'<script type="text/plain" class="packed" id="packed-failed-\d+">([^<]*)</script>', html)
    parts = [zlib.decompress(base64.b64decode(text), -zlib.MAX_WBITS).decode() for text in packed]
    return (
        re.sub(r"&#(\d+);", lambda code: chr(int(code[1])), "\n".join(parts)).replace("&gt;", ">").replace("&lt;", "<")
    )


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


def keep(found: Seen) -> None:
    """Keep what was seen of a kernel, in place of what was seen before."""
    others = [each for each in kept() if each.kernel != found.kernel]
    KEPT.write_bytes(msgspec.json.format(msgspec.json.encode([*others, found]), indent=1) + b"\n")


def kept() -> list[Seen]:
    """What was seen of each kernel."""
    return msgspec.json.decode(KEPT.read_bytes(), type=list[Seen]) if KEPT.exists() else []


def page() -> str:
    """docs/complaints.md."""
    lines = [
        "# What the kernel complains of, provoked",
        "",
        "`python -m bench.complaints` builds small 6.12 kernels that look for mistakes (`bench/complaints/*.config`),",
        "with [a patch](../bench/complaints/provoked.patch) by which `listen()` on a socket with a mark makes them;",
        "the tests of `bench/complaints/provoke.py` run on each in simulated time, beside neighbours that make none.",
        "It writes this page, and fails unless each such test, and no neighbour, has failed by what the kernel said,",
        "and JUnit's XML, the page and KTAP show the kernel's own lines.",
        "[What is watched, and where](trees.md#what-the-kernel-complains-of).",
        "",
        "| kernel | test | its failure begins | lines | in JUnit, page, KTAP |",
        "| --- | --- | --- | ---: | --- |",
    ]
    for found in kept():
        for row in found.rows:
            where = "all three" if row.in_junit and row.in_page and row.in_ktap else "**not all**"
            fails = row.fails if len(row.fails) <= 110 else f"{row.fails[:109]}…"
            lines.append(
                f"| {found.kernel} | `{row.test}` | {fails.replace('|', chr(92) + '|')} | {row.lines} | {where} |"
            )
    lines += ["", "| kernel | tests that complain | neighbours that passed | that failed |"]
    lines += ["| --- | ---: | ---: | ---: |"]
    lines += [f"| {each.kernel} | {len(each.rows)} | {each.passed} | {len(each.blamed)} |" for each in kept()]
    lines += [f"| {name} | not run | | |" for name in KERNELS if name not in {each.kernel for each in kept()}]
    return "\n".join(lines) + "\n"
