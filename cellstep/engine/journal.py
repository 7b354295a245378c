"""The journal of a cloud: which run did what to which node, written before and after (SQLite, one file a cloud)."""

import contextlib
import getpass
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

STATES = ("ok", "changed", "failed", "unreachable", "skipped", "quarantined", "not_run", "unknown")
"""What can become of a node in a step."""

UNFINISHED = frozenset({"running", "stopped", "interrupted", "error"})
"""States of a run that `resume` goes on with."""

DONE = frozenset({"ok", "changed", "skipped", "quarantined"})
"""States after which a resumed step need not go to the node again."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, stage TEXT NOT NULL, operator TEXT NOT NULL, release TEXT NOT NULL, plan_digest TEXT NOT NULL,
    options TEXT NOT NULL, output TEXT NOT NULL DEFAULT '', started_at TEXT NOT NULL, finished_at TEXT,
    state TEXT NOT NULL, exit_code INTEGER, message TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS steps (
    run TEXT NOT NULL REFERENCES runs(id), number INTEGER NOT NULL, title TEXT NOT NULL, state TEXT NOT NULL,
    started_at TEXT NOT NULL, finished_at TEXT, note TEXT NOT NULL DEFAULT '', PRIMARY KEY (run, title));
CREATE TABLE IF NOT EXISTS host_steps (
    run TEXT NOT NULL REFERENCES runs(id), title TEXT NOT NULL, cell TEXT NOT NULL, host TEXT NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL, started_at TEXT, finished_at TEXT,
    detail TEXT NOT NULL DEFAULT '', PRIMARY KEY (run, title, host));
CREATE TABLE IF NOT EXISTS left_out (
    run TEXT NOT NULL REFERENCES runs(id), host TEXT NOT NULL, title TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (run, host));
CREATE TABLE IF NOT EXISTS holds (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, host TEXT NOT NULL, prior TEXT NOT NULL, run TEXT NOT NULL,
    placed_at TEXT NOT NULL, lifted_at TEXT);
CREATE UNIQUE INDEX IF NOT EXISTS one_open_hold ON holds(name, host) WHERE lifted_at IS NULL;
CREATE TABLE IF NOT EXISTS findings (
    run TEXT NOT NULL REFERENCES runs(id), title TEXT NOT NULL, blocking INTEGER NOT NULL, text TEXT NOT NULL);
"""


def now() -> str:
    """The time as ISO 8601 UTC text with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class RunRecord:
    """One run as the journal has it; times are ISO 8601 UTC."""

    id: str
    stage: str
    operator: str
    release: str
    plan_digest: str
    options: dict[str, Any]
    output: str
    started_at: str
    finished_at: str | None
    state: str
    exit_code: int | None
    message: str

    @property
    def whole(self) -> bool:
        """All steps on all nodes: not made of a single step, begun in the middle, or for some nodes only."""
        return not any(self.options.get(name) for name in ("step", "limit", "from"))


class Journal:
    """Reads and writes one cloud's journal; used from one thread.

    Every write is committed and synced before the call returns (WAL, synchronous FULL): what the journal says
    was started before anything was sent.

    Args:
        path: the file; its folder is made.

    Raises:
        sqlite3.Error: it cannot be written (a full disk, say): stop before doing what cannot be journalled.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)

    @classmethod
    def rehearsal(cls, path: Path) -> "Journal":
        """A copy in memory of the journal at `path`, for a dry run: what is written to it is nowhere."""
        copy = cls(Path(":memory:"))
        if path.exists():
            with contextlib.closing(sqlite3.connect(path)) as original:
                original.backup(copy._db)
        return copy

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _together(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # Runs

    def begin_run(self, stage: str, release: str, plan_digest: str, options: Mapping[str, Any]) -> str:
        """Write a new run and return its id, which sorts by time."""
        base = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        taken = {row["id"] for row in self._db.execute("SELECT id FROM runs WHERE id LIKE ?", (base + "%",))}
        run = next(name for n in range(1, 1000) if (name := base if n == 1 else f"{base}-{n}") not in taken)
        self._db.execute(
            "INSERT INTO runs (id, stage, operator, release, plan_digest, options, started_at, state)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 'running')",
            (run, stage, getpass.getuser(), release, plan_digest, json.dumps(dict(options)), now()),
        )
        return run

    def set_output(self, run: str, folder: str) -> None:
        """Where the run's reports go."""
        self._db.execute("UPDATE runs SET output=? WHERE id=?", (folder, run))

    def reopen_run(self, run: str) -> None:
        """A run goes on."""
        self._db.execute("UPDATE runs SET state='running', finished_at=NULL, exit_code=NULL WHERE id=?", (run,))

    def end_run(self, run: str, state: str, exit_code: int | None, message: str = "") -> None:
        """A run stopped (`stopped`, `interrupted`: without an exit code, `error`) or is `complete`."""
        self._db.execute(
            "UPDATE runs SET state=?, exit_code=?, message=?, finished_at=? WHERE id=?",
            (state, exit_code, message, now(), run),
        )

    def last_run(self, stage: str | None = None, *, whole: bool = False) -> RunRecord | None:
        """The newest run (of a stage); `whole` leaves out those made of single steps or for some nodes only."""
        for record in self.runs(stage):
            if record.whole or not whole:
                return record
        return None

    def unfinished_run(self, stage: str | None = None, *, whole: bool = False) -> RunRecord | None:
        """The newest run (of a stage) that is not complete, and that no newer one was begun afresh in place of."""
        for record in self.runs(stage):
            if record.state in UNFINISHED and (record.whole or not whole):
                return record
        return None

    def supersede_runs(self, stage: str) -> None:
        """Runs of a stage that are not complete will not be gone on with: a new one begins in their place."""
        for record in self.runs(stage):
            if record.state in UNFINISHED:
                self._db.execute("UPDATE runs SET state='superseded' WHERE id=?", (record.id,))

    def runs(self, stage: str | None = None) -> Iterator[RunRecord]:
        """The runs (of a stage), newest first."""
        rows = self._db.execute(
            "SELECT * FROM runs WHERE (? IS NULL OR stage=?) ORDER BY started_at DESC, id DESC", (stage, stage)
        )
        for row in rows.fetchall():
            yield RunRecord(**{**dict(row), "options": json.loads(row["options"])})

    # Steps and hosts

    def begin_step(self, run: str, number: int, title: str, hosts: Iterable[tuple[str, str]]) -> None:
        """A step begins: each of its (cell, host) that has no outcome yet is `not_run`."""
        with self._together():
            self._db.execute(
                "INSERT INTO steps (run, number, title, state, started_at) VALUES (?, ?, ?, 'running', ?)"
                " ON CONFLICT (run, title) DO UPDATE SET state='running', finished_at=NULL, number=excluded.number",
                (run, number, title, now()),
            )
            self._db.executemany(
                "INSERT INTO host_steps (run, title, cell, host, state, attempts) VALUES (?, ?, ?, ?, 'not_run', 0)"
                " ON CONFLICT (run, title, host) DO NOTHING",
                [(run, title, cell, host) for cell, host in hosts],
            )

    def end_step(self, run: str, title: str, state: str, note: str = "") -> None:
        """A step ended: `done`, `empty` or `stopped`."""
        self._db.execute(
            "UPDATE steps SET state=?, note=?, finished_at=? WHERE run=? AND title=?", (state, note, now(), run, title)
        )

    def steps(self, run: str) -> list[dict[str, Any]]:
        """The run's steps so far, in order."""
        return [dict(row) for row in self._db.execute("SELECT * FROM steps WHERE run=? ORDER BY number", (run,))]

    def start_host(self, run: str, title: str, host: str) -> None:
        """Something is about to be sent to a node: until its outcome is written it is `unknown`."""
        self._db.execute(
            "UPDATE host_steps SET state='unknown', attempts=attempts+1, started_at=?, finished_at=NULL, detail=''"
            " WHERE run=? AND title=? AND host=?",
            (now(), run, title, host),
        )

    def end_host(self, run: str, title: str, host: str, state: str, detail: str) -> None:
        """What came of a node."""
        self._db.execute(
            "UPDATE host_steps SET state=?, detail=?, finished_at=? WHERE run=? AND title=? AND host=?",
            (state, detail, now(), run, title, host),
        )

    def end_hosts(self, run: str, title: str, outcomes: Iterable[tuple[str, str, str]]) -> None:
        """Outcomes (host, state, detail) of nodes to which nothing is sent."""
        with self._together():
            for host, state, detail in outcomes:
                self.end_host(run, title, host, state, detail)

    def hosts(self, run: str, title: str | None = None) -> list[dict[str, Any]]:
        """Rows for the table `hosts`: step, cell, host, state, attempts, started_at, finished_at, detail."""
        rows = self._db.execute(
            "SELECT h.title AS step, h.cell, h.host, h.state, h.attempts, h.started_at, h.finished_at, h.detail"
            " FROM host_steps h JOIN steps s ON s.run=h.run AND s.title=h.title"
            " WHERE h.run=? AND (? IS NULL OR h.title=?) ORDER BY s.number, h.rowid",
            (run, title, title),
        )
        return [dict(row) for row in rows]

    # Nodes left out

    def leave_out(self, run: str, host: str, title: str, reason: str) -> None:
        """A node missed a step and gets nothing more in this run."""
        self._db.execute("INSERT OR IGNORE INTO left_out VALUES (?, ?, ?, ?)", (run, host, title, reason))

    def left_out(self, run: str) -> dict[str, str]:
        """Nodes left out of the run, with the reason."""
        rows = self._db.execute("SELECT host, title, reason FROM left_out WHERE run=?", (run,))
        return {row["host"]: f"left out since “{row['title']}”: {row['reason']}" for row in rows}

    # Holds

    def place_hold(self, run: str, name: str, host: str, prior: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write a hold before it is placed; one that is open already keeps its first prior state. Returns that."""
        self._db.execute(
            "INSERT OR IGNORE INTO holds (name, host, prior, run, placed_at) VALUES (?, ?, ?, ?, ?)",
            (name, host, json.dumps(dict(prior)), run, now()),
        )
        return self.open_holds(name)[host]

    def open_holds(self, name: str) -> dict[str, dict[str, Any]]:
        """Nodes on which the hold is open, with the prior state."""
        rows = self._db.execute("SELECT host, prior FROM holds WHERE name=? AND lifted_at IS NULL", (name,))
        return {row["host"]: json.loads(row["prior"]) for row in rows}

    def lift_hold(self, name: str, host: str) -> None:
        """The hold was lifted on a node."""
        self._db.execute(
            "UPDATE holds SET lifted_at=? WHERE name=? AND host=? AND lifted_at IS NULL", (now(), name, host)
        )

    def all_open_holds(self) -> dict[str, list[str]]:
        """Every hold that is still in place: name to nodes."""
        held: dict[str, list[str]] = {}
        for row in self._db.execute("SELECT name, host FROM holds WHERE lifted_at IS NULL ORDER BY id"):
            held.setdefault(row["name"], []).append(row["host"])
        return held

    # Findings

    def set_findings(self, run: str, title: str, findings: Iterable[tuple[bool, str]]) -> None:
        """Replace what a gate found: (blocking, text)."""
        with self._together():
            self._db.execute("DELETE FROM findings WHERE run=? AND title=?", (run, title))
            self._db.executemany(
                "INSERT INTO findings VALUES (?, ?, ?, ?)",
                [(run, title, blocking, text) for blocking, text in findings],
            )

    def findings(self, run: str) -> list[dict[str, Any]]:
        """What the run's gates found: title, blocking, text."""
        rows = self._db.execute("SELECT title, blocking, text FROM findings WHERE run=? ORDER BY rowid", (run,))
        return [dict(row) for row in rows]
