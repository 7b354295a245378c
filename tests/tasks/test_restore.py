"""Databases back from their dumps, on a real MariaDB: whole, proven, and again whole after a try that was cut off."""

import gzip
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.connections.mysql import Mysql
from tasks import backup, restore
from tasks.errors import CommandFailed, Refused
from tests.support import mariadb
from tests.support.scripted import Bash, Scripted, said, task_on, told

pytestmark = pytest.mark.mariadb

# As Nova's: a version table in the middle of the alphabet, text that looks like a comment, a routine, a trigger.
BEFORE = r"""
DROP DATABASE IF EXISTS nova;
CREATE DATABASE nova CHARACTER SET utf8;
USE nova;
CREATE TABLE instances (id int AUTO_INCREMENT PRIMARY KEY, name varchar(64), memory float);
CREATE TABLE migrate_version (repository_id varchar(64) PRIMARY KEY, repository_path text, version int);
CREATE TABLE volumes (id int PRIMARY KEY, name varchar(64), raw varbinary(16));
INSERT INTO instances (name, memory) VALUES ('one\n-- no comment', 0.1), ('zwei ü', 1e30);
DELETE FROM instances WHERE name='never';
INSERT INTO migrate_version VALUES ('nova', '/usr/lib/it\'s (here)', 161), ('other', 'x', 7);
INSERT INTO volumes VALUES (1, 'a', x'00ff0a27');
CREATE TRIGGER t BEFORE INSERT ON volumes FOR EACH ROW SET NEW.name = UPPER(NEW.name);
CREATE PROCEDURE p() SELECT 1;
"""
UPGRADED = """
ALTER TABLE instances ADD COLUMN node varchar(64), DROP COLUMN memory;
CREATE TABLE pci_devices (id int);
DROP TRIGGER t;
UPDATE volumes SET name='lost';
UPDATE migrate_version SET version=216 WHERE repository_id='nova';
"""
SCHEMA = {"database": "nova", "repository_id": "nova", "start": (161, 162)}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    try:
        found = mariadb.start(tmp_path_factory.mktemp("restore"))
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))
    yield found
    found.stop()


class Node(Bash):
    """A database node: the real clients, a folder for dumps, and our copies of them."""

    def __init__(self, folder, server):
        super().__init__(folder / "bin")
        self.server, self.there, self.here = server, folder / "dumps", folder / "here"
        self.clients()

    def clients(self):
        for name in ("mysql", "mysqldump"):
            path = shutil.which(name, path="/usr/bin:/bin")
            self.program(name, f'exec {path} --no-defaults --socket={self.server.socket} -uroot "$@"')

    def contents(self):
        """The database, told by mysqldump without its comments."""
        dumped = self.run(f"{restore.MYSQLDUMP} nova | grep -v '^--'")
        assert dumped.exit_status == 0, dumped.stderr
        return dumped.stdout

    def call(self, task=restore.restore, *, dry_run=False, **changed):
        arguments = {**SCHEMA, "folder": str(self.there), "here": self.here / "nova.sql.gz", **changed}
        return told(task(task_on(self, dry_run=dry_run), **arguments))

    def marks(self):
        return sorted(path.name for path in self.there.glob("nova.rest*"))


@pytest.fixture
def node(tmp_path, server):
    """Dumped as the upgrade does, then upgraded."""
    found = Node(tmp_path, server)
    server.load(BEFORE)
    again(found)
    found.before = found.contents()
    server.load(UPGRADED, database="nova")
    assert found.contents() != found.before
    return found


def test_a_database_comes_back_to_the_letter(node):
    """Tables that only the new release has are gone, and triggers and routines are back."""
    told = "at version 216 before, at 161 now, 3 tables; dumped again, the same"
    assert node.call() == f"changed: restored from {node.there}: {told}"
    assert node.contents() == node.before
    assert node.marks() == ["nova.restored"]


def test_a_routine_that_makes_a_table_makes_none(node):
    """Its lines stand in the dump as the tables' own do."""
    makes = "CREATE PROCEDURE maker()\nBEGIN\nCREATE TABLE `attic` (id int);\nCREATE TABLE shed (id int);\nEND"
    node.server.load("UPDATE migrate_version SET version=161 WHERE repository_id='nova'", database="nova")
    node.server.execute(makes, database="nova")
    again(node)
    node.server.load("DROP TABLE volumes", database="nova")
    assert node.call().startswith("changed: restored from")


def test_a_database_with_a_hyphen_in_its_name_comes_back(node):
    node.server.load(
        "DROP DATABASE IF EXISTS `nova-cell01`; CREATE DATABASE `nova-cell01`; USE `nova-cell01`;"
        " CREATE TABLE migrate_version (repository_id varchar(64) PRIMARY KEY, repository_path text, version int);"
        " INSERT INTO migrate_version VALUES ('nova', '/usr/lib', 161);"
    )
    again(node, "nova-cell01")
    node.server.load("UPDATE migrate_version SET version=187", database="nova-cell01")
    changed = node.call(database="nova-cell01", here=node.here / "nova-cell01.sql.gz")
    assert "at version 187 before, at 161 now, 1 tables" in changed


def again(node, database="nova"):
    """Dump it anew."""
    task = task_on(node, database=Mysql("scratch", "root", "", "127.0.0.1", node.server.port))
    backup.back_up(task, database=database, others=[], folder=str(node.there), here=node.here)
    task.host.get_connection("cellstep_mysql", None).close()


def test_what_is_restored_is_not_restored_again(node):
    node.call()
    node.server.load("INSERT INTO volumes VALUES (2, 'written by the old release since', '')", database="nova")
    assert node.call() == "skipped: restored already, at version 161"
    assert "WRITTEN" in node.contents()


def test_a_migration_that_was_cut_off_counts_as_not_done_and_is_undone(node):
    """The version is still that of before, and the tables are not."""
    node.server.load("UPDATE migrate_version SET version=161 WHERE repository_id='nova'", database="nova")
    assert node.call().startswith("changed: restored from")
    assert node.contents() == node.before


@pytest.mark.parametrize(
    ("statement", "at"),
    [("UPDATE migrate_version SET version=180", "version 180"), ("DROP TABLE migrate_version", "no")],
)
def test_a_schema_at_neither_end_is_restored(node, statement, at):
    node.server.load(statement, database="nova")
    assert f"at {at}" in node.call()
    assert node.contents() == node.before


def test_a_database_that_is_not_there_is_restored(node):
    node.server.load("DROP DATABASE nova")
    assert "at no version before, at 161 now" in node.call()
    assert node.contents() == node.before


def test_a_restore_that_was_cut_off_is_done_again_whole(node):
    """It told the version of before already: its tables come in the order of their names."""
    real = shutil.which("mysql", path="/usr/bin:/bin")
    arguments = f"--no-defaults --socket={node.server.socket} -uroot"
    # The load gets all up to the last table, and then the client is killed.
    load = f"sed '/CREATE TABLE `volumes`/,$d' | {real} {arguments}"
    cut = f'if [ "$1" = --max-allowed-packet=1G ]; then {load}; kill -KILL $$; fi'
    node.program("mysql", f'{cut}\nexec {real} {arguments} "$@"')
    with pytest.raises(CommandFailed, match="restoring nova: exit status 7: mysql ended with status 137"):
        node.call()
    rows = node.server.execute("SELECT version FROM nova.migrate_version WHERE repository_id='nova'")
    assert rows == [{"version": 161}]
    assert node.marks() == ["nova.restoring"]
    node.clients()
    assert node.call().startswith("changed: restored from")
    assert node.contents() == node.before
    assert node.marks() == ["nova.restored"]


def test_what_is_loaded_and_is_not_as_dumped_is_refused(node):
    """As where something writes to the database meanwhile."""
    real = shutil.which("mysqldump", path="/usr/bin:/bin")
    socket = f"--no-defaults --socket={node.server.socket} -uroot"
    node.program("mysqldump", f'{real} {socket} "$@" && echo "a row more"')
    with pytest.raises(CommandFailed, match="nova, restored and dumped again, differs from its dump"):
        node.call()
    assert node.marks() == ["nova.restoring"]
    node.clients()
    assert node.call().startswith("changed: restored from")


def change_dump(node, how):
    for folder in (node.there, node.here):
        path = folder / "nova.sql.gz"
        text = how(gzip.decompress(path.read_bytes()).decode("latin-1"))
        path.write_bytes(gzip.compress(text.encode("latin-1"), mtime=0))


@pytest.mark.parametrize("task", [restore.check, restore.restore])
@pytest.mark.parametrize(
    ("how", "told_of"),
    [
        (lambda text: text[: text.index("-- Dump completed")], "is cut off: its last line is"),
        (lambda text: text.replace(",161)", ",216)"), "is of schema version 216, not of 161 or 162"),
        (lambda text: text.replace("('nova'", "('neutron'"), "the dump has no schema version of nova"),
    ],
)
def test_a_dump_that_is_not_whole_or_not_from_before_is_not_loaded(node, task, how, told_of):
    change_dump(node, how)
    upgraded = node.contents()
    with pytest.raises(Refused, match=told_of):
        node.call(task)
    assert node.contents() == upgraded
    assert node.marks() == []


@pytest.mark.parametrize("side", ["there", "here"])
def test_a_dump_that_is_not_the_copy_is_not_loaded(node, side):
    path = getattr(node, side) / "nova.sql.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"zwei", b"drei")))
    with pytest.raises(Refused, match=r"is not what was copied to .*: put the one that is whole in both places"):
        node.call()


def test_a_broken_file_is_told(node):
    path = node.there / "nova.sql.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CommandFailed, match=r"nova.sql.gz: exit status 1: gzip: .*: unexpected end of file"):
        node.call()


@pytest.mark.parametrize("side", ["there", "here"])
def test_a_dump_that_is_gone_is_told(node, side):
    (getattr(node, side) / "nova.sql.gz").unlink()
    with pytest.raises((CommandFailed, Refused), match=r"No such file|there is no copy"):
        node.call()


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(node):
    upgraded = node.contents()
    assert node.call(dry_run=True) == (f"changed: would restore nova, at version 216, from {node.there}: version 161")
    assert node.call(restore.check, dry_run=True) == (f"ok: {node.there}/nova.sql.gz is whole: version 161, 3 tables")
    assert node.contents() == upgraded


@pytest.mark.parametrize("task", [restore.check, restore.restore])
def test_a_schema_that_was_not_touched_is_left_alone(task):
    """Nothing is asked: the script has no answer to anything."""
    answer = task(task_on(Scripted({})), **SCHEMA, folder="/none", here=None)
    assert told(answer) == "skipped: the schema of nova was not touched"


def test_a_server_that_has_just_been_booted_is_waited_for(monkeypatch):
    monkeypatch.setattr(restore, "ASK_EVERY_S", 0.01)
    away = said("", 1, "ERROR 2002 (HY000): Can't connect")
    node = Scripted({"information_schema": [away, away, "table instances\ntable migrate_version\nversion 216\n"]})
    found = restore.state(task_on(node), database="nova", repository_id="nova", folder="/b")
    assert found == restore.State(216, frozenset({"instances", "migrate_version"}), "", begun=False)


def test_a_server_that_stays_away_is_told(monkeypatch):
    monkeypatch.setattr(restore, "ASK_EVERY_S", 0.01)
    monkeypatch.setattr(restore, "SERVER_TIMEOUT_S", 0.05)
    node = Scripted({"information_schema": said("", 1, "ERROR 2002 (HY000): Can't connect")})
    with pytest.raises(CommandFailed, match="asking for the database nova: exit status 1: ERROR 2002"):
        restore.state(task_on(node), database="nova", repository_id="nova", folder="/b")


@given(
    path=st.text(st.characters(exclude_characters="\n\r\\'\0", codec="utf-8"), max_size=30),
    version=st.integers(0, 999),
    broken=st.booleans(),
    others=st.lists(st.integers(0, 999), max_size=3),
)
def test_the_version_is_read_from_any_form_of_the_insert(path, version, broken, others):
    """One line for all rows as MySQL writes them, or a line a row as MariaDB does; other repositories beside it."""
    rows = [f"('repository{n}','p (x',{number})" for n, number in enumerate(others)]
    rows.append(f"('nova','{path}\\'s, (y)',{version})")
    insert = "INSERT INTO `migrate_version` VALUES" + ("\n" if broken else " ") + (",\n" if broken else ",").join(rows)
    text = "sha256 abc\ntable `a`\ntable `migrate_version`\n"
    text += "".join(f"row {line}\n" for line in f"{insert};".split("\n")) + "last -- Dump completed\n"
    dump, last = restore.parse_dump(text, "nova")
    assert (dump.digest, dump.version, dump.tables) == ("abc", version, {"a", "migrate_version"})
    assert last == "-- Dump completed"
