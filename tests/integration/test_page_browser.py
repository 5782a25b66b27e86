"""The report in a real browser: it draws everything with the network off, and keyboard, themes and phones work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import scenarios
from gossip.page import serving
from gossip.page.serving import Live
from gossip.telemetry.containment import Containment
from scenarios.reports.page import document, read_run, write_report
from tests.integration.browser import CHROMIUM, DRIVER, MISSING, Browser, browser
from tests.integration.homes import eventually

pytestmark = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason=MISSING)

OVERRIDES = {
    "scenario.peers": 6,
    "scenario.description": "</script><script>document.title = 'taken'</script>",
    "stop.rounds": 4,
    "data.train_max": 300,
    "model.name": "logistic",
    "topology.kind": "full",
}
ATTACKED = {**OVERRIDES, "attack.kind": "sign-flip", "attack.count": 1, "merge.kind": "krum", "merge.f": 1}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    for name, overrides in (("calm", OVERRIDES), ("attacked", ATTACKED)):
        scenarios.run("quickstart", overrides=overrides, out=folder / name)
    write_report([folder / "calm", folder / "attacked"], folder / "both.html")
    return folder


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.mark.parametrize(
    ("page", "width", "dark"),
    [
        ("calm/report.html", 1360, False),
        ("calm/report.html", 390, True),
        ("attacked/report.html", 390, False),
        ("both.html", 1360, True),
        ("both.html", 390, False),
    ],
)
def test_every_page_draws_without_a_complaint_and_fits(
    window: Browser, pages: Path, page: str, width: int, dark: bool
) -> None:
    window.look(width=width, dark=dark)
    window.open(pages / page)
    assert window.complaints() == []
    assert window.run("return document.documentElement.scrollWidth") <= width
    assert window.run("return document.documentElement.dataset.theme") == ("dark" if dark else "light")
    # Every card that is there has something in it.
    cards = (
        "return [...document.querySelectorAll('.card:not([hidden]) .body')].map((b) => b.childElementCount)"
    )
    assert min(window.run(cards)) > 0
    assert window.run("return document.querySelectorAll('[role=img]').length") >= 1
    assert window.run("return document.title") != "taken"
    assert window.barriers() == []


def test_on_paper_nothing_is_cut_and_it_is_light(window: Browser, pages: Path) -> None:
    window.look(width=1360, dark=True)
    window.open(pages / "attacked" / "report.html")
    medium = {"cmd": "Emulation.setEmulatedMedia", "params": {"media": "print"}}
    window.call("goog/cdp/execute", medium)
    try:
        # Where the widest chart ends beyond its place, or the page.
        beyond = """
            return Math.max(...[...Charts.drawn.values()].map(({ plot, host }) => {
                const { left, right } = host.getBoundingClientRect();
                return left + plot.outer_width - Math.min(right, document.documentElement.clientWidth);
            }));
        """
        eventually(lambda: window.run(beyond) <= 1, "every chart ends where its place does")
        # A page of A4, between usual margins.
        paper = {"width": 718, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        window.call("goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": paper})
        eventually(lambda: window.run(beyond) <= 1, "every chart fits the paper")
        assert (
            window.run("return getComputedStyle(document.querySelector('.card')).backgroundColor")
            == "rgb(255, 255, 255)"
        )
    finally:
        window.call("goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"media": ""}})


def test_a_live_page_draws_every_document_as_it_comes_and_says_when_nobody_answers(
    window: Browser, pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "EVERY_S", 0.01)
    monkeypatch.setattr(serving, "SHARE", 1.0)
    whole = document([read_run(pages / "calm")])
    cut = {name: values[:2] for name, values in whole["curve"].items()}
    rows = [values[:2] for values in whole["matrix"]]
    early = {**whole, "curve": cut, "matrix": rows, "points": [0, 1], "state": "running"}
    said = "return document.getElementById('state').textContent"
    drawn = "return Charts.drawn.get('score').plot.renderers"
    points = f"{drawn}.find((each) => each.glyph.type === 'Line').data_source.data.x.length"
    live = Live("0", option="--live", shown=early, contained=Containment())
    try:
        window.look(width=1360, dark=False)
        window.open(live.url)
        assert window.run(said) == "running"
        assert window.run(points) == 2
        up = [False, *[True] * (len(rows) - 1)]
        live.offer(lambda: {**whole, "state": "running", "peers": {**whole["peers"], "up": up}})
        eventually(lambda: window.run(points) == 4, "the later rounds are drawn")
        assert window.run("return document.querySelectorAll('#peers .dot.off').length") == 1
        gone = "return Charts.drawn.get('network').plot.renderers.at(2).data_source.data.x.length"
        eventually(lambda: window.run(gone) == 1, "who is gone is hatched")
        window.run("document.getElementById('pause').click()")
        live.offer(lambda: {**whole, "state": "finished"}, last=True)
        eventually(lambda: window.run("return Stream.ended"), "it has ended")
        assert window.run(said) == "view paused"
        window.run("document.getElementById('pause').click()")
        eventually(lambda: window.run(said) == "finished", "the last document is shown")
        assert window.run("return document.getElementById('pause').hidden")
        assert window.complaints() == []
        assert window.barriers() == []
    finally:
        live.close()


def shown(window: Browser, card: str) -> bool:
    return not window.run("return document.getElementById(arguments[0]).hidden", card)


def test_sections_about_attacks_are_there_where_somebody_attacks(window: Browser, pages: Path) -> None:
    window.open(pages / "calm" / "report.html")
    assert [shown(window, card) for card in ("weights", "verdicts", "senders")] == [False] * 3
    window.open(pages / "attacked" / "report.html")
    assert [shown(window, card) for card in ("weights", "verdicts", "senders")] == [True] * 3


def test_a_peer_is_followed_by_keyboard_and_let_go_by_escape(window: Browser, pages: Path) -> None:
    window.look(width=1360, dark=False)
    window.open(pages / "calm" / "report.html")
    window.run("document.querySelectorAll('#peers tbody button')[2].focus()")
    window.press("\ue007")  # Enter
    assert window.run("return document.getElementById('followed-name').textContent") == "peer-02"
    assert window.run("return document.querySelectorAll('#peers tr.chosen').length") == 1
    assert "peer-02" in window.run("return document.getElementById('score-legend').textContent")
    window.press("\ue00c")  # Escape
    assert window.run("return document.getElementById('followed').hidden")


def test_headings_sort_and_switches_switch(window: Browser, pages: Path) -> None:
    window.open(pages / "calm" / "report.html")
    names = "return [...document.querySelectorAll('#peers tbody th button')].map((b) => b.textContent)"
    before = window.run(names)
    window.run("document.querySelector('#peers thead button').click()")
    assert window.run(names) == before[::-1]
    assert window.run("return document.querySelector('#peers thead th').ariaSort") == "descending"
    window.run("document.querySelector('[data-axis=bytes]').click()")
    assert "bytes" in window.run("return document.querySelector('#score-body').ariaLabel")
    window.run("document.getElementById('theme').click()")
    assert window.run("return document.getElementById('theme').ariaPressed") in ("true", "false")
    assert window.complaints() == []


def test_the_filter_of_many_runs_leaves_the_rows_that_match(window: Browser, pages: Path) -> None:
    window.open(pages / "both.html")
    rows = "return [...document.querySelectorAll('#runs tbody tr')].filter((r) => !r.hidden).length"
    assert window.run(rows) == 2
    window.run("const f = document.getElementById('runs-filter'); f.value = 'krum'; f.oninput()")
    assert window.run(rows) == 1
    assert window.complaints() == []


def test_a_later_document_is_drawn_into_the_same_page(window: Browser, pages: Path) -> None:
    window.look(width=1360, dark=False)
    window.open(pages / "calm" / "report.html")
    window.run("document.querySelector('#peers thead th:nth-child(2) button').click()")
    window.run("document.querySelectorAll('#peers tbody button')[1].focus()")
    held = window.run("return document.activeElement.textContent")
    # Two rounds fewer: what a live page would have shown before.
    window.run(
        """
        const { curve, matrix, points, progress } = Page.shown;
        const cut = (values) => values.slice(0, 2);
        Page.show({
          ...Page.shown, points: cut(points), matrix: matrix.map(cut),
          progress: { ...progress, done: 2, left: 3 }, state: "running",
          curve: Object.fromEntries(Object.entries(curve).map(([name, values]) => [name, cut(values)])),
        });
        """
    )
    assert window.run("return document.getElementById('progress-now').textContent") == "round 2 / 4"
    assert window.run("return document.getElementById('state').textContent") == "running"
    lines = "Charts.drawn.get('score').plot.renderers.filter((each) => each.glyph.type === 'Line')"
    assert window.run(f"return {lines}[0].data_source.data.x.length") == 2
    assert window.run("return document.querySelector('#network output').textContent") == "round 2"
    eventually(
        lambda: window.run("return document.activeElement.textContent") == held,
        "the focus stays in the table",
    )
    assert window.run("return document.querySelectorAll('#peers th[aria-sort]')[0].textContent") == "accuracy"
    assert window.complaints() == []


def test_numbers_in_words_are_sorted_as_numbers(window: Browser, pages: Path) -> None:
    window.look(width=1360, dark=False)
    window.open(pages / "both.html")
    sorted_so = """
        const words = arguments[0];
        const columns = [{ head: "x", word: true, value: (row) => words[row], cell: (row) => words[row] }];
        const made = sortable({ caption: "law", columns, rows: words.map((_, row) => row) });
        return [...made.element.querySelectorAll("tbody th")].map((cell) => cell.textContent);
    """
    assert window.run(sorted_so, ["0.1", "1e-3", "0.05", "10", "9"]) == ["1e-3", "0.05", "0.1", "9", "10"]
    assert window.run(sorted_so, ["peer-10", "peer-9", "none"]) == ["none", "peer-9", "peer-10"]
