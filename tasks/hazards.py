"""What a database is asked before its schema is changed, and after: tables, version, and rows that are counted."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nornir.core.task import Result, Task

from plugins.connections.errors import CommandTimeout, DatabaseError
from tasks import databases, schemas
from tasks.holds import unchanged
from tasks.keystone import ec2, tokens
from tasks.keystone.keys import CONFLICT
from tasks.schemas import Schema

# Foreign keys of other databases on the server that refer to this one.
_OUTSIDE = """
SELECT table_schema AS of_schema, table_name AS tbl, column_name AS col, referenced_table_name AS target
FROM information_schema.key_column_usage
WHERE referenced_table_schema = %s AND table_schema <> %s ORDER BY 1, 2, 3"""


@dataclass(frozen=True)
class Question:
    """Something that is counted.

    Attributes:
        kind: what for; the same question before and after has the same kind, table and name.
        table: the table that it is about.
        name: of a key, say; "" where the table says all.
        sql: gives one row.
    """

    kind: str
    table: str
    name: str
    sql: str = field(compare=False)


@dataclass(frozen=True)
class Outside:
    """A foreign key of another database: its schema, table and column, and the table here that it refers to."""

    schema: str
    table: str
    column: str
    target: str


@dataclass(frozen=True)
class Tokens:
    """Keystone's tokens: how many, and how many of them have expired."""

    all: int
    expired: int


@dataclass(frozen=True)
class Seen:
    """What a database said.

    Attributes:
        schema: its tables.
        head: its schema version; None where it has no such row.
        outside: foreign keys of other databases that refer to it.
        answers: what was counted; several numbers with spaces between.
        refused: questions that the server does not answer, and what it says.
        conflicts: EC2 keys that both of keystone's tables have, and differ: the key, and in what; without secrets.
        tokens: keystone's; None where it was not asked.
    """

    schema: Schema
    head: int | None
    outside: tuple[Outside, ...] = ()
    answers: Mapping[Question, str] = field(default_factory=dict)
    refused: Mapping[Question, str] = field(default_factory=dict)
    conflicts: tuple[tuple[str, str], ...] = ()
    tokens: Tokens | None = None


Asking = Callable[[Schema, int | None], Sequence[Question]]
"""What is to be counted in a database that has this schema, and is at this version."""


def look(
    task: Task,
    *,
    database: str,
    repository_id: str,
    questions: Asking,
    keystone: bool = False,
) -> Result:
    """Ask a database; nothing is changed. The result is a `Seen`.

    Args:
        task: the Nornir task.
        database: its name.
        repository_id: its row in migrate_version.
        questions: what is counted.
        keystone: it is keystone's: compare the EC2 keys, count the tokens.

    Raises:
        plugins.connections.errors.TransportError: it does not answer, or is no such database.
        Refused: it is not keystone's.
    """
    mysql = databases.mysql(task)
    schema = schemas.snapshot(task, database)
    head = databases.head(task, database, repository_id) if "migrate_version" in schema.tables else None
    answers: dict[Question, str] = {}
    refused: dict[Question, str] = {}
    for question in questions(schema, head):
        try:
            (row,) = mysql.query(question.sql, database=database)
        except DatabaseError as error:
            refused[question] = f"{error.errno}: {error.reason}"
        except CommandTimeout:
            refused[question] = "no answer in time"
        else:
            answers[question] = " ".join(str(value) for value in row.values())
    outside = tuple(Outside(*map(str, row.values())) for row in mysql.query(_OUTSIDE, (database, database)))
    return unchanged(
        task,
        Seen(
            *(schema, head, outside, answers, refused),
            conflicts=_conflicts(task, database) if keystone and "ec2_credential" in schema.tables else (),
            tokens=_tokens(task, database) if keystone and "token" in schema.tables else None,
        ),
    )


def _conflicts(task: Task, database: str) -> tuple[tuple[str, str], ...]:
    standing: ec2.Standing = ec2.look(task, database=database).result
    return tuple((finding.access, finding.what) for finding in standing.findings if finding.kind == CONFLICT)


def _tokens(task: Task, database: str) -> Tokens:
    tally = tokens.Tally()
    tokens.count(task, database=database, tally=tally, stopping=threading.Event())
    return Tokens(tally.seen, tally.expired)
