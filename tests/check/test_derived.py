"""Rows that a change moves or marks, counted by SQL on a real server and by plain Python."""

import collections

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellstep.check import derived
from cellstep.check.derived import Step
from tasks.schemas import parse

pytestmark = pytest.mark.mariadb
SOURCE = """
table parents
  id int not null
  deleted int
  name varchar(9)
  primary key (id)
table middle
  id int not null
  parent int
  primary key (id)
table leaves
  id int not null
  middle int
  own varchar(9)
  primary key (id)
"""
TARGET = SOURCE.replace(
    "  name varchar(9)\n  primary key (id)", "  name varchar(9)\n  primary key (id)\n  unique key u (name, deleted)"
)
TARGET = TARGET.replace("  parent int\n", "  parent int\n  foreign key one (parent) -> parents (id)\n")
TARGET = TARGET.replace("  middle int\n", "  middle int\n  foreign key two (middle) -> middle (id)\n")
TARGET += "table dump_middle\n  id int\ntable dump_leaves\n  id int\n"
STEP = Step(parse(SOURCE), parse(TARGET))

IDS = st.integers(1, 5)
NAMES = st.one_of(st.none(), st.sampled_from(["a", "b", "it's,", "NULL"]))
ROWS = st.fixed_dictionaries(
    {
        "parents": st.dictionaries(IDS, st.tuples(st.integers(0, 2), NAMES), max_size=5),
        "middle": st.dictionaries(IDS, st.tuples(st.one_of(st.none(), IDS)), max_size=5),
        "leaves": st.dictionaries(IDS, st.tuples(st.one_of(st.none(), IDS), NAMES), max_size=5),
    }
)


@pytest.fixture(scope="module")
def ask(server):
    """Fill the tables, and ask."""
    server.load("CREATE DATABASE derived CHARACTER SET utf8")
    for table in STEP.source.tables.values():
        columns = ", ".join(f"{column.name} {column.type}" for column in table.columns.values())
        server.load(f"CREATE TABLE {table.name} ({columns}, PRIMARY KEY (id)) ENGINE=InnoDB", database="derived")
    connection = server.connect("derived")

    def query(sql):
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return tuple(int(value) for value in cursor.fetchone().values())

    def fill(rows):
        with connection.cursor() as cursor:
            for table, content in rows.items():
                cursor.execute(f"DELETE FROM {table}")  # noqa: S608 - names of this file
                for number, values in content.items():
                    marks = ", ".join(["%s"] * (len(values) + 1))
                    cursor.execute(f"INSERT INTO {table} VALUES ({marks})", (number, *values))  # noqa: S608 - as above

    yield fill, query
    connection.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=ROWS)
def test_counts_are_those_of_plain_python(ask, rows):
    """Duplicates among the living, clashes among the deleted, orphans and orphans of orphans."""
    fill, query = ask
    fill(rows)
    ((_, key),) = STEP.unique_keys()
    alive = collections.Counter(name for deleted, name in rows["parents"].values() if deleted == 0 and name)
    dead = collections.Counter(pair for pair in rows["parents"].values() if pair[0] and pair[1])
    assert query(derived.live_duplicates("parents", key)) == (sum(count - 1 for count in alive.values()),)
    assert query(derived.clashes("parents", key)) == (sum(count - 1 for count in dead.values()),)
    stay = {number for number, (up,) in rows["middle"].items() if up is None or up in rows["parents"]}
    moved = {number for number, (up, _) in rows["leaves"].items() if up is not None and up not in stay}
    keys = dict(STEP.foreign_keys())
    counted = [query(derived.count(table, derived.orphan(STEP, table, keys[table]))) for table in ("middle", "leaves")]
    assert counted == [(len(rows["middle"]) - len(stay),), (len(moved),)]
    columns = STEP.source.tables["leaves"]
    before = query(derived.digest(columns, ["id", "own"], derived.orphans(STEP, "leaves")))
    fill({"leaves": {number: row for number, row in rows["leaves"].items() if number not in moved}})
    assert query(derived.digest(columns, ["id", "own"])) == before


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(one=ROWS, other=ROWS)
def test_digests_are_the_same_where_the_rows_are(ask, one, other):
    """And only there: NULL is not 'NULL', and a comma is not the end of a value."""
    fill, query = ask
    digests = []
    for rows in (one, other):
        fill(rows)
        digests.append(query(derived.digest(STEP.source.tables["leaves"], ["id", "middle", "own"])))
    assert (digests[0] == digests[1]) == (one["leaves"] == other["leaves"])
