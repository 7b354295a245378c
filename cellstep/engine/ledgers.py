"""What outlives a single step in the journal: holds, nodes that missed, findings, operators' decisions."""

import getpass
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cellstep.engine.store import Store, now, plain


@dataclass(frozen=True)
class Record:
    """What was found out about a database: when (ISO 8601, UTC), by which run ("": none), and what, as JSON values."""

    at: str
    run: str
    data: Mapping[str, Any]


class Ledgers(Store):
    """Holds, quarantine, findings, records and events of a cloud's journal."""

    # Nodes left out of a run, and the quarantine that outlives it

    def leave_out(self, run: str, stage: str, title: str, missed: Iterable[Mapping[str, str]]) -> None:
        """Nodes missed a step and get nothing more in this run: rows with cell, host, state and detail.

        Each is in quarantine from now on, until a run has carried it through; one that is keeps its first day.
        """
        with self._write() as db:
            for row in missed:
                host, reason = row["host"], row["detail"]
                db.execute("INSERT OR IGNORE INTO left_out VALUES (?, ?, ?, ?)", (run, host, title, reason))
                db.execute(
                    "INSERT OR IGNORE INTO quarantine (host, cell, stage, run, title, state, reason, since)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (host, row["cell"], stage, run, title, row["state"], reason, now()),
                )
                db.execute(
                    "UPDATE quarantine SET run=?, title=?, state=?, reason=? WHERE host=? AND released_at IS NULL",
                    (run, title, row["state"], reason, host),
                )

    def left_out(self, run: str) -> dict[str, str]:
        """Nodes left out of the run, with the reason."""
        rows = self._rows("SELECT host, title, reason FROM left_out WHERE run=?", (run,))
        return {row["host"]: f"left out since “{row['title']}”: {row['reason']}" for row in rows}

    def quarantined(self) -> dict[str, dict[str, Any]]:
        """Nodes in quarantine: stage, run, title, state, reason, since, was_disabled (None: not touched by us)."""
        rows = self._rows("SELECT * FROM quarantine WHERE released_at IS NULL ORDER BY id")
        return {row["host"]: row for row in rows}

    def note_disabled(self, was_disabled: Mapping[str, bool]) -> None:
        """How quarantined nodes' nova-compute stood in the services table before us; the first note stays."""
        with self._write() as db:
            db.executemany(
                "UPDATE quarantine SET was_disabled=? WHERE host=? AND released_at IS NULL AND was_disabled IS NULL",
                [(int(was), host) for host, was in was_disabled.items()],
            )

    def release(self, run: str, stage: str, hosts: Iterable[str]) -> None:
        """Nodes have caught up with a stage in a run."""
        with self._write() as db:
            db.executemany(
                "UPDATE quarantine SET released_at=?, released_by=? WHERE host=? AND stage=? AND released_at IS NULL",
                [(now(), run, host, stage) for host in hosts],
            )

    def hand_over(self, run: str, stage: str, other: str, missed: Iterable[str]) -> None:
        """Who is in quarantine for a stage has it behind it, but for those that missed the run: they wait for another.

        All in one transaction, so that none is ever in no quarantine on its way. They keep their first day.

        Args:
            run: the run that did it.
            stage: the stage that nobody is to catch up with any more.
            other: the stage of the run, with which those that missed it are to catch up.
            missed: them.
        """
        with self._write() as db:
            db.executemany(
                "UPDATE quarantine SET stage=?, run=? WHERE host=? AND stage=? AND released_at IS NULL",
                [(other, run, host, stage) for host in missed],
            )
            db.execute(
                "UPDATE quarantine SET released_at=?, released_by=? WHERE stage=? AND released_at IS NULL",
                (now(), run, stage),
            )

    # Holds

    def place_holds(
        self, run: str, stage: str, title: str, name: str, priors: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        """Write holds before they are placed; one that is open already keeps its first prior state. Returns those."""
        with self._write() as db:
            db.executemany(
                "INSERT OR IGNORE INTO holds (name, host, prior, run, placed_at, stage, title)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(name, host, plain(dict(prior)), run, now(), stage, title) for host, prior in priors.items()],
            )
        held = self.open_holds(name)
        return {host: held[host] for host in priors}

    def open_holds(self, name: str) -> dict[str, dict[str, Any]]:
        """Nodes on which the hold is open, with the prior state."""
        rows = self._rows("SELECT host, prior FROM holds WHERE name=? AND lifted_at IS NULL", (name,))
        return {row["host"]: json.loads(row["prior"]) for row in rows}

    def holds(self) -> list[dict[str, Any]]:
        """Every hold that is still in place: name, host, prior, run, placed_at, stage, title."""
        rows = self._rows(
            "SELECT name, host, prior, run, placed_at, stage, title FROM holds WHERE lifted_at IS NULL ORDER BY id"
        )
        return [{**row, "prior": json.loads(row["prior"])} for row in rows]

    def all_open_holds(self) -> dict[str, list[str]]:
        """Every hold that is still in place: name to nodes."""
        held: dict[str, list[str]] = {}
        for row in self.holds():
            held.setdefault(row["name"], []).append(row["host"])
        return held

    # Findings

    def set_findings(self, run: str, title: str, findings: Iterable[tuple[bool, str]], overridden: str = "") -> None:
        """Replace what a gate found: (blocking, text); `overridden` is the operator's reason to go on all the same."""
        with self._write() as db:
            db.execute("DELETE FROM findings WHERE run=? AND title=?", (run, title))
            db.executemany(
                "INSERT INTO findings VALUES (?, ?, ?, ?, ?)",
                [(run, title, blocking, text, overridden if blocking else "") for blocking, text in findings],
            )

    def findings(self, run: str) -> list[dict[str, Any]]:
        """What the run's gates found: title, blocking, text, overridden."""
        return self._rows("SELECT title, blocking, text, overridden FROM findings WHERE run=? ORDER BY rowid", (run,))

    # Records

    def keep_record(self, kind: str, stage: str, place: str, data: Mapping[str, Any], run: str = "") -> None:
        """Keep what was found out about a database.

        Args:
            kind: `backup` (its manifest), `proof` or `rehearsal`.
            stage: whose stage it is for.
            place: the database, as `cellstep.cloud.places.Place` is written.
            data: JSON values.
            run: the run that found it out.
        """
        with self._write() as db:
            row = (now(), run, kind, stage, place, plain(dict(data)))
            db.execute("INSERT INTO records (at, run, kind, stage, place, data) VALUES (?, ?, ?, ?, ?, ?)", row)

    def records(self, kind: str, stage: str, run: str | None = None) -> dict[str, Record]:
        """The newest record of a kind (of one run, where that is given) for each database of a stage."""
        rows = self._rows(
            "SELECT place, at, run, data FROM records WHERE id IN (SELECT MAX(id) FROM records"
            " WHERE kind=? AND stage=? AND (? IS NULL OR run=?) GROUP BY place) ORDER BY place",
            (kind, stage, run, run),
        )
        return {row["place"]: Record(row["at"], row["run"], json.loads(row["data"])) for row in rows}

    # Events

    def event(self, run: str, what: str) -> None:
        """An operator decided something, or the lock changed hands; `run` is "" where it is of no run."""
        with self._write() as db:
            told = (now(), run, getpass.getuser(), what)
            db.execute("INSERT INTO events (at, run, operator, what) VALUES (?, ?, ?, ?)", told)

    def events(self, run: str | None = None) -> list[dict[str, Any]]:
        """The events (of a run), oldest first: at, run, operator, what."""
        return self._rows("SELECT at, run, operator, what FROM events WHERE ? IS NULL OR run=? ORDER BY id", (run, run))
