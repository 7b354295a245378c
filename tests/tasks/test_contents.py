"""Rows and checksums of tables: the same if and only if the rows are, on a real MariaDB."""

import datetime as dt
import shlex
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import contents
from tasks.contents import Table
from tasks.errors import Refused
from tests.support import mariadb
from tests.support.scripted import Bash

pytestmark = pytest.mark.mariadb

# One column of each kind that is told in its own way.
COLUMNS = """(n bigint, t varchar(40) CHARACTER SET utf8, l char(9) CHARACTER SET latin1, b blob, f float, d double,
 c decimal(20,4), w datetime, s timestamp NULL, e enum('a','','b') CHARACTER SET utf8, x bit(9), y varbinary(20))"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    try:
        found = mariadb.start(tmp_path_factory.mktemp("contents"))
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))
    yield found
    found.stop()


@pytest.fixture(scope="module")
def read(server, tmp_path_factory):
    """The contents of a database, as a node's client tells them; its sessions begin with the SQL `first`."""
    node = Bash(tmp_path_factory.mktemp("programs"))

    def call(database="d", *, options="", first=""):
        client = f"mysql --no-defaults --socket={server.socket} -uroot -N -B {options}"
        ask = f"ask() {{ (printf '%s' {shlex.quote(first)}; cat) | {client}; }}"
        done = node.run(f"set -e -o pipefail\n{ask}\n{contents.SCRIPT}\ncontents {shlex.quote(database)}")
        assert done.exit_status == 0, done.stderr
        return contents.parse(done.stdout)

    return call


@pytest.fixture
def load(server):
    """Loads SQL into an empty database `d`."""
    server.load("DROP DATABASE IF EXISTS d; CREATE DATABASE d CHARACTER SET utf8")
    return lambda sql: server.load(sql, database="d")


# Values that are apart for the server too: no CHAR ends in a space, and a float is printed with six digits.
MOMENT = st.integers(0, 2**31 - 1).map(lambda s: dt.datetime.fromtimestamp(s, dt.UTC).strftime("%F %T"))
VALUES = (
    st.integers(-(2**63), 2**63 - 1),
    st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=3),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=3),
    st.binary(max_size=3),
    st.sampled_from([0, 1, -1, 10, 123456, 1e6, -1.5e-7, 1e20, 0.25]),
    st.floats(-1e300, 1e300, allow_subnormal=False).map(lambda value: value + 0.0),  # -0.0 is another text
    st.decimals(-(10**9), 10**9, places=4),
    MOMENT,
    MOMENT.filter(lambda text: text > "1970-01-02"),
    st.sampled_from(["a", "", "b"]),
    st.integers(0, 511),
    st.binary(max_size=3),
)
ROW = st.tuples(*(st.none() | value for value in VALUES))


@st.composite
def pairs(draw):
    """Rows, and the same in another order, with one value changed, a row doubled or lost, or quite others."""
    rows = draw(st.lists(ROW, max_size=4))
    other = draw(st.permutations(rows))
    how = draw(st.sampled_from(["order", "value", "double", "lose", "swap", "others"]))
    if how == "others" or not rows:
        other = draw(st.lists(ROW, max_size=2))
    elif how == "value":
        at = draw(st.integers(0, len(VALUES) - 1))
        other[0] = (*other[0][:at], draw(st.none() | VALUES[at]), *other[0][at + 1 :])
    elif how == "double":
        other += other[:1] * draw(st.integers(1, 2))
        rows = [*rows, *draw(st.permutations(rows))[: len(other) - len(rows)]]
    elif how == "lose":
        other.pop()
    elif how == "swap":
        other[0] = (*other[0][:3], other[0][11], *other[0][4:11], other[0][3])
    return rows, other


def put(cursor, table, rows):
    cursor.execute(f"DELETE FROM {table}")  # noqa: S608 - names of this file
    if rows:
        marks = ", ".join(["%s"] * len(VALUES))
        cursor.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608 - names of this file


@pytest.fixture(scope="module")
def twins(server):
    """A cursor in a database with two tables of all kinds of columns, `one` and `two`, the second of another engine."""
    server.load(f"CREATE DATABASE twins; USE twins; CREATE TABLE one {COLUMNS} ROW_FORMAT=COMPACT;")
    server.load(f"CREATE TABLE two {COLUMNS} ENGINE=MyISAM", database="twins")
    connection = server.connect("twins")
    with connection.cursor() as cursor:
        cursor.execute("SET time_zone='+00:00', sql_mode='STRICT_ALL_TABLES'")
        yield cursor
    connection.close()


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_contents_differ_exactly_where_rows_do(twins, read, pair):
    for table, rows in zip(("one", "two"), pair, strict=True):
        put(twins, table, rows)
    found = read("twins")
    assert (found["one"].rows, found["two"].rows) == (len(pair[0]), len(pair[1]))
    assert (found["one"] == found["two"]) == (Counter(pair[0]) == Counter(pair[1]))


def table(columns, *rows, name="t"):
    """SQL that makes a table anew, with these rows."""
    made = f"DROP TABLE IF EXISTS {name}; CREATE TABLE {name} ({columns});"
    return made + "".join(f"INSERT INTO {name} VALUES ({row});" for row in rows)  # noqa: S608 - SQL of this file


def test_names_that_mean_something_to_the_client_or_to_sql(server, read):
    name = "o'd\\d`x ü?@#%s"
    quoted = "`" + name.replace("`", "``") + "`"
    server.load(f"CREATE DATABASE {quoted}")
    server.load(
        table(f"{quoted} int", name=quoted) + table("i int", name="A") + table("i int", "1", name="a"), database=name
    )
    found = read(name)
    assert {table: known.rows for table, known in found.items()} == {name: 0, "A": 0, "a": 1}
    server.load(table(f"{quoted} int", "7", name=quoted), database=name)
    assert contents.differences(found, read(name)) == (f"table {name} has 1 rows instead of 0",)


def test_null_and_nothing_and_where_a_value_ends_are_told_apart(load, read):
    rows = ["'', NULL", "NULL, ''", "'', ''", "'ab', 'c'", "'a', 'bc'", "'N', ''", "'1:a', ''", "'0:', ''", "'ä', ''"]
    load("".join(table("a varchar(9), b varchar(9)", row, name=f"t{n}") for n, row in enumerate(rows)))
    assert len({found.checksum for found in read().values()}) == len(rows)


def test_a_row_that_is_there_twice_is_not_one_that_is_not_there(load, read):
    load(table("i int", "1", "1", "2", "2", name="a") + table("i int", "1", "1", "1", "2", name="b"))
    load(table("i int", "3", "3", "4", "4", name="c"))
    assert len({found.checksum for found in read().values()}) == 3


def test_neither_the_servers_nor_the_clients_settings_show(load, read):
    columns = "s timestamp NULL, c char(5), u varchar(9) CHARACTER SET utf8, x varchar(9) CHARACTER SET ucs2, f float"
    load(table(columns, "'2013-07-01 00:00:00', 'a  ', 'é', 'é', 0.1"))
    plain = read()
    modes = "ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,STRICT_ALL_TABLES"
    assert read(first=f"SET time_zone='+05:00', sql_mode='{modes}', group_concat_max_len=64;") == plain
    assert read(options="--default-character-set=latin1") == plain


def test_a_dump_of_floats_has_the_same_contents(server, load, read):
    """Also where the value was stored with more digits than are printed."""
    columns = "f float, g float(7,3), d double"
    load(table(columns, "16777217, 0.0005, 1/3", "1e-38, -7, 1e15"))
    before = read()
    printed = server.execute("SELECT CONCAT(f) f, CONCAT(g) g, CONCAT(d) d FROM d.t")
    load(table(columns, *(f"{row['f']}, {row['g']}, {row['d']}" for row in printed)))
    assert read() == before


SPELT = [("1000000", "1e+06"), ("0.0001", "1e-04"), ("-123.5", "-1.235e+02"), ("1e300", "1e+300"), ("12", "12.000")]


@pytest.mark.parametrize(("printed", "also"), SPELT)
def test_a_float_counts_by_its_digits_however_they_are_spelt(server, load, tmp_path, printed, also):
    """MySQL 5.1 spells some otherwise: the statement for a float, on the text that such a server would print."""
    load(table("f float"))
    sent = tmp_path / "sent"
    ask = f"ask() {{ tee {sent} | mysql --no-defaults --socket={server.socket} -uroot -N -B; }}"
    assert Bash(tmp_path).run(f"{ask}\n{contents.SCRIPT}\ncontents d").exit_status == 0
    statement = sent.read_text().splitlines()[-1]
    seen = []
    for text in (printed, also, printed.replace("1", "2", 1)):
        load(table("f varchar(30)", f"'{text}'"))
        (row,) = server.execute(statement)
        seen.append(list(row.values())[-1])
    assert seen[0] == seen[1] != seen[2]


def test_a_long_value_counts(server, load, read):
    """Also one that is longer than what a statement may carry."""
    found = []
    for end in "yz":
        server.execute("SET GLOBAL max_allowed_packet=16777216")
        load(table("b longblob", f"CONCAT(REPEAT('x', 3000000), '{end}')"))
        server.execute("SET GLOBAL max_allowed_packet=1048576")
        found.append(read())
    server.execute("SET GLOBAL max_allowed_packet=16777216")
    assert contents.differences(*found) == ("table t has as many rows, 1, but other contents",)


def test_a_row_that_is_too_long_for_the_server_is_refused(server, load, read):
    load(table("i int, a varchar(5000)", "1, REPEAT('x', 4000)"))
    server.execute("SET GLOBAL max_allowed_packet=1024")
    try:
        with pytest.raises(Refused, match="table t: a row is longer than max_allowed_packet"):
            read()
    finally:
        server.execute("SET GLOBAL max_allowed_packet=16777216")


def test_views_count_as_no_tables_and_an_empty_database_has_none(load, read):
    assert read() == {}
    load("CREATE TABLE t (i int); CREATE VIEW v AS SELECT * FROM t")
    assert list(read()) == ["t"]
    assert read("no such database") == {}


def test_what_cannot_be_read_is_a_failure(server, load, tmp_path):
    load("CREATE TABLE t (i int); CREATE TABLE u (i int) ENGINE=MyISAM")
    server.execute("FLUSH TABLES")
    (server.datadir / "d" / "u.MYI").write_bytes(b"spoilt")
    client = f"mysql --no-defaults --socket={server.socket} -uroot -N -B"
    done = Bash(tmp_path).run(f"set -e -o pipefail\nask() {{ {client}; }}\n{contents.SCRIPT}\ncontents d; echo went on")
    assert done.exit_status != 0
    assert "went on" not in done.stdout


@pytest.mark.parametrize(
    "text", ["t\t1", "t\t1\tunknown\n", "t\t-1\t5\n", "ERROR 2006\n", "t\t1\t5\n\n", "t\t1\t5\textra\n"]
)
def test_what_is_not_the_contents_of_a_table_is_refused(text):
    with pytest.raises(Refused, match="is not a table, its rows and their checksum"):
        contents.parse(text)


def test_differences_are_told_in_words():
    old = {"a": Table(3, "1"), "b": Table(1000, "2"), "c": Table(2, "3"), "d": Table(0, "0"), "e": Table(5, "5")}
    new = {"a": Table(3, "1"), "b": Table(1001, "2"), "c": Table(2, "4"), "x": Table(0, "0"), "e": Table(6, "6")}
    assert contents.differences(old, new, unsteady={"e", "d"}) == (
        "table b has 1,001 rows instead of 1,000",
        "table c has as many rows, 2, but other contents",
        "table d is missing",
        "table x was not there before",
    )
    assert contents.differences(old, old) == ()
