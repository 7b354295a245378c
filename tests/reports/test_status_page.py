"""The page that says how far a run is, of a fleet in the middle of its longest step: in a real Chromium."""

import contextlib

import pytest

from cellstep import runs, statuspage
from reports.page.status import REFRESH_S
from tests.reports.test_page import CONTRAST, browser, opened  # noqa: F401 - the fixture
from tests.support.midway import DENIED, UPDATE, fleet

BACK = "document.querySelector('meta[http-equiv]').getAttribute('content')"


@pytest.fixture(scope="module")
def status(tmp_path_factory):
    folder = tmp_path_factory.mktemp("status")
    cloud, journal, run = fleet(folder / "cloud", 2000)
    path = folder / "status.html"
    with contextlib.closing(journal), runs.lock_of(cloud).held(journal, "run nova"):
        statuspage.write(cloud, run, path)
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_and_asks_for_nothing_else(browser, status, width, scheme):  # noqa: F811
    page, requests = opened(browser, status, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert requests == [status.as_uri()]
    assert page.locator("script").count() == 0
    assert [each for each in page.evaluate(CONTRAST) if each[0] < 4.5] == []
    page.close()


def test_it_says_how_far_the_run_is(browser, status):  # noqa: F811
    page, _ = opened(browser, status)
    words = page.locator(".verdict").inner_text()
    assert words == f"Step 38 of 61: {UPDATE}: 1,400 of 2,000 nodes"
    counts = {tone: page.locator(f".fleet .node.{tone}").count() for tone in ("good", "busy", "none", "bad", "silent")}
    assert counts == {"good": 1396, "busy": 40, "none": 560, "bad": 3, "silent": 1}
    rows = page.locator("tbody tr").all_inner_texts()
    assert rows == [f"failed\t{UPDATE}\tc01-n[0003-0005] (3)\t{DENIED}"]
    assert page.get_by_text("In quarantine: c01-n0006 (1)").count() == 1
    assert page.locator(".bar").count() == 38
    assert page.locator("ol li").count() == 61 - 38
    page.close()


def test_a_browser_that_stays_open_sees_the_run_go_on_by_itself(browser, tmp_path):  # noqa: F811
    cloud, journal, run = fleet(tmp_path / "cloud", 20)
    path = tmp_path / "status.html"
    with contextlib.closing(journal), runs.lock_of(cloud).held(journal, "run nova"):
        statuspage.write(cloud, run, path)
        page, requests = opened(browser, path)
        assert page.evaluate(BACK) == str(REFRESH_S)
        journal.end_hosts(run, UPDATE, [("c02-n0006", "changed", "")])
        statuspage.write(cloud, run, path)
        page.get_by_text("15 of 20 nodes").wait_for(timeout=3000 * REFRESH_S)
        journal.end_run(run, "stopped", 4, "too many failed")
        statuspage.write(cloud, run, path)
        page.get_by_text("Stopped: too many failed").wait_for(timeout=3000 * REFRESH_S)
    assert set(requests) == {path.as_uri()}
    page.close()
