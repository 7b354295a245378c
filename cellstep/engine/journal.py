"""The journal of a cloud: which run did what to which node, written before and after; what is held, and what missed."""

import getpass
import json
import os
import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from typing import Any

import cellstep
from cellstep.engine.ledgers import Ledgers
from cellstep.engine.store import now, plain, seconds_between
from tasks.binding import Command

STATES = ("ok", "changed", "failed", "unreachable", "skipped", "quarantined", "not_run", "unknown")
"""What can become of a node in a step."""

UNFINISHED = frozenset({"running", "stopped", "interrupted", "error"})
"""States of a run that `resume` goes on with; the others are complete, superseded, abandoned, backed-out."""

DONE = frozenset({"ok", "changed", "skipped"})
"""States after which a resumed step need not go to the node again."""


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
    version: str
    machine: str
    pid: int

    @property
    def whole(self) -> bool:
        """All steps on all nodes: not a single step, begun in the middle, for some nodes only, or to lift holds."""
        return not any(self.options.get(name) for name in ("step", "limit", "from", "holds"))


# In the order they were begun: two runs may begin in one millisecond, and a clock may be set back.
_RUNS = (
    "SELECT id, stage, operator, release, plan_digest, options, output, started_at, finished_at, state, exit_code,"
    " message, version, machine, pid FROM runs WHERE (? IS NULL OR stage=?) ORDER BY rowid DESC"
)


@dataclass(frozen=True)
class StepTime:
    """What a step of a run took.

    Attributes:
        nodes: how many have ended well.
        skipped: on how many of those there was nothing to do.
        seconds: in which at least one of its nodes was busy.
    """

    nodes: int
    skipped: int
    seconds: float


# Nodes that began in the same minute are one row, which is quick for thousands of them.
_STEP_TIMES = (
    "SELECT title, SUM(state IN ('ok', 'changed', 'skipped')) AS nodes, SUM(state='skipped') AS skipped,"
    " MIN(started_at) AS since, MAX(finished_at) AS until FROM host_steps"
    " WHERE run=? AND title IN (SELECT value FROM json_each(?)) AND started_at IS NOT NULL AND finished_at IS NOT NULL"
    " GROUP BY title, substr(started_at, 1, 16) ORDER BY title, since"
)


class Journal(Ledgers):
    """Runs, their steps, and what came of each node in each step."""

    # Runs

    def begin_run(
        self,
        stage: str,
        release: str,
        plan_digest: str,
        options: Mapping[str, Any],
        plan: Sequence[Mapping[str, Any]] = (),
        state: str = "running",
    ) -> str:
        """Write a new run and return its id, which sorts by time."""
        base = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        with self._write() as db:
            taken = {row["id"] for row in db.execute("SELECT id FROM runs WHERE id LIKE ?", (base + "%",))}
            run = next(name for n in range(1, 1000) if (name := base if n == 1 else f"{base}-{n}") not in taken)
            us = (getpass.getuser(), cellstep.__version__, socket.gethostname(), os.getpid())
            texts = (plain(dict(options)), plain(list(plan)))
            db.execute(
                "INSERT INTO runs (id, stage, release, plan_digest, started_at, state, operator, version, machine, pid,"
                " options, plan) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (run, stage, release, plan_digest, now(), state, *us, *texts),
            )
        return run

    def set_output(self, run: str, folder: str) -> None:
        """Where the run's reports go."""
        with self._write() as db:
            db.execute("UPDATE runs SET output=? WHERE id=?", (folder, run))

    def plan_of(self, run: str) -> list[dict[str, Any]]:
        """The plan's lines as they were when the run began or a change was last accepted."""
        rows = self._rows("SELECT plan FROM runs WHERE id=?", (run,))
        lines: list[dict[str, Any]] = json.loads(rows[0]["plan"]) if rows else []
        return lines

    def accept_plan(self, run: str, plan_digest: str, plan: Sequence[Mapping[str, Any]]) -> None:
        """The operator accepted another plan than the run began with."""
        with self._write() as db:
            db.execute("UPDATE runs SET plan_digest=?, plan=? WHERE id=?", (plan_digest, plain(list(plan)), run))

    def reopen_run(self, run: str) -> None:
        """A run goes on, in this process."""
        with self._write() as db:
            db.execute(
                "UPDATE runs SET state='running', finished_at=NULL, exit_code=NULL, message='', version=?, machine=?,"
                " pid=? WHERE id=?",
                (cellstep.__version__, socket.gethostname(), os.getpid(), run),
            )

    def end_run(self, run: str, state: str, exit_code: int | None, message: str = "") -> None:
        """A run stopped (`stopped`, `interrupted`: without an exit code, `error`), is `complete` or `abandoned`."""
        with self._write() as db:
            db.execute(
                "UPDATE runs SET state=?, exit_code=?, message=?, finished_at=? WHERE id=?",
                (state, exit_code, message, now(), run),
            )

    def last_run(self, stage: str | None = None, *, whole: bool = False) -> RunRecord | None:
        """The newest run (of a stage); `whole` leaves out those made of single steps or for some nodes only."""
        return next((record for record in self.runs(stage) if record.whole or not whole), None)

    def unfinished_run(self, stage: str | None = None, *, whole: bool = False) -> RunRecord | None:
        """The newest run (of a stage) that is not complete, and that no newer one was begun afresh in place of."""
        open_runs = (record for record in self.runs(stage) if record.state in UNFINISHED)
        return next((record for record in open_runs if record.whole or not whole), None)

    def supersede_runs(self, stage: str) -> None:
        """Runs of a stage that are not complete will not be gone on with: a new one begins in their place."""
        with self._write() as db:
            for record in self.runs(stage):
                if record.state in UNFINISHED:
                    db.execute("UPDATE runs SET state='superseded' WHERE id=?", (record.id,))

    def runs(self, stage: str | None = None) -> Iterator[RunRecord]:
        """The runs (of a stage), newest first."""
        for row in self._rows(_RUNS, (stage, stage)):
            yield RunRecord(**{**row, "options": json.loads(row["options"])})

    # Steps and hosts

    def begin_step(self, run: str, number: int, title: str, hosts: Iterable[tuple[str, str]]) -> None:
        """A step begins: each of its (cell, host) that has no outcome yet is `not_run`."""
        with self._write() as db:
            db.execute(
                "INSERT INTO steps (run, number, title, state, started_at) VALUES (?, ?, ?, 'running', ?)"
                " ON CONFLICT (run, title) DO UPDATE SET state='running', finished_at=NULL, number=excluded.number",
                (run, number, title, now()),
            )
            db.executemany(
                "INSERT INTO host_steps (run, title, cell, host, state, attempts) VALUES (?, ?, ?, ?, 'not_run', 0)"
                " ON CONFLICT (run, title, host) DO NOTHING",
                [(run, title, cell, host) for cell, host in hosts],
            )

    def end_step(self, run: str, title: str, state: str, note: str = "") -> None:
        """A step ended: `done`, `empty` or `stopped`."""
        with self._write() as db:
            db.execute(
                "UPDATE steps SET state=?, note=?, finished_at=? WHERE run=? AND title=?",
                (state, note, now(), run, title),
            )

    def steps(self, run: str) -> list[dict[str, Any]]:
        """The run's steps so far, in order."""
        return self._rows("SELECT * FROM steps WHERE run=? ORDER BY number", (run,))

    def start_hosts(self, run: str, title: str, hosts: Mapping[str, int]) -> None:
        """Something is about to be sent to nodes, each with its try's generation: `unknown` until an outcome comes."""
        with self._write() as db:
            db.executemany(
                "UPDATE host_steps SET generation=?, state='unknown', attempts=attempts+1, started_at=?,"
                " finished_at=NULL, detail='' WHERE run=? AND title=? AND host=?",
                [(generation, now(), run, title, host) for host, generation in hosts.items()],
            )

    def end_hosts(
        self,
        run: str,
        title: str,
        outcomes: Iterable[tuple[str, str, str]],
        commands: Iterable[tuple[str, int, Command]] = (),
        lifted: str = "",
    ) -> None:
        """What came of nodes: (host, state, detail), and the commands (host, generation, command) that they were sent.

        `lifted` is the hold that good outcomes end, in the same transaction.
        """
        ended = list(outcomes)
        with self._write() as db:
            time = now()
            db.executemany(
                "UPDATE host_steps SET state=?, detail=?, finished_at=? WHERE run=? AND title=? AND host=?",
                [(state, detail, time, run, title, host) for host, state, detail in ended],
            )
            db.executemany(
                "INSERT INTO commands VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(run, title, host, generation, time, *astuple(command)) for host, generation, command in commands],
            )
            if lifted:
                db.executemany(
                    "UPDATE holds SET lifted_at=? WHERE name=? AND host=? AND lifted_at IS NULL",
                    [(time, lifted, host) for host, state, _ in ended if state in DONE],
                )

    def hosts(self, run: str, title: str | None = None) -> list[dict[str, Any]]:
        """Rows for the table `hosts`: step, cell, host, state, attempts, times, detail, generation."""
        return self._rows(
            "SELECT h.title AS step, h.cell, h.host, h.state, h.attempts, h.started_at, h.finished_at, h.detail,"
            " h.generation FROM host_steps h JOIN steps s ON s.run=h.run AND s.title=h.title"
            " WHERE h.run=? AND (? IS NULL OR h.title=?) ORDER BY s.number, h.rowid",
            (run, title, title),
        )

    def counts(self, run: str) -> dict[str, dict[str, int]]:
        """Nodes by state, for each step of the run so far."""
        found: dict[str, Counter[str]] = {}
        for row in self._rows(
            "SELECT title, state, COUNT(*) AS n FROM host_steps WHERE run=? GROUP BY title, state", (run,)
        ):
            found.setdefault(row["title"], Counter())[row["state"]] = row["n"]
        return {title: {state: of[state] for state in STATES if of[state]} for title, of in found.items()}

    def step_times(self, run: str, titles: Iterable[str]) -> dict[str, StepTime]:
        """What these steps of the run took so far. The time in which nothing was under way is not in it."""
        found: dict[str, StepTime] = {}
        until = ""
        for row in self._rows(_STEP_TIMES, (run, plain(list(titles)))):
            sofar = found.get(row["title"], StepTime(0, 0, 0.0))
            until = until if row["title"] in found else ""
            since, until = max(row["since"], until), max(row["until"], until)
            seconds = sofar.seconds + seconds_between(since, until)
            found[row["title"]] = StepTime(sofar.nodes + row["nodes"], sofar.skipped + row["skipped"], seconds)
        return found

    def unknown_hosts(self, run: str) -> dict[str, list[str]]:
        """Nodes to which something was sent and of which nothing more is known, by step."""
        found: dict[str, list[str]] = {}
        for row in self._rows("SELECT title, host FROM host_steps WHERE run=? AND state='unknown'", (run,)):
            found.setdefault(row["title"], []).append(row["host"])
        return found

    def uncertain(self) -> set[str]:
        """Nodes that some run, whatever became of it, left unknown, and that have not answered well since."""
        return {
            row["host"]
            for row in self._rows(
                "SELECT DISTINCT u.host FROM host_steps u WHERE u.state='unknown' AND NOT EXISTS (SELECT 1 FROM"
                " host_steps d WHERE d.host=u.host AND d.state IN ('ok', 'changed', 'skipped')"
                " AND d.started_at > u.started_at)"
            )
        }

    def commands(self, run: str, title: str | None = None, host: str | None = None) -> list[dict[str, Any]]:
        """The commands that changed a node (or tried to), in the order in which their outcome came in."""
        return self._rows(
            "SELECT * FROM commands WHERE run=? AND (? IS NULL OR title=?) AND (? IS NULL OR host=?) ORDER BY rowid",
            (run, title, title, host, host),
        )
