"""The lock under trouble: killed and frozen holders, those who only look, two at once."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from cellstep.engine.journal import Journal
from cellstep.engine.lock import Lock
from cellstep.errors import JournalFailed, Locked, TakenOver, UsageError
from tasks.errors import Fenced

ROOT = Path(__file__).parents[2]

# Holds the lock, then does as it is told: `write` to the journal, `check` the lock, `end`.
HOLDER = """
import sys
from pathlib import Path
from cellstep.engine.journal import Journal
from cellstep.engine.lock import Lock
folder = Path(sys.argv[1])
journal = Journal(folder / "journal.sqlite3")
lock = Lock(folder / "lock")
with lock.held(journal, "a test") as holder:
    run = journal.begin_run("nova", "r", "d", {})
    print("held", holder.token, flush=True)
    for line in sys.stdin:
        word = line.strip()
        if word == "end":
            break
        try:
            if word == "begin":
                journal._db.execute("BEGIN IMMEDIATE")
            elif word == "write":
                journal.event(run, "still at it")
            else:
                lock.check(holder.token)
            print("done", flush=True)
        except Exception as error:  # the test reads its name
            print(type(error).__name__, flush=True)
"""


class Other:
    """Another cellstep on this machine, which holds the lock."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.pid = process.pid
        assert process.stdout is not None
        word, token = process.stdout.readline().split()
        assert word == "held"
        self.token = int(token)

    def say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def ask(self, word: str) -> str:
        self.say(word)
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=20)

    def signal(self, number: signal.Signals, state: str) -> None:
        """Send a signal, and wait until the process is in that state."""
        self.process.send_signal(number)
        until(lambda: Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] in state)


def until(true: Callable[[], bool], what: str = "the process's new state") -> None:
    pause = threading.Event()
    for _ in range(1000):
        if true():
            return
        pause.wait(0.01)
    raise AssertionError(f"waited 10 s for {what}")


@contextmanager
def holding(folder: Path) -> Iterator[Other]:
    with subprocess.Popen(
        [sys.executable, "-P", "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        try:
            yield Other(process)
        finally:
            process.kill()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.sqlite3")


@pytest.fixture
def lock(tmp_path: Path) -> Lock:
    return Lock(tmp_path / "lock")


def test_a_killed_holder_is_recognised_and_its_lock_is_free(tmp_path: Path, journal: Journal, lock: Lock):
    with holding(tmp_path) as other:
        named, alive = lock.holder()
        assert (named and named.pid, alive) == (other.pid, True)
        with pytest.raises(Locked, match=f"pid {other.pid}"), lock.held(journal, "mine"):
            pass
        other.kill()
        named, alive = lock.holder()
        assert (named and named.pid, alive) == (other.pid, False)
        with pytest.raises(UsageError, match="nobody holds"):
            lock.take_over(journal, "why not")
        with lock.held(journal, "mine") as mine:
            assert mine.token > other.token
    assert journal.events("")[0]["what"].startswith("the holder of the lock had crashed: a test")
    assert lock.holder() == (None, False)


def test_a_frozen_holder_that_was_taken_over_from_changes_nothing_when_it_wakes(
    tmp_path: Path, journal: Journal, lock: Lock
):
    with holding(tmp_path) as other:
        assert [other.ask("write"), other.ask("check")] == ["done", "done"]
        other.signal(signal.SIGSTOP, "T")
        named, alive = lock.holder()
        assert named is not None
        assert alive
        assert named.frozen()
        lock.take_over(journal, "it hangs", named)
        assert lock.holder() == (None, False)
        other.signal(signal.SIGCONT, "SR")
        assert [other.ask("write"), other.ask("check")] == ["TakenOver", "Fenced"]
        with lock.held(journal, "mine") as mine:
            assert mine.token > other.token
            assert [other.ask("write"), other.ask("check")] == ["TakenOver", "Fenced"]
            other.say("end")  # what it does last must not free the new holder's lock
            other.process.wait(timeout=20)
            lock.check(mine.token)
            journal.event("", "mine still")
            with pytest.raises(Locked), lock.held(Journal(journal.path), "a third"):
                pass
    events = [event["what"] for event in journal.events("")]
    assert events[0].startswith(f"took over from a test by {named.operator}")
    assert events[0].endswith("it hangs")
    assert [event["what"] for event in journal.events() if event["run"]] == ["still at it"]


def test_a_holder_that_was_frozen_in_a_write_is_to_be_killed(tmp_path: Path, lock: Lock, monkeypatch):
    monkeypatch.setattr("cellstep.engine.store.sqlite3.connect", _impatient)
    journal = Journal(tmp_path / "journal.sqlite3")
    with holding(tmp_path) as other:
        assert other.ask("begin") == "done"
        other.signal(signal.SIGSTOP, "T")
        with pytest.raises(JournalFailed, match=f"kill -9 {other.pid}"):
            lock.take_over(journal, "it hangs")
        assert lock.holder()[1], "nothing was taken over"
        other.kill()
        with lock.held(journal, "mine") as mine:
            lock.check(mine.token)


def _impatient(*arguments, **options):
    import sqlite3  # noqa: PLC0415 - the real one, whose name is patched

    return sqlite3.Connection(*arguments, **{**options, "timeout": 0.1})


def test_who_only_looks_keeps_nobody_out(tmp_path: Path, journal: Journal, lock: Lock):
    """Also where the name of a crashed holder is in the file."""
    with holding(tmp_path) as other:
        other.kill()
    ended = threading.Event()

    def look() -> int:
        looks = 0
        while not ended.wait(0.002):
            lock.holder()
            looks += 1
        return looks

    with ThreadPoolExecutor(3) as pool:
        looking = [pool.submit(look) for _ in range(3)]
        try:
            for _ in range(40):
                with lock.held(journal, "mine"):
                    assert lock.holder()[1], "a holder that lives is never taken for a crashed one"
        finally:
            ended.set()
        assert all(each.result() for each in looking)


def test_of_many_at_once_just_one_gets_it(tmp_path: Path):
    begin, inside = threading.Barrier(6), threading.Semaphore(0)
    held: list[int] = []
    release = threading.Event()

    def contend(_: int) -> str:
        own = Lock(tmp_path / "lock")
        journal = Journal(tmp_path / "journal.sqlite3")
        begin.wait()
        try:
            with own.held(journal, "mine") as mine:
                held.append(mine.token)
                inside.release()
                assert release.wait(20)
                own.check(mine.token)
                journal.event("", "still the one")
        except Locked:
            inside.release()
            return "locked"
        return "held"

    Journal(tmp_path / "journal.sqlite3").close()
    with ThreadPoolExecutor(6) as pool:
        contenders = [pool.submit(contend, n) for n in range(6)]
        for _ in range(6):
            assert inside.acquire(timeout=20)
        release.set()
        came = sorted(each.result() for each in contenders)
    assert came == ["held"] + ["locked"] * 5
    assert len(held) == 1


def test_of_two_who_take_over_the_second_is_told_or_takes_over_from_nobody_new(
    tmp_path: Path, journal: Journal, lock: Lock
):
    with holding(tmp_path):
        seen, _ = lock.holder()
        lock.take_over(journal, "first", seen)
        with pytest.raises(UsageError, match="nobody holds"):
            lock.take_over(Journal(journal.path), "second", seen)
        with lock.held(journal, "the first one's resume") as mine:
            with pytest.raises(UsageError, match="another holds this cloud by now: the first one's resume"):
                lock.take_over(Journal(journal.path), "second", seen)
            lock.check(mine.token)
            journal.event("", "undisturbed")


def test_a_holder_whose_file_was_replaced_at_that_moment_does_not_begin(
    journal: Journal, lock: Lock, monkeypatch, tmp_path: Path
):
    """Somebody takes over from the one before just when that one ends: between the lock and the name."""
    taken = journal.take_token

    def take_and_lose() -> int:
        token = taken()
        (tmp_path / "other").write_text("")
        (tmp_path / "other").replace(lock.path)
        return token

    monkeypatch.setattr(journal, "take_token", take_and_lose)
    with pytest.raises(Locked, match="at this very moment"), lock.held(journal, "mine"):
        raise AssertionError("it must not begin")
    assert lock.holder() == (None, False)


def test_a_dry_run_holds_the_lock_and_leaves_the_journal_alone(journal: Journal, lock: Lock):
    token = journal.take_token()
    copy = Journal.rehearsal(journal.path)
    with lock.held(copy, "run nova (dry run)") as mine:
        lock.check(mine.token)
        with pytest.raises(Locked, match="dry run"), lock.held(journal, "mine"):
            pass
        assert journal.newest_token() == token
        lock.take_over(journal, "it takes too long", mine)
        with pytest.raises(Fenced):
            lock.check(mine.token)
    with lock.held(journal, "mine") as mine:
        lock.check(mine.token)


def test_half_a_name_is_no_name(lock: Lock):
    lock.path.write_text(json.dumps({"operator": "me"}))
    assert lock.holder() == (None, False)
    lock.path.write_text('{"operator": "m')
    assert lock.holder() == (None, False)


def test_an_older_token_writes_nothing(journal: Journal):
    other = Journal(journal.path)
    other.take_token()
    journal.token = other.newest_token() - 1
    with pytest.raises(TakenOver):
        journal.event("", "late")
    assert journal.events() == []
