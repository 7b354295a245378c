"""`cellstep keystone` on a real MariaDB: what it prints, writes and ends with; and the watch as its own process."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cellstep import runs
from cellstep.cli.main import app
from cellstep.cloud.load import load_cloud
from cellstep.errors import CellstepError
from tests.support import clouds, keystonedb, mariadb
from tests.support.keystonedb import content, fill, new, old

pytestmark = pytest.mark.mariadb

CLOUD = """\
name: test
release: release.yaml
repository: {{name: havana, promote: {{on: top-ctl01, command: promote}}}}
databases: {{via: direct, port: {port}, password_file: secret}}
"""
RELEASE = """\
name: test
source: grizzly
target: havana
components:
  keystone:
    databases:
      - {name: keystone, repository_id: keystone, start: [22], head: 34, sync: keystone-manage db_sync, version: ""}
"""
INVENTORY = clouds.INVENTORY + "hosts:\n  top-db01: {address: 127.0.0.1}\n"
PASSWORD = "not-to-be-seen"  # noqa: S105 - of the scratch server
PATIENCE_S = 30


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[mariadb.Server]:
    try:
        with mariadb.running(tmp_path_factory.mktemp("keystone")) as found:
            keystonedb.make(found)
            found.load(
                f"CREATE USER cellstep@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO cellstep@'127.0.0.1'"
            )
            yield found
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def mysql(server):
    task = keystonedb.task(server)
    yield task.mysql
    task.mysql.close()


@pytest.fixture
def folder(tmp_path: Path, server: mariadb.Server) -> Path:
    clouds.write(tmp_path, CLOUD.format(port=server.port), INVENTORY)
    (tmp_path / "release.yaml").write_text(RELEASE)
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    return tmp_path


def call(folder: Path, *arguments: str, code: int = 0) -> str:
    """The command's output, with its error's text where it ended with one."""
    done = CliRunner().invoke(app, ["keystone", *arguments, "--cloud", str(folder)])
    if isinstance(done.exception, CellstepError):
        assert done.exception.exit_code == code, done.exception
        return f"{done.output}{done.exception}"
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def events(folder: Path) -> list[str]:
    with contextlib.closing(runs.open_journal(load_cloud(folder), read_only=True)) as journal:
        return [row["what"] for row in journal.events()]


def test_a_look_shows_and_writes_nothing(folder, mysql):
    fill(mysql, [old("one", "hush")], [new("two", "hush")])
    before = content(mysql)
    said = call(folder, "sync-ec2", code=3)
    assert "0 in step, 1 to be copied to ec2_credential, 1 to be copied to credential" in said
    assert "to be copied to credential: one" in said
    assert "hush" not in said
    assert content(mysql) == before
    assert not (folder / "state").exists()


def test_apply_copies_remembers_and_journals_without_a_secret(folder, mysql):
    fill(mysql, [old("one", "hush")], [new("two", "hush")])
    said = call(folder, "sync-ec2", "--apply")
    assert "copied 1 to ec2_credential, copied 1 to credential; 2 in step" in said
    assert "EC2 keys of top-db01/keystone: copied 1 to ec2_credential, copied 1 to credential" in events(folder)
    (memory,) = (folder / "state").glob("ec2-*.json")
    assert memory.stat().st_mode & 0o777 == 0o600
    assert len(json.loads(memory.read_text())) == 2
    kept = b"".join(file.read_bytes() for file in (folder / "state").iterdir())
    assert b"hush" not in kept
    assert PASSWORD.encode() not in kept
    assert call(folder, "sync-ec2", "--apply").strip() == "2 in step"
    assert len(events(folder)) == 1


def test_a_deleted_key_is_told_of_and_settled_by_its_name_alone(folder, mysql):
    fill(mysql, [old("one"), old("two")])
    call(folder, "sync-ec2", "--apply")
    fill(mysql, [], [new("one"), new("two")])
    said = call(folder, "sync-ec2", "--apply", code=3)
    assert "deleted  one of user u1: gone from ec2_credential, still in credential" in said
    assert "say one of them" in call(folder, "sync-ec2", "--apply", "--delete", "one", "--copy-back", "one", code=2)
    assert "need --apply" in call(folder, "sync-ec2", "--delete", "one", code=2)
    assert "three: not deleted" in call(folder, "sync-ec2", "--apply", "--delete", "three", code=3)
    said = call(folder, "sync-ec2", "--apply", "--delete", "one", "--copy-back", "two")
    assert "copied 1 to ec2_credential, deleted 1; 1 in step" in said
    assert content(mysql) == ([old("two")], [new("two")])


def test_conflicts_are_listed_and_the_json_has_them_all(folder, mysql):
    names = [f"key{number:02}" for number in range(25)]
    fill(mysql, [old(name, "hush-1") for name in names], [new(name, "hush-2") for name in names])
    said = call(folder, "sync-ec2", "--apply", code=3)
    assert "conflict  key00 of user u1: credential has another secret than ec2_credential; delete the wrong one" in said
    assert "and 5 more; --json has all" in said
    told = call(folder, "sync-ec2", "--json", code=3)
    assert "hush" not in said + told
    values = json.loads(told)
    assert (values["good"], len(values["findings"])) == (False, 25)


def test_a_name_that_a_user_chose_does_nothing_to_the_terminal(folder, mysql):
    fill(mysql, [], [new("\x1b[2Jx")])
    assert "\x1b[2J" not in call(folder, "sync-ec2", code=3)


def test_a_memory_that_cannot_be_read_stops_it(folder, mysql):
    fill(mysql, [old("one")])
    call(folder, "sync-ec2", "--apply")
    (memory,) = (folder / "state").glob("ec2-*.json")
    for text in ("[", "{}", "[1]"):
        memory.write_text(text)
        assert "remove it knowingly" in call(folder, "sync-ec2", "--apply", code=2)


@pytest.mark.parametrize("arguments", [["sync-ec2", "--apply"], ["purge-tokens"]])
def test_beside_another_operator_nothing_is_written(folder, mysql, arguments):
    fill(mysql, [old("one")])
    cloud = load_cloud(folder)
    with contextlib.closing(runs.open_journal(cloud)) as journal, runs.lock_of(cloud).held(journal, "run nova"):
        assert "run nova by" in call(folder, *arguments, code=5)
    assert content(mysql)[1] == []


def test_a_database_that_does_not_answer_is_exit_code_3(folder):
    cloud = folder / "cloud.yaml"
    cloud.write_text(CLOUD.format(port=mariadb.free_port()))
    assert "top-db01 unreachable" in call(folder, "sync-ec2", code=3)
    assert "top-db01 unreachable" in call(folder, "purge-tokens", code=3)


def tokens(server: mariadb.Server, number: int) -> None:
    server.execute("DELETE FROM token", database="keystone")
    rows = ", ".join(f"('t{n:05}', '2013-10-17 10:11:12', '{{}}', 1, NULL, 'u')" for n in range(number))
    valid = "('valid', '2099-01-01', '{}', 1, NULL, 'u'), ('for ever', NULL, '{}', 1, NULL, 'u')"
    server.execute(f"INSERT INTO token VALUES {rows}, {valid}", database="keystone")  # noqa: S608 - numbers


def left(server: mariadb.Server) -> int:
    return int(server.execute("SELECT COUNT(*) AS n FROM token", database="keystone")[0]["n"])


def test_tokens_are_counted_and_purged(folder, server):
    tokens(server, 2500)
    said = call(folder, "purge-tokens", "--dry-run")
    assert "2,502 tokens: 2,500 expired before 20" in said
    assert "1 never expire; a purge takes 3 batches of 1,000" in said
    assert left(server) == 2502
    assert not (folder / "state").exists()
    assert "2,500 deleted" in call(folder, "purge-tokens", "--pause", "0")
    assert left(server) == 2
    assert "begins to delete the expired tokens of top-db01/keystone, 1,000 at a time" in events(folder)[0]
    assert events(folder)[1] == "deleted 2,500 expired tokens of top-db01/keystone"


class Started:
    """cellstep as a process of its own, whose lines are read as they come."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cellstep", "keystone", *arguments, "--cloud", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "CELLSTEP_TRACEBACK": "1"},
        )
        self.said: list[str] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line)

    def until(self, text: str) -> str:
        """Wait for a line with this text."""
        while True:
            try:
                self.said.append(self._lines.get(timeout=PATIENCE_S))
            except queue.Empty:
                pytest.fail(f"no {text!r} within {PATIENCE_S} s; it said: {self.said}")
            if text in self.said[-1]:
                return self.said[-1]

    def rest(self) -> list[str]:
        """What it said since."""
        self._reader.join(PATIENCE_S)
        while not self._lines.empty():
            self.said.append(self._lines.get())
        return self.said

    def interrupt(self) -> int:
        """Ctrl-C; its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def started(folder: Path, *arguments: str) -> Iterator[Started]:
    process = Started(folder, *arguments)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait(PATIENCE_S)


def test_the_watch_copies_both_ways_waits_for_others_reconnects_and_ends_at_ctrl_c(folder, mysql, server):
    fill(mysql, [old("one")])
    cloud = load_cloud(folder)
    with started(folder, "sync-ec2", "--watch", "--apply", "--every", "0.1") as watch:
        assert "copied 1 to credential; 1 in step" in watch.until("in step")
        fill(mysql, [old("one")], [new("one"), new("two")])
        assert "copied 1 to ec2_credential; 2 in step" in watch.until("2 in step")
        with contextlib.closing(runs.open_journal(cloud)) as journal, runs.lock_of(cloud).held(journal, "run nova"):
            fill(mysql, [old("one"), old("two"), old("three")], [new("one"), new("two")])
            watch.until("this cloud is in use: run nova")
        assert "copied 1 to credential; 3 in step" in watch.until("3 in step")
        server.stop()
        watch.until("top-db01 unreachable")
        server.restart()
        watch.until("3 in step")
        fill(mysql, [old("one"), old("two")], [new("one"), new("two"), new("three")])
        watch.until("2 in step, 1 deleted")
        watch.until("gone from ec2_credential, still in credential")
        assert watch.interrupt() == 3
    assert len(watch.said) == 8


def test_a_watch_that_only_looks_writes_nothing_and_ends_with_the_old_table(folder, mysql, server):
    fill(mysql, [old("one")])
    with started(folder, "sync-ec2", "--watch", "--every", "0.1") as watch:
        watch.until("1 to be copied to credential")
        server.execute("RENAME TABLE ec2_credential TO elsewhere", database="keystone")
        try:
            watch.until("nothing to keep in step")
            assert watch.process.wait(PATIENCE_S) == 0
        finally:
            server.execute("RENAME TABLE elsewhere TO ec2_credential", database="keystone")
    assert content(mysql) == ([old("one")], [])


def test_ctrl_c_ends_a_purge_after_its_batch_and_says_what_was_done(folder, server):
    tokens(server, 300)
    with started(folder, "purge-tokens", "--batch", "10", "--pause", "0.2") as purge:
        while left(server) > 292:
            assert purge.process.poll() is None, purge.rest()
        assert purge.interrupt() == 130
        purge.until("not all: call again")
    remaining = left(server)
    assert 2 < remaining <= 292
    assert any(f"{302 - remaining:,} deleted" in line for line in purge.said)
    assert events(folder)[-1] == f"deleted {302 - remaining} expired tokens of top-db01/keystone, not all"
    assert f"{remaining - 2:,} deleted" in call(folder, "purge-tokens", "--pause", "0")
    assert left(server) == 2
