"""The fence, on a real HAProxy on loopback."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks import loadbalancer
from tasks.errors import CommandFailed, Refused
from tests.support.mariadb import free_port
from tests.support.scripted import Bash, Scripted, reply, task_on, told

START_TIMEOUT_S = 10.0
BACKENDS = ("nova-api", "nova-ec2")
CONFIGURATION = """\
global
  stats socket ipv4@127.0.0.1:{port} level admin
  stats socket {unix} level admin
defaults
  mode http
  timeout connect 1s
  timeout client 1s
  timeout server 1s
listen nova-api
  bind 127.0.0.1:{api}
  server api01 127.0.0.1:{closed}
  server api02 127.0.0.1:{closed}
backend nova-ec2
  server api01 127.0.0.1:{closed}
backend nobody
backend others
  server api01 127.0.0.1:{closed}
"""


@dataclass
class Haproxy:
    """A running HAProxy.

    Attributes:
        node: a bash on this machine, which stands for its node.
        tcp: the admin socket as host:port.
        unix: the admin socket as a path.
    """

    folder: Path
    node: Bash
    tcp: str
    unix: str
    process: subprocess.Popen[bytes] | None = None

    def start(self):
        self.process = subprocess.Popen(
            [PROGRAM, "-db", "-f", self.folder / "haproxy.cfg"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("wb"),
        )
        address = ("127.0.0.1", int(self.tcp.partition(":")[2]))
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(address, 1):
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.02)
                break
        self.stop()
        raise RuntimeError(f"haproxy does not answer: {(self.folder / 'log').read_text()[-1000:]}")

    def stop(self):
        self.process.kill()
        self.process.wait(10)

    def states(self, *backends):
        return loadbalancer.servers(task_on(self.node), self.tcp, backends or (*BACKENDS, "others"))

    def tell(self, command):
        """What somebody else does."""
        self.node.run(loadbalancer._script(self.tcp, command))


PROGRAM = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")


@pytest.fixture
def haproxy(tmp_path):
    if PROGRAM is None:
        pytest.skip("haproxy is not installed: apt-get install haproxy")
    # A Unix socket's path may have 107 bytes, HAProxy's has a suffix while it starts; pytest's folders can be longer.
    with tempfile.TemporaryDirectory(prefix="cellstep-") as short:
        port, unix = free_port(), f"{short}/admin.sock"
        text = CONFIGURATION.format(port=port, unix=unix, api=free_port(), closed=free_port())
        (tmp_path / "haproxy.cfg").write_text(text)
        found = Haproxy(tmp_path, Bash(tmp_path / "bin"), f"127.0.0.1:{port}", unix)
        found.start()
        try:
            yield found
        finally:
            found.stop()


@pytest.fixture(params=["tcp", "unix"])
def fence(request, haproxy):
    """The fence's arguments, over either admin socket."""
    if request.param == "unix" and shutil.which("socat") is None:
        pytest.skip("socat is not installed: apt-get install socat")
    return {"socket": getattr(haproxy, request.param), "backends": BACKENDS}


@pytest.fixture
def tcp(haproxy):
    return {"socket": haproxy.tcp, "backends": BACKENDS}


ALL = ["nova-api/api01", "nova-api/api02", "nova-ec2/api01"]


def test_all_servers_of_the_backends_are_closed_and_opened_again(haproxy, fence):
    prior = loadbalancer.read(task_on(haproxy.node), **fence).result
    assert prior == {"servers": dict.fromkeys(ALL, "no check")}
    assert reply(haproxy.node, loadbalancer.fence, prior=prior, **fence) == f"changed: in maintenance: {', '.join(ALL)}"
    assert haproxy.states() == {**dict.fromkeys(ALL, "MAINT"), "others/api01": "no check"}
    assert reply(haproxy.node, loadbalancer.fence, prior=prior, **fence) == "skipped: all in maintenance already"
    assert reply(haproxy.node, loadbalancer.still_fenced, prior=prior, **fence) == "ok: still in maintenance"
    assert reply(haproxy.node, loadbalancer.open_, prior=prior, **fence) == f"changed: open: {', '.join(ALL)}"
    assert haproxy.states(*BACKENDS) == prior["servers"]
    assert reply(haproxy.node, loadbalancer.open_, prior=prior, **fence) == "skipped: as before already"


def test_a_server_that_was_in_maintenance_before_stays_so(haproxy, tcp):
    haproxy.tell("disable server nova-api/api02")
    prior = loadbalancer.read(task_on(haproxy.node), **tcp).result
    assert reply(haproxy.node, loadbalancer.fence, prior=prior, **tcp).endswith("nova-api/api01, nova-ec2/api01")
    assert reply(haproxy.node, loadbalancer.open_, prior=prior, **tcp).endswith("nova-api/api01, nova-ec2/api01")
    assert haproxy.states(*BACKENDS) == prior["servers"]
    assert prior["servers"]["nova-api/api02"] == "MAINT"


def test_a_server_that_was_draining_drains_again_and_takes_nothing_between(haproxy, tcp):
    haproxy.tell("set server nova-api/api01 state drain")
    prior = loadbalancer.read(task_on(haproxy.node), **tcp).result
    assert prior["servers"]["nova-api/api01"] == "DRAIN"
    reply(haproxy.node, loadbalancer.fence, prior=prior, **tcp)
    assert set(haproxy.states(*BACKENDS).values()) == {"MAINT"}
    reply(haproxy.node, loadbalancer.open_, prior=prior, **tcp)
    assert haproxy.states(*BACKENDS) == prior["servers"]
    assert not haproxy.node.sent_with("enable server nova-api/api01")


def test_a_server_that_was_opened_behind_our_back_is_found(haproxy, tcp):
    haproxy.tell("disable server nova-ec2/api01")
    prior = loadbalancer.read(task_on(haproxy.node), **tcp).result
    reply(haproxy.node, loadbalancer.fence, prior=prior, **tcp)
    haproxy.tell("enable server nova-ec2/api01")  # this one was in maintenance before: no matter of ours
    assert reply(haproxy.node, loadbalancer.still_fenced, prior=prior, **tcp) == "ok: still in maintenance"
    haproxy.tell("enable server nova-api/api02")
    with pytest.raises(Refused, match="open again: nova-api/api02;"):
        reply(haproxy.node, loadbalancer.still_fenced, prior=prior, **tcp)


def test_a_haproxy_that_was_restarted_has_forgotten_the_fence(haproxy, tcp):
    prior = loadbalancer.read(task_on(haproxy.node), **tcp).result
    reply(haproxy.node, loadbalancer.fence, prior=prior, **tcp)
    haproxy.stop()
    with pytest.raises(CommandFailed, match="asking HAProxy: exit status 1"):
        reply(haproxy.node, loadbalancer.still_fenced, prior=prior, **tcp)
    haproxy.start()
    with pytest.raises(Refused, match=f"open again: {', '.join(ALL)};"):
        reply(haproxy.node, loadbalancer.still_fenced, prior=prior, **tcp)


def test_without_a_fence_nothing_is_looked_after(haproxy, tcp):
    assert reply(haproxy.node, loadbalancer.still_fenced, prior={"servers": {}}, **tcp) == "ok: not in maintenance"


@pytest.mark.parametrize("backend", ["nobody", "unknown", "nova-ap"])
def test_a_backend_without_servers_or_unknown_is_refused(haproxy, backend):
    """As well when others of the list are there: nothing is closed half."""
    fence = {"socket": haproxy.tcp, "backends": ["nova-api", backend]}
    for function in (loadbalancer.fence, loadbalancer.open_, loadbalancer.still_fenced):
        with pytest.raises(Refused, match=f"no servers in a backend {backend}; see fence.backends"):
            reply(haproxy.node, function, prior={"servers": {}}, **fence)
    assert set(haproxy.states().values()) == {"no check"}


def test_a_dry_run_closes_and_opens_nothing(haproxy, tcp):
    task = task_on(haproxy.node, dry_run=True)
    prior = loadbalancer.read(task, **tcp).result
    assert told(loadbalancer.fence(task, prior=prior, **tcp)).startswith("changed: in maintenance")
    assert set(haproxy.states(*BACKENDS).values()) == {"no check"}
    assert told(loadbalancer.still_fenced(task, prior=prior, **tcp)) == "ok: not in maintenance"
    reply(haproxy.node, loadbalancer.fence, prior=prior, **tcp)
    assert told(loadbalancer.open_(task, prior=prior, **tcp)).startswith("changed: open")
    assert set(haproxy.states(*BACKENDS).values()) == {"MAINT"}


def test_what_haproxy_says_against_a_command_is_told(haproxy):
    """It ends well whatever it answers."""
    with pytest.raises(Refused, match="answered to `disable server nova-api/api09`: No such server"):
        loadbalancer._tell(task_on(haproxy.node), haproxy.tcp, "disable server nova-api/api09")


STAT = "# pxname,svname,qcur,status,\nnova-api,FRONTEND,,OPEN,\nnova-api,api01,0,{},\nnova-api,BACKEND,0,UP,\n"


def test_a_server_that_stays_open_is_refused():
    node = Scripted({"show stat": STAT.format("UP"), "disable server nova-api/api01": "\n"})
    with pytest.raises(Refused, match="still open after `disable server`: nova-api/api01"):
        reply(node, loadbalancer.fence, prior={}, socket="127.0.0.1:9999", backends=["nova-api"])


@pytest.mark.parametrize("status", ["MAINT", "MAINT (via nova/api01)", "MAINT (resolution)"])
def test_every_kind_of_maintenance_counts(status):
    node = Scripted({"show stat": STAT.format(status)})
    prior = {"servers": {"nova-api/api01": "UP"}}
    arguments = {"prior": prior, "socket": "127.0.0.1:9999", "backends": ["nova-api"]}
    assert reply(node, loadbalancer.fence, **arguments) == "skipped: all in maintenance already"
    assert reply(node, loadbalancer.still_fenced, **arguments) == "ok: still in maintenance"


def test_a_server_that_is_gone_from_haproxy_does_not_count_as_fenced():
    node = Scripted({"show stat": STAT.format("MAINT")})
    prior = {"servers": {"nova-api/api01": "UP", "nova-api/api02": "UP"}}
    with pytest.raises(Refused, match="open again: nova-api/api02"):
        reply(node, loadbalancer.still_fenced, prior=prior, socket="127.0.0.1:9999", backends=["nova-api"])
