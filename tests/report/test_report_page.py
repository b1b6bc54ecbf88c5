"""The page in a real browser: what a reader sees, finds, opens and prints; and what hostile evidence does not do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from harness.evidence.failed import FailedTest, keep
from harness.evidence.types import (
    Absence,
    Change,
    Claim,
    Endpoint,
    Expectation,
    Kernel,
    Knob,
    Moved,
    Note,
    SocketRow,
    SocketTable,
    Source,
    Verdict,
)
from harness.evidence.values import Kind, value_of
from harness.lab.impairment import Impairment, SegmentMatch
from harness.report.cells import cell_view
from harness.report.page import render
from harness.report.table import Missing, read
from tests.report.made_evidence import (
    CLIENT,
    SERVER,
    captured,
    checked,
    claim,
    compared,
    course,
    crashed,
    dropped_ack,
    frame,
    full_run,
    phase,
    premise,
    run,
    save,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Page

    from harness.evidence.types import Run

VERSIONS = ("5.2.9", "6.1.2", "6.12.7")
TWELVE = ("4.9.337", "4.19.300", "5.4.290", "5.10.234", "5.15.177", "6.1.125", "6.6.72", "6.12.48", "6.14.3", "6.18.44",
          "7.0.4", "7.3.4")  # fmt: skip
HOSTILE = "<script>window.ran=1</script><img src=x onerror=window.ran=2>\"'`{{7*7}}</template></details>]]>\u202e"


def page_of(*directories: Path, to: Path) -> Path:
    to.write_text(render(read(directories)), encoding="utf-8")
    return to


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three kernels: a claim that changed, one that went wrong on one kernel, one with packets and plots."""
    place = tmp_path_factory.mktemp("report")
    evidence = place / "evidence"
    runs: dict[str, list[Run]] = {"limit": [], "odd": [], "seen": []}
    for version in VERSIONS:
        old = version < "5.4"
        which: dict[str, Any] = {"version": version, "kernel_name": version}
        runs["limit"].append(run(**which, verdict="holds" if old else "refuted"))
        wrong = version == "6.12.7"
        waiting = compared("waiting", 12 if wrong else 11, 10, 11)
        phases = (phase("effect", "nobody accepts", waiting), phase("control", "all", checked("refused", 0, 0)))
        failure: dict[str, Any] = (
            {"outcome": "unexplained", "verdict": None, "reason": "measured 12, nobody says so"} if wrong else {}
        )
        runs["odd"].append(run("test_odd", **which, phases=phases, **failure))
        series = (course("TIME-WAIT", [(0, 0), (1, 5), (2, 7)]),)
        seen = phase("effect", "a full queue", compared("dropped", 2, 2), series=series)
        phases = (seen, phase("control", "room"))
        runs["seen"].append(run("test_seen", **which, verdict="holds", phases=phases, packets="seen.pcapng"))
    save(evidence, claim("queue.limit"), *runs["limit"])
    save(evidence, claim("queue.odd", "Twelve may wait.", "001"), *runs["odd"])
    save(evidence, claim("wait.seen", "It is seen.", "001"), *runs["seen"])
    (evidence / "seen.pcapng").write_bytes(dropped_ack(repeats=2))
    return page_of(evidence, to=place / "report.html")


def test_beside_a_diagram_stands_what_the_kernel_counted(tmp_path: Path) -> None:
    drops = {"TcpExt.ListenDrops": Moved(0, 2), "TcpExt.PAWSEstab": Moved(1, 2), "TcpExt.TCPPureAcks": Moved(0, 9)}
    counters = {"server": drops, "elsewhere": drops}
    phases = tuple(
        msgspec.structs.replace(phase(kind, title), counters=counters)
        for kind, title in (("effect", "a full queue"), ("control", "room"))
    )
    rule = Impairment("drop", "server", SegmentMatch(), 0, None, 99)
    save(tmp_path, claim(), run(phases=phases, packets="p.pcapng", impairments=(rule,)))
    (tmp_path / "p.pcapng").write_bytes(dropped_ack())
    ((row, column, cell),) = read([tmp_path]).cells()
    packets = cell_view(row, column, cell).runs[0].packets
    assert packets is not None
    (diagram,) = packets.diagrams
    assert diagram.phase == "effect: a full queue"
    assert diagram.counted == ["ListenDrops +2 at server", "PAWSEstab +1 at server"]
    assert "lost by the scenario" in diagram.svg


def shown(page: Page) -> list[str]:
    return page.locator("tr.claim-row:visible th code").all_inner_texts()


def unfold(page: Page, name: str, kernel: str = "") -> None:
    """Open a claim's part by its row, or by its cell."""
    row = page.locator("tr.claim-row", has=page.locator(f'a[href="#claim-{name}"]'))
    (row.get_by_role("link", name=f"on {kernel}:") if kernel else row.locator("th a")).click()
    page.wait_for_selector(f'[id="claim-{name}"] .part[data-ready]')


def test_it_opens_from_a_file_quietly_and_asks_for_nothing(report: Path, look: Callable[..., Any]) -> None:
    opened = look(report)
    unfold(opened.page, "wait.seen")
    assert opened.said == []
    assert opened.asked == [report.as_uri(), *[asked for asked in opened.asked if asked.startswith("data:")]]
    assert opened.page.title() == "3 claims about TCP on Linux 5.2.9, 6.1.2, 6.12.7"


def test_the_matrix_has_a_cell_for_each_claim_and_kernel(report: Path, look: Callable[..., Any]) -> None:
    page = look(report).page
    assert page.locator("#matrix td").count() == 3 * len(VERSIONS)
    assert page.locator("#matrix a.verdict").count() == 3 * len(VERSIONS)
    assert page.locator("#matrix thead th").all_inner_texts() == ["Claim", *VERSIONS]
    limit = page.locator("tr.claim-row").first
    assert [one.strip() for one in limit.locator("td").all_inner_texts()] == ["✓holds", "✗refuted", "✗refuted"]


def test_a_cell_that_is_not_as_expected_is_loudest(report: Path, look: Callable[..., Any]) -> None:
    page = look(report).page
    loud = page.locator("#matrix a.verdict.loud")
    assert loud.all_inner_texts() == ["‼unexplained"]
    assert "1 cell is not as expected" in page.get_by_role("alert").inner_text()
    page.get_by_role("alert").get_by_role("link").click()
    part = page.locator('[id="claim-queue.odd"]')
    part.locator(".part[data-ready]").wait_for()
    assert part.locator('.tab[aria-selected="true"]').inner_text().startswith("‼ 6.12.7")
    assert part.locator("pre.reason.loud").inner_text() == "measured 12, nobody says so"
    assert part.locator("tr.r-neither .what").inner_text() == "waiting"


def filtered(page: Page, **filters: str) -> list[str]:
    page.get_by_role("button", name="Reset").click()
    for name, value in filters.items():
        control = page.locator(f"#f-{name}")
        control.fill(value) if name == "text" else control.select_option(value)
    # Filters work with the next frame.
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return shown(page)


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({}, ["queue.limit", "queue.odd", "wait.seen"]),
        ({"text": "TWELVE"}, ["queue.odd"]),
        ({"text": "64a146513f8f may"}, ["queue.limit", "queue.odd"]),
        ({"text": "nothing of the kind"}, []),
        ({"document": "000"}, ["queue.limit"]),
        ({"group": "wait"}, ["wait.seen"]),
        ({"verdict": "holds"}, ["queue.limit", "wait.seen"]),
        ({"verdict": "unexplained"}, ["queue.odd"]),
        ({"verdict": "!"}, ["queue.odd"]),
        ({"verdict": "*"}, ["queue.limit", "queue.odd"]),
        ({"verdict": "holds", "kernel": "1"}, ["wait.seen"]),
        ({"verdict": "refuted", "group": "queue", "kernel": "2"}, ["queue.limit"]),
    ],
)
def test_filters_leave_what_they_say(
    report: Path, look: Callable[..., Any], filters: dict[str, str], left: list[str]
) -> None:
    page = look(report).page
    assert filtered(page, **filters) == left
    assert page.locator("#shown").inner_text() == f"{len(left)} of 3 claims"
    assert page.locator("details.claim:visible").count() == len(left)
    assert page.locator("#nothing").is_visible() == (not left)
    if "kernel" in filters and left:
        assert page.locator("#matrix thead th:visible").count() == 2
    assert filtered(page) == ["queue.limit", "queue.odd", "wait.seen"]


def test_a_claims_part_has_boundary_effect_control_and_command(report: Path, look: Callable[..., Any]) -> None:
    page = look(report).page
    unfold(page, "queue.limit", "6.1.2")
    part = page.locator('[id="claim-queue.limit"]')
    boundary = part.locator(".expectations tbody tr, .expectations > tr").nth(-1).inner_text()
    assert "64a146513f8f" in boundary
    assert "6.1.2" in boundary
    assert "5.2.9" not in boundary
    assert part.locator(".side-effect .phase").count() == part.locator(".side-control .phase").count() == 1
    effect = part.locator(".side-effect").bounding_box()
    control = part.locator(".side-control").bounding_box()
    assert effect
    assert control
    assert effect["y"] == control["y"]
    assert effect["x"] + effect["width"] <= control["x"]
    assert "net.core.somaxconn" in part.locator(".side-effect").inner_text()
    assert "TcpExt.TCPCounterNumber3" in part.locator(".side-effect .counters").inner_text()
    commands = part.locator(".command code").all_inner_texts()
    assert commands == [
        "pytest scenarios/test_queue.py --tcp-claim queue.limit -k 'test_limit[ipv4-6.1.2]' --tcp-kernel 6.1.2"
    ]


def test_ladders_and_plots_are_really_drawn(report: Path, look: Callable[..., Any]) -> None:
    page = look(report).page
    unfold(page, "wait.seen")
    ladder = page.locator("svg.ladder").first
    box = ladder.bounding_box()
    assert box
    assert box["width"] > 500
    assert box["height"] > 250
    assert ladder.locator(".segment").count() == 9
    assert ladder.locator(".segment.dropped").count() == 2
    assert ladder.locator(".fate").first.text_content() == "dropped"
    shafts = ladder.locator(".shaft").evaluate_all("all => all.map(one => one.getBoundingClientRect().width)")
    assert all(width > 300 for width in shafts)
    # Its paint is another than the paper's.
    stroke = ladder.locator(".segment.syn .shaft").first.evaluate("one => getComputedStyle(one).stroke")
    assert stroke == "rgb(0, 114, 178)"
    plot = page.locator("svg.plot").first
    paths = plot.locator("path").evaluate_all(
        "all => all.filter(one => one.getBoundingClientRect().width > 100).length"
    )
    assert paths >= 2
    assert "TIME-WAIT (effect)" in (plot.text_content() or "")


def test_hostile_text_is_shown_and_not_run(tmp_path: Path, look: Callable[..., Any]) -> None:
    version = f"6.1 {HOSTILE}"
    seen: dict[str, Any] = {
        "knobs": {HOSTILE: {HOSTILE: Knob(HOSTILE, HOSTILE)}},
        "counters": {HOSTILE: {HOSTILE: Moved(1, 2)}},
        "sockets": {
            HOSTILE: SocketTable(
                2, {HOSTILE: 1}, (SocketRow(HOSTILE, 1, 1, Endpoint(HOSTILE, 1), Endpoint(HOSTILE, 1)),)
            )
        },
        "notes": (Note(HOSTILE, value_of(HOSTILE)),),
        "series": (course(HOSTILE, [(HOSTILE, 1), ("b", 2)], unit=HOSTILE, x=HOSTILE, x_kind=Kind.TEXT),),
    }
    phases = (
        phase("effect", HOSTILE, compared(HOSTILE, HOSTILE, HOSTILE), premise(HOSTILE, HOSTILE, HOSTILE)),
        phase("control", HOSTILE, checked(HOSTILE, HOSTILE, 1)),
    )
    filled = tuple(msgspec.structs.replace(each, **seen) for each in phases)
    change = Change(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    expectation = Expectation(HOSTILE, (((3, 0, 0), None),), Verdict.HOLDS, HOSTILE, change)
    mine = Claim(HOSTILE, HOSTILE, HOSTILE, (Source(HOSTILE, HOSTILE),), (expectation,))
    hostile = run(
        HOSTILE, HOSTILE, version=version, phases=filled, reason=HOSTILE, outcome="unexpected",
        packets="x.pcapng", absence=Absence(HOSTILE, value_of(HOSTILE)),
    )  # fmt: skip
    save(tmp_path, mine, hostile)
    client, server = (CLIENT, 1), (SERVER, 2)
    (tmp_path / "x.pcapng").write_bytes(captured((0, HOSTILE.replace(":", ""), "in", frame(client, server, "S", 1))))
    opened = look(page_of(tmp_path, to=tmp_path / "report.html"))
    page = opened.page
    page.locator("tr.claim-row th a").click()
    page.wait_for_selector(".part[data-ready]")
    assert page.evaluate("window.ran") is None
    assert opened.said == []
    assert page.locator("img").count() == 0
    assert page.locator("script:not([type])").count() == 1
    assert HOSTILE in (page.locator("tr.claim-row th code").text_content() or "")
    assert HOSTILE in (page.locator(".part .what").first.text_content() or "")
    assert "window.ran=1" in (page.locator("svg.ladder").text_content() or "")
    assert "{{7*7}}" in (page.locator("svg.plot").first.text_content() or "")


def test_the_keyboard_is_enough(report: Path, look: Callable[..., Any]) -> None:
    page = look(report).page
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "f-text"
    page.keyboard.press("Escape")
    page.locator("#matrix tbody a").first.focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert label == "queue.odd on 6.12.7: unexplained"
    assert page.locator("#matrix a[tabindex='0']").count() == 1
    page.keyboard.press("Enter")
    page.wait_for_selector('[id="claim-queue.odd"] .part[data-ready]')
    assert page.evaluate("document.activeElement.closest('details').id") == "claim-queue.odd"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == label
    page.locator("#matrix tbody a").first.focus()
    page.keyboard.press("n")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == label


def test_an_address_leads_to_a_claim(report: Path, look: Callable[..., Any]) -> None:
    page = look(report).page
    page.goto(f"{report.as_uri()}#claim-wait.seen")
    page.reload()
    page.wait_for_selector('[id="claim-wait.seen"] .part[data-ready]')


@pytest.mark.parametrize("width", [900, 1300, 1800])
def test_what_sticks_to_the_top_hides_nothing(report: Path, look: Callable[..., Any], width: int) -> None:
    page = look(report, viewport={"width": width, "height": 500}).page
    unfold(page, "wait.seen")
    page.wait_for_function("document.activeElement.matches('summary') && scrollY > 0")
    bar, summary = (page.locator(one).bounding_box() for one in ("#filters", '[id="claim-wait.seen"] > summary'))
    assert bar["y"] == 0
    assert summary["y"] >= bar["height"]


def brightness(page: Page) -> float:
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    numbers = [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    return sum(numbers) / 3


def test_it_is_light_or_dark_as_the_reader_wishes(report: Path, look: Callable[..., Any]) -> None:
    assert brightness(look(report, color_scheme="light").page) > 240
    page = look(report, color_scheme="dark").page
    assert brightness(page) < 40
    unfold(page, "wait.seen")
    ink = page.locator("svg.plot text").first.evaluate("one => getComputedStyle(one).fill")
    assert int(ink.removeprefix("rgb(").split(",")[0]) > 200


def test_on_a_phone_nothing_sticks_out(report: Path, look: Callable[..., Any]) -> None:
    page = look(report, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True).page
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    unfold(page, "wait.seen")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    effect, control = (page.locator(f".side-{kind}").bounding_box() for kind in ("effect", "control"))
    assert effect
    assert control
    assert control["y"] >= effect["y"] + effect["height"]


def test_on_paper_there_are_no_controls_and_only_what_was_opened(report: Path, look: Callable[..., Any]) -> None:
    page = look(report).page
    unfold(page, "wait.seen")
    page.emulate_media(media="print")
    assert not page.locator("#filters").is_visible()
    assert page.locator("details.claim:visible").count() == 1
    assert page.locator("svg.ladder").first.is_visible()
    page.set_viewport_size({"width": 700, "height": 900})  # what A4 leaves
    effect, control = (page.locator(f".side-{kind}").bounding_box() for kind in ("effect", "control"))
    assert effect
    assert control
    assert effect["y"] == control["y"]
    assert page.pdf().startswith(b"%PDF")


def test_colours_are_never_alone(report: Path, look: Callable[..., Any]) -> None:
    page = look(report).page
    signs = page.locator("#matrix a.verdict").evaluate_all(
        "all => all.map(one => [one.className, one.querySelector('.glyph').textContent, one.ariaLabel])"
    )
    by_class = {name: (sign, label.rpartition(": ")[2]) for name, sign, label in signs}
    assert len({sign for sign, _ in by_class.values()}) == len(by_class)
    assert all(word.replace(" ", "-") in name for name, (_, word) in by_class.items())


def test_packets_that_are_gone_or_cut_off_are_said_so(tmp_path: Path, look: Callable[..., Any]) -> None:
    runs = [run(f"test_{name}", packets=f"{name}.pcapng") for name in ("gone", "cut", "pcap")]
    save(tmp_path, claim(), *runs)
    (tmp_path / "cut.pcapng").write_bytes(dropped_ack()[:-30])
    (tmp_path / "pcap.pcapng").write_bytes(bytes.fromhex("d4c3b2a1") + bytes(20))
    page = look(page_of(tmp_path, to=tmp_path / "report.html")).page
    unfold(page, "queue.limit")
    told = page.locator(".packets .notice").all_text_contents()
    assert told == ["cut.pcapng is not whole: the packets before the cut are shown",
                    "gone.pcapng cannot be read: No such file or directory",
                    "pcap.pcapng cannot be read: it is a classic pcap, not a pcapng; "
                    "`editcap -F pcapng -T ether IN OUT` makes one of it"]  # fmt: skip


def test_of_a_flood_some_diagrams_are_drawn_and_the_rest_counted(tmp_path: Path, look: Callable[..., Any]) -> None:
    sources = [(f"10.9.{n // 250}.{n % 250 + 1}", 40000) for n in range(300)]
    syns = [(n / 1000, "server", "in", frame(one, (SERVER, 80), "S", n)) for n, one in enumerate(sources)]
    (tmp_path / "flood.pcapng").write_bytes(captured(*syns))
    save(tmp_path, claim(), run(packets="flood.pcapng"))
    page = look(page_of(tmp_path, to=tmp_path / "report.html")).page
    unfold(page, "queue.limit")
    assert page.locator("svg.ladder").count() == 24
    assert "276 more exchanges are in the capture" in page.locator(".packets").inner_text()


def test_twelve_kernels_make_a_page_that_opens(tmp_path: Path, look: Callable[..., Any]) -> None:
    for version in TWELVE:
        full_run(tmp_path / version, version, claims=25, with_packets=2, with_series=1)
    file = page_of(*(tmp_path / version for version in TWELVE), to=tmp_path / "report.html")
    page = look(file).page
    assert page.locator("#matrix td").count() == 12 * 25
    unfold(page, "accept-queue.claim-000", "7.3.4")
    assert page.locator("svg.ladder").count() == 2


def test_premises_stand_apart_from_what_a_document_says_and_from_checks(
    tmp_path: Path, look: Callable[..., Any]
) -> None:
    effect = phase("effect", "e", premise("is full", 1, 1), compared("waiting", 11, 10, 11), premise("listens", 1, 1))
    control = phase("control", "c", premise("is empty", 0, 0), checked("refused", 0, 0))
    save(tmp_path, claim(), run(phases=(effect, control)))
    page = look(page_of(tmp_path, to=tmp_path / "report.html")).page
    unfold(page, "queue.limit")
    roles = {
        role: page.locator(f".role-{role} td.what").all_inner_texts() for role in ("judgement", "check", "premise")
    }
    assert roles == {"judgement": ["waiting"], "check": ["refused"], "premise": ["is full", "listens", "is empty"]}


def test_a_run_that_crashed_is_loud_and_opens(tmp_path: Path, look: Callable[..., Any]) -> None:
    save(tmp_path, claim(), run(), crashed(params="ipv6"))
    page = look(page_of(tmp_path, to=tmp_path / "report.html")).page
    assert page.locator("#matrix a.verdict.loud").all_inner_texts() == ["‼failed"]
    unfold(page, "queue.limit")
    assert page.locator("pre.reason.loud").inner_text() == "the worker died while it ran this test"
    assert "It ended before it measured anything." in page.locator(".part").inner_text()


def test_a_kernel_that_did_not_run_is_named_at_the_top(tmp_path: Path, look: Callable[..., Any]) -> None:
    save(tmp_path, claim(), run())
    (tmp_path / "report.html").write_text(render(read([tmp_path], missing=[Missing("Linux 6.12", "did not run: why")])))
    page = look(tmp_path / "report.html").page
    assert page.locator(".missing").all_inner_texts() == ["Linux 6.12 did not run: why"]


def test_a_failed_test_without_a_claim_opens_with_what_was_said_and_its_packets(
    tmp_path: Path, look: Callable[..., Any]
) -> None:
    save(tmp_path, claim(), run())
    said = "WARNING: CPU: 0 PID: 1 at net/ipv4/tcp.c:1 <b>tcp_v4_rcv</b>"
    plain = FailedTest(
        "test_more.py::test_plain[ipv4]", Kernel("6.1.2-x", "6.1.2"), f"the kernel complained (WARN): {said}",
        text=f"{said}\n Call Trace:", counters={"server": {"TcpExt.ListenDrops": Moved(1, 4)}},
    )  # fmt: skip
    keep(tmp_path, plain, dropped_ack())
    opened = look(page_of(tmp_path, to=tmp_path / "report.html"))
    page = opened.page
    assert "1 test beside the claims failed" in page.locator("header").inner_text()
    page.click('header a[href="#failed-0"]')
    part = page.locator("#failed-0 .body")
    part.locator("svg").first.wait_for()
    assert part.locator("pre.reason").inner_text().splitlines() == [said, " Call Trace:"]
    assert "+3" in part.locator("table.numbers").first.inner_text()
    assert (part.locator("pre b").count(), opened.said, len(opened.asked)) == (0, [], 1)
