"""The journal and the lock, as another process sees them."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cellstep.engine.journal import Journal
from cellstep.engine.lock import Lock
from cellstep.errors import Locked


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "state" / "journal.sqlite3")


def test_runs_begun_in_the_same_second_have_names_of_their_own(journal: Journal):
    names = [journal.begin_run("nova", "r", "d", {}) for _ in range(5)]
    assert len(set(names)) == 5
    last = journal.last_run()
    assert last is not None
    assert last.state == "running"


def test_the_last_whole_run_leaves_out_single_steps_and_limited_runs(journal: Journal):
    whole = journal.begin_run("nova", "r", "d", {"limit": "", "step": ""})
    journal.begin_run("nova", "r", "d", {"limit": "", "step": "3"})
    journal.begin_run("nova", "r", "d", {"limit": "c01-n01", "step": ""})
    last = journal.last_run("nova", whole=True)
    assert last is not None
    assert last.id == whole


def test_what_was_written_survives_a_kill(tmp_path: Path):
    """SIGKILL right after a write: another process finds the started node as unknown."""
    path = tmp_path / "state" / "journal.sqlite3"
    code = f"""
import os, signal
from pathlib import Path
from cellstep.engine.journal import Journal
journal = Journal(Path({str(path)!r}))
run = journal.begin_run("nova", "r", "d", {{}})
journal.begin_step(run, 1, "One", [("top", "a"), ("top", "b")])
journal.start_hosts(run, "One", {{"a": 1}})
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    journal = Journal(path)
    last = journal.last_run()
    assert last is not None
    assert {row["host"]: row["state"] for row in journal.hosts(last.id)} == {"a": "unknown", "b": "not_run"}


def test_a_rehearsal_leaves_no_trace(journal: Journal):
    run = journal.begin_run("nova", "r", "d", {})
    journal.place_holds(run, "nova", "Off", "puppet", {"a": {"enabled": True}})
    copy = Journal.rehearsal(journal.path)
    assert copy.open_holds("puppet") == {"a": {"enabled": True}}
    copy.end_hosts("", "", [(host, "changed", "") for host in ["a"]], lifted="puppet")
    copy.begin_run("nova", "r", "d", {})
    assert journal.open_holds("puppet") == {"a": {"enabled": True}}


def test_a_second_holder_is_told_who_the_first_is(tmp_path: Path):
    path, journal = tmp_path / "state" / "lock", Journal(tmp_path / "state" / "journal.sqlite3")
    lock = Lock(path)
    code = f"""
import sys
from pathlib import Path
from cellstep.engine.journal import Journal
from cellstep.engine.lock import Lock
with Lock(Path({str(path)!r})).held(Journal(Path({str(journal.path)!r})), "run nova"):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Locked, match=f"run nova by .* pid {holder.pid}"), lock.held(journal, "resume"):
            pass
        assert json.loads(path.read_text())["pid"] == holder.pid
        holder.kill()
    with lock.held(journal, "resume"):
        assert json.loads(path.read_text())["doing"] == "resume"
    assert "had crashed: run nova by root" in journal.events()[0]["what"]
    assert lock.holder() == (None, False)


def test_resume_finds_the_run_that_is_not_complete_behind_newer_ones(journal: Journal):
    stopped = journal.begin_run("nova", "r", "d", {})
    journal.end_run(stopped, "stopped", 4)
    single = journal.begin_run("nova", "r", "d", {"step": "3"})
    journal.end_run(single, "complete", 0)
    last = journal.unfinished_run()
    assert last is not None
    assert last.id == stopped
    journal.supersede_runs("nova")
    assert journal.unfinished_run() is None


def test_the_newest_record_of_each_database_counts(journal: Journal):
    for rows in (1, 2):
        journal.keep_record("backup", "nova", "top-infra01/nova", {"rows": rows}, "run-1")
    journal.keep_record("backup", "cinder", "top-infra01/cinder", {"rows": 3})
    journal.keep_record("proof", "nova", "top-infra01/nova", {"rows": 4})
    found = journal.records("backup", "nova")
    assert [(place, record.run, record.data) for place, record in found.items()] == [
        ("top-infra01/nova", "run-1", {"rows": 2})
    ]


def test_a_file_of_an_older_version_can_be_read_without_being_changed(journal: Journal):
    run = journal.begin_run("nova", "r", "d", {})
    journal._db.executescript("DROP TABLE records; PRAGMA user_version=2; PRAGMA wal_checkpoint(TRUNCATE)")
    journal.close()
    before = journal.path.read_bytes()
    read = Journal(journal.path, read_only=True)
    last = read.last_run()
    assert last is not None
    assert (last.id, read.records("backup", "nova")) == (run, {})
    read.close()
    assert journal.path.read_bytes() == before
    again = Journal(journal.path)
    again.keep_record("backup", "nova", "a/nova", {})
    assert list(again.records("backup", "nova")) == ["a/nova"]
