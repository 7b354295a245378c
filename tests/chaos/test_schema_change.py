"""A schema change killed at any version: where it stands is told right, its dump undoes it, the second try succeeds."""

import signal
import sys
from random import Random

import pytest

from tasks import backup, databases, restore, shell, staging
from tasks.errors import Refused
from tasks.rehearsal import Trial
from tasks.staging import Dump
from tests.support import mariadb, staged
from tests.support.dumping import Node

SYNC = {
    "command": "nova-manage --config-file CONF db sync",
    "version": "nova-manage --config-file CONF db version",
    "start": (161, 162),
    "head": 216,
}
CONFIG = "[DEFAULT]\nsql_connection = {url}\n[database]\nconnection = {url}\n"
PLACES = 6


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    try:
        with mariadb.running(tmp_path_factory.mktemp("live")) as found:
            yield found
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))


# Killed, the shell that runs it too, as soon as a version is counted and the next one has done half of its work.
KILLED = f"""
import os, signal, sys
from nova_lab import manage
def half(cursor):
    cursor.execute('CREATE TABLE half_way (id int)')
    for pid in (os.getppid(), os.getpid()):
        os.kill(pid, {signal.SIGKILL.value})
real = manage._steps
manage._steps = lambda *a: {{n: half if n == LAST + 1 else step for n, step in real(*a).items()}}
sys.exit(manage.main(sys.argv[1:]))
"""


def killing_at(node, folder, version):
    """A nova-manage that does not get beyond a version."""
    staged.nova_manage(node, folder)
    path = node.programs / "nova-manage"
    (folder / "killed.py").write_text(KILLED.replace("LAST", str(version)))
    killed = f'[ "$4" != sync ] || PYTHONPATH={folder}/havana exec {sys.executable} {folder}/killed.py "$@"'
    path.write_text(path.read_text().replace("\n", f"\n{killed}\n", 1))


def test_a_schema_change_killed_anywhere_is_told_right_undone_and_done_again(
    server, tmp_path, monkeypatch, seed, capsys
):
    server.load(staged.nova_161())
    monkeypatch.setattr(shell, "ROOT", str(tmp_path / "jobs"))
    node = Node(tmp_path, server)
    node.longest = 60.0
    address = f"mysql://root@127.0.0.1:{server.port}/nova"
    conf = tmp_path / "nova.conf"
    conf.write_text(CONFIG.replace("{url}", address))
    sync = {key: value.replace("CONF", str(conf)) if isinstance(value, str) else value for key, value in SYNC.items()}

    def bound(step):
        return node.bound(step=step)

    (known,) = node.back_up(task=bound("Back up")).data
    staged.nova_manage(node, tmp_path)
    trial = Trial("nova-manage --config-file {config} db sync", CONFIG, 216)
    dump = Dump("c01-n01/nova", known, f"{node.there}/nova.sql.gz", node.here / "nova.sql.gz", trial)
    (proved,) = staging.prove(bound("Prove"), dumps=[dump], home=str(tmp_path / "st" / "r1")).result.data
    assert (proved.proof.ok, proved.rehearsal.ok) == (True, True)
    for version in sorted(Random(seed).sample(range(161, 216), PLACES)):  # noqa: S311 - no secret
        killing_at(node, tmp_path, version)
        with pytest.raises(
            Refused, match=f"the schema is at version {version}[ ,].*may be half done: restore its dump"
        ):
            databases.sync(bound(f"Update {version}"), **sync, forecast_s=proved.rehearsal.seconds)
        assert backup.compare(node.task(), known)
        restore.put_back(bound(f"Restore {version}"), known=known, folder=str(node.there), here=dump.here)
        assert backup.compare(node.task(), known) == ()
        staged.nova_manage(node, tmp_path)
        done = databases.sync(bound(f"Again {version}"), **sync, forecast_s=proved.rehearsal.seconds)
        assert done.result == "schema version 161 to 216"
        restore.put_back(bound(f"Back {version}"), known=known, folder=str(node.there), here=dump.here)
        with capsys.disabled():
            sys.stdout.write(f"\nschema change killed after version {version}: told, restored, done again")
    node.mysql.close()
