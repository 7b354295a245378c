"""A cell whose nodes only its worker reaches: three network namespaces, no route from the operator's to the nodes'.

The worker's machine lets nobody in, and forwards nothing.
"""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import reach, sshd

pytestmark = [pytest.mark.lab, pytest.mark.sshd]

HOSTS = "10.77.2"
# Only what the worker itself begins comes through; nft's words.
NOBODY_IN = """
table inet reach {
  chain in { type filter hook input priority 0; iifname "out" tcp flags & (syn|ack) == syn drop; }
}
"""


# One sshd is all the nodes: each address has its own folder of jobs.
AS_NODE = """
set -- $SSH_CONNECTION
exec unshare -m sh -c 'cd /var/lib/cellstep && mkdir -p jobs "of-$0" && mount --bind "of-$0" jobs && cd /root &&
  exec bash -c "$SSH_ORIGINAL_COMMAND"' "$3"
"""


def ip(*arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True, timeout=30)


@dataclass
class Nets:
    """Namespaces: the operator's, the worker's machine, the nodes'."""

    operator: str
    gate: str
    nodes: str

    @staticmethod
    def inside(name: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", name)

    def cut(self) -> None:
        """Cut the cell off from the scheduler."""
        ip("-n", self.gate, "link", "set", "out", "down")

    def mend(self) -> None:
        ip("-n", self.gate, "link", "set", "out", "up")


@pytest.fixture
def nets() -> Iterator[Nets]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    mark = uuid.uuid4().hex[:6]
    made = Nets(*(f"reach-{mark}-{name}" for name in ("operator", "gate", "nodes")))
    names = (made.operator, made.gate, made.nodes)
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        _join((made.operator, "cell", "10.77.1.1"), (made.gate, "out", "10.77.1.2"))
        _join((made.gate, "cell", f"{HOSTS}.1"), (made.nodes, "lan", f"{HOSTS}.2"))
        for address in reach.hosts(HOSTS).values():
            ip("-n", made.nodes, "address", "add", f"{address}/24", "dev", "lan")
        subprocess.run([*made.inside(made.gate), "nft", NOBODY_IN], check=True, timeout=30)
        yield made
    finally:
        for name in names:
            ip("netns", "delete", name, check=False)


def _join(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    peer = ("peer", "name", other[1], "netns", other[0])
    ip("-n", one[0], "link", "add", one[1], "type", "veth", *peer)
    for name, device, address in (one, other):
        ip("-n", name, "address", "add", f"{address}/24", "dev", device)
        ip("-n", name, "link", "set", device, "up")


@dataclass
class Cell:
    """A cell behind a worker.

    Attributes:
        cloud: the operator's folder.
        of_worker: the worker's.
        shared: a folder that nodes and test see.
    """

    nets: Nets
    site: reach.Site
    cloud: Path
    of_worker: Path
    shared: Path

    def call(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run Python where the operator is."""
        return subprocess.run(
            [*self.nets.inside(self.nets.operator), sys.executable, *arguments],
            cwd=reach.ROOT,
            env={**os.environ, "PYTHONPATH": str(reach.ROOT)},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def begin(self) -> reach.Started:
        """The operator's run of one long step."""
        log = self.shared / "run.log"
        command = [*self.nets.inside(self.nets.operator), sys.executable, "-m", "tests.support.reach_operator"]
        environment = {**os.environ, "PYTHONPATH": str(reach.ROOT)}
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*command, str(self.cloud), str(self.shared)], stdout=file, stderr=file, cwd=reach.ROOT, env=environment
            )
        started = reach.Started(process, log)
        self.site.started.append(started)
        return started


@pytest.fixture
def cell(nets: Nets, tmp_path: Path) -> Iterator[Cell]:
    tls = reach.authority(tmp_path / "tls", "operator", "worker")
    shared = tmp_path / "shared"
    shared.mkdir()
    addresses = [f"ListenAddress {address}" for address in reach.hosts(HOSTS).values()]
    (tmp_path / "as-node").write_text(AS_NODE)
    made = sshd.start(tmp_path, *addresses, f"ForceCommand sh {tmp_path / 'as-node'}")
    made.stop()  # from now on in the nodes' namespace, with a /var/lib/cellstep of its own
    made.known_hosts.write_text(made.known_hosts.read_text().replace("127.0.0.1", f"{HOSTS}.*"))
    place = reach.Site(tmp_path, {"": nets.inside(nets.operator), "c01": nets.inside(nets.gate)})
    values = {
        "user": made.user,
        "key": made.key,
        "known_hosts": made.known_hosts,
        "port": made.port,
        "network": HOSTS,
        "scheduler": "10.77.1.1:8786",
        "tls": tls,
        "name": "operator",
    }
    cloud = reach.folder(tmp_path / "operator", values)
    (cloud / "cloud.yaml").write_text((cloud / "cloud.yaml").read_text().replace(str(made.key), "/nowhere/key"))
    own = "mkdir -p /var/lib/cellstep && mount -t tmpfs tmpfs /var/lib/cellstep && exec /usr/sbin/sshd -D -e -f"
    with (tmp_path / "nodes.log").open("wb") as file:
        nodes = subprocess.Popen(
            [*nets.inside(nets.nodes), "sh", "-c", f"{own} {made.directory / 'sshd_config'}"], stdout=file, stderr=file
        )
    try:
        reach.Started(nodes, tmp_path / "nodes.log").wait_for(f"Server listening on {HOSTS}.11")
        place.scheduler(cloud)
        yield Cell(nets, place, cloud, reach.folder(tmp_path / "worker", {**values, "name": "worker"}), shared)
    finally:
        place.stop()
        made.process = nodes
        made.stop()


def test_only_the_worker_reaches_its_cell(cell):
    """The operator has neither a route to the nodes nor their key; the worker's machine lets nobody in."""
    no_route = ip("-n", cell.nets.operator, "route", "get", f"{HOSTS}.13", check=False)
    assert "unreachable" in no_route.stderr
    before = cell.call("-m", "cellstep", "exec", "--cloud", str(cell.cloud), "--on", "c01", "--", "true")
    assert before.returncode == 3
    assert "unreachable: c01-ctl01,c01-n[1-4] (5): not reached: no worker of c01 is at the" in before.stdout
    cell.site.worker(cell.of_worker, "c01")
    asked = cell.call(
        "-m", "cellstep", "exec", "--cloud", str(cell.cloud), "--on", "c01", "--", "echo ${SSH_CLIENT%% *}"
    )
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert asked.stdout.splitlines()[1:] == [f"{HOSTS}.1", "5 nodes: 5 ok"]


@pytest.mark.parametrize("fault", ["killed", "cut off"])
def test_a_worker_lost_in_mid_shard_leaves_unknown_what_resume_asks(cell, fault):
    """What it had begun goes on at the nodes; the run stops; `resume` finds it, and does nothing twice."""
    worker = cell.site.worker(cell.of_worker, "c01")
    run = cell.begin()
    _until(lambda: len(list(cell.shared.glob("*.began"))) == 4 or run.process.poll() is not None)
    assert run.process.poll() is None, run.said()
    if fault == "killed":
        os.kill(worker.pid, signal.SIGKILL)
    else:
        cell.nets.cut()
    assert run.process.wait(90) == 0
    said = run.said()
    assert "exit 4: “Work”: not reached, and needed: c01-n[1-4]; bring it back, then `cellstep resume`" in said
    assert said.count(" unknown 1 ") == 4, said
    assert said.count("the worker of c01 died in mid-shard; what became of it is unknown") == 4
    assert not list(cell.shared.glob("c01-n?"))
    (cell.shared / "go").touch()
    if fault == "cut off":
        cell.nets.mend()
        assert worker.process.wait(90) == 3  # once that what it had begun has ended
    cell.site.worker(cell.of_worker, "c01")
    again = cell.call("-m", "tests.support.reach_operator", str(cell.cloud), str(cell.shared))
    assert again.stdout.startswith("complete"), again.stdout + again.stderr
    assert again.stdout.count(" changed 2 ") == 4, again.stdout
    assert {path.name: path.read_text() for path in cell.shared.glob("c01-n?")} == {
        f"c01-n{number}": "once\n" for number in (1, 2, 3, 4)
    }


def _until(true) -> None:
    deadline = time.monotonic() + 90
    pause = threading.Event()
    while not true():
        assert time.monotonic() < deadline, "nothing came of it within 90 s"
        pause.wait(0.05)
