"""The HTML page as people see it: in a real Chromium, light and dark, wide and narrow, and its words by themselves."""

import re

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from reports.page import render
from reports.page.timeline import span, timeline
from reports.story import Bar, Story
from reports.tables import darktime, hosts
from reports.writers import write_html
from tests.support.fleets import places, story, tables

OLD, STOPPED = {"c01-n003", "c01-n004"}, {"c02-n007"}
SILENT = {"c02-n009": "does not answer <b>port</b> 22"}

CONTRAST = """
() => {
  const parsed = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parsed(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
      if (colour[3] > 0) throw new Error("half transparent");
    }
    return parsed(getComputedStyle(document.documentElement).backgroundColor);
  };
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (words.nextNode()) {
    const node = words.currentNode.parentElement;
    if (!words.currentNode.textContent.trim() || !node.checkVisibility()) continue;
    const [a, b] = [light(parsed(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), words.currentNode.textContent.trim().slice(0, 40)]);
  }
  return found;
}
"""


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    nodes = places(2000)
    path = tmp_path_factory.mktemp("report") / "nova.html"
    write_html(tables(nodes, OLD, STOPPED, set(SILENT)), path, story(nodes, SILENT))
    return path


def opened(browser: Browser, report, width: int = 1280, scheme: str = "light") -> tuple[Page, list[str]]:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    return page, requests


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_asks_for_nothing_else_and_runs_nothing(browser, report, width, scheme):
    page, requests = opened(browser, report, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert requests == [report.as_uri()]
    assert page.locator("script").count() == 0
    page.evaluate("document.querySelectorAll('details').forEach((each) => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_stands_out_from_what_is_behind_it(browser, report, scheme):
    page, _ = opened(browser, report, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((each) => each.open = true)")
    found = page.evaluate(CONTRAST)
    assert len(found) > 200
    assert [each for each in found if each[0] < 4.5] == []
    page.close()


def test_the_two_schemes_are_two(browser, report):
    behind = []
    for scheme in ("light", "dark"):
        page, _ = opened(browser, report, scheme=scheme)
        behind.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    assert behind == ["rgb(255, 255, 255)", "rgb(17, 22, 29)"]


def test_the_map_has_a_square_for_each_node_and_names_what_is_wrong(browser, report):
    page, _ = opened(browser, report)
    assert page.locator(".fleet .node").count() == 2002
    assert page.locator(".fleet .cell").count() == 21
    bad = page.locator(".fleet .node.bad")
    assert {each.get_attribute("title") for each in bad.all()} == {
        "c01-n003: rpms: 4 older",
        "c01-n004: rpms: 4 older",
        "c02-n007: services: stopped",
    }
    silent = page.locator(".fleet .node.silent")
    assert [each.get_attribute("title") for each in silent.all()] == ["c02-n009: does not answer <b>port</b> 22"]
    box = bad.first.bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (14, 14)
    page.close()


def test_the_verdict_comes_first_and_rows_alike_are_folded(browser, report):
    page, _ = opened(browser, report)
    words = page.locator("main > *").nth(1).inner_text()
    assert words == "Not compliant; rows to look at: rpms 12 of 8,008, services 2 of 2,002; 1 node could not be asked"
    rows = page.locator("#rpms tbody tr")
    assert rows.count() == 12
    assert "c01-n[003-004]" in rows.first.inner_text()
    assert page.locator("#rpms").get_attribute("open") is not None
    assert page.locator("#hosts").get_attribute("open") is None
    page.close()


def test_the_timeline_marks_dark_time_where_it_was(browser, report):
    page, _ = opened(browser, report)
    assert "15 min" in page.get_by_role("heading", name="The run").locator("..").inner_text()
    dark = page.locator(".track i.dark")
    track, mark = dark.locator("..").bounding_box(), dark.bounding_box()
    assert track is not None
    assert mark is not None
    # From 60 s to 360 s of 900 s.
    assert (mark["x"] - track["x"]) / track["width"] == pytest.approx(60 / 900, abs=0.01)
    assert mark["width"] / track["width"] == pytest.approx(300 / 900, abs=0.01)
    page.close()


def test_printed_it_has_pages(browser, report):
    page, _ = opened(browser, report)
    assert page.pdf(format="A4").count(b"/Type /Page\n") >= 2
    page.close()


def test_texts_are_texts():
    evil = '<script>alert(1)</script>" onload="x'
    rows = [{"step": evil, "cell": "top", "host": "h", "state": "failed", "attempts": 1, "detail": evil}]
    made = render({"hosts": hosts.table(rows)}, Story(evil, {evil: evil}, silent={"h": evil}))
    assert "<script" not in made
    assert 'onload="x' not in made


def test_a_report_without_nodes_and_rows_is_a_page():
    made = render({"hosts": hosts.table([])}, Story("Empty"))
    assert "Nothing was checked" in made
    assert "The fleet" not in made


def test_a_run_that_was_stopped_shows_what_came_of_its_nodes():
    nodes = places(3)
    rows = [
        {"step": "Stop it", "cell": node.cell, "host": node.name, "state": state, "attempts": 1, "detail": ""}
        for node, state in zip(nodes, ["ok", "changed", "failed", "unreachable", "not_run"], strict=True)
    ]
    made = render({"hosts": hosts.table(rows)}, Story("Stopped", nodes=nodes))
    squares = re.findall(r'<i class="node (\w+)" title="([^"]*)"', made)
    assert [tone for tone, _ in squares] == ["good", "good", "bad", "silent", "warn"]
    assert squares[2][1] == "c01-n001: “Stop it”: failed"


def test_a_step_under_way_has_no_end():
    steps = [
        Bar("one", "2026-01-31T01:00:00Z", "2026-01-31T01:00:10Z", "done"),
        Bar("two", "2026-01-31T01:00:10Z", "", "running"),
    ]
    made = timeline(steps, None)
    assert made is not None
    assert [mark.state for mark in made.steps] == ["done", "running"]
    assert timeline([], darktime.table([])) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h 0 min"),
        (7440, "2 h 4 min"),
    ],
)
def test_spans(seconds, words):
    assert span(seconds) == words
