"""Dumps restored into scratch servers by the real programs: proven or not, schema changes tried, nothing left."""

import dataclasses
import gzip
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from plugins.connections.ssh import CommandResult
from tasks import shell, staging
from tasks.binding import Binding, bind
from tasks.errors import CommandFailed
from tasks.jobs import CutOff
from tasks.rehearsal import Rehearsal, Trial
from tasks.staging import Dump, Proof
from tests.support import mariadb, staged
from tests.support.scripted import Bash, task_on

pytestmark = pytest.mark.mariadb
CONFIG = "[DEFAULT]\nsql_connection = {url}\n[database]\nconnection = {url}\n"
SITE = """
CREATE TABLE cern_network (id int PRIMARY KEY, netcluster varchar(8));
INSERT INTO cern_network VALUES (1, 'a'), (2, 'b');
INSERT INTO services (host, `binary`, topic, report_count, deleted) VALUES
 ('n1', 'nova-compute', 'compute', 1, 0), ('n1', 'nova-compute', 'compute', 2, 0);
"""
SYNC = Trial("nova-manage --config-file {config} db sync", CONFIG, staged.HAVANA)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    try:
        with mariadb.running(tmp_path_factory.mktemp("live"), "--event-scheduler=ON") as found:
            found.load(staged.SMALL)
            yield found
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def original(server, tmp_path_factory):
    """A dump of the small database, and its manifest."""
    server.execute("SET GLOBAL event_scheduler = OFF")
    server.load(staged.SMALL)
    path = tmp_path_factory.mktemp("original") / "nova.sql.gz"
    staged.dump(server, path)
    return path, staged.manifest(server, path)


class Place:
    """A database node with a dump, which is its own staging node; the folder has a short name, as a socket's must."""

    def __init__(self, folder, work, original):
        self.node = Bash(folder / "bin", longest=60.0)  # it is niced
        self.home = folder / "st" / "run1"
        self.path = folder / "nova.sql.gz"
        self.path.write_bytes(original[0].read_bytes())
        self.manifest = original[1]
        self.here = folder / "here.sql.gz"
        staged.empty_servers(self.node, work)
        staged.nova_manage(self.node, work)

    def dump(self, trial=None):
        return Dump(f"{self.manifest.node}/nova", self.manifest, str(self.path), self.here, trial)

    def prove(self, trial=None, *, task=None):
        task = task or task_on(self.node)
        result = staging.prove(task, dumps=[self.dump(trial)], home=str(self.home)).result
        self.words = result.words
        return result.data[0]

    def edit(self, how):
        """Change the dump, and let its manifest tell the new file's digest."""
        text = gzip.decompress(self.path.read_bytes()).decode("latin-1")
        changed = how(text)
        assert changed != text
        self.path.write_bytes(gzip.compress(changed.encode("latin-1"), mtime=0))
        self.manifest = staged.resigned(self.manifest, self.path)

    def left(self):
        """What is left in the staging folder but the locks and what was found."""
        return sorted(
            p.name for p in self.home.parent.rglob("*") if p.is_file() and p.suffix not in {".lock", ".result"}
        )


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def tmp_path():
    """A short one: the path of a Unix socket may have 107 bytes, and pytest's own folders are long beside others."""
    with tempfile.TemporaryDirectory(prefix="cellstep-") as folder:
        yield Path(folder)


@pytest.fixture
def place(tmp_path, work, original):
    found = Place(tmp_path, work, original)
    yield found
    assert found.left() == []
    assert not servers_of(found), "a scratch server runs on"


def servers_of(place):
    """Processes whose data is below the staging folder."""
    told = subprocess.run(["pgrep", "-f", f"datadir={place.home.parent}"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in told.stdout.split()]


# Proof


def test_a_dump_is_proven_by_its_contents(place):
    """Routines, triggers, events and views load as well, and no event runs; odd names, NULLs and duplicates count."""
    proof = place.prove().proof
    assert (proof.ok, proof.place, proof.tables, proof.rows) == (True, "c01-n01/nova", 3, 9)
    assert proof.manifest == place.manifest.digest
    assert "3 tables with 9 rows as dumped" in place.words
    assert Proof.of(json.loads(json.dumps(proof.plain()))) == proof
    assert {path.stat().st_mode & 0o777 for path in place.home.iterdir()} == {0o600}
    assert place.home.stat().st_mode & 0o777 == 0o700


def test_what_is_not_ours_is_never_swept_away(place):
    """The folder for scratch servers may be any folder, /srv or /var/lib say."""
    folder = place.home.parent
    old = time.time() - 20 * 86400
    others = [
        folder / "oldbackups" / "keystone-2013.sql.gz",
        folder / "rpm" / "Packages",
        folder / "run1" / "nova.sql.gz",
        folder / "guests" / "disk.lock",
        folder / "guests" / "disk" / "image",
    ]
    ours = [folder / "20140101-080000" / "top-db01-nova.0123abcd.result"]
    for path in [*others, *ours]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (old, old))
    (folder / "mountpoint").mkdir()
    os.utime(folder / "mountpoint", (old, old))
    place.prove()
    assert [path.exists() for path in others] == [True] * len(others)
    assert (folder / "mountpoint").exists()
    assert [path.exists() for path in ours] == [False]
    for path in others:
        path.unlink()


def test_a_load_that_fails_shows_no_row(place):
    """The client prints the statement that failed; of what it says only the error is taken."""
    place.edit(lambda sql: sql.replace("INSERT INTO `instances` VALUES", "INSERT INTO `instances` VALUES ('s3cr3t'),"))
    proof = place.prove().proof
    assert not proof.ok
    assert "ERROR 1136" in proof.differences[0]
    assert "s3cr3t" not in repr(proof)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (lambda sql: sql.replace("zwei", "drei"), ("table instances has as many rows, 4, but other contents",)),
        (lambda sql: sql.replace("`instances`", "`instanzen`").replace("ON instances", "ON instanzen"),
         ("table instances is missing", "table instanzen was not there before")),
        (lambda sql: sql.replace("',161)", "',162)"),
         ("table migrate_version has as many rows, 2, but other contents", "it is at version 162, and 161 was dumped")),
        (lambda sql: sql[: sql.index("-- Dump completed")], ("is cut off: its last line is",)),
        (lambda sql: sql.replace("CREATE TABLE `instances`", "CREATE TABEL `instances`"), ("cannot be loaded",)),
    ],
    ids=["a changed value", "another table", "another version", "cut off", "broken SQL"],
)  # fmt: skip
def test_a_dump_that_is_not_as_its_manifest_says_is_not_proven(place, how, told):
    place.edit(how)
    proof = place.prove().proof
    assert not proof.ok
    assert [word in found for word, found in zip(told, proof.differences, strict=True)] == [True] * len(told), proof
    assert "not proven: " in place.words


def test_a_dump_that_is_another_file_is_not_even_loaded(place):
    place.path.write_bytes(place.path.read_bytes()[:-20])
    assert "its SHA-256 is another" in place.prove().proof.differences[0]
    place.manifest = staged.resigned(place.manifest, place.path)
    assert "gzip cannot read it" in place.prove().proof.differences[0]
    place.path.unlink()
    assert "there is no dump" in place.prove().proof.differences[0]


def test_a_dump_of_another_node_is_streamed_there(place):
    place.here.write_bytes(place.path.read_bytes())
    place.path.unlink()
    place.manifest = dataclasses.replace(place.manifest, node="top-db01")
    assert place.prove().proof.ok
    place.here.write_bytes(b"something else")
    assert "here.sql.gz is not the dump that was made of top-db01/nova" in place.prove().proof.differences[0]
    place.here.unlink()
    assert "there is no copy" in place.prove().proof.differences[0]


def test_where_there_is_no_room_nothing_is_loaded(place, tmp_path):
    place.home = tmp_path / "t" / "run1"
    place.home.parent.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "none", place.home.parent], check=True)
    try:
        with pytest.raises(CommandFailed, match=r"a copy of nova takes 4\d\d MiB, and .* has [56]\d: make room"):
            place.prove()
    finally:
        subprocess.run(["umount", place.home.parent], check=True)


def test_one_dump_that_the_node_cannot_take_keeps_no_other_from_its_turn(place, monkeypatch):
    stage, told = staging._stage, []
    lost = CommandFailed("copying", CommandResult(3, "", "no room", 0.0))

    def first_fails(task, dump, *rest):
        if dump.place == "top-db01/nova":
            raise lost
        told.append(stage(task, dump, *rest).proof)
        return staging.Staged(told[-1])

    monkeypatch.setattr(staging, "_stage", first_fails)
    dumps = [dataclasses.replace(place.dump(), place="top-db01/nova"), place.dump()]
    with pytest.raises(CommandFailed, match="no room"):
        staging.prove(task_on(place.node), dumps=dumps, home=str(place.home))
    assert [proof.ok for proof in told] == [True]


def test_a_folder_too_deep_for_a_socket_is_told(place, tmp_path):
    place.home = tmp_path / ("deep" * 20) / "run1"
    with pytest.raises(CommandFailed, match=r"is too long for a socket: give cloud\.yaml a shorter staging\.folder"):
        place.prove()


def test_a_node_without_a_servers_programs_is_told(place, monkeypatch):
    monkeypatch.setattr(staging, "SCRIPT", staging.SCRIPT.replace("mariadbd mysqld", "no-such-mysqld"))
    with pytest.raises(CommandFailed, match=r"there is no no-such-mysqld on .*: install a MySQL server's programs"):
        place.prove()


def test_a_dry_run_restores_nothing(place):
    task = task_on(Bash(place.node.programs), dry_run=True)
    result = staging.prove(task, dumps=[place.dump()], home=str(place.home))
    assert result.result == f"would restore c01-n01/nova below {place.home}, and compare"
    assert not place.home.exists()


# Rehearsal


@pytest.fixture(scope="module")
def nova(server, tmp_path_factory):
    """A dump of nova's whole schema at 161 with a site's own table, and its manifest."""
    server.load(staged.nova_161())
    server.load(SITE, database="nova")
    path = tmp_path_factory.mktemp("nova") / "nova.sql.gz"
    staged.dump(server, path)
    return path, staged.manifest(server, path)


@pytest.fixture
def grizzly(tmp_path, work, nova):
    found = Place(tmp_path, work, nova)
    yield found
    assert found.left() == []
    assert not servers_of(found), "a scratch server runs on"


def test_a_schema_change_is_tried_on_the_copy_and_measured(grizzly, server):
    tried = grizzly.prove(SYNC).rehearsal
    assert (tried.ok, tried.error, tried.start, tried.end, tried.head) == (True, "", 161, 216, 216)
    assert [step.version for step in tried.steps] == list(range(162, 217))
    assert 0 < sum(step.seconds for step in tried.steps) <= tried.seconds + 0.1
    by_version = {step.version: step for step in tried.steps}
    assert by_version[196].changed == 1, "one of the two services is put aside"
    assert by_version[162].written == by_version[162].changed == by_version[162].deleted == 0
    assert {"+ table pci_devices", "- table volume_types", "+ column services.disabled_reason: varchar(255)"} <= set(
        tried.schema
    )
    assert not [line for line in tried.schema if "cern_network" in line or "cellstep" in line]
    assert tried.rows["pci_devices"] == (None, 0)
    assert "rehearsed: version 161 to 216 in" in grizzly.words
    assert Rehearsal.of(json.loads(json.dumps(tried.plain()))) == tried
    assert server.execute("SELECT version FROM nova.migrate_version WHERE repository_id='nova'") == [{"version": 161}]


def test_where_nothing_can_be_measured_the_change_is_tried_all_the_same(place, monkeypatch):
    """As where MySQL allows one trigger of a kind on a table, and the site has it."""
    monkeypatch.setattr(staging, "SCRIPT", staging.SCRIPT.replace("AFTER UPDATE ON", "AFTER SELECT ON"))
    set_version = "mysql --no-defaults -uroot nova -e 'UPDATE migrate_version SET version=216 WHERE version=161'"
    tried = place.prove(Trial(set_version, CONFIG, 216)).rehearsal
    assert (tried.ok, tried.steps) == (True, ())


def test_what_stops_a_schema_change_is_seen_on_the_copy(grizzly, server):
    server.load("ALTER TABLE services ADD disabled_reason varchar(255)", database="nova")
    try:
        staged.dump(server, grizzly.path)
        grizzly.manifest = staged.manifest(server, grizzly.path)
    finally:
        server.load("ALTER TABLE services DROP disabled_reason", database="nova")
    found = grizzly.prove(SYNC)
    assert found.proof.ok
    assert (found.rehearsal.ok, found.rehearsal.end) == (False, 187)
    assert "it stopped at version 187 with exit status 1" in found.rehearsal.error
    assert "(1060," in found.rehearsal.error
    assert found.rehearsal.steps[-1].version == 187
    assert "the rehearsal failed: it stopped at version 187" in grizzly.words


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("true {config}", "is at version 161 still: does the command take its address from {config}?"),
        (
            "echo 'mysql://nova:s3cret@db/nova'; false",
            "it stopped at version 161 with exit status 1: mysql://nova:***@db",
        ),
        (
            "mysql --no-defaults -uroot nova -e 'UPDATE migrate_version SET version=200 WHERE version=161'",
            "at version 200, not 216",
        ),
    ],
)
def test_a_command_that_does_not_bring_the_copy_to_its_head_is_told(place, command, told):
    """The last one has no address at all: what it takes by default is the copy."""
    tried = place.prove(Trial(command, CONFIG, 216)).rehearsal
    assert not tried.ok
    assert told in tried.error


@pytest.mark.skipif(subprocess.run(["unshare", "-n", "true"], check=False).returncode != 0, reason="no namespaces here")
def test_the_command_reaches_no_other_server(place, server):
    code = f'import socket; socket.create_connection(("127.0.0.1", {server.port}), 5)'
    tried = place.prove(Trial(f"python3 -c '{code}' {{config}}", CONFIG, 216)).rehearsal
    assert tried.alone
    assert "exit status 1" in tried.error
    assert "unreachable" in tried.error


# Killed


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Binds a task on the node to its place in a run."""
    monkeypatch.setattr(shell, "ROOT", str(tmp_path / "jobs"))

    def task(node, **more):
        bound = task_on(node)
        bind(bound, Binding(**{"run": "r1", "step": "Prove", "token": 1} | more))
        return bound

    return task


def wait_for(what, true, timeout=15.0):
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"no {what} within {timeout:g} s"
        threading.Event().wait(0.02)


def test_a_job_that_is_killed_leaves_nothing_and_can_be_done_again(place, run, tmp_path):
    """SIGKILL: its shell, and nothing else. What it gave to the server and to the command ends with it."""
    began = tmp_path / "began"
    command = f"echo $PPID > {began}.new; mv {began}.new {began}; exec sleep 100 # {{config}}"

    def kill():
        wait_for("command", began.exists)
        os.kill(int(began.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises((CutOff, CommandFailed), match=r"cut off|exit status 137"):
        place.prove(Trial(command, CONFIG, 216), task=run(place.node))
    killer.join()
    wait_for("end of the scratch server", lambda: not servers_of(place))
    wait_for("end of its folder", lambda: not place.left())
    assert place.prove(task=run(place.node, generation=2)).proof.ok


def test_the_next_job_clears_away_what_a_power_cut_left(place):
    """Nothing of that job lives, but its folder, its lock and perhaps a server."""
    dead = place.home.parent / "20140101-080000" / "top-db01-nova.0123abcd"
    (dead / "data").mkdir(parents=True)
    (dead / "data" / "ibdata1").write_text("x")
    Path(f"{dead}.lock").touch()
    server = subprocess.Popen(["bash", "-c", "exec -a mariadbd tail -f /dev/null", "x", f"--datadir={dead}/data"])
    (dead / "pid").write_text(f"{server.pid}\n")
    other = subprocess.Popen(["sleep", "60"])
    victim = place.home.parent / "20140101-080000" / "c01-db01-nova.0123abcd"
    victim.mkdir()
    Path(f"{victim}.lock").touch()
    (victim / "pid").write_text(f"{other.pid}\n")
    try:
        assert place.prove().proof.ok
        assert other.poll() is None, "a process that has its number by chance"
        assert not dead.exists()
        assert not victim.exists()
    finally:
        for process in (server, other):
            process.kill()
            process.wait()


def test_a_job_that_was_done_unseen_is_not_done_again(place, run):
    first = place.prove(task=run(place.node))
    place.path.unlink()
    assert place.prove(task=run(place.node, again=True)) == first
