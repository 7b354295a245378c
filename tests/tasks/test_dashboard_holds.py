"""The switch, the regular restart and the web server: holds and steps, in a real bash."""

import socketserver
import subprocess
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import restarts, switching, webserver
from tasks.errors import CommandFailed, Refused
from tests.support.scripted import Bash, reply, task_on


@pytest.fixture
def node(tmp_path):
    return Bash(tmp_path / "bin")


@pytest.fixture
def commands(tmp_path):
    file = tmp_path / "serving"
    file.write_text("dash01\n")
    words = {"command": f"echo dash02 > {file}", "back": f"echo dash01 > {file}", "state": f"cat {file}"}
    return {"old": "dash01", "new": "dash02", **words}


def test_switched_back_settled_and_once(node, commands):
    prior = switching.read(task_on(node), **commands).result
    assert prior == {"serving": "dash01"}
    assert reply(node, switching.place, prior=prior, **commands) == "changed: users come to dash02"
    assert reply(node, switching.place, prior=prior, **commands) == "skipped: users come to dash02 already"
    assert reply(node, switching.settle, prior=prior, **commands) == "ok: users stay with dash02"
    assert reply(node, switching.lift, prior=prior, **commands) == "changed: users come to dash01"
    assert reply(node, switching.lift, prior=prior, **commands) == "skipped: users come to dash01 already"
    with pytest.raises(Refused, match="users come to dash01: somebody has switched back"):
        switching.settle(task_on(node), prior=prior, **commands)


def test_users_who_came_to_the_new_one_before_are_left_there(node, commands):
    subprocess.run(["bash", "-c", commands["command"]], check=True)
    prior = switching.read(task_on(node), **commands).result
    assert reply(node, switching.lift, prior=prior, **commands) == "skipped: users came to dash02 before"


def test_a_switch_that_does_nothing_or_fails_or_says_nonsense_is_told(node, commands):
    prior = {"serving": "dash01"}
    with pytest.raises(Refused, match=r"dashboard\.switch\.command ended well, but users come to dash01"):
        switching.place(task_on(node), prior=prior, **{**commands, "command": "true"})
    with pytest.raises(Refused, match=r"dashboard\.switch\.command: exit status 3: no such host"):
        switching.place(task_on(node), prior=prior, **{**commands, "command": "echo no such host >&2; exit 3"})
    with pytest.raises(Refused, match="printed 'dash3', which is neither dash01 nor dash02"):
        switching.read(task_on(node), **{**commands, "state": "echo dash3"})


def test_a_switch_that_fails_half_way_leaves_users_at_the_old_one(node, commands):
    prior = {"serving": "dash01"}
    half = {**commands, "command": f"{commands['command']}; echo no virtual host >&2; exit 3"}
    with pytest.raises(Refused, match=r"no virtual host; dashboard\.switch\.back was called: users come to dash01"):
        switching.place(task_on(node), prior=prior, **half)
    assert switching.read(task_on(node), **commands).result == prior
    with pytest.raises(
        Refused, match=r"no virtual host; and the way back failed: .*: see where users come to, by hand"
    ):
        switching.place(task_on(node), prior=prior, **{**half, "back": "exit 4"})


def test_a_dry_run_switches_nothing(node, commands):
    result = switching.place(task_on(node, dry_run=True), prior={"serving": "dash01"}, **commands)
    assert result.changed
    assert switching.read(task_on(node), **commands).result == {"serving": "dash01"}


class SaysItsVersion(socketserver.StreamRequestHandler):
    """As memcached does."""

    def handle(self):
        if self.rfile.readline().strip() == b"version":
            self.wfile.write(b"VERSION 1.4.4\r\n")


class Memcached(socketserver.ThreadingTCPServer):
    """A server that could be memcached."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), SaysItsVersion)
        self.place = f"127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def memcached():
    with Memcached() as found:
        yield found
        found.shutdown()


SETTINGS = """
SECRET_KEY = 'x'
SESSION_ENGINE = 'django.contrib.sessions.backends.cache'
CACHES = {{'default': {{'BACKEND': 'django.core.cache.backends.memcached.MemcachedCache', 'LOCATION': '{place}'}}}}
"""


@pytest.fixture
def wish(tmp_path, monkeypatch, memcached):
    monkeypatch.setattr(restarts, "PATH", str(tmp_path / "cellstep-dashboard"))
    settings = tmp_path / "local_settings"
    settings.write_text(SETTINGS.format(place=memcached.place))
    return {"every_min": 30, "days": 14, "command": f"touch {tmp_path}/restarted", "settings": str(settings)}


def cron_runs(tmp_path, until=None):
    """Do what cron does with the file's line, with the clock past its end if wanted."""
    path, line = (tmp_path / "cellstep-dashboard").read_text().splitlines()[1:]
    assert "/usr/sbin" in path.removeprefix("PATH=").split(":"), "cron's own PATH has it not, and `service` is there"
    assert line.startswith("*/30 * * * * root ")
    command = line.removeprefix("*/30 * * * * root ").replace("\\%", "%")
    if until is not None:
        command = command.replace(str(until), "1")
    subprocess.run(["sh", "-c", command], check=True)


def test_restarts_until_their_end_and_the_file_removes_itself(node, wish, tmp_path):
    prior = restarts.read(task_on(node), **wish).result
    assert prior == {"until": None}
    assert reply(node, restarts.place, prior=prior, **wish).startswith(
        "changed: restarts gracefully every 30 min until"
    )
    until = restarts.read(task_on(node), **wish).result["until"]
    assert abs(until - time.time() - 14 * 86400) < 60
    cron_runs(tmp_path)
    assert (tmp_path / "restarted").exists()
    assert reply(node, restarts.place, prior=prior, **wish).startswith("skipped: restarts go on until")
    assert reply(node, restarts.settle, prior=prior, **wish).startswith("ok: restarts go on until")
    (tmp_path / "restarted").unlink()
    cron_runs(tmp_path, until)
    assert not (tmp_path / "restarted").exists()
    assert not (tmp_path / "cellstep-dashboard").exists()
    assert reply(node, restarts.settle, prior=prior, **wish) == "skipped: not there"


def test_lifted_they_are_gone_and_those_of_before_stay(node, wish, tmp_path):
    restarts.place(task_on(node), prior={"until": None}, **wish)
    assert reply(node, restarts.lift, prior={"until": 1}, **wish) == "skipped: restarts were there before"
    assert reply(node, restarts.lift, prior={"until": None}, **wish) == "changed: no restarts any more"
    assert reply(node, restarts.lift, prior={"until": None}, **wish) == "skipped: not there"
    (tmp_path / "cellstep-dashboard").write_text("# the site's own\n")
    with pytest.raises(Refused, match="is there, and not ours"):
        restarts.place(task_on(node), prior={"until": None}, **wish)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("SESSION_ENGINE = 'django.contrib.sessions.backends.signed_cookies'\n", "SESSION_ENGINE is .*signed_cookies"),
        ("", "SESSION_ENGINE is None"),
        ("SESSION_ENGINE = 'django.contrib.sessions.backends.cache'\n", "CACHES has no memcached"),
        (SETTINGS.format(place=""), "CACHES does not tell where memcached is"),
        (SETTINGS.format(place="127.0.0.1:9"), "no memcached answers at 127.0.0.1:9"),
        ("print 'python 2'\n", "it cannot be read as Python"),
    ],
)
def test_without_sessions_in_memcached_they_are_refused(node, wish, tmp_path, settings, words):
    (tmp_path / "local_settings").write_text(settings)
    with pytest.raises(Refused, match=words):
        restarts.place(task_on(node), prior={"until": None}, **wish)
    assert not (tmp_path / "cellstep-dashboard").exists()


@given(st.text(max_size=300))
def test_any_other_text_is_refused(text):
    with pytest.raises(ValueError, match=r"Python|SESSION_ENGINE"):
        restarts.memcached(text)


@given(st.integers(0, 2**40), st.integers(1, 59))
def test_a_file_of_ours_is_known_again(until, every):
    assert restarts.until_of(restarts.text(until=until, every_min=every, command="date +%s")) == until
    assert restarts.until_of("# another\n") is None


def test_the_web_server_is_started_again_only_for_what_is_new(node, tmp_path, monkeypatch):
    monkeypatch.setattr(webserver, "STAMP", str(tmp_path / "stamp" / "served"))
    state, log, page = tmp_path / "state", tmp_path / "log", tmp_path / "page"
    node.program("rpm", "echo package-1")
    node.program("chkconfig", '[ "$1" = --list ] && echo "httpd 3:on" || echo "$@" >> ' + str(log))
    node.program("service", f'[ "$2" = status ] && exec test -e {state}; [ "$2" = start ] && touch {state}; exit 0')
    words = {"services": ["httpd"], "packages": ("package",), "paths": (str(page),)}
    assert reply(node, webserver.refresh, **words) == "changed: restarted httpd"
    assert reply(node, webserver.refresh, **words) == "skipped: serves what is installed already"
    page.write_text("mine")
    assert reply(node, webserver.refresh, **words) == "changed: restarted httpd"
    assert reply(node, webserver.refresh, **words) == "skipped: serves what is installed already"
    state.unlink()
    assert reply(node, webserver.refresh, **words) == "changed: restarted httpd"
    node.program("service", "exit 1")
    with pytest.raises(CommandFailed, match="restarting httpd"):
        webserver.refresh(task_on(node), **words)


def test_a_web_server_that_users_are_on_is_restarted_gracefully(node, tmp_path, monkeypatch):
    monkeypatch.setattr(webserver, "STAMP", str(tmp_path / "served"))
    log, page = tmp_path / "log", tmp_path / "page"
    node.program("rpm", "echo package-1")
    node.program("chkconfig", '[ "$1" = --list ] && echo "httpd 3:on"; exit 0')
    node.program("service", f'[ "$2" = status ] || echo "$2" >> {log}')
    words = {"services": ["httpd"], "packages": ("package",), "paths": (str(page),), "in_use": True}
    page.write_text("changed")
    assert reply(node, webserver.refresh, **words) == "changed: restarted httpd gracefully: users come to it"
    assert log.read_text().split() == ["graceful"]
    assert reply(node, webserver.refresh, **words) == "skipped: serves what is installed already"


def test_restarts_whose_end_is_over_do_not_go_on(node, wish):
    restarts.place(task_on(node), prior={"until": None}, **{**wish, "days": -1})
    assert reply(node, restarts.place, prior={"until": None}, **wish).startswith("skipped: the restarts ended")
    assert reply(node, restarts.settle, prior={"until": None}, **wish).startswith("ok: restarts ended")
