"""Dumps and their manifests, on a real MariaDB with its own clients."""

import gzip
import hashlib
import shutil
import subprocess

import pytest

from tasks import backup, manifest, shell
from tasks.errors import CommandFailed, Refused
from tests.support import mariadb
from tests.support.dumping import CLOUD, Node, files

pytestmark = pytest.mark.mariadb

EVENT = "CREATE EVENT nova.e ON SCHEDULE AT '2037-01-01' DO SELECT 1; CREATE PROCEDURE nova.p() SELECT 1;"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    try:
        found = mariadb.start(tmp_path_factory.mktemp("backup"))
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))
    found.load(CLOUD)
    yield found
    found.stop()


@pytest.fixture
def node(tmp_path, server):
    found = Node(tmp_path, server)
    yield found
    found.mysql.close()


@pytest.fixture
def changing(node):
    """For tests after which the databases are no longer as they were."""
    yield node
    node.server.load(CLOUD)


def test_databases_are_dumped_described_and_copied(changing):
    node = changing
    node.server.load(EVENT)
    said = node.back_up("cinder", "keystone")
    ours = ["cinder.manifest.json", "cinder.sql.gz", "nova.manifest.json", "nova.sql.gz"]
    assert files(node.here) == ours
    assert node.files() == sorted([*ours, "cinder.facts", "nova.facts"])
    for name in ours:
        assert (node.here / name).read_bytes() == (node.there / name).read_bytes()
    for path in (*node.here.iterdir(), *node.there.iterdir()):
        assert path.stat().st_mode & 0o777 == 0o600
    assert node.there.stat().st_mode & 0o777 == node.here.stat().st_mode & 0o777 == 0o700
    known = manifest.load(node.here / "nova.manifest.json")
    assert known == said.data[0]
    dump = (node.here / "nova.sql.gz").read_bytes()
    assert (known.file, known.size, known.sha256) == ("nova.sql.gz", len(dump), hashlib.sha256(dump).hexdigest())
    assert (known.repository_id, known.head, known.node, known.replica_of) == ("nova", 161, "c01-n01", "")
    rows = {name: (entry.rows, entry.steady) for name, entry in known.tables.items()}
    assert rows == {"cern_network": (2, True), "instances": (2, True), "migrate_version": (2, True)}
    assert known.server == known.origin
    assert (known.server.port, known.server.datadir.rstrip("/")) == (node.server.port, str(node.server.datadir))
    assert known.began <= known.ended
    assert known.settings["character_set_server"] == "utf8mb4"
    text = gzip.decompress(dump).decode()
    assert text.splitlines()[-1].startswith("-- Dump completed")
    assert "EVENT `e`" in text
    assert "PROCEDURE `p`" in text
    assert f"nova.sql.gz ({len(dump):,} bytes, version 161, 3 tables), cinder.sql.gz (" in said.words
    assert said.data[1].head is None
    assert backup.compare(node.task(), known) == ()


DIFFERENCES = {
    "UPDATE instances SET name='other' WHERE id=1": "table instances has as many rows, 2, but other contents",
    "DELETE FROM instances WHERE id=1": "table instances has 1 rows instead of 2",
    "DROP TABLE instances": "table instances is missing",
    "CREATE TABLE pci_devices (id int)": "table pci_devices was not there before",
    "UPDATE cern_network SET netcluster=NULL LIMIT 1": "table cern_network has as many rows, 2, but other contents",
    "UPDATE migrate_version SET version=216 WHERE version=161": "the schema of nova is at version 216, not 161",
}


def test_what_differs_from_a_dump_is_told(changing):
    (known,) = changing.back_up().data
    seen = set()
    for sql, difference in DIFFERENCES.items():
        changing.server.load(sql, database="nova")
        found = backup.compare(changing.task(), known)
        assert difference in found
        assert len(set(found) - seen) == (2 if "version" in sql else 1)
        seen.update(found)
    changing.server.load("DROP DATABASE nova")
    gone = {"nova": ("there is no database nova",)}
    assert backup.compare_all(changing.task(), known=[known]).result == gone


def test_a_table_that_is_written_to_meanwhile_is_told_and_not_compared(changing):
    node = changing
    node.client("mysqldump", after="&& mysql nova -e 'INSERT INTO instances (name) VALUES (3)'")
    said = node.back_up()
    assert said.data[0].unsteady == {"instances"}
    assert "3 tables; written to meanwhile: instances)" in said.words
    assert backup.compare(node.task(), said.data[0]) == ()
    node.server.load("DROP TABLE instances", database="nova")
    assert backup.compare(node.task(), said.data[0]) == ("table instances is missing",)


FAULTS = [
    (
        "echo 'Error 2013: Lost' >&2; exit 3",
        "",
        "Error 2013: Lost | the dump of nova failed: mysqldump ended with status 3",
    ),
    ("kill -KILL $$", "", "the dump of nova failed: mysqldump was killed by signal 9"),
    ("", "| head -n -1", "the dump of nova is cut off"),
    ("", "; echo more", "the dump of nova is cut off"),
]


@pytest.mark.parametrize(("before", "after", "why"), FAULTS)
def test_a_dump_that_is_not_whole_is_never_taken_for_one(node, before, after, why):
    node.client("mysqldump", before, after)
    with pytest.raises(CommandFailed) as failed:
        node.back_up("cinder")
    assert str(failed.value).startswith("mysqldump: exit status 4: ")
    assert str(failed.value).endswith(why)
    assert node.files() == files(node.here) == []


def test_a_file_that_lost_its_end_is_never_taken_for_a_dump(node):
    """All the words are there, also the last; what is missing is how gzip knows that they are right."""
    node.program("gzip", """case $1 in -dc) exec /bin/gzip "$@";; esac; /bin/gzip "$@" | head -c -8""")
    with pytest.raises(CommandFailed, match="unexpected end of file"):
        node.back_up(database="cinder")
    assert node.files() == files(node.here) == []


def test_a_table_that_cannot_be_read_fails_the_backup(changing):
    changing.server.load("CREATE TABLE spoilt (i int) ENGINE=MyISAM; FLUSH TABLES", database="nova")
    (changing.server.datadir / "nova" / "spoilt.MYI").write_bytes(b"spoilt")
    with pytest.raises(CommandFailed, match="spoilt"):
        changing.back_up()
    assert changing.files() == files(changing.here) == []


def test_what_was_dumped_before_stays_whole_where_another_try_fails(node):
    node.back_up()
    before = {path.name: path.read_bytes() for folder in (node.there, node.here) for path in folder.iterdir()}
    node.client("mysqldump", after="| head -n 40")
    with pytest.raises(CommandFailed):
        node.back_up()
    after = {path.name: path.read_bytes() for folder in (node.there, node.here) for path in folder.iterdir()}
    assert after == before


def test_what_lies_there_is_not_taken_for_the_dump(node):
    """Neither whole nor half, with whatever rights."""
    for folder in (node.there, node.here):
        folder.mkdir(parents=True)
        for name in (
            "nova.sql.gz",
            "nova.manifest.json",
            "nova.part",
            "nova.facts",
            "nova.facts.part",
            "nova.sql.gz.part",
        ):
            (folder / name).write_bytes(gzip.compress(b"-- of another night\n-- Dump completed\n"))
            (folder / name).chmod(0o644)
    (known,) = node.back_up().data
    for folder in (node.there, node.here):
        assert b"CREATE TABLE `instances`" in gzip.decompress((folder / "nova.sql.gz").read_bytes())
        assert manifest.load(folder / "nova.manifest.json") == known
        assert {(folder / name).stat().st_mode & 0o777 for name in ("nova.sql.gz", "nova.manifest.json")} == {0o600}


def test_the_stages_own_database_must_be_there_and_others_need_not(node):
    assert [known.database for known in node.back_up("glance", database="cinder").data] == ["cinder"]
    with pytest.raises(Refused, match="c01-n01 has no database keystone: the server is "):
        node.back_up(database="keystone")


def test_a_dry_run_asks_and_dumps_nothing(node):
    assert node.back_up(task=node.task(dry_run=True)) == f"would dump nova into {node.there}"
    assert node.sent == []


def test_a_server_that_does_not_answer_is_a_failure(node):
    node.client("mysql", before='echo "ERROR 2002 (HY000): no socket" >&2; exit 1')
    with pytest.raises(CommandFailed, match="asking for the databases: exit status 1: ERROR 2002"):
        node.back_up()


# Room


@pytest.fixture
def small(tmp_path):
    """A file system of 300 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", folder], check=False).returncode:
        pytest.skip("this user may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def filled(changing):
    """A database whose dump takes about 700 KiB, compressed."""
    sql = "CREATE TABLE big AS SELECT SHA2(RAND(seq), 512) a, SHA2(RAND(-seq), 512) b FROM seq_1_to_5000"
    changing.server.load(sql, database="nova")
    return changing


@pytest.mark.parametrize("side", ["there", "here"])
def test_without_room_nothing_is_begun(filled, small, side):
    setattr(filled, side, small / "dumps" / "r1")
    with pytest.raises(Refused, match=r"small/dumps/r1.* has 0 MiB free, and the dumps may take [2-9] MiB \("):
        filled.back_up()
    assert len(filled.sent) == 1
    assert files(filled.there) == files(filled.here) == []


def test_a_disk_that_fills_in_mid_dump_is_told_and_cleared(filled, small, monkeypatch):
    """Also where the job's own words would have to go to that disk."""
    monkeypatch.setattr(shell, "ROOT", str(small / "jobs"))
    filled.there = small / "dumps"
    with pytest.raises(
        CommandFailed, match=r"No space left on device.* the dump of nova failed: mysqldump .* gzip ended with"
    ):
        filled.back_up("cinder", task=filled.bound(), dump_share=0)
    assert filled.files() == []
    assert shutil.disk_usage(small).free > 200 * 1024


def test_a_disk_that_fills_on_our_side_is_told_and_cleared(filled, small):
    filled.here = small / "here"
    with pytest.raises(Refused, match=r"here/nova.sql.gz cannot be written: No space left on device"):
        filled.back_up(dump_share=0)
    assert files(filled.here) == []


@pytest.mark.parametrize("arrives", ["", "half", "another"])
def test_a_copy_with_another_digest_is_refused(node, arrives):
    node.program("cat", f"case $2 in *.sql.gz) printf '{arrives}';; *) exec /bin/cat \"$@\";; esac")
    with pytest.raises(Refused, match=r"the copy of .*/cinder.sql.gz differs from it"):
        node.back_up(database="cinder")
    assert files(node.here) == []


# As part of a run: the dumps are a job


def test_dumps_that_were_made_unseen_are_copied_and_not_made_again(node, monkeypatch, tmp_path):
    monkeypatch.setattr(shell, "ROOT", str(tmp_path / "jobs"))
    (first,) = node.back_up(database="cinder", task=node.bound()).data
    for path in node.here.iterdir():
        path.unlink()
    (known,) = node.back_up(database="cinder", task=node.bound(again=True), dump_share=1e9).data
    assert known == first
    assert known.run == "r1"
    assert files(node.here) == ["cinder.manifest.json", "cinder.sql.gz"]


def test_what_a_killed_job_left_is_no_dump_and_goes_with_the_next_try(node, monkeypatch, tmp_path):
    monkeypatch.setattr(shell, "ROOT", str(tmp_path / "jobs"))
    node.client("mysqldump", before="until [ -e cinder.part ]; do :; done; kill -KILL 0")
    with pytest.raises(CommandFailed, match="mysqldump: exit status 137"):
        node.back_up(database="cinder", task=node.bound())
    assert node.files() == ["cinder.facts.part", "cinder.part"]
    node.client("mysqldump")
    node.back_up(database="cinder", task=node.bound(generation=2))
    assert node.files() == ["cinder.facts", "cinder.manifest.json", "cinder.sql.gz"]


def test_facts_that_are_not_the_jobs_are_refused(node):
    node.program("cat", 'case $2 in *.facts) echo began;; *) exec /bin/cat "$@";; esac')
    with pytest.raises(Refused, match=r"cinder\.facts on c01-n01 is not what the dump's job wrote"):
        node.back_up(database="cinder")
