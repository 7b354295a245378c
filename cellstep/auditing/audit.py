"""An audit from beginning to end."""

import contextlib
import fcntl
import gc
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cellstep import continuity, reporting
from cellstep.auditing import asking, judging, kept
from cellstep.auditing.asking import Lists, Scope
from cellstep.auditing.kept import Kept
from cellstep.baseline import Baseline
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.cloud.select import select, with_databases
from cellstep.engine.dispatch import Dispatcher, Errand
from cellstep.engine.journal import Journal
from cellstep.engine.lock import Lock
from cellstep.engine.store import now
from cellstep.errors import Locked, UsageError
from reports.story import Changes, Trend
from tasks.evidence import Inquiry
from tasks.traces import earlier

if TYPE_CHECKING:
    import pandas as pd

LOOK_EVERY_S = 1.0
"""Seconds between two looks at whether a run has begun."""


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        name: `audit-20260131T020304Z`.
        tables: by name.
        folder: where the files are.
        silent: nodes that could not be asked, with the reason.
        deaf: `NODE: COMPONENT` of databases that did not answer, with the reason.
        changes: since the audit before; None for the first one, and where only some nodes or tables were asked.
        compliant: every table as it should be, and everything answered.
        scope: how far the upgrade is.
        seconds: how long the asking took.
        notes: what else is to be known, a line each.
        tones: nodes by state, of `reports.judgement.STATES`.
        made_at: when, in seconds since 1970.
    """

    name: str
    tables: "dict[str, pd.DataFrame]"
    folder: Path
    silent: dict[str, str]
    deaf: dict[str, str]
    changes: Changes | None
    compliant: bool
    scope: Scope
    seconds: float
    notes: list[str] = field(default_factory=list)
    tones: dict[str, int] = field(default_factory=dict)
    made_at: float = 0.0


def audit(
    cloud: Cloud,
    journal: Journal,
    *,
    tables: Sequence[str] = (),
    limit: str = "",
    output: Path | None = None,
    ended: Callable[[int], None] = lambda _: None,
) -> Audit:
    """Ask the whole cloud and its databases, compare, write the report, keep the audit. Nothing is changed anywhere.

    Args:
        cloud: the cloud.
        journal: its journal, read only.
        tables: of `asking.TABLES`: only these; all of them if empty.
        limit: only these nodes.
        output: the folder for reports, None for `out/` beside cloud.yaml.
        ended: told how many nodes have answered, or have not, since the last call.

    Raises:
        UsageError: no such table or node.
        Locked: a run, or another audit, is under way; or a run began meanwhile.
    """
    unknown = sorted(set(tables) - set(asking.TABLES))
    if unknown:
        raise UsageError(f"there is no table “{unknown[0]}”; the tables of an audit: {', '.join(asking.TABLES)}")
    nodes: tuple[Node, ...] = tuple(select(cloud, limit)) if limit else cloud.nodes
    wanted = tuple(tables) or (asking.NODE_TABLES if limit else asking.TABLES)
    cloud.database_password()
    with _alone(cloud), _collecting_rarely():
        name = _name(cloud)
        scope = Scope.of(cloud, journal)
        whole = not limit and not tables
        last, trend, notes = kept.before(cloud)
        windows = _windows(cloud, last)
        asked = with_databases(cloud, nodes, top=not set(wanted) <= set(asking.NODE_TABLES))
        questions = asking.inquiries(cloud, scope, asked, wanted, windows)
        began = time.monotonic()
        heard = _ask(cloud, asked, questions, ended)
        seconds = time.monotonic() - began
        baseline = _baseline(cloud, last)
        made = judging.tables_of(cloud, scope, nodes, heard, baseline, wanted, journal.all_open_holds())
        found = _Found(cloud, name, scope, made, heard.silent, heard.deaf, seconds, notes)
        lists = asking.lists(cloud.nodes, heard) if whole else {}
        lists = asking.carried(lists, last.lists, _missing(made)) if whole and last else lists
        del heard, questions, baseline  # of thousands of nodes, and the reports need room
        return found.written(output, last if whole else None, trend if whole else [], nodes, lists, whole=whole)


@contextlib.contextmanager
def _collecting_rarely() -> Iterator[None]:
    """Answers of thousands of hosts live to the end: to look through them for garbage takes a fifth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _warm() -> None:
    """What the report is made with: loaded while nodes are asked, it does not keep the operator waiting afterwards."""
    import reports.page  # noqa: PLC0415
    import reports.workbook  # noqa: F401, PLC0415


@contextlib.contextmanager
def _alone(cloud: Cloud) -> Iterator[None]:
    """No run is under way, and no other audit.

    Raises:
        Locked: there is one.
    """
    _refuse_beside_a_run(cloud)
    path = cloud.directory / "state" / "audit.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked("another audit of this cloud is under way: wait for it") from None
        yield


def _refuse_beside_a_run(cloud: Cloud) -> None:
    holder, alive = Lock(cloud.directory / "state" / "lock").holder()
    if alive:
        raise Locked(f"no audit beside a run, which it must not disturb: {holder or 'somebody'} holds the cloud")


def _ask(
    cloud: Cloud,
    nodes: Sequence[Node],
    questions: "dict[str, Inquiry]",
    ended: Callable[[int], None],
) -> asking.Heard:
    """Ask; where a run begins meanwhile nothing more is asked.

    Raises:
        Locked: a run began.
    """
    begun = threading.Event()
    done = threading.Event()
    lock = Lock(cloud.directory / "state" / "lock")

    def look() -> None:
        while not done.wait(LOOK_EVERY_S):
            if lock.holder()[1]:
                begun.set()
                return

    looking = threading.Thread(target=look, name="audit-lock", daemon=True)
    looking.start()
    threading.Thread(target=_warm, name="audit-imports", daemon=True).start()
    try:
        with Dispatcher(cloud) as dispatcher:
            errand = Errand(ended=lambda outcomes: ended(len(outcomes)), enough=begun.is_set)
            heard = asking.ask(dispatcher, nodes, questions, errand)
    finally:
        done.set()
        looking.join()
    if begun.is_set():
        raise Locked("a run has begun: the audit has stopped asking, and is made another time")
    return heard


def _name(cloud: Cloud) -> str:
    """A name that no audit has; two in one second have a number."""
    base = reporting.dated("audit")
    taken = set(kept.names(cloud))
    return next(name for n in range(1, 1000) if (name := base if n == 1 else f"{base}-{n}") not in taken)


def _windows(cloud: Cloud, last: Kept | None) -> dict[str, str]:
    """Since when differences are explained: the audit before, by the clock of each database's node."""
    if last is None:
        return {}
    known = {row["host"]: row["since"] for row in last.lists.get("windows", ())}
    stores = [node.name for node in cloud.nodes if "database" in node.roles]
    return {name: earlier(known.get(name, last.at), continuity.slack(cloud)) for name in stores}


def _baseline(cloud: Cloud, last: Kept | None) -> Baseline:
    if last is None:
        return Baseline()
    lists = last.lists
    saved = frozenset(last.nodes) - last.silent.keys()
    return Baseline(
        volumes=lists.get("volumes"),
        guests=lists.get("guests"),
        instances=lists.get("instances"),
        images=lists.get("images"),
        saved=saved & {node.name for node in cloud.nodes},
    )


MISSING = {"guests": ("uuid", {"lost", "unreachable"}), "volumes": ("id", {"lost"}), "images": ("id", {"missing"})}
"""Table to the column that names a thing, and the statuses of one that is not there."""


def _missing(tables: "dict[str, pd.DataFrame]") -> dict[str, set[str]]:
    return {
        name: set(tables[name].loc[tables[name]["status"].isin(statuses), key])
        for name, (key, statuses) in MISSING.items()
        if name in tables
    }


@dataclass
class _Found:
    cloud: Cloud
    name: str
    scope: Scope
    tables: "dict[str, pd.DataFrame]"
    silent: dict[str, str]
    deaf: dict[str, str]
    seconds: float
    notes: list[str]

    def written(
        self,
        output: Path | None,
        last: Kept | None,
        trend: Sequence[Trend],
        nodes: Sequence[Node],
        lists: Lists,
        *,
        whole: bool,
    ) -> Audit:
        """Write the report and keep the audit: the whole of it, or only the report where it was of some nodes."""
        from reports.judgement import states  # noqa: PLC0415 - brings pandas, 0.6 s

        cloud = self.cloud
        at = now()
        facts = {"cloud": cloud.config.name, "release": cloud.release.name, **self.scope.words(), "written": at}
        if self.deaf:
            facts["databases that gave no answer"] = "\n".join(f"{what}: {why}" for what, why in self.deaf.items())
        story = reporting.story(cloud, f"Audit of {cloud.config.name}", facts, silent=self.silent)
        found = states(self.tables, story.nodes, story.silent)
        tones: dict[str, int] = {}
        for state in found.values():
            tones[state.tone] = tones.get(state.tone, 0) + 1
        names = tuple(node.name for node in nodes)
        mine = Kept(self.name, at, names, self.silent, tones, kept.pack(self.tables), lists)
        changes = _changes(cloud, last, mine) if whole else None
        story = reporting.with_changes(story, changes, [*trend, mine.trend] if whole else [])
        folder = reporting.output_folder(cloud.directory, output, self.name)
        where = reporting.write(folder, "audit", self.tables, story)
        if whole:
            kept.save(cloud, mine)
            if output is None:
                kept.prune_reports(cloud, folder.parent)
        compliant = not self.silent and not self.deaf and reporting.compliant(self.tables)
        return Audit(
            self.name,
            self.tables,
            where,
            self.silent,
            self.deaf,
            changes,
            compliant,
            self.scope,
            self.seconds,
            self.notes,
            tones,
            time.time(),
        )


def _changes(cloud: Cloud, last: Kept | None, this: Kept) -> Changes | None:
    return None if last is None else compare(cloud, last, this)


def compare(cloud: Cloud, older: Kept, newer: Kept) -> Changes:
    """What is another in the newer audit."""
    from reports.drift import changes  # noqa: PLC0415 - brings pandas, 0.6 s

    return changes(older.side(), newer.side(), f"the audit of {older.at}", cloud.fold)


def problems(changes: Changes | None) -> Collection[str]:
    """The lines that somebody should be told: what is worse or new, and not as it should be."""
    rows = changes.rows if changes else ()
    return [
        f"{row.where}: {row.text}" if row.where else f"{row.table}: {row.text}"
        for row in rows
        if row.kind in {"worse", "new"} and row.tone in {"bad", "silent", "warn"}
    ]
