"""The dashboard over real HTTP, by a real curl: tests, load, and what counts as worse."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import dashboard, dashboard_load
from tasks.errors import CommandFailed, Refused
from tests.support.dashboards import Dashboard
from tests.support.scripted import Bash, task_on

USER = "opérateur"
LIMITS = {"slower": 2, "slack_ms": 250, "failed": 0.01}


@pytest.fixture
def site():
    found = Dashboard(probe="ACTIVE", other="ACTIVE")
    yield found
    found.close()


@pytest.fixture
def node(tmp_path, monkeypatch):
    monkeypatch.setattr(dashboard, "KEPT", str(tmp_path / "kept" / "guest"))
    return Bash(tmp_path / "bin", longest=60)


def tried_on(node, site, guest="probe", password=None, timeout_s=5):
    secret = site.users[USER] if password is None else password
    words = {"base": site.base, "username": USER, "password": lambda: secret, "guest": guest, "timeout_s": timeout_s}
    return dashboard.test(task_on(node), **words).result.data


def test_log_in_list_stop_and_start(node, site):
    tried = tried_on(node, site)
    assert [each["what"] for each in tried] == ["log in", "list", "stop", "start"]
    assert all(each["well"] for each in tried)
    assert site.guests.acts == [("id-probe", "stop"), ("id-probe", "start")]
    assert not site.sessions, "and it has logged out"


def test_a_guest_that_was_shut_off_is_so_in_the_end(node, site):
    site.guests.status["probe"] = "SHUTOFF"
    tried_on(node, site)
    assert site.guests.acts == [("id-probe", "start"), ("id-probe", "stop")]
    assert site.guests.status["probe"] == "SHUTOFF"


@pytest.mark.parametrize("status", ["ACTIVE", "SHUTOFF"])
def test_a_guest_whose_second_action_failed_ends_as_it_was_after_a_second_try(node, site, status, monkeypatch):
    site.guests.status["probe"] = status
    act, first = site.guests.act, {"ACTIVE": "stop", "SHUTOFF": "start"}[status]
    monkeypatch.setattr(site.guests, "act", lambda uuid, action: act(uuid, action) if action == first else None)
    last = tried_on(node, site, timeout_s=1)[-1]
    assert "the next try puts it back" in last["said"]
    assert site.guests.status["probe"] != status
    monkeypatch.setattr(site.guests, "act", act)
    assert all(each["well"] for each in tried_on(node, site))
    assert site.guests.status["probe"] == status
    assert not Path(dashboard.KEPT).exists()


def test_no_secret_is_on_a_command_line_and_nothing_is_left(node, site):
    tried_on(node, site)
    press(node, site)
    for command in node.sent:
        assert site.users[USER] not in command
        assert "a%26b" not in command
    folders = set(re.findall(r"/tmp/cellstep-dashboard\.\w+", " ".join(node.sent))) - {"/tmp/cellstep-dashboard.XXXXXX"}
    assert len(folders) == 2
    assert not any(Path(folder).exists() for folder in folders)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"password": "no"}, "the log-in of opérateur was refused: HTTP 200"),
        ({"guest": "gone"}, "no guests of the name gone in the list: see dashboard.guest in cloud.yaml"),
    ],
)
def test_what_does_not_work_is_told(node, site, wrong, words):
    last = tried_on(node, site, **wrong)[-1]
    assert (last["well"], last["said"]) == (False, words)


def test_a_guest_that_does_not_stop_is_told(node, site):
    site.guests.stuck = True
    assert tried_on(node, site, timeout_s=1)[-1]["said"] == (
        "probe is not shutoff after 1 s: probe, Active; probe is active, as it was"
    )


def test_a_dashboard_that_answers_500_or_not_at_all_is_told(node, site):
    site.fails = lambda _: True
    assert tried_on(node, site)[-1]["said"] == "no log-in page: HTTP 500"
    site.base = "http://127.0.0.1:9/dashboard"
    assert tried_on(node, site)[-1]["said"] == "no log-in page: no answer"


def press(node, site, **words):
    usual = {"users": 2, "rate_per_s": 4, "seconds": 2}
    user = {"username": USER, "password": lambda: site.users[USER]}
    return dashboard_load.press(task_on(node), base=site.base, **user, **{**usual, **words}).result.data


def test_a_load_counts_requests_and_log_ins(node, site):
    figures = press(node, site)
    assert figures["logins"] >= 4
    assert (figures["errors"], figures["failed_logins"], figures["gave_up"]) == (0, 0, False)
    assert figures["requests"] == 4 * figures["logins"]
    assert set(figures["statuses"]) == {"200", "302"}
    assert 0 < figures["median_ms"] <= figures["p95_ms"]
    assert dashboard_load.worse(figures, figures, **LIMITS) == []


def test_500_under_load_is_seen_and_worse(node, site):
    before = press(node, site)
    began = site.requests
    site.fails = lambda n: n > began + 1 and n % 3 == 0  # not the page that is looked at before the load
    after = press(node, site)
    assert after["errors"] > 0
    assert after["statuses"]["500"] == after["errors"]
    assert "requests without an answer or with HTTP 500 and above" in dashboard_load.worse(before, after, **LIMITS)[0]


def test_log_ins_that_fail_end_the_load_early(node, site):
    figures = press(node, site, seconds=3, rate_per_s=20, users=1)
    assert not figures["gave_up"], "it goes well"
    secret, site.users[USER] = site.users[USER], "another"
    user = {"username": USER, "password": lambda: secret}
    load = {"users": 1, "rate_per_s": 20, "seconds": 50}
    figures = dashboard_load.press(task_on(node), base=site.base, **user, **load).result.data
    assert (figures["gave_up"], figures["failed_logins"], figures["logins"]) == (True, 5, 5)
    assert dashboard_load.told(figures).endswith(", ended early")


def test_a_page_without_a_form_and_a_node_without_curl_are_refused(node, site, monkeypatch):
    site.base += "/nothing"
    with pytest.raises(Refused, match=r"has no log-in form \(HTTP 404\); see dashboard\.url in cloud\.yaml"):
        press(node, site)
    site.base = site.base.removesuffix("/nothing")
    monkeypatch.setattr(dashboard_load, "_LOAD", dashboard_load._LOAD.replace("command -v curl", "command -v no-curl"))
    with pytest.raises(CommandFailed, match=r"there is no curl on .*: see dashboard\.watch_from"):
        press(node, site)


COUNTS = st.integers(0, 200)


@st.composite
def figures(draw):
    requests = draw(COUNTS)
    logins = draw(st.integers(0, requests))
    p95 = draw(st.none() | st.floats(0.1, 30_000))
    return {
        "requests": requests,
        "errors": draw(st.integers(0, requests)),
        "logins": logins,
        "failed_logins": draw(st.integers(0, logins)),
        "p95_ms": p95,
    }


@given(figures(), figures())
def test_worse_is_a_larger_share_or_a_slower_answer(before, after):
    words = dashboard_load.worse(before, after, **LIMITS)

    def share(side, bad, of):
        return side[bad] / side[of] if side[of] else 0

    if not after["requests"] or not after["logins"]:
        assert words == ["nothing was measured"]
        return
    expected = share(after, "errors", "requests") > share(before, "errors", "requests") + 0.01
    expected += share(after, "failed_logins", "logins") > share(before, "failed_logins", "logins") + 0.01
    if before["p95_ms"] and after["p95_ms"]:
        expected += after["p95_ms"] > max(2 * before["p95_ms"], before["p95_ms"] + 250)
    assert len(words) == expected


@given(st.text())
def test_any_text_is_a_page(text):
    dashboard.form_of(text)
    assert all(isinstance(words, list) for words in dashboard.guests_of(text).values())


@given(st.dictionaries(st.uuids().map(str), st.sampled_from(["Active", "Shutoff", "Error"]), max_size=8))
def test_the_table_of_guests_is_read(rows):
    page = "".join(f'<tr class="x" id="instances__row__{u}"><td> n{u} </td><td>{s}</td></tr>' for u, s in rows.items())
    found = dashboard.guests_of(f"<table><tr id='head'><th>Name</th></tr>{page}</table><p>after</p>")
    assert found == {uuid: [f"n{uuid}", status] for uuid, status in rows.items()}
