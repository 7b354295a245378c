"""The look at an API from outside: what it saw, in a real bash against a server that goes away and comes back."""

import http.server
import subprocess
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import darktime
from tasks.errors import CommandFailed, Refused
from tests.support.scripted import Bash, reply, task_on

API = {"api": "cinder", "every_s": 0.2}


class Api:
    """An API that answers with a status; it listens on one port all its life."""

    def __init__(self):
        self.status = 200
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(api.status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def api():
    found = Api()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def node(tmp_path, monkeypatch):
    monkeypatch.setattr(darktime, "FOLDER", str(tmp_path / "dark"))
    found = Bash(tmp_path / "bin")
    yield found
    subprocess.run(["pkill", "-f", f"{tmp_path}.*cellstep-cinder"], check=False)


def looks(tmp_path):
    return (tmp_path / "dark" / "cinder.log").read_text().splitlines()


def wait_for(what):
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end, "it was not seen in 20 s"
        time.sleep(0.05)


def ended(node, url):
    noted = darktime.end(task_on(node), prior={}, url=url, **API).result
    return noted.words, noted.data


def test_a_time_without_service_is_seen_and_told(api, node, tmp_path):
    assert "changed: looks at" in reply(node, darktime.begin, prior={}, url=api.url, **API)
    api.status = 503
    wait_for(lambda: looks(tmp_path)[-1].endswith(" 503"))
    assert reply(node, darktime.begin, prior={}, url=api.url, **API) == "skipped: it is looked at already"
    time.sleep(0.5)  # the dark time itself
    api.status = 300  # what an API's list of versions is
    wait_for(lambda: looks(tmp_path)[-1].endswith(" 300"))
    words, seen = ended(node, api.url)
    assert words.startswith("cinder did not serve for ")
    assert words.endswith(" s in all, once")
    assert [span["status"] for span in seen["spans"]] == [503]
    assert 0.4 < seen["seconds"] < 15
    assert seen["whole"]
    assert list((tmp_path / "dark").iterdir()) == []
    assert ended(node, api.url) == ("it was not looked at", None), "and again: nothing is left"


def test_it_is_waited_for_until_it_serves_again(api, node, tmp_path):
    """An API that was opened serves when the load balancer has seen that its servers answer."""
    darktime.begin(task_on(node), prior={}, url=api.url, **API)
    api.status = 503
    wait_for(lambda: looks(tmp_path)[-1].endswith(" 503"))
    timer = threading.Timer(1.5, lambda: setattr(api, "status", 300))
    timer.start()
    words, seen = ended(node, api.url)
    timer.join()
    assert words.endswith(" s in all, once")
    assert seen["spans"][0]["ended"] is not None


def test_one_that_does_not_come_back_is_told(api, node, tmp_path, monkeypatch):
    monkeypatch.setattr(darktime, "BACK_S", 1)
    darktime.begin(task_on(node), prior={}, url=api.url, **API)
    api.status = 503
    wait_for(lambda: looks(tmp_path)[-1].endswith(" 503"))
    words, seen = ended(node, api.url)
    assert words.endswith("once; it had not come back")
    assert seen["spans"][0]["ended"] is None


def test_one_that_does_not_serve_in_the_first_place_is_refused(api, node, tmp_path):
    api.status = 500
    with pytest.raises(Refused, match=r"does not serve now \(HTTP 500\): mend it, or the address in apis\.urls"):
        darktime.begin(task_on(node), prior={}, url=api.url, **API)
    with pytest.raises(Refused, match=r"does not serve now \(no answer\)"):
        darktime.begin(task_on(node), prior={}, url="http://127.0.0.1:9/", **API)
    assert list((tmp_path / "dark").iterdir()) == []


def test_a_look_that_was_cut_off_says_so(api, node, tmp_path):
    darktime.begin(task_on(node), prior={}, url=api.url, **API)
    pid = (tmp_path / "dark" / "cinder.pid").read_text().strip()
    subprocess.run(["kill", "-KILL", pid], check=True)
    command = Path(f"/proc/{pid}/cmdline")  # a signal is delivered when the process is next scheduled
    wait_for(lambda: not command.exists() or not command.read_bytes())
    words, seen = ended(node, api.url)
    assert words == "cinder served all the time; the looking was cut off: the node was restarted?"
    assert not seen["whole"]


def test_a_node_without_curl_is_told(api, node, monkeypatch):
    monkeypatch.setattr(darktime, "_PROBE", darktime._PROBE.replace("curl", "no-such-curl"))
    with pytest.raises(CommandFailed, match=r"there is no no-such-curl on .*: name another node in apis\.watch_from"):
        darktime.begin(task_on(node), prior={}, url=api.url, **API)


@given(st.lists(st.sampled_from([0, 200, 300, 401, 404, 500, 502, 503]), min_size=1, max_size=40))
def test_every_second_is_either_dark_or_not(statuses):
    """Against the plain sum: a second is dark by the look at its beginning."""
    said = "".join(f"{when}.5 {status:03d}\n" for when, status in enumerate(statuses)) + f"@ended {len(statuses)}.5\n"
    seen = darktime.parse(said, "cinder", "http://x/")
    assert seen.seconds == sum(status == 0 or status >= 500 for status in statuses)
    for one, other in zip(seen.spans, seen.spans[1:], strict=False):
        assert one.ended < other.began
