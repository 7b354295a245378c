"""What is judged of a database before its schema is changed: does the change get through, and what does it to rows."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cellstep.check import derived
from cellstep.check.derived import DELETED, DUMP, Step
from cellstep.releases.model import Hazard, SchemaFact
from cellstep.schemas import Reference, reference
from tasks.differences import COLUMN, FOREIGN, KEY, TABLE, Difference, compare
from tasks.hazards import Question, Seen
from tasks.schemas import ForeignKey, Key, Schema, Table

NO_GO, WARNING, LOCAL, NOTE, OK = "no-go", "warning", "local", "note", "ok"
STATUSES = (NO_GO, WARNING, LOCAL, NOTE, OK)

# Kinds of questions.
DUPLICATES, CLASHES, ORPHANS, DROPPED, CHANGED, OWN = "duplicates", "clashes", "orphans", "dropped", "changed", "own"

LEFTOVERS = (DUMP, "shadow_")
PURGE_BATCH, PURGE_PAUSE_S = 1000, 0.1
"""As `cellstep keystone purge-tokens` does it."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        check: which check it is of.
        status: no-go (the change stops, or loses data), warning (know of it), local (the site's own: must be there
            afterwards), note (what the change does), ok (looked for, and not there).
        what: in words, the same in every database where it is the same.
        rows: how many rows it is about; None where that says nothing.
        remedy: what to do.
    """

    check: str
    status: str
    what: str
    rows: int | None = None
    remedy: str = ""


@dataclass(frozen=True)
class Expected:
    """What is known of a component's schema.

    Attributes:
        component: the component.
        fact: the release's data.
        head: the version that the site's own packages bring it to.
    """

    component: str
    fact: SchemaFact
    head: int

    def step(self, version: int | None) -> tuple[Reference, Reference] | None:
        """The references before and after; None where the change does not begin at that version, or none ship."""
        if version not in self.fact.start:
            return None
        before, after = reference(self.component, version), reference(self.component, self.head)
        return (before, after) if before and after else None

    def questions(self, live: Schema, version: int | None) -> list[Question]:
        """What is counted before the change."""
        found = self.step(version)
        return list(_questions(self.fact, Step(found[0].schema, found[1].schema), live)) if found else []


def _questions(fact: SchemaFact, step: Step, live: Schema) -> Iterator[Question]:
    for table, key in step.unique_keys():
        if _has(live, table, key.columns):
            yield from _of_unique_key(step, table, key)
    for table, foreign in step.foreign_keys():
        if _has(live, table, foreign.columns) and _has(live, foreign.table, foreign.targets):
            condition = derived.orphan(step, table, foreign)
            yield Question(ORPHANS, table, ", ".join(foreign.columns), derived.count(table, condition))
    dropped = [table for table in step.dropped if table in live.tables]
    own = sorted(live.tables.keys() - step.source.tables.keys())
    yield from (Question(DROPPED, table, "", derived.count(table)) for table in dropped)
    yield from (Question(OWN, table, "", derived.count(table)) for table in own)
    for change in fact.changes:
        if change.where is not None and change.table in live.tables:
            yield Question(CHANGED, change.table, str(change.at), derived.count(change.table, change.where))


def _of_unique_key(step: Step, table: str, key: Key) -> Iterator[Question]:
    """With the column `deleted`, live rows that are alike are marked as deleted before the key is made.

    Where that column changes its type, rows that are marked already get their ids there.
    """
    before, after = (schema.tables[table].columns.get(DELETED) for schema in (step.source, step.target))
    if DELETED in key.columns:
        yield Question(DUPLICATES, table, key.name, derived.live_duplicates(table, key))
    if DELETED not in key.columns or before == after:
        yield Question(CLASHES, table, key.name, derived.clashes(table, key))


def _has(live: Schema, table: str, columns: Iterable[str]) -> bool:
    return table in live.tables and set(columns) <= live.tables[table].columns.keys()


def judge(expected: Expected, seen: Seen) -> list[Finding]:
    """What was found in a database, the worst first."""
    found = expected.step(seen.head)
    if seen.head == expected.head:
        findings = list(_arrived(expected, seen))
    elif seen.head not in expected.fact.start:
        findings = [_stopped(expected, seen)]
    elif found is None:
        versions = f"{seen.head} to {expected.head}"
        findings = [Finding("reference", NO_GO, f"no reference ships to compare {expected.component} with: {versions}")]
    else:
        findings = list(_Judge(expected.fact, seen, *found))
    return sorted(findings, key=lambda finding: STATUSES.index(finding.status))


def _arrived(expected: Expected, seen: Seen) -> Iterator[Finding]:
    yield Finding("version", OK, f"at schema version {seen.head} already: there is nothing to change")
    after = reference(expected.component, expected.head)
    for each in compare(after.schema, seen.schema) if after else ():
        if each.one:
            yield Finding("reference", WARNING, f"{_otherwise(each)}, unlike {after}")
        else:
            yield Finding("local", LOCAL, f"{each.what} is the site's own")


def _stopped(expected: Expected, seen: Seen) -> Finding:
    start = " or ".join(map(str, expected.fact.start))
    if seen.head is None:
        return Finding("version", NO_GO, f"it tells no schema version of {expected.fact.repository_id}")
    words = f"at schema version {seen.head}, not at {start}"
    if not min(expected.fact.start) < seen.head < expected.head:
        return Finding("version", NO_GO, words, remedy="use the release data that begins at this version")
    return Finding("version", NO_GO, f"{words}: a change stopped part-way", remedy=after_stop(expected.fact, seen.head))


def after_stop(fact: SchemaFact, version: int) -> str:
    """What to do where a change has stopped at a version: by the known cause, else restore."""
    causes = [hazard for hazard in fact.hazards if hazard.stops_at == version]
    again = causes and all(hazard.rerun for hazard in causes)
    known = "; ".join(f"known to come of this: {hazard.name} ({hazard.error})" for hazard in causes)
    lost = "".join(f", and {hazard.loses}" for hazard in causes if hazard.loses)
    remedies = "; ".join(hazard.remedy for hazard in causes)
    if again:
        return f"{known}. Mend that ({remedies}), then run `{fact.sync}` again"
    after = f", then mend that before another try: {remedies}" if remedies else " before another try"
    return f"{f'{known}{lost}. ' if known else ''}Restore the dump{after}"


class _Judge:
    """The checks of a database that is still as before."""

    def __init__(self, fact: SchemaFact, seen: Seen, before: Reference, after: Reference) -> None:
        self.fact, self.seen, self.live = fact, seen, seen.schema
        self.before, self.after = before, after
        self.step = Step(before.schema, after.schema)
        self.differences = compare(before.schema, self.live)
        self.named: set[tuple[str, str, str]] = set()  # what a hazard of the release data has named: kind, table, name

    def __iter__(self) -> Iterator[Finding]:
        yield Finding(
            "version", OK, f"at schema version {self.seen.head}; compared with {self.before} and {self.after}"
        )
        for hazard in self.fact.hazards:
            yield from self._hazard(hazard)
        yield from self._in_the_way()
        yield from self._unlike_reference()
        yield from self._own()
        for question, answer in self.seen.answers.items():
            yield from self._counted(question, int(answer.split()[0]))
        for question, why in self.seen.refused.items():
            words = f"{question.kind} in {question.table} cannot be counted: {why}"
            yield Finding("rows", WARNING, words, remedy="see with a rehearsal what the change does to them")
        if self.seen.tokens is not None:
            yield self._tokens(self.seen.tokens.all, self.seen.tokens.expired)

    # What stops it

    def _hazard(self, hazard: Hazard) -> Iterator[Finding]:
        there = list(self._places_of(hazard))
        if not there:
            yield Finding("hazard", OK, f"not there: {hazard.name}")
        for detail in there:
            words = f"{hazard.name}{f': {detail}' if detail else ''}"
            loses = f"; {hazard.loses}" if hazard.loses else ""
            stops = f"`{self.fact.sync}` stops with {hazard.error} and leaves version {hazard.stops_at}{loses}"
            yield Finding("hazard", NO_GO, f"{words}: {stops}", remedy=hazard.remedy)

    def _places_of(self, hazard: Hazard) -> Iterator[str]:
        """Where a hazard is: details, or an empty text where its name says all."""
        if hazard.column:
            table, _, column = hazard.column.partition(".")
            self.named.add((COLUMN, table, column))
            if table in self.live.tables and column in self.live.tables[table].columns:
                yield ""
        elif hazard.table:
            self.named.add((TABLE, hazard.table, ""))
            if hazard.table in self.live.tables:
                yield ""
        elif hazard.refers_to:
            self.named.add((FOREIGN, hazard.refers_to, ""))
            yield from self._referring(hazard.refers_to)
        else:
            yield from (f"{access} ({why})" for access, why in self.seen.conflicts)

    def _referring(self, target: str) -> Iterator[str]:
        """Foreign keys that the reference has not and that refer to a table."""
        for each in self.differences:
            for table, foreign in self._foreign_keys(each):
                if foreign.table == target and not foreign.schema:
                    yield f"{table}.{', '.join(foreign.columns)}"
        for other in self.seen.outside:
            if other.target == target:
                yield f"{other.table}.{other.column} in the database {other.schema}"

    def _foreign_keys(self, each: Difference) -> Iterator[tuple[str, ForeignKey]]:
        """The foreign keys of a local table, or the local one of a known table."""
        if not each.other or each.table not in self.live.tables:
            return
        for foreign in self.live.tables[each.table].foreign.values():
            if (each.kind == TABLE and not each.one) or (each.kind == FOREIGN and str(foreign) == each.other):
                yield each.table, foreign

    def _in_the_way(self) -> Iterator[Finding]:
        """What the change makes, and is there already; what it takes away, and something of the site's own needs."""
        for name in sorted(self.after.schema.tables.keys() - self.before.schema.tables.keys()):
            if name in self.live.tables and (TABLE, name, "") not in self.named:
                yield self._there_already(f"table {name}", 1050)
        for before, after in self.step.both():
            yield from self._made_already(before, after, self.live.tables.get(before.name, Table(before.name)))
        for table in self.step.dropped:
            if (FOREIGN, table, "") not in self.named:
                for place in self._referring(table):
                    words = f"the foreign key {place} refers to {table}, which the change drops: it can stop there"
                    yield Finding("hazard", NO_GO, words, remedy="drop that foreign key")

    def _made_already(self, before: Table, after: Table, live: Table) -> Iterator[Finding]:
        for column in sorted((after.columns.keys() - before.columns.keys()) & live.columns.keys()):
            if (COLUMN, live.name, column) not in self.named:
                yield self._there_already(f"column {live.name}.{column}", 1060)
        for key in sorted((after.keys.keys() - before.keys.keys()) & live.keys.keys()):
            yield self._there_already(f"key {live.name}.{key}", 1061)

    def _there_already(self, what: str, errno: int) -> Finding:
        words = f"{what} exists already, and the change to {self.after.version} makes it: it can stop with {errno}"
        return Finding("hazard", NO_GO, words, remedy="save what is in it and take it away, or see with a rehearsal")

    # What is not as it should be

    def _unlike_reference(self) -> Iterator[Finding]:
        found = False
        changes = {(each.kind, each.table, each.name) for each in compare(self.before.schema, self.after.schema)}
        for each in self.differences:
            if not each.one:
                continue
            found = True
            touched = (each.kind, each.table, each.name) in changes or each.table in self.step.dropped
            words = f"{_otherwise(each)}, unlike {self.before}"
            if touched and not each.other:
                words += ": the change takes it away or alters it, and can stop there"
                yield Finding("reference", NO_GO, words, remedy="make it as the reference has it")
            else:
                yield Finding("reference", WARNING, words, remedy="see with a rehearsal whether the change minds")
        if not found:
            yield Finding("reference", OK, f"all tables, columns and keys of {self.before} are there")

    # What is the site's own

    def _own(self) -> Iterator[Finding]:
        made = compare(self.before.schema, self.after.schema)
        made_names = {(each.kind, each.table, each.name) for each in made if not each.one}
        for each in self.differences:
            if each.one or (each.kind, each.table, each.name) in made_names:
                continue
            if each.kind == TABLE:
                yield from self._own_table(self.live.tables[each.table])
            elif each.table in self.step.dropped:
                words = f"{each.what} is the site's own, and its table is dropped with it"
                yield Finding("local", NO_GO if each.kind == COLUMN else WARNING, words, remedy="save its data first")
            else:
                yield Finding("local", LOCAL, f"{each.what} is the site's own: {each.other}{self._loses(each)}")

    def _loses(self, each: Difference) -> str:
        """Columns of a local key that the change drops."""
        if each.kind != KEY:
            return ""
        table = each.table
        gone = self.before.schema.tables[table].columns.keys() - self.after.schema.tables[table].columns.keys()
        lost = sorted(gone & set(self.live.tables[table].keys[each.name].columns))
        return f"; the change drops its column {', '.join(lost)}" if lost else ""

    def _own_table(self, table: Table) -> Iterator[Finding]:
        rows = next((int(n) for q, n in self.seen.answers.items() if (q.kind, q.table) == (OWN, table.name)), None)
        if table.name.startswith(LEFTOVERS):
            words = f"table {table.name} is left over: no release makes it"
            yield Finding("leftover", WARNING, words, rows, "look what is in it, and drop it or rename it")
            return
        engine = "" if table.engine == "InnoDB" else f", in {table.engine}: a dump does not have it of the same moment"
        yield Finding("local", LOCAL, f"table {table.name} is the site's own{engine}", rows)

    # Rows

    def _counted(self, question: Question, rows: int) -> Iterator[Finding]:
        table, key = question.table, question.name
        if question.kind == DUPLICATES:
            words = f"{table}: older rows that are the same to {key}"
            yield _if_any(Finding("duplicates", WARNING, f"{words} will be marked as deleted", rows), f"none: {words}")
        elif question.kind == CLASHES:
            words = f"{table}: rows that the unique key {key} cannot hold"
            yield _if_any(
                Finding("duplicates", NO_GO, f"{words}: it can stop with 1062", rows, "make them differ"),
                f"none: {words}",
            )
        elif question.kind == ORPHANS:
            words = f"{table}: rows whose {key} has no parent"
            moved = Finding("orphans", WARNING, f"{words} will be moved into {DUMP}{table}", rows)
            stop = "the new foreign key cannot hold them"
            stays = Finding("orphans", WARNING, f"{words}: {stop}", rows, "see with a rehearsal what the change does")
            yield _if_any(moved if self.step.moves(table) else stays, f"none: {words}")
        elif question.kind == DROPPED:
            words = f"table {table} will be dropped"
            dropped = Finding("dropped", WARNING, f"{words} with its rows", rows, "save what is still wanted")
            yield _if_any(dropped, f"{words}; it is empty")
        elif question.kind == CHANGED:
            change = next(c for c in self.fact.changes if (c.table, str(c.at)) == (table, key))
            yield _if_any(Finding("rows", NOTE, f"{table}: rows that {change.what} by {key}", rows), f"none in {table}")

    def _tokens(self, number: int, expired: int) -> Finding:
        batches = -(-expired // PURGE_BATCH)
        words = (
            f"{expired:,} of {number:,} tokens have expired" if expired else f"none of {number:,} tokens has expired"
        )
        takes = f"{batches:,} batches, with {batches * PURGE_PAUSE_S:,.0f} s of pauses at least"
        remedy = f"`cellstep keystone purge-tokens` takes {takes}" if expired else ""
        return Finding("tokens", NOTE if expired else OK, words, expired, remedy)


def _if_any(finding: Finding, otherwise: str) -> Finding:
    return finding if finding.rows else Finding(finding.check, OK, otherwise, 0)


def _otherwise(each: Difference) -> str:
    return f"{each.what} is missing" if not each.other else f"{each.what} is {each.other}, not {each.one}"
