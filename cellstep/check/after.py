"""What is judged of a database after its schema was changed: the release's schema, and what the site had of its own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cellstep.check import derived
from cellstep.check.before import ORPHANS, Expected
from cellstep.check.derived import DELETED, DUMP, Step
from cellstep.schemas import reference
from tasks import schemas
from tasks.differences import COLUMN, TABLE, Difference, compare
from tasks.hazards import Question, Seen
from tasks.schemas import Schema

# Kinds of questions, beside those of before.
ROWS, DIGEST, EMPTY = "rows", "digest", "empty"


@dataclass(frozen=True)
class Row:
    """One thing that was compared; the statuses are those of `reports.tables.schemas`."""

    check: str
    what: str
    status: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Before:
    """A database as it was before its schema was changed.

    Attributes:
        head: its schema version.
        schema: its tables.
        answers: what was counted, by the kind, table and name of the question.
    """

    head: int
    schema: Schema
    answers: Mapping[tuple[str, str, str], str] = field(default_factory=dict)

    @classmethod
    def of(cls, seen: Seen) -> "Before":
        """What a database said; its version is known."""
        answers = {(q.kind, q.table, q.name): answer for q, answer in seen.answers.items()}
        return cls(seen.head or 0, seen.schema, answers)

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> "Before":
        """The opposite of `data`."""
        answers = {(kind, table, name): answer for kind, table, name, answer in data["answers"]}
        return cls(data["head"], schemas.parse(data["schema"]), answers)

    def data(self) -> dict[str, Any]:
        """It as plain JSON values."""
        return {
            "head": self.head,
            "schema": str(self.schema),
            "answers": [[*question, answer] for question, answer in self.answers.items()],
        }


@dataclass(frozen=True)
class After:
    """The comparison of one database.

    Attributes:
        expected: what is known of the component's schema.
        before: how the database was; None where that is not known.
        quiet: nothing has written to it since but the change: rows and data are compared, too.
    """

    expected: Expected
    before: Before | None = None
    quiet: bool = False

    # What is asked

    @staticmethod
    def questions_before(expected: Expected, live: Schema, version: int | None) -> list[Question]:
        """What is counted before, while nothing writes to the database: rows, and the data that is the site's own."""
        found = expected.step(version)
        if not found:
            return []
        step = Step(found[0].schema, found[1].schema)
        return [*expected.questions(live, version), *_rows(live), *_digests(step, live, live, moved=False)]

    def questions(self, live: Schema, _version: int | None) -> list[Question]:
        """What is counted afterwards."""
        asked = []
        for place in self.expected.fact.filled:
            table, _, column = place.partition(".")
            if table in live.tables and column in live.tables[table].columns:
                alive = f"a.{DELETED} = 0 AND " if DELETED in live.tables[table].columns else ""
                empty = f"(a.{derived.name(column)} IS NULL OR a.{derived.name(column)} = '')"
                asked.append(Question(EMPTY, table, column, derived.count(table, alive + empty)))
        if self.before and self.step and self.quiet:
            asked += [*_rows(live), *_digests(self.step, self.before.schema, live, moved=True)]
        return asked

    @cached_property
    def step(self) -> Step | None:
        """The references before and after, by the version of before."""
        found = self.expected.step(self.before.head) if self.before else None
        return Step(found[0].schema, found[1].schema) if found else None

    # What is found

    def rows(self, seen: Seen) -> list[Row]:
        """Everything that was compared; what is as the release has it is one row for each check."""
        found = [self._version(seen), *self._schema(seen), *self._filled(seen)]
        if self.before and self.step:
            found += self._own(self.before, self.step, seen)
            if self.quiet:
                found += self._rows(self.before, self.step, seen)
        found += [
            Row("rows", f"{question.kind} of {question.table}", "unknown", after=why)
            for question, why in seen.refused.items()
        ]
        return found

    def rows_back(self, seen: Seen) -> list[Row]:
        """As `rows`, where the change was taken back: all should be as it was before."""
        start = " or ".join(map(str, [self.before.head] if self.before else self.expected.fact.start))
        status = "ok" if str(seen.head) in start.split(" or ") else "wrong"
        found = [Row("version", f"schema version {start}", status, "", str(seen.head))]
        known = reference(self.expected.component, seen.head or 0)
        meant = self.before.schema if self.before else known.schema if known else seen.schema
        for each in compare(meant, seen.schema):
            own = not each.one and self.before is None
            status = "own" if own else "unexpected" if not each.one else "other" if each.other else "missing"
            found.append(Row("local" if own else "reference", each.what, status, each.one, each.other))
        if all(row.check != "reference" for row in found):
            found.append(Row("reference", "all tables, columns and keys of before", "ok"))
        return found

    def _version(self, seen: Seen) -> Row:
        status = "ok" if seen.head == self.expected.head else "wrong"
        was = str(self.before.head) if self.before else ""
        return Row("version", f"schema version {self.expected.head}", status, was, str(seen.head))

    def _schema(self, seen: Seen) -> Iterator[Row]:
        target = reference(self.expected.component, self.expected.head)
        if target is None:
            yield Row("reference", f"no reference of {self.expected.component} ships", "unknown")
            return
        unlike = compare(self.step.source, self.before.schema) if self.step and self.before else ()
        known = {_same(each) for each in unlike}
        # The tables for rows without a parent have the columns of those that the rows come from.
        known |= {(COLUMN, DUMP + each.table, each.name, each.other) for each in unlike if each.kind == COLUMN}
        as_it_should = True
        for each in compare(target.schema, seen.schema):
            if not each.one and (self.before is None or _same(each) in known):
                if self.before is None:
                    yield Row("local", each.what, "own", after=each.other)
                continue
            as_it_should = False
            status = "as before" if _same(each) in known else "unexpected" if not each.one else ""
            yield Row("reference", each.what, status or ("other" if each.other else "missing"), each.one, each.other)
        if as_it_should:
            yield Row("reference", f"all tables, columns and keys of {target}", "ok")

    def _filled(self, seen: Seen) -> Iterator[Row]:
        for question, answer in seen.answers.items():
            if question.kind == EMPTY:
                what, number = f"every live row of {question.table} has a {question.name}", int(answer)
                yield Row("filled", what, "empty" if number else "ok", after=f"{number} without" if number else "")

    def _own(self, before: Before, step: Step, seen: Seen) -> Iterator[Row]:
        """What the site had of its own: it must be there, with its data."""
        there = {_same(each) for each in compare(step.target, seen.schema)}
        after = Before.of(seen).answers
        for each in _locals(step, before.schema):
            if each.kind != TABLE and each.table in step.dropped:
                yield Row("local", each.what, "lost", each.other)
                continue
            data = [key for key in before.answers if key[0] == DIGEST and key[1] == each.table]
            data = [
                key for key in data if each.kind == TABLE or (each.kind == COLUMN and each.name in key[2].split(", "))
            ]
            one, other = (" ".join(answers.get(key, "") for key in data) for answers in (before.answers, after))
            one, other = (_words(text) for text in (one, other))
            compared = bool(self.quiet and one)
            status = "kept" if _same(each) in there and (not compared or one == other) else "lost"
            gone = "" if _same(each) in there else "gone"
            yield Row("local", each.what, status, one if compared else "", gone or (other if compared else ""))

    def _rows(self, before: Before, step: Step, seen: Seen) -> Iterator[Row]:
        """Rows of the release's tables: as many as before, but for what the release's data says."""
        now = {question.table: int(answer) for question, answer in seen.answers.items() if question.kind == ROWS}
        free = {change.table for change in self.expected.fact.changes} | {"migrate_version"}
        same = 0
        for table, rows in sorted(now.items()):
            if table in free or table not in step.target.tables:
                continue
            expected = _expected_rows(before, step, table)
            if expected is None or rows in expected:
                same += 1
            else:
                meant = " or ".join(f"{number:,}" for number in sorted({expected[0], expected[-1]}))
                yield Row("rows", f"rows of {table}", "changed", meant, f"{rows:,}")
        yield Row("rows", f"{same:,} tables with the rows that the release leaves in them", "ok")


def _rows(live: Schema) -> Iterator[Question]:
    for table in sorted(live.tables):
        yield Question(ROWS, table, "", derived.count(table))


def _digests(step: Step, before: Schema, live: Schema, *, moved: bool) -> Iterator[Question]:
    """The data that is the site's own: its tables whole, its columns with the primary key.

    Args:
        step: the change.
        before: the schema before.
        live: the schema that is asked.
        moved: rows without a parent have been moved; else they do not count.
    """
    columns: dict[str, list[str]] = {}
    for each in _locals(step, before):
        if each.kind == TABLE:
            columns[each.table] = list(before.tables[each.table].columns)
        elif each.kind == COLUMN and each.table not in step.dropped:
            columns.setdefault(each.table, list(before.tables[each.table].primary)).append(each.name)
    for table, names in columns.items():
        if table in live.tables and set(names) <= live.tables[table].columns.keys():
            without = "" if moved or not step.moves(table) else derived.orphans(step, table)
            yield Question(DIGEST, table, ", ".join(names), derived.digest(live.tables[table], names, without))


def _locals(step: Step, before: Schema) -> list[Difference]:
    """What a database had that neither release has."""
    made = {(each.kind, each.table, each.name) for each in compare(step.source, step.target) if not each.one}
    found = compare(step.source, before)
    return [each for each in found if not each.one and (each.kind, each.table, each.name) not in made]


def _expected_rows(before: Before, step: Step, table: str) -> Sequence[int] | None:
    """How many rows a table may have afterwards; None where that is not known."""
    if table.startswith(DUMP) and table.removeprefix(DUMP) in step.source.tables:
        return [_moved(before, table.removeprefix(DUMP))]
    was = before.answers.get((ROWS, table, ""))
    if was is None:
        return None
    moved = _moved(before, table)
    return [int(was) - moved] if step.moves(table) else range(int(was) - moved, int(was) + 1)


def _moved(before: Before, table: str) -> int:
    """Rows without a parent before; a table with several new foreign keys has them under each."""
    return sum(int(n) for (kind, of, _), n in before.answers.items() if (kind, of) == (ORPHANS, table))


def _same(each: Difference) -> tuple[str, str, str, str]:
    return each.kind, each.table, each.name, each.other


def _words(digest: str) -> str:
    rows, _, checksum = digest.partition(" ")
    return f"{int(rows):,} row{'' if rows == '1' else 's'}, checksum {checksum}" if rows else ""
