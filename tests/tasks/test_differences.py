"""What differs between two schemas."""

from hypothesis import given, settings

from tasks import schemas
from tasks.differences import compare
from tests.tasks.test_schemas import SCHEMAS

ONE = """
table gone
  id int
table kept
  id int not null
  name varchar(9)
  old text
  primary key (id)
  key by_name (name)
  unique key first_name (id, name)
  foreign key kept_ibfk_1 (id) -> gone (id)
  foreign key kept_ibfk_2 (name) -> gone (id)
"""
OTHER = """
table came
  id int
table kept engine MyISAM
  name varchar(20)
  id int not null
  own text
  primary key (id)
  key by_name (name, id)
  unique key other_name (id, name)
  foreign key another_ibfk_9 (id) -> gone (id)
  foreign key another_ibfk_2 (name) -> came (id)
"""


def test_each_kind_of_difference():
    """A key of another name, and a foreign key that is the same under another, are known again."""
    assert [str(each) for each in compare(schemas.parse(ONE), schemas.parse(OTHER))] == [
        "+ table came",
        "- table gone",
        "! table kept: engine InnoDB | engine MyISAM",
        "! column kept.name: varchar(9) | varchar(20)",
        "- column kept.old: text",
        "+ column kept.own: text",
        "! key kept.first_name: unique key (id, name) | unique key (id, name), named other_name",
        "! key kept.by_name: key (name) | key (name, id)",
        "! foreign key kept.name: foreign key (name) -> gone (id) | foreign key (name) -> came (id)",
    ]


def test_a_key_that_the_server_made_for_a_foreign_key_is_the_same_under_any_name():
    """MySQL names it after the constraint, or after the column; a key of somebody's own keeps its name."""
    text = "table a\n  id int\n  key {} (id)\n  foreign key {} (id) -> b (id)\n"
    one, other = (schemas.parse(text.format(*names)) for names in (("id", "a_ibfk_1"), ("a_fk", "a_fk")))
    assert compare(one, other) == ()
    one, other = (schemas.parse(f"table a\n  id int\n  key {name} (id)\n") for name in ("id", "own"))
    assert [str(each) for each in compare(one, other)] == ["! key a.id: key (id) | key (id), named own"]


@settings(max_examples=40)
@given(SCHEMAS, SCHEMAS)
def test_nothing_differs_from_itself_and_both_ways_are_the_same(one, other):
    """What is missing one way is besides the other way."""
    assert compare(one, one) == ()
    there, back = compare(one, other), compare(other, one)
    assert {(d.kind, d.table) for d in there} == {(d.kind, d.table) for d in back}
    assert sum(not d.one for d in there) == sum(not d.other for d in back)
