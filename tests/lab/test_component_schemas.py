"""Databases of components made of the references, and the migrations computed of two of them, on a real MariaDB."""

from collections.abc import Iterator
from typing import Any

import pymysql
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lab.content.components import schemas
from tasks.schemas import STATEMENTS, Column, Key, Schema, Table, of_rows
from tests.support import mariadb

PAIRS = (("cinder", 9, 20), ("glance", 22, 29), ("keystone", 22, 34), ("ceilometer", 6, 19))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mariadb.Server]:
    try:
        started = mariadb.start(tmp_path_factory.mktemp("mariadb"))
    except mariadb.MariadbMissingError as error:
        pytest.skip(str(error))
    yield started
    started.stop()


@pytest.fixture
def scratch(server: mariadb.Server) -> Iterator["pymysql.Connection[Any]"]:
    """A connection to an empty database."""
    server.load("DROP DATABASE IF EXISTS scratch; CREATE DATABASE scratch DEFAULT CHARACTER SET utf8;")
    connection = server.connect("scratch")
    yield connection
    connection.close()


def run(connection: "pymysql.Connection[Any]", *statements: str) -> list[dict[str, Any]]:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall()) if statements else []


def found(connection: "pymysql.Connection[Any]") -> Schema:
    return of_rows(tuple(row.values()) for sql in STATEMENTS for row in run(connection, sql))


def made(connection: "pymysql.Connection[Any]", schema: Schema) -> None:
    run(connection, *filter(None, schemas.create(schema).split(";\n")))


@pytest.mark.mariadb
@pytest.mark.parametrize(("component", "before", "after"), PAIRS)
def test_a_reference_becomes_tables_and_the_next_one_their_change(
    scratch: "pymysql.Connection[Any]", component: str, before: int, after: int
) -> None:
    """Letter by letter what cellstep compares with, before and after."""
    one, other = schemas.reference(component, before), schemas.reference(component, after)
    made(scratch, one)
    assert str(found(scratch)) == str(one)
    for statements in schemas.migrations(one, other, after).values():
        run(scratch, *statements)
    assert str(found(scratch)) == str(other)


@pytest.mark.mariadb
def test_a_column_may_come_earlier_than_its_neighbours(scratch: "pymysql.Connection[Any]") -> None:
    """At the version that the facts tell; with a backport of it there, MySQL's own error stops it there."""
    one, other = schemas.reference("cinder", 9), schemas.reference("cinder", 20)
    changes = schemas.migrations(one, other, 20, at={"volumes.attached_host": 12})
    assert list(changes) == [12, 20]
    made(scratch, one)
    run(scratch, *changes[12])
    assert "attached_host" in found(scratch).tables["volumes"].columns
    with pytest.raises(pymysql.err.OperationalError, match="1060"):
        run(scratch, *changes[12])
    run(scratch, *changes[20])
    assert str(found(scratch)) == str(other)


@pytest.mark.mariadb
def test_rows_are_converted_with_their_column(scratch: "pymysql.Connection[Any]") -> None:
    """A time becomes seconds since 1970, where MySQL alone would make another number of it."""
    one, other = schemas.reference("ceilometer", 6), schemas.reference("ceilometer", 19)
    made(scratch, one)
    run(scratch, "INSERT INTO meter (counter_name, timestamp) VALUES ('m', '2013-11-05 08:30:00.0')")
    run(scratch, "SET time_zone = '+00:00'")
    conversions = {"meter.timestamp": "UNIX_TIMESTAMP(`timestamp`)"}
    run(scratch, *schemas.migrations(one, other, 19, conversions=conversions)[19])
    assert [row["timestamp"] for row in run(scratch, "SELECT timestamp FROM meter")] == [1383640200]
    assert str(found(scratch)) == str(other)


def test_what_does_not_change_cannot_be_given_a_version() -> None:
    """A name that was mistyped is not passed over."""
    one, other = schemas.reference("cinder", 9), schemas.reference("cinder", 20)
    with pytest.raises(ValueError, match=r"volumes\.attached_hots does not change"):
        schemas.migrations(one, other, 20, at={"volumes.attached_hots": 12})


NAMES = ("a", "key", "b c", "`d", "zone")
TYPES = ("int", "varchar(36)", "text", "datetime", "tinyint(1)", "decimal(20,6)", "double")


@st.composite
def tables(draw: st.DrawFn, name: str) -> Table:
    chosen = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    columns = {column: Column(column, draw(st.sampled_from(TYPES)), null=draw(st.booleans())) for column in chosen}
    keyed = [column for column in chosen if columns[column].type not in ("text",)]
    keys = {}
    for number, column in enumerate(draw(st.lists(st.sampled_from(keyed), unique=True)) if keyed else []):
        key = Key(f"k{number}", draw(st.sampled_from(("", "unique"))), (column,), (0,))
        keys[key.name] = key
    return Table(name, columns, keys)


def schema() -> st.SearchStrategy[Schema]:
    return st.sets(st.sampled_from(("one", "two", "order")), min_size=1).flatmap(
        lambda names: st.fixed_dictionaries({name: tables(name) for name in sorted(names)}).map(Schema)
    )


def of_integers(*columns: str) -> Schema:
    return Schema({"one": Table("one", {name: Column(name, "int") for name in columns})})


@pytest.mark.mariadb
@settings(max_examples=20, deadline=None)
@example(of_integers("a", "zone", "key"), of_integers("a", "key", "b c", "zone"))
@given(before=schema(), after=schema())
def test_any_schema_becomes_any_other(server: mariadb.Server, before: Schema, after: Schema) -> None:
    """Tables, columns in their order, types and keys."""
    server.load("DROP DATABASE IF EXISTS any_other; CREATE DATABASE any_other DEFAULT CHARACTER SET utf8;")
    connection = server.connect("any_other")
    try:
        made(connection, before)
        run(connection, *schemas.migrations(before, after, 2).get(2, ()))
        assert str(found(connection)) == str(after)
    finally:
        connection.close()
