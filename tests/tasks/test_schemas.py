"""A schema's description: text and back, the same from every server and by both ways to ask."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import schemas
from tasks.schemas import Column, ForeignKey, Key, Schema, SchemaError, Table

NAMES = st.one_of(
    st.from_regex(r"[a-z_][a-z0-9_]{0,12}", fullmatch=True),
    st.sampled_from(["key", "table", "primary", "a b", "back`tick", "naïve", "not null", "x.y", "ends\n"]),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=6),
)
TYPES = st.sampled_from(
    [
        *("int", "tinyint(1)", "varchar(255)", "int unsigned", "text", "datetime", "timestamp", "decimal(10,2)"),
        *("enum('owner','admin')", "enum('it''s',' not null default ','(',')')", "set('a\nb','c\\d')"),
    ]
)
DEFAULTS = st.one_of(
    st.none(),
    st.just("current_timestamp"),
    st.just("concat('a',' not null')"),
    st.text(st.characters(codec="utf-8"), max_size=8).map(lambda text: "'" + text.replace("'", "''") + "'"),
)
COLUMNS = st.builds(Column, NAMES, TYPES, st.booleans(), DEFAULTS, st.sampled_from(["", *schemas.EXTRAS]))


@st.composite
def keys(draw):
    columns = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    prefixes = draw(st.lists(st.integers(0, 300), min_size=len(columns), max_size=len(columns)))
    kind = draw(st.sampled_from(["primary", "unique", "", "fulltext", "spatial"]))
    name = "PRIMARY" if kind == "primary" else draw(NAMES)
    return Key(name, kind, tuple(columns), tuple(prefixes))


@st.composite
def foreign_keys(draw):
    pairs = draw(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=3))
    actions = st.sampled_from(["", *schemas.ACTIONS])
    columns, targets = zip(*pairs, strict=True)
    schema = draw(st.one_of(st.just(""), NAMES))
    return ForeignKey(draw(NAMES), columns, draw(NAMES), targets, schema, draw(actions), draw(actions))


def named(things):
    return st.lists(things, max_size=4).map(lambda found: {each.name: each for each in found})


TABLES = st.builds(
    Table, NAMES, named(COLUMNS), named(keys()), named(foreign_keys()), st.sampled_from(["InnoDB", "MyISAM"])
)
SCHEMAS = st.builds(Schema, named(TABLES))

SAMPLE = """
CREATE TABLE parents (id int(11) NOT NULL AUTO_INCREMENT, `key` varchar(20) NOT NULL DEFAULT 'it''s \\\\ N',
  big bigint(20) unsigned DEFAULT '7', on_ tinyint(1) DEFAULT '0', small tinyint(4),
  at timestamp NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  kind enum('A','b c','it''s') NOT NULL, money decimal(10,2) NOT NULL DEFAULT '1.50', nothing varchar(4) DEFAULT 'NULL',
  long_ text, PRIMARY KEY (id), UNIQUE KEY by_key (`key`), KEY part (long_(30), big)
) ENGINE=InnoDB DEFAULT CHARSET=utf8;
CREATE TABLE children (a int, b int, `tab	here` int, PRIMARY KEY (b, a), CONSTRAINT up FOREIGN KEY (a)
  REFERENCES parents (id) ON DELETE CASCADE) ENGINE=InnoDB;
CREATE TABLE old (id int) ENGINE=MyISAM;
CREATE VIEW seen AS SELECT id FROM parents;
"""
DESCRIPTION = r"""table children
  a int not null
  b int not null
  `tab\there` int
  primary key (b, a)
  key up (a)
  foreign key up (a) -> parents (id) on delete cascade

table old engine MyISAM
  id int

table parents
  id int not null auto_increment
  `key` varchar(20) not null default 'it''s \\ N'
  big bigint unsigned default '7'
  on_ tinyint(1) default '0'
  small tinyint
  at timestamp default current_timestamp on update current_timestamp
  kind enum('A','b c','it''s') not null
  money decimal(10,2) not null default '1.50'
  nothing varchar(4) default 'NULL'
  long_ text
  primary key (id)
  unique key by_key (key)
  key part (long_(30), big)
"""


@given(SCHEMAS)
def test_text_and_back(schema):
    """Whatever the names, types and defaults are."""
    assert schemas.parse(str(schema)) == schema


def test_comments_and_empty_lines_are_left_out():
    """A person may write into the file."""
    assert schemas.parse("# of nova 161\n\n" + DESCRIPTION.replace("\n", "\r\n")) == schemas.parse(DESCRIPTION)


@pytest.mark.parametrize(
    ("text", "line"), [("  id int\n", 1), ("table a\n  id int\n<html>\n", 3), ("table a\nid int", 2)]
)
def test_other_text_is_refused(text, line):
    """With the number of its line."""
    with pytest.raises(SchemaError, match=f"line {line}: "):
        schemas.parse(text)


def test_read_from_a_server_by_both_ways(server, task):
    """PyMySQL and the client's text give the same description; a view is no table."""
    server.load("DROP DATABASE IF EXISTS described; CREATE DATABASE described")
    server.load(SAMPLE, database="described")
    found = schemas.snapshot(task, "described")
    assert str(found) == DESCRIPTION
    command = ["mariadb", "--no-defaults", f"--socket={server.socket}", "-uroot", "-N", "-B", "described"]
    said = subprocess.run(command, input=schemas.SNAPSHOT, text=True, capture_output=True, check=True, timeout=30)
    assert schemas.parse_client(said.stdout) == found


@pytest.mark.parametrize(
    ("version", "type_", "default", "expected"),
    [
        ("5.1.73", "int(11)", "=0", "int default '0'"),
        ("5.1.73", "timestamp", "=CURRENT_TIMESTAMP", "timestamp default current_timestamp"),
        ("5.1.73", "varchar(9)", "=NULL", "varchar(9) default 'NULL'"),
        ("8.0.36", "int", "=0", "int default '0'"),
        ("10.1.48-MariaDB", "varchar(9)", "=it's", "varchar(9) default 'it''s'"),
        ("5.5.5-10.11.6-MariaDB", "varchar(9)", "='it\\'s'", "varchar(9) default 'it''s'"),
        ("10.11.6-MariaDB-0+deb12u1", "int(11)", "=0", "int default '0'"),
        ("10.11.6-MariaDB", "varchar(9)", "=NULL", "varchar(9)"),
        ("10.11.6-MariaDB", "datetime", "=current_timestamp()", "datetime default current_timestamp"),
    ],
)
def test_servers_say_it_differently(version, type_, default, expected):
    """The display width of integers and the spelling of defaults are the server's own."""
    rows = [("server", version), ("table", "t", "InnoDB"), ("column", "t", "c", type_, "YES", default, "")]
    assert str(schemas.of_rows(rows).tables["t"].columns["c"]) == expected


@pytest.mark.parametrize("text", ["", "ERROR 2002 (HY000)\n", "table\tt\tInnoDB\n", "server\tnot a version\n"])
def test_no_answer_is_no_empty_schema(text):
    """What is not a server's answer is refused, and not taken for a database without tables."""
    with pytest.raises(SchemaError):
        schemas.parse_client(text)
