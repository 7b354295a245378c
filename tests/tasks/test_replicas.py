"""Which server a dump is taken from: the one that is meant, or a replica that stands for it. Real MariaDB servers."""

import socket
from dataclasses import replace

import pytest

from plugins.connections.mysql import Mysql
from tasks import backup, manifest, replicas
from tasks.errors import Refused
from tasks.peers import PEERS
from tasks.replicas import Replica
from tests.support import mariadb
from tests.support.dumping import CLOUD, Node
from tests.support.scripted import Bash, task_on

pytestmark = pytest.mark.mariadb

HOSTNAME = socket.gethostname()


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Two servers, of which the second replicates the first."""
    started = []
    try:
        for number in (7, 8):
            folder = tmp_path_factory.mktemp(f"server{number}")
            started.append(mariadb.start(folder, "--log-bin", "--relay-log=relay", f"--server-id={number}"))
        yield started
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))
    finally:
        for found in started:
            found.stop()


@pytest.fixture(scope="module")
def server(servers):
    servers[0].load(CLOUD)
    return servers[0]


@pytest.fixture
def node(tmp_path, server):
    found = Node(tmp_path, server)
    yield found
    found.mysql.close()


# The server that is meant


def test_another_server_behind_the_address_is_refused(node, servers):
    node.mysql = Mysql("scratch", "root", "", "127.0.0.1", servers[1].port)
    with pytest.raises(Refused) as refused:
        node.back_up()
    assert f"root's mysql reaches {HOSTNAME}:{servers[0].port} in" in str(refused.value)
    assert f"but cellstep reaches {HOSTNAME}:{servers[1].port} in" in str(refused.value)
    assert node.files() == []


def test_a_dump_is_not_compared_with_another_server(node, servers):
    (known,) = node.back_up(database="cinder").data
    (difference,) = backup.compare(node.task(), replace(known, server=replace(known.server, port=1)))
    assert difference.startswith(f"another server answers: {HOSTNAME}:{servers[0].port} in ")


def test_a_server_with_a_uuid_is_known_by_it():
    """Also under another name of its machine, and after its data was moved."""
    known = manifest.Server("5f1c", "db1", "/var/lib/mysql", 3306, "5.6.51", 1)
    assert known.is_same(replace(known, hostname="db1.cern.ch", datadir="/data", version="5.7.44"))
    assert not known.is_same(replace(known, uuid="77aa"))
    assert replace(known, uuid="").is_same(replace(known, datadir="/var/lib/mysql/"))
    assert not replace(known, uuid="").is_same(replace(known, datadir="/data"))


# From a replica


@pytest.fixture(scope="module")
def replicating(servers, server):
    """The second server, replicating the first, which has Nova's databases."""
    master, found = server, servers[1]
    to = f"MASTER_HOST='127.0.0.1', MASTER_PORT={master.port}, MASTER_USER='root', MASTER_PASSWORD=''"
    found.load(f"CHANGE MASTER TO {to}; START SLAVE;")
    return found


def caught_up(master, found):
    """Wait until the replica has what its master has now."""
    (at,) = master.execute("SHOW MASTER STATUS")
    (waited,) = found.execute("SELECT MASTER_POS_WAIT(%s, %s, 30) AS events", (at["File"], at["Position"]))
    assert waited["events"] >= 0, found.execute("SHOW SLAVE STATUS")


@pytest.fixture
def pair(node, replicating, tmp_path):
    """The replica's node, whose task knows the master's as top-db01."""
    found = Node(tmp_path / "replica", replicating)
    caught_up(node.server, replicating)

    def task(**more):
        made = task_on(found, database=found.mysql, **more)
        made.host.data[PEERS] = {"top-db01": task_on(node, database=node.mysql).host}
        return made

    found.task = task
    yield found
    found.mysql.close()


def test_a_dump_is_taken_from_a_replica(node, pair):
    said = pair.back_up(replica=Replica("top-db01", 60))
    assert f"copied to {pair.here}, from the replica of top-db01, 0 s behind: nova.sql.gz (" in said.words
    known = manifest.load(pair.here / "nova.manifest.json")
    assert known == said.data[0]
    assert (known.replica_of, known.node) == ("top-db01", "c01-n01")
    assert (known.origin.port, known.server.port) == (node.server.port, pair.server.port)
    assert not node.sent_with("mysqldump")
    assert backup.compare(pair.task(), known) == ()
    master = node.task()
    master.host.name = "top-db01"
    assert backup.compare(master, known) == ()


def test_a_server_that_is_no_replica_of_the_one_that_is_meant_gives_no_dump(node, pair):
    alone = node.task()
    with pytest.raises(Refused, match="c01-n01 does not stand for c01-n01: it is no replica"):
        node.back_up(task=alone, replica=Replica("c01-n01", 60))
    task = pair.task()
    task.host.data[PEERS] = {"top-db01": task.host}
    with pytest.raises(
        Refused, match=rf"it is a replica of 127.0.0.1:{node.server.port}, not of .*:{pair.server.port} in"
    ):
        pair.back_up(task=task, replica=Replica("top-db01", 60))
    assert pair.files() == []


def test_a_replica_that_stands_still_gives_no_dump(pair):
    for thread, why in (("SQL", "it no longer applies"), ("IO", "it no longer fetches")):
        pair.server.execute(f"STOP SLAVE {thread}_THREAD")
        try:
            with pytest.raises(Refused, match=rf"{why}.* \(Slave_{thread}_Running is No\)"):
                pair.back_up(replica=Replica("top-db01", 60))
        finally:
            pair.server.execute(f"START SLAVE {thread}_THREAD")
    assert pair.files() == []


def test_a_replica_of_a_part_gives_no_dump(pair):
    try:
        pair.server.load("STOP SLAVE; SET GLOBAL replicate_ignore_db='glance'; START SLAVE;")
        with pytest.raises(Refused, match="it is a replica of a part alone: Replicate_Ignore_DB is glance"):
            pair.back_up(replica=Replica("top-db01", 60))
    finally:
        pair.server.load("STOP SLAVE; SET GLOBAL replicate_ignore_db=''; START SLAVE;")


NEW_WORDS = """
*************************** 1. row ***************************
             Replica_IO_State: Waiting for source to send event
                  Source_Host: localhost
                  Source_Port: 3306
           Replica_IO_Running: Yes
          Replica_SQL_Running: Yes
        Replicate_Ignore_DB: Source_x
        Seconds_Behind_Source: 5
             Source_Server_Id: 1
                  Source_UUID: 3e11fa47-71ca-11e1-9e33-c80aa9429562
"""


def test_a_server_with_other_words_for_it_is_understood(tmp_path):
    """MySQL 8.4 has no master and no slave."""
    bash = Bash(tmp_path)
    bash.program("mysql", f"[[ $* == *'SHOW REPLICA STATUS' ]] || exit 1\ncat << 'end'\n{NEW_WORDS.strip()}\nend")
    state = replicas.parse(bash.run(replicas.STATUS).stdout)
    assert {key: value for key, value in state.fields.items() if key != "boot"} == {
        "Slave_IO_State": "Waiting for source to send event",
        "Master_Host": "localhost",
        "Master_Port": "3306",
        "Slave_IO_Running": "Yes",
        "Slave_SQL_Running": "Yes",
        "Replicate_Ignore_DB": "Source_x",
        "Seconds_Behind_Master": "5",
        "Master_Server_Id": "1",
        "Master_UUID": "3e11fa47-71ca-11e1-9e33-c80aa9429562",
    }
    assert state.addresses & {"127.0.0.1", "::1"}


SERVER = manifest.Server("", "top-db01", "/var/lib/mysql", 3306, "5.1.73", 1)
RUNS = {
    "Master_Host": "db1", "Master_Port": "3306", "Slave_IO_Running": "Yes", "Slave_SQL_Running": "Yes",
    "Seconds_Behind_Master": "3", "boot": "b2",
}  # fmt: skip


def why_not(server=SERVER, addresses=("10.0.0.1",), **fields):
    status = replicas.State({**RUNS, **fields}, frozenset(addresses))
    master = replicas.State({"boot": "b1"}, frozenset({"10.0.0.1", "127.0.0.1", "::1"}))
    return replicas.refusal(status, server, master, Replica("top-db01", 3))


@pytest.mark.parametrize("fields", [{}, {"Master_Server_Id": "1"}, {"Seconds_Behind_Master": "0"}])
def test_a_replica_stands_for_its_master(fields):
    assert why_not(**fields) == ""


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"Seconds_Behind_Master": "4"}, "it is 4 s behind, more than 3 s"),
        ({"Seconds_Behind_Master": "NULL"}, "it does not know how far it is behind"),
        ({"Slave_IO_Running": "Connecting"}, "it no longer fetches from its master (Slave_IO_Running is Connecting)"),
        (
            {"Slave_SQL_Running": "No", "Last_SQL_Error": "Error 1062"},
            "it no longer applies what it gets (Slave_SQL_Running is No): Error 1062",
        ),
        ({"Replicate_Do_DB": "nova"}, "it is a replica of a part alone: Replicate_Do_DB is nova"),
        ({"Master_Server_Id": "2"}, f"it is a replica of db1:3306, not of {SERVER}"),
        ({"Master_Port": "3307"}, f"it is a replica of db1:3307, not of {SERVER}"),
        ({"addresses": ["10.0.0.2"]}, f"it is a replica of db1:3306, not of {SERVER}"),
        ({"addresses": ["127.0.0.1"]}, f"it is a replica of db1:3306, not of {SERVER}"),
        (
            {"server": replace(SERVER, uuid="5f1c"), "Master_UUID": "77aa"},
            f"it is a replica of db1:3306, not of {replace(SERVER, uuid='5f1c')}",
        ),
        ({"Master_Host": ""}, "it is no replica"),
    ],
)
def test_a_replica_that_does_not_stand_for_its_master_is_told_why(fields, why):
    assert why_not(**fields) == why


def test_a_master_with_a_uuid_is_known_by_it():
    assert why_not(replace(SERVER, uuid="5f1c"), ["10.9.9.9"], Master_UUID="5f1c", Master_Port="3399") == ""
