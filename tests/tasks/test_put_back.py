"""A database put back from a dump on request, on a real MariaDB: its own server's, proven, and nobody at work in it."""

import contextlib
import subprocess
from dataclasses import replace

import pytest

from tasks import restore
from tasks.errors import CommandFailed, Refused
from tests.support import mariadb
from tests.support.dumping import CLOUD, Node
from tests.support.scripted import told

pytestmark = pytest.mark.mariadb


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    try:
        with mariadb.running(tmp_path_factory.mktemp("put-back")) as found:
            yield found
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def node(tmp_path, server):
    """Dumped, and then upgraded."""
    server.load(CLOUD)
    found = Node(tmp_path, server)
    (found.known,) = found.back_up().data
    server.load(
        "UPDATE migrate_version SET version=216 WHERE repository_id='nova'; CREATE TABLE pci_devices (id int);"
        "DELETE FROM instances; CREATE VIEW v AS SELECT * FROM cern_network",
        database="nova",
    )
    yield found
    found.mysql.close()


def put_back(node, known=None, task=None):
    task = task or node.task()
    here = node.here / "nova.sql.gz"
    return told(restore.put_back(task, known=known or node.known, folder=str(node.there), here=here))


def tables(server):
    return [row["Tables_in_nova"] for row in server.execute("SHOW TABLES FROM nova")]


def test_a_database_comes_back_as_its_manifest_says(node, server):
    assert put_back(node) == (
        f"changed: restored from {node.there}: at version 216 before, at 161 now, 3 tables; dumped again, the same;"
        " its 3 tables are as the manifest says"
    )
    assert tables(server) == ["cern_network", "instances", "migrate_version"]


def test_it_comes_back_again_and_leaves_no_word_that_a_back_out_could_go_by(node, server):
    put_back(node)
    server.load("DELETE FROM instances", database="nova")
    assert put_back(node).startswith("changed: restored from")
    assert len(server.execute("SELECT * FROM nova.instances")) == 2
    assert not list(node.there.glob("nova.rest*"))


def test_a_dump_that_is_no_longer_on_the_node_is_brought_there(node):
    (node.there / "nova.sql.gz").unlink()
    assert put_back(node).startswith("changed: restored from")
    assert (node.there / "nova.sql.gz").stat().st_mode & 0o777 == 0o600
    (node.here / "nova.sql.gz").unlink()
    (node.there / "nova.sql.gz").unlink()
    with pytest.raises(Refused, match="there is no copy"):
        put_back(node)


def test_the_dump_of_another_server_is_refused(node, server):
    other = replace(node.known.server, hostname="top-db02")
    before = tables(server)
    with pytest.raises(
        Refused, match=r"another server answers: .*; the dump is of top-db02:.*: it is not put back there"
    ):
        put_back(node, replace(node.known, server=other))
    with pytest.raises(Refused, match="another server answers"):
        put_back(node, replace(node.known, node="c01-replica01", origin=other))
    assert tables(server) == before
    assert put_back(node, replace(node.known, node="c01-replica01", server=other)).startswith("changed")


def test_nobody_may_be_at_work_in_it(node, server):
    before = tables(server)
    with contextlib.closing(server.connect("nova")), pytest.raises(
        Refused, match=r"somebody works with nova: root@127\.0\.0\.1 \(1\); stop that first"
    ):  # fmt: skip
        put_back(node)
    assert tables(server) == before


def test_what_is_not_as_the_manifest_says_is_told(node):
    entry = replace(node.known.tables["instances"], rows=3)
    wrong = replace(node.known, tables={**node.known.tables, "instances": entry})
    with pytest.raises(Refused, match="not as its manifest says: table instances has 2 rows instead of 3"):
        put_back(node, wrong)


def test_a_load_that_is_cut_off_is_told_and_done_again(node):
    cut = 'if [ "$1" = --max-allowed-packet=1G ]; then sed "/CREATE TABLE .migrate_version/q"; exit 7; fi > /dev/null'
    node.client("mysql", before=cut)
    with pytest.raises(CommandFailed, match="restoring nova: exit status 7"):
        put_back(node)
    node.client("mysql")
    assert put_back(node).startswith("changed: restored from")


def test_while_an_earlier_restore_loads_that_is_what_it_says(node, server):
    before = tables(server)
    held = subprocess.Popen(["flock", str(node.there / "nova.lock"), "sh", "-c", "echo held; exec cat"],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    try:
        held.stdout.readline()
        with pytest.raises(CommandFailed, match="begun before is still under way: ask again when it is over"):
            put_back(node)
    finally:
        held.communicate()
    assert tables(server) == before


def test_a_dry_run_changes_nothing(node, server):
    before = tables(server)
    assert "would restore nova, at version 216" in put_back(node, task=node.task(dry_run=True))
    assert tables(server) == before
