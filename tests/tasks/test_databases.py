"""Databases: schema versions and `db sync`, and the waits."""

import time

import pytest

from tasks import databases, jobs, peers, shell
from tasks.binding import Binding, bind
from tasks.errors import Refused
from tasks.rehearsal import Stop
from tests.support.scripted import Bash, Database, Scripted, said, task_on, told

# Schema versions

SCHEMA = {"command": "nova-manage db sync", "version": "nova-manage db version", "start": (161, 162), "head": 216}


def sync(*versions, ended="", dry_run=False, **more):
    node = Scripted([("db version", [v if not isinstance(v, int) else f"{v}\n" for v in versions]), ("db sync", ended)])
    try:
        return told(databases.sync(task_on(node, dry_run=dry_run), **SCHEMA, **more))
    finally:
        sync.sent = node.sent_with("db sync")


@pytest.mark.parametrize("start", [161, 162, "a warning of eventlet, printed to stdout\n161\n"])
def test_a_schema_is_brought_to_its_head(start):
    at = 161 if isinstance(start, str) else start
    assert sync(start, 216) == f"changed: schema version {at} to 216"
    assert sync.sent == ["nova-manage db sync"]


def test_a_schema_at_its_head_is_left_alone():
    assert sync(216) == "skipped: at version 216 already"
    assert sync.sent == []


@pytest.mark.parametrize(
    ("rows", "came"), [([9, 20], "changed: schema version 9 to 20"), ([20], "skipped: at version 20")]
)
def test_where_no_command_tells_the_version_the_database_on_another_node_does(rows, came):
    other = task_on(Scripted({}), database=Database(*([{"version": version}] for version in rows))).host
    task = task_on(Scripted({"cinder-manage db sync": ""}))
    task.host.data[peers.PEERS] = {"top-infra01": other}
    arguments = {"command": "cinder-manage db sync", "version": "", "start": (9,), "head": 20}
    told_by = ("top-infra01", "cinder", "cinder")
    assert told(databases.sync(task, **arguments, told_by=told_by)).startswith(came)


@pytest.mark.parametrize("version", [0, 160, 163, 215, 217])
def test_a_schema_at_an_unknown_version_is_refused(version):
    """A migration that stopped part-way leaves such a one."""
    with pytest.raises(
        Refused, match=rf"at version {version}, not at 161 or 162: restore its dump .* before another try"
    ):
        sync(version)
    assert sync.sent == []


@pytest.mark.parametrize("arrived", [162, 215, 217])
def test_a_sync_that_arrives_elsewhere_is_refused(arrived):
    with pytest.raises(Refused, match=f"`nova-manage db sync` ended well at version {arrived}, not 216"):
        sync(162, arrived)


BACKPORT = Stop(187, "1060", "services.disabled_reason exists already", "drop it")
SECRETS = Stop(180, "Conflict", "a key has two secrets", "delete one", rerun=True)


@pytest.mark.parametrize(
    ("said_last", "now", "told_of"),
    [
        ("(1205, 'Lock')", 190, "(1205, 'Lock'); the schema is at version 190, and what comes next may be half done"),
        ("(1060, 'Duplicate')", 187, "the likely cause: services.disabled_reason exists already; restore its dump"),
        ("(1060, 'Duplicate')", 187, "(`cellstep restore NODE --apply`), then before another try: drop it"),
        ("(1205, 'Lock')", 187, "at version 187, and what comes next may be half done: restore its dump"),
        ("Conflict", 180, "the likely cause: a key has two secrets; delete one, and run it again: no restore"),
        ("no route to host", 162, "the schema is at version 162 still, and what comes next may be half done"),
        ("at the very end", 216, "the schema is at version 216 all the same: `cellstep resume` goes on"),
        ("gone", said("", 1, "no server"), "at which version the schema is, cannot be told"),
    ],
)  # fmt: skip
def test_a_sync_that_fails_tells_where_it_stands_and_what_to_do(said_last, now, told_of):
    with pytest.raises(Refused, match=r"^nova-manage db sync: exit status 1: ") as refused:
        sync(162, now, ended=said("", 1, said_last), stops=(BACKPORT, SECRETS))
    assert told_of in str(refused.value)


def test_a_sync_goes_on_from_where_it_stopped_only_if_that_is_known_to_be_safe():
    assert sync(180, 216, stops=(BACKPORT, SECRETS)) == "changed: schema version 180 to 216"
    with pytest.raises(
        Refused, match=r"at version 187, not at 161 or 162: the likely cause: services\.disabled_reason"
    ):
        sync(187, stops=(BACKPORT, SECRETS))


@pytest.mark.parametrize("printed", ["", "\n", "None\n", "no such table: migrate_version\n"])
def test_a_version_that_is_none_is_refused(printed):
    with pytest.raises(Refused, match="`nova-manage db version` printed no version"):
        sync(printed)
    assert sync.sent == []


def test_a_dry_run_syncs_nothing():
    assert sync(162, dry_run=True) == "changed: would run `nova-manage db sync`: 162 to 216"
    assert sync.sent == []


# As part of a run: the sync is a job


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Binds a task on the node to its place in a run."""
    monkeypatch.setattr(shell, "ROOT", str(tmp_path / "jobs"))

    def task(node, **more):
        bound = task_on(node)
        bind(bound, Binding(**{"run": "r1", "step": "Back up", "token": 1} | more))
        return bound

    return task


def test_a_sync_that_was_run_unseen_is_told_and_not_run_again(run, tmp_path):
    bash = Bash(tmp_path / "bin")
    (tmp_path / "version").write_text("162\n")
    bash.program(
        "nova-manage",
        f"cd {tmp_path}; case $2 in version) cat version;; sync) echo 216 > version; echo x >> ran;; esac",
    )
    jobs.begin(run(bash), SCHEMA["command"], name="sync", timeout=15)
    told_of = told(databases.sync(run(bash, again=True), **SCHEMA))
    assert told_of == "changed: brought to version 216 by the try before, of which the end was not known"
    assert told(databases.sync(run(bash, generation=2), **SCHEMA)) == "skipped: at version 216 already"
    (tmp_path / "version").write_text("161\n")
    assert told(databases.sync(run(bash, generation=3), **SCHEMA)) == "changed: schema version 161 to 216"
    assert (tmp_path / "ran").read_text() == "x\nx\n"


@pytest.mark.parametrize(
    ("rehearsed", "warn", "limit"),
    [(0.0, 30, 60), (10.0, 30, 100), (600.0, 1200, 6000), (3600.0, 7200, 14400), (20_000.0, 14400, 14400)],
)
def test_how_long_a_sync_may_take(rehearsed, warn, limit):
    pace = databases.Pace(rehearsed, 2, 10)
    assert (pace.warn_s, pace.limit_s) == (warn, limit)


def test_a_sync_that_takes_too_long_is_told_of_and_then_ended(run, tmp_path, monkeypatch):
    monkeypatch.setattr(databases, "SHORTEST_S", 1.0)
    bash, heard = Bash(tmp_path / "bin"), []
    (tmp_path / "version").write_text("162\n")
    script = f"cd {tmp_path}; case $2 in version) cat version;; sync) echo 170 > version; exec sleep 30;; esac"
    bash.program("nova-manage", script)
    bound = run(bash, tell=heard.append)
    with pytest.raises(
        Refused, match=r"ended after 1 s, which is all it may take.*; the schema is at version 170, and"
    ):
        databases.sync(bound, **SCHEMA, forecast_s=0.05)
    assert heard == [
        "`nova-manage db sync` has run for 0 s, and took 0 s when it was rehearsed; it is ended when it has run for 1 s"
    ]


def test_a_sync_that_was_killed_tells_where_it_stands(run, tmp_path):
    bash = Bash(tmp_path / "bin")
    (tmp_path / "version").write_text("162\n")
    killed = "echo 187 > version; kill -9 $(ps -o ppid= $(ps -o ppid= $PPID))"
    bash.program("nova-manage", f"cd {tmp_path}; case $2 in version) cat version;; sync) {killed};; esac")
    with pytest.raises(Refused, match=r"was killed.*; the schema is at version 187, and what comes next .*: restore"):
        databases.sync(run(bash), **SCHEMA)


# What is asked of the database itself


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(databases, "ASK_EVERY_S", 0.01)


def busy(count):
    return [{"uuid": f"u{n}", "host": "c01-n01", "task_state": "spawning"} for n in range(count)]


def tasks_end(database, *, timeout_s=0.1, accept_stuck=False, dry_run=False):
    task = task_on(Scripted({}), database=database, dry_run=dry_run)
    return told(databases.wait_for_tasks(task, database="nova", timeout_s=timeout_s, accept_stuck=accept_stuck))


def test_instances_with_a_task_state_are_waited_for():
    database = Database(busy(2), busy(1), [])
    assert tasks_end(database, timeout_s=60) == "ok: no instance has a task state"
    assert len(database.asked) == 3


def test_instances_that_keep_their_task_state_are_named_within_the_time():
    began = time.monotonic()
    with pytest.raises(Refused, match=r"^12 instances .* after 0 s: u0 on c01-n01 \(spawning\), .* and 2 more; settle"):
        tasks_end(Database(busy(12)))
    assert 0.1 <= time.monotonic() - began < 5
    assert tasks_end(Database(busy(1)), accept_stuck=True) == "ok: 1 with a task state: u0 on c01-n01 (spawning)"


def test_a_dry_run_asks_for_task_states_once():
    database = Database(busy(1))
    assert tasks_end(database, timeout_s=60, dry_run=True).startswith("ok: 1 with a task state")
    assert len(database.asked) == 1


def beat(host, age, binary="nova-compute"):
    return {"host": host, "binary": binary, "age_s": age, "disabled": 0}


def heartbeats(database, *, timeout_s=0.1, dry_run=False):
    expected = [("c01-n01.cern.ch", "nova-compute"), ("c01-ctl01", "nova-conductor")]
    task = task_on(Scripted({}), database=database, dry_run=dry_run)
    return databases.wait_for_heartbeats(task, "nova", expected, 60, timeout_s)


FRESH = [beat("c01-n01", 60), beat("c01-ctl01.cern.ch", 0, "nova-conductor")]


@pytest.mark.parametrize(
    "late",
    [
        [],
        FRESH[:1],
        [beat("c01-n01", 61), FRESH[1]],
        [beat("c01-n01", 0, "nova-cells"), FRESH[1]],
        [beat("c01-n02", 0), FRESH[1]],
    ],
)
def test_every_expected_heartbeat_is_waited_for(late):
    """By short or full name; the wait ends as soon as all are there, or with what is there in the end."""
    database = Database(late, late, FRESH)
    assert heartbeats(database, timeout_s=60) == FRESH
    assert len(database.asked) == 3
    assert heartbeats(Database(late)) == late
    once = Database(late)
    assert heartbeats(once, timeout_s=60, dry_run=True) == late
    assert len(once.asked) == 1


def test_a_schema_without_a_row_has_no_version():
    task = task_on(Scripted({}), database=Database([]))
    assert databases.head(task, "nova", "nova") is None
    assert databases.head(task_on(Scripted({}), database=Database([{"version": 216}])), "nova", "nova") == 216
