"""Cells behind workers: a real scheduler, real worker processes, TLS and a real sshd, all on loopback."""

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cellstep import __version__
from cellstep.cloud.load import Cloud, load_cloud
from cellstep.engine.dispatch import Dispatcher, Errand
from cellstep.errors import ConfigurationError
from plugins.runners.pace import Pace
from tasks.binding import Binding
from tests.support import errands, reach, sshd

pytestmark = pytest.mark.sshd


@dataclass
class House:
    """The operator's side.

    Attributes:
        at: folder of all.
        values: of the clouds' files.
        cloud: the operator's.
        server: all nodes are this one.
    """

    at: Path
    values: dict[str, object]
    cloud: Cloud
    site: reach.Site
    server: sshd.Sshd

    def nodes(self, cell: str, role: str = "compute"):
        return [node for node in self.cloud.nodes if node.cell == cell and role in node.roles]

    def copy(self, name: str) -> Path:
        """The worker's copy of the cloud's folder."""
        at = self.at / name
        return at if at.exists() else reach.folder(at, {**self.values, "name": "worker"})

    def worker(self, cell: str, **more) -> reach.Started:
        return self.site.worker(self.copy(f"of-{cell}"), cell, **more)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    at = tmp_path_factory.mktemp("reach")
    tls = reach.authority(at / "tls", "operator", "worker")
    listen = [f"ListenAddress {address}" for address in reach.hosts("127.0.0").values()]
    with sshd.running(at, *listen) as server, reach.site(at) as place:
        server.known_hosts.write_text(server.known_hosts.read_text().replace("127.0.0.1", "127.0.0.*"))
        scheduler = f"127.0.0.1:{reach.free_port()}"
        values = {
            "user": server.user,
            "key": server.key,
            "known_hosts": server.known_hosts,
            "scheduler": scheduler,
            "tls": tls,
            "name": "operator",
            "port": server.port,
            "network": "127.0.0",
        }
        cloud = reach.folder(at / "operator", values)
        place.scheduler(cloud)
        yield House(at, values, load_cloud(cloud), place, server)


@pytest.fixture(scope="module")
def workers(house: House) -> Iterator[dict[str, reach.Started]]:
    """In two of the cells; tests that end theirs take the third."""
    found = {cell: house.worker(cell) for cell in ("c01", "c02")}
    yield found
    for one in found.values():
        one.stop()


def each(nodes, **arguments):
    return {node.name: arguments for node in nodes}


def test_each_cells_nodes_are_asked_by_its_worker_and_the_others_from_here(house, workers):
    nodes = [*house.nodes("c01"), *house.nodes("c02"), *house.nodes("top", "controller")]
    with Dispatcher(house.cloud) as dispatcher:
        answers, silent = dispatcher.ask(errands.where, nodes, each(nodes))
    assert silent == {}
    pids = {node.name: answers[node.name]["pid"] for node in nodes}
    assert {pids[node.name] for node in nodes if node.cell == "c01"} == {workers["c01"].pid}
    assert {pids[node.name] for node in nodes if node.cell == "c02"} == {workers["c02"].pid}
    assert pids["top-ctl01"] == os.getpid()


@pytest.mark.usefixtures("workers")
def test_a_shard_is_a_batch_and_its_results_come_one_by_one(house):
    nodes, started, told = house.nodes("c01"), [], []
    bindings = {node.name: Binding("run", "step", tell=told.append) for node in nodes}
    with Dispatcher(house.cloud) as dispatcher:
        errand = Errand(started=started.append, pace=Pace(1, 2), bindings=bindings)
        outcomes = dispatcher.send(errands.tells, nodes, each(nodes), errand)
    assert [len(names) for names in started] == [1, 2, 1], outcomes
    assert {outcome.state for outcome in outcomes.values()} == {"ok"}
    assert sorted(told) == [f"a word of {node.name}" for node in nodes]


@pytest.mark.usefixtures("workers")
def test_both_cells_and_this_machine_share_the_workers_of_cloud_yaml(house):
    """Eight at once, as cloud.yaml says: the ninth begins only when some have ended."""
    nodes = [node for node in house.cloud.nodes if node.cell in {"c01", "c02"}]
    started = []
    with Dispatcher(house.cloud) as dispatcher:
        outcomes = dispatcher.send(errands.where, nodes, each(nodes), Errand(started=started.append))
    assert len(started[0]) == 8
    assert sorted(name for names in started for name in names) == sorted(outcomes) == sorted(n.name for n in nodes)


@pytest.mark.usefixtures("workers")
def test_states_errors_and_peers_come_back_as_they_are_here(house):
    nodes = house.nodes("c01")
    kinds = dict(zip((node.name for node in nodes), ("refuse", "away", "socket", "peers"), strict=True))
    with Dispatcher(house.cloud) as dispatcher:
        came = dispatcher.send(errands.troubled, nodes, {name: {"what": kind} for name, kind in kinds.items()})
    said = {kinds[name]: (outcome.state, outcome.detail) for name, outcome in came.items()}
    assert said["refuse"] == ("failed", "not so")
    assert said["away"] == ("unreachable", "c01-n2: no answer")
    assert said["socket"][0] == "failed"
    assert "its answer cannot be told" in said["socket"][1]
    assert {"c01-ctl01", "top-ctl01"} <= set(came[nodes[3].name].result)


@pytest.mark.usefixtures("workers")
def test_secrets_are_the_workers_own_and_show_nowhere(house):
    """An argument that reads the operator's password reads the worker's there; what is sent is in no log."""
    nodes = house.nodes("c01")
    arguments = each(nodes, password=house.cloud.database_password, word="not-to-be-logged")
    with Dispatcher(house.cloud) as dispatcher:
        answers, silent = dispatcher.ask(errands.secret, nodes, arguments)
    assert silent == {}
    assert {*answers.values()} == {"not-to-be-logged of of-c01"}
    logs = "".join(one.said() for one in house.site.started)
    assert "not-to-be-logged" not in logs
    assert "of of-c01" not in logs


@pytest.mark.usefixtures("workers")
def test_what_cannot_travel_is_told_and_not_sent(house):
    nodes = house.nodes("c01")[:1]

    def made_on_the_spot(task):
        return task

    with Dispatcher(house.cloud) as dispatcher:
        outcome = dispatcher.send(made_on_the_spot, nodes, each(nodes))[nodes[0].name]
    assert outcome.state == "failed"
    assert "cannot be sent through a worker" in outcome.detail


def test_the_worker_dies_in_mid_shard(house, tmp_path):
    """Who had ended has ended; of the others nothing is known, and nobody does it again."""
    nodes, ended = house.nodes("c03"), {}
    worker = house.worker("c03")

    def on_ended(came):
        ended.update(came)
        if any(outcome.state == "changed" for outcome in came.values()):
            _until(lambda: len(list(tmp_path.iterdir())) == len(nodes))
            os.kill(worker.pid, signal.SIGKILL)

    with Dispatcher(house.cloud) as dispatcher:
        dispatcher.send(errands.uneven, nodes, each(nodes, folder=str(tmp_path)), Errand(ended=on_ended))
        states = {name: outcome.state for name, outcome in ended.items()}
        assert states == {"c03-n1": "changed", "c03-n2": "unknown", "c03-n3": "unknown", "c03-n4": "unknown"}
        assert ended["c03-n2"].detail.startswith("c03-n2: the worker of c03 died in mid-shard; what became of it")
        fresh = house.worker("c03")
        answers, _ = dispatcher.ask(errands.where, nodes, each(nodes))
        assert {answer["pid"] for answer in answers.values()} == {fresh.pid}
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {node.name: "once\n" for node in nodes}
    fresh.stop()


def test_the_worker_falls_silent(house, tmp_path):
    """As when its cell is cut off: after `lost_after_s` its hosts are unknown; when it is back, it ends by itself."""
    nodes, worker = house.nodes("c03"), house.worker("c03")

    def freeze():
        _until(lambda: len(list(tmp_path.iterdir())) == len(nodes))
        os.kill(worker.pid, signal.SIGSTOP)

    threading.Thread(target=freeze).start()
    with Dispatcher(house.cloud) as dispatcher:
        outcomes = dispatcher.send(errands.linger, nodes, each(nodes, folder=str(tmp_path)))
    assert {outcome.state for outcome in outcomes.values()} == {"unknown"}
    (tmp_path / "go").touch()
    os.kill(worker.pid, signal.SIGCONT)
    assert worker.process.wait(60) == 3
    assert "is gone" in worker.said()


def test_a_worker_ends_when_what_runs_has_ended(house, tmp_path):
    nodes, worker = house.nodes("c03"), house.worker("c03")

    def finish():
        _until(lambda: len(list(tmp_path.iterdir())) == len(nodes))
        os.kill(worker.pid, signal.SIGTERM)
        (tmp_path / "go").touch()

    threading.Thread(target=finish).start()
    with Dispatcher(house.cloud) as dispatcher:
        outcomes = dispatcher.send(errands.linger, nodes, each(nodes, folder=str(tmp_path)))
        assert {outcome.state for outcome in outcomes.values()} == {"changed"}
        assert worker.process.wait(30) == 0
        outcomes = dispatcher.send(errands.where, nodes, each(nodes))
    assert {outcome.state for outcome in outcomes.values()} == {"unreachable"}
    assert "no worker of c03 is at the scheduler" in outcomes["c03-n1"].detail


@pytest.mark.usefixtures("workers")
def test_ctrl_c_drains_and_a_spent_budget_sends_nothing_more(house, tmp_path):
    nodes, stopping = house.nodes("c01"), threading.Event()

    def on_ended(_came):
        stopping.set()

    with Dispatcher(house.cloud, stopping=stopping) as dispatcher:
        errand = Errand(ended=on_ended, pace=Pace(2, 2))
        outcomes = dispatcher.send(errands.touch, nodes, each(nodes, folder=str(tmp_path)), errand)
    assert sorted(outcomes) == ["c01-n1", "c01-n2"]
    with Dispatcher(house.cloud) as dispatcher:
        errand = Errand(pace=Pace(2, 2), enough=lambda: len(list(tmp_path.iterdir())) > 2)
        outcomes = dispatcher.send(errands.touch, nodes[2:], each(nodes, folder=str(tmp_path)), errand)
    assert sorted(outcomes) == ["c01-n3", "c01-n4"]


@pytest.mark.usefixtures("workers")
def test_a_dry_run_is_one_there_too(house, tmp_path):
    nodes = house.nodes("c01")
    with Dispatcher(house.cloud, dry_run=True) as dispatcher:
        outcomes = dispatcher.send(errands.touch, nodes, each(nodes, folder=str(tmp_path)))
    assert {outcome.detail for outcome in outcomes.values()} == {"not sent in a dry run: touching"}
    assert not list(tmp_path.iterdir())


def test_another_cellstep_is_refused(house, tmp_path):
    """Of another version, and of the same version with other code."""
    nodes, own = house.nodes("c03"), tmp_path / "code"
    _copy_code(own)
    said = []
    for file, old, new in (
        ("tasks/holds.py", "A hold:", "A  hold:"),
        ("cellstep/__init__.py", 'version("cellstep")', '"9.9.9"'),
    ):
        path = own / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        worker = house.worker("c03", code=own)
        with Dispatcher(house.cloud) as dispatcher:
            outcomes = dispatcher.send(errands.where, nodes, each(nodes))
        assert {outcome.state for outcome in outcomes.values()} == {"unreachable"}
        said.append(outcomes["c03-n1"].detail)
        worker.stop()
    assert f"is another cellstep {__version__} (code " in said[0]
    assert f"is cellstep 9.9.9, and this is {__version__}: install the same there" in said[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "the scheduler {scheduler} is not reached: connection refused; is it started?"),
        ({"silent": True}, "the scheduler {scheduler} does not answer within 1 s"),
        ({"tls": "foreign"}, "shows a certificate that is not of ca.pem"),
        ({"name": "stranger"}, "no TLS with our certificate stranger.pem: "),
        ({"name": "nobody"}, "reach.certificate: cannot read "),
        ({"name": "broken"}, "are no certificate and its own key in PEM"),
    ],
)
def test_a_scheduler_that_is_away_or_does_not_let_us_in(house, tmp_path, change, said):
    """One line, and nothing was sent: unreachable, as when a node is."""
    values = {**house.values, "tls": tmp_path / "tls"}
    shutil.copytree(house.at / "tls", tmp_path / "tls")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if "tls" in change:
            values["tls"] = reach.authority(tmp_path / "foreign", "operator")
        elif "name" in change:
            values["name"] = change["name"]
            _stranger(tmp_path)
        else:
            values["scheduler"] = f"127.0.0.1:{silent.getsockname()[1]}"
            if change:
                silent.listen(0)
        text = reach.folder(tmp_path / "cloud", values) / "cloud.yaml"
        text.write_text(text.read_text().replace("connect_timeout_s: 10", "connect_timeout_s: 1"))
        nodes = house.nodes("c01")
        with Dispatcher(load_cloud(text.parent)) as dispatcher:
            outcomes = dispatcher.send(errands.where, nodes, each(nodes))
    assert {outcome.state for outcome in outcomes.values()} == {"unreachable"}
    assert outcomes["c01-n1"].detail.startswith("c01-n1: not reached: ")
    assert said.format(**values) in outcomes["c01-n1"].detail


def test_a_private_key_that_others_may_read_is_refused(house, tmp_path):
    tls = shutil.copytree(house.at / "tls", tmp_path / "tls")
    (tls / "operator.key").chmod(0o644)
    cloud = load_cloud(reach.folder(tmp_path / "cloud", {**house.values, "tls": tls}))
    with pytest.raises(ConfigurationError, match=r"operator.key is open to others \(mode 0644\); chmod 600 it"):
        Dispatcher(cloud)


def _until(true) -> None:
    deadline = time.monotonic() + 30
    pause = threading.Event()
    while not true():
        assert time.monotonic() < deadline, "nothing came of it within 30 s"
        pause.wait(0.02)


def _copy_code(to: Path) -> None:
    for name in ("cellstep", "tasks", "plugins", "reports", "lab", "tests/support"):
        shutil.copytree(reach.ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))


def _stranger(at: Path) -> None:
    """A certificate of an authority that the scheduler does not know, and one whose key is another's."""
    foreign, tls = reach.authority(at / "foreign", "stranger"), at / "tls"
    for end in ("pem", "key"):
        shutil.copy(foreign / f"stranger.{end}", tls)
    shutil.copy(foreign / "stranger.pem", tls / "broken.pem")
    shutil.copy(tls / "operator.key", tls / "broken.key")
