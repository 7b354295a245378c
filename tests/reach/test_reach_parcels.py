"""What travels to a worker and back, and what a worker refuses: without dask."""

import pickle
import shutil
import threading
from pathlib import Path

import pytest

from cellstep.cloud.load import Cloud, load_cloud
from cellstep.engine.dispatch import Outcome
from cellstep.errors import ConfigurationError
from cellstep.reach import about
from cellstep.reach.parcel import HostData, Parcel, pack, small_cloud, unpack, unpack_outcome
from cellstep.reach.worker import Desk
from cellstep.stages.functions import Functions
from plugins.runners.line import ENDED, REFUSED
from plugins.runners.sealed import Sealed
from tests.support import clouds, errands

SITE = """\
from tasks.holds import Hold, unchanged

def read(task):
    return unchanged(task, {"was": "on"})

def place(task, *, prior):
    return unchanged(task, prior)

HELD = Hold("ours", read, place, place)
"""


@pytest.fixture
def cloud(tmp_path) -> Cloud:
    (tmp_path / "operator").mkdir()
    return load_cloud(clouds.write(tmp_path / "operator"))


def copy(cloud: Cloud, to: Path) -> Cloud:
    return load_cloud(Path(shutil.copytree(cloud.directory, to)))


def shard(cloud: Cloud, task, *names: str, **arguments) -> Parcel:
    nodes = [node for node in cloud.nodes if node.name in names]
    hosts = tuple(
        HostData(node, f"{node.name}.example.org", 2222, "ops", {"sudo": True}, {"rack": 4}) for node in nodes
    )
    return Parcel(task, hosts, dict.fromkeys(names, arguments), {}, dry_run=False)


def test_an_argument_of_the_cloud_is_the_others_own(cloud, tmp_path):
    there = copy(cloud, tmp_path / "worker")
    content = pack(shard(cloud, errands.secret, "c01-n01", password=cloud.database_password, word="x"))
    assert b"hunter" not in content
    there.directory.joinpath("secret").write_text("of the worker\n")
    there.directory.joinpath("secret").chmod(0o600)
    came = unpack(content, there)
    assert came.task is errands.secret
    assert came.arguments["c01-n01"]["password"]().get_secret_value() == "of the worker"


def test_a_sites_own_hold_is_that_of_the_workers_folder(cloud, tmp_path):
    """Also the function that `read` is wrapped into: its prior state must be plain there, too."""
    (cloud.directory / "site").mkdir()
    (cloud.directory / "site" / "ours.py").write_text(SITE)
    there = copy(cloud, tmp_path / "worker")
    hold = Functions(cloud.directory).hold("ours:HELD", {})
    theirs = Functions(there.directory).hold("ours:HELD", {})
    for task, own in ((hold.read, theirs.read), (hold.place, theirs.place)):
        came = unpack(pack(shard(cloud, task, "c01-n01")), there).task
        assert came.__code__ is own.__code__
        assert came.__module__ == own.__module__ != task.__module__


def test_a_node_is_as_the_operators_inventory_has_it(cloud, tmp_path):
    """Also one that the worker's copy does not know; files are the worker's."""
    text = clouds.CLOUD + "ssh: {key: id, known_hosts: known, username: root}\n"
    (tmp_path / "worker").mkdir()
    there = load_cloud(
        clouds.write(tmp_path / "worker", text, clouds.INVENTORY.replace("c01-n[01-10]", "c01-n[02-10]"))
    )
    parcel = shard(cloud, errands.where, "c01-n01")
    small = small_cloud(there, parcel.hosts)
    names = {node.name for node in small.nodes}
    assert {"c01-n01", "c01-ctl01", "top-db01"} <= names
    assert "c01-n02" not in names
    from nornir.plugins.runners import SerialRunner  # noqa: PLC0415 - for this alone

    host = small.nornir(SerialRunner()).inventory.hosts["c01-n01"]
    said = host.get_connection_parameters("cellstep_ssh")
    assert (said.hostname, said.port, said.username) == ("c01-n01.example.org", 2222, "ops")
    assert said.extras["sudo"] is True
    assert said.extras["key_file"] == str(there.directory / "id")
    assert said.extras["known_hosts"] == str(there.directory / "known")
    assert host["rack"] == 4


def test_what_is_shown_of_a_shard_is_its_size_alone():
    sealed = Sealed(b"secret", "4 hosts of c01")
    assert repr(sealed) == str(sealed) == "<4 hosts of c01>"
    again = pickle.loads(pickle.dumps(sealed))  # noqa: S301 - our own
    assert (again.content, repr(again)) == (b"secret", repr(sealed))


@pytest.fixture
def desk(cloud):
    said = []
    made = Desk(cloud, lambda topic, msg: said.append((topic, msg)))
    made.said = said
    return made


@pytest.mark.parametrize("why", ["another", "twice", "stopping"])
def test_a_shard_that_is_not_for_this_process_or_came_before_is_refused(desk, cloud, why):
    content = pack(shard(cloud, lambda_free, "c01-n01"))
    if why == "twice":
        desk.take(content, "one", "topic", desk.process)
        desk.said.clear()
    if why == "stopping":
        desk.stopping.set()
    desk.take(content, "one", "topic", "elsewhere" if why == "another" else desk.process)
    ((topic, msg),) = desk.said
    assert topic == "topic"
    assert msg[REFUSED] is True
    assert {"another": "another process", "twice": "came twice", "stopping": "about to end"}[why] in msg[ENDED]
    assert desk.idle.is_set()


def lambda_free(task):
    return task


def test_what_cannot_be_understood_is_told_and_nothing_is_sent(desk):
    desk.take(b"nonsense", "one", "topic", desk.process)
    ((_, msg),) = desk.said
    assert msg[REFUSED] is True
    assert msg[ENDED].startswith("the worker failed: UnpicklingError")


def test_an_outcome_with_its_commands_comes_back_whole():
    outcome = Outcome("changed", "did it", {"a": 1}, fenced=True)
    assert unpack_outcome(pack(outcome)) == outcome


def test_a_lock_cannot_travel():
    with pytest.raises(Exception, match="cannot be sent through a worker: cannot pickle"):
        pack({"stopping": threading.Event()})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cloud": "other"}, "serves the cloud other, and not test"),
        ({"python": "2.7"}, "has Python 2.7, and this is "),
        ({"dask": "1.0"}, "has dask.distributed 1.0, and this is "),
        ({"code": "0" * 12}, "is another cellstep "),
        ({"version": None}, "is cellstep None, and this is "),
        ({"site": "abc", "process": "p"}, "has another folder site/ beside cloud.yaml"),
        ({"site": "abc"}, ""),
        ({}, ""),
    ],
)
def test_who_is_not_the_same_is_refused(cloud, change, said):
    ours = about.about(cloud)
    assert about.misfit(ours, {**ours, **change}).startswith(said)
    assert bool(about.misfit(ours, {**ours, **change})) == bool(said)


REACH = "reach: {scheduler: %s, cells: [%s], ca: a, certificate: b, key: c}\n"


@pytest.mark.parametrize(
    ("scheduler", "cell", "said"),
    [
        ("ops01", "cell01", "'ops01' is no host and port; write for instance ops01.example.org:8786"),
        ("ops01:99999", "cell01", "'ops01:99999' is no host and port"),
        ("ops01:8786", "cell1", "there is no cell 'cell1'; did you mean 'cell01'?"),
    ],
)
def test_faults_of_reach_are_lines(tmp_path, scheduler, cell, said):
    with pytest.raises(ConfigurationError) as caught:
        load_cloud(clouds.write(tmp_path, clouds.CLOUD + REACH % (scheduler, cell)))
    assert [fault for fault in caught.value.faults if said in fault and fault.startswith("cloud.yaml:5: ")]
