"""The journal's file: one SQLite database a cloud, written ahead, and only by who holds the cloud.

Every write is committed and synced before the call returns (WAL, synchronous FULL), and is refused when a newer token
than the writer's own is in the file: then somebody else has taken the cloud over.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from cellstep.errors import JournalFailed, TakenOver

VERSION = 3
"""`PRAGMA user_version` of the file; a newer one is of a newer cellstep."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, stage TEXT NOT NULL, operator TEXT NOT NULL, release TEXT NOT NULL, plan_digest TEXT NOT NULL,
    options TEXT NOT NULL, output TEXT NOT NULL DEFAULT '', started_at TEXT NOT NULL, finished_at TEXT,
    state TEXT NOT NULL, exit_code INTEGER, message TEXT NOT NULL DEFAULT '', plan TEXT NOT NULL DEFAULT '[]',
    version TEXT NOT NULL DEFAULT '', machine TEXT NOT NULL DEFAULT '', pid INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS steps (
    run TEXT NOT NULL REFERENCES runs(id), number INTEGER NOT NULL, title TEXT NOT NULL, state TEXT NOT NULL,
    started_at TEXT NOT NULL, finished_at TEXT, note TEXT NOT NULL DEFAULT '', PRIMARY KEY (run, title));
CREATE TABLE IF NOT EXISTS host_steps (
    run TEXT NOT NULL REFERENCES runs(id), title TEXT NOT NULL, cell TEXT NOT NULL, host TEXT NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL, started_at TEXT, finished_at TEXT,
    detail TEXT NOT NULL DEFAULT '', generation INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (run, title, host));
CREATE INDEX IF NOT EXISTS steps_of_a_node ON host_steps(host, started_at);
CREATE TABLE IF NOT EXISTS commands (
    run TEXT NOT NULL REFERENCES runs(id), title TEXT NOT NULL, host TEXT NOT NULL, generation INTEGER NOT NULL,
    at TEXT NOT NULL, what TEXT NOT NULL, exit_status INTEGER NOT NULL, seconds REAL NOT NULL, size INTEGER NOT NULL,
    sha256 TEXT NOT NULL, head TEXT NOT NULL, tail TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS commands_of_a_node ON commands(run, title, host);
CREATE TABLE IF NOT EXISTS left_out (
    run TEXT NOT NULL REFERENCES runs(id), host TEXT NOT NULL, title TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (run, host));
CREATE TABLE IF NOT EXISTS quarantine (
    id INTEGER PRIMARY KEY, host TEXT NOT NULL, cell TEXT NOT NULL, stage TEXT NOT NULL, run TEXT NOT NULL,
    title TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL, since TEXT NOT NULL, was_disabled INTEGER,
    released_at TEXT, released_by TEXT);
CREATE UNIQUE INDEX IF NOT EXISTS one_quarantine ON quarantine(host) WHERE released_at IS NULL;
CREATE TABLE IF NOT EXISTS holds (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, host TEXT NOT NULL, prior TEXT NOT NULL, run TEXT NOT NULL,
    placed_at TEXT NOT NULL, lifted_at TEXT, stage TEXT NOT NULL DEFAULT '', title TEXT NOT NULL DEFAULT '');
CREATE UNIQUE INDEX IF NOT EXISTS one_open_hold ON holds(name, host) WHERE lifted_at IS NULL;
CREATE TABLE IF NOT EXISTS findings (
    run TEXT NOT NULL REFERENCES runs(id), title TEXT NOT NULL, blocking INTEGER NOT NULL, text TEXT NOT NULL,
    overridden TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, run TEXT NOT NULL, operator TEXT NOT NULL, what TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, run TEXT NOT NULL, kind TEXT NOT NULL, stage TEXT NOT NULL,
    place TEXT NOT NULL, data TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS newest_records ON records(kind, stage, place, id);
CREATE TABLE IF NOT EXISTS fence (one INTEGER PRIMARY KEY CHECK (one = 1), token INTEGER NOT NULL);
"""

# From a file of the first version, whose tables lack these columns.
_FROM_VERSION_1 = """
ALTER TABLE runs ADD COLUMN plan TEXT NOT NULL DEFAULT '[]';
ALTER TABLE runs ADD COLUMN version TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN machine TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN pid INTEGER NOT NULL DEFAULT 0;
ALTER TABLE host_steps ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE findings ADD COLUMN overridden TEXT NOT NULL DEFAULT '';
ALTER TABLE holds ADD COLUMN stage TEXT NOT NULL DEFAULT 'nova';
ALTER TABLE holds ADD COLUMN title TEXT NOT NULL DEFAULT '';
"""


def now() -> str:
    """The time as ISO 8601 UTC text with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_between(start: str, end: str) -> float:
    """Seconds between two times as `now` writes them."""
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


class Store:
    """The file, its transactions and its fence; used from one thread.

    Args:
        path: the file; its folder is made.
        read_only: only to be read: at once, also beside a run, and where the disk is full.

    Raises:
        JournalFailed: it cannot be opened or written (a full disk, say): nothing is done that cannot be journalled.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.token: int | None = None
        with self._explained():
            if not read_only:
                # Outputs of commands are in it: for nobody else's eyes, whatever they may show.
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                if str(path) != ":memory:":
                    path.touch(mode=0o600)
            name = f"{path.resolve().as_uri()}?mode=ro" if read_only else str(path)
            self._db = sqlite3.connect(name, uri=read_only, isolation_level=None, timeout=10)
            self._db.row_factory = sqlite3.Row
            if not read_only:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._bring_up_to_date()
            elif self._version() < VERSION:  # what an older cellstep's file lacks is empty, in a copy in memory
                original, self._db = self._db, sqlite3.connect(":memory:", isolation_level=None)
                with contextlib.closing(original):
                    original.backup(self._db)
                self._db.row_factory = sqlite3.Row
                self._bring_up_to_date()

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _bring_up_to_date(self) -> None:
        version = self._version()
        if version > VERSION:
            raise JournalFailed(f"{self.path} was written by a newer cellstep: use that one")
        if version == VERSION:
            return
        # A file of the first version has no number.
        old = version == 0 and self._db.execute("SELECT 1 FROM sqlite_master WHERE name='runs'").fetchone()
        script = (_FROM_VERSION_1 if old else "") + _SCHEMA
        self._db.executescript(f"BEGIN IMMEDIATE;{script}PRAGMA user_version={VERSION};COMMIT;")

    @classmethod
    def rehearsal(cls, path: Path) -> Self:
        """A copy in memory of the journal at `path`, for a dry run: what is written to it is nowhere."""
        copy = cls(Path(":memory:"))
        if path.exists():
            with contextlib.closing(sqlite3.connect(path)) as original:
                original.backup(copy._db)
            copy._bring_up_to_date()
        return copy

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise JournalFailed(
                f"the journal {self.path} cannot be used: {error}; nothing more is done."
                " Make room or mend its folder, then `cellstep resume`"
            ) from error

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, synced when it ends; refused where a newer token is in the file."""
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._refuse_if_taken_over()
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:  # whatever it was, nothing of the transaction stays; a full disk has ended it already
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _rows(self, sql: str, arguments: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        with self._explained():
            return [dict(row) for row in self._db.execute(sql, arguments)]

    # The fence

    def newest_token(self) -> int:
        """The newest token that was given out; 0 where none was."""
        row = self._db.execute("SELECT token FROM fence").fetchone()
        return int(row["token"]) if row else 0

    def _refuse_if_taken_over(self) -> None:
        if self.token is not None and self.newest_token() > self.token:
            raise TakenOver("this cloud was taken over by another operator; see `cellstep lock show`")

    def take_token(self) -> int:
        """Take a new token: from now on every writer with an older one is refused.

        Tokens grow also from one journal to the next on the same hosts, as they begin at the time in seconds.
        """
        self.token = None
        with self._write() as db:
            self.token = max(self.newest_token() + 1, int(datetime.now(UTC).timestamp()))
            db.execute("INSERT OR REPLACE INTO fence (one, token) VALUES (1, ?)", (self.token,))
        return self.token


def plain(value: Any) -> str:
    """A value as JSON text."""
    return json.dumps(value, ensure_ascii=False)
