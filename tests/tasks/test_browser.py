"""The dashboard in a real headless Chromium, against the stand-in over real HTTP."""

import pytest

from tasks import browser
from tests.support.dashboards import Dashboard
from tests.support.scripted import Bash, task_on

USER = "opérateur"


@pytest.fixture
def dashboard():
    found = Dashboard(probe="ACTIVE")
    yield found
    found.close()


@pytest.fixture
def task(tmp_path):
    return task_on(Bash(tmp_path / "bin"))


def look(task, dashboard, password=None):
    word = dashboard.users[USER] if password is None else password
    return browser.test(task, base=dashboard.base, username=USER, password=lambda: word, wanted=True).result


def test_a_sound_dashboard_has_nothing_amiss(task, dashboard):
    noted = look(task, dashboard)
    assert noted.data == []
    assert noted.words == "log-in and list of guests, no error of a script or a file"
    assert dashboard.sessions, "nobody logged in"
    assert dashboard.guests.acts == []


def test_a_refused_log_in_is_found(task, dashboard):
    assert look(task, dashboard, "wrong").data == ["the log-in does not leave the log-in page"]


def test_a_script_that_fails_and_a_picture_that_is_missing_are_found(task, dashboard):
    dashboard.site.login += '<img src="/dashboard/static/site/logo.png"><script>helpButtons.show()</script>'
    assert sorted(look(task, dashboard).data) == [
        f"HTTP 404 for {dashboard.base}/static/site/logo.png",
        "a script fails: helpButtons is not defined",
    ]


def test_a_list_without_a_guest_is_found(task, dashboard):
    dashboard.guests.status.clear()
    assert look(task, dashboard).data == ["the list of guests has no guest in it"]


def test_errors_of_the_server_are_found(task, dashboard):
    dashboard.fails = lambda _: bool(dashboard.sessions)  # from the log-in on
    found = look(task, dashboard).data
    assert f"HTTP 500 for {dashboard.base}/project/instances/" in found


def test_a_dashboard_that_does_not_answer_is_found(task, dashboard):
    dashboard.close()
    (said,) = look(task, dashboard).data
    assert "ERR_CONNECTION_REFUSED" in said


def test_it_is_left_out_where_it_is_not_wanted_and_where_there_is_no_browser(task, dashboard, monkeypatch):
    off = browser.test(task, base=dashboard.base, username=USER, password=lambda: "", wanted=False).result
    assert (off.words, off.data) == ("not tested in a browser: dashboard.browser is off", None)
    monkeypatch.setattr(browser.shutil, "which", lambda _: None)
    none = look(task, dashboard)
    assert "no browser here: install one of chromium" in none.words
    assert none.data is None
