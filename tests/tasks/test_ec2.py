"""EC2 keys in Grizzly's and Havana's tables, kept in step on a real MariaDB."""

import json

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from plugins.connections.errors import DatabaseError
from tasks.binding import Binding, bind
from tasks.errors import Fenced, Refused
from tasks.keystone import ec2
from tasks.keystone.ec2 import bring_in_step, look
from tasks.keystone.keys import NEW, OLD, compare, key_id
from tests.support import keystonedb, mariadb
from tests.support.keystonedb import CONSTRAINT, content, fill, make, new, old

pytestmark = pytest.mark.mariadb


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    try:
        with mariadb.running(tmp_path_factory.mktemp("keystone")) as found:
            make(found)
            make(found, "constrained", CONSTRAINT)
            yield found
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def task(server):
    made = keystonedb.task(server)
    yield made
    made.mysql.close()


def brought(task, known=(), **more):
    return bring_in_step(task, database="keystone", known=known, **more).result


def kinds(standing):
    return {(finding.kind, finding.access) for finding in standing.findings}


def test_the_id_is_that_of_migration_33():
    assert key_id("access2") == "084c90dc1638bc4bf16f5e68b430dc061500ececb60bbc17b93267cb56e55101"


def test_each_table_gets_what_it_lacks_as_the_migration_would_write_it(task):
    fill(task.mysql, [old("access2", "secret2", "u2", "p2")], [new("made-by-havana", "s3", "u3", "p3", trust_id=None)])
    result = bring_in_step(task, database="keystone")
    assert result.changed
    assert dict(result.result.copied) == {OLD: ("made-by-havana",), NEW: ("access2",)}
    assert result.result.good
    olds, news = content(task.mysql)
    assert olds == [old("access2", "secret2", "u2", "p2"), old("made-by-havana", "s3", "u3", "p3")]
    copied = next(row for row in news if row["id"] == key_id("access2"))
    assert json.loads(copied.pop("blob")) == {"access": "access2", "secret": "secret2"}
    assert copied == {"id": key_id("access2"), "user_id": "u2", "project_id": "p2", "type": "ec2", "extra": "{}"}
    kept = next(row for row in news if row["id"] != key_id("access2"))
    assert json.loads(kept["blob"]) == {"access": "made-by-havana", "secret": "s3", "trust_id": None}


def test_a_second_time_there_is_nothing_to_do(task):
    fill(task.mysql, [old("a")], [new("b")])
    first = brought(task)
    before = content(task.mysql)
    again = bring_in_step(task, database="keystone", known=first.remembered)
    assert not again.changed
    assert (again.result.in_step, again.result.good) == (2, True)
    assert content(task.mysql) == before


@pytest.mark.parametrize(
    ("here", "there", "differs"),
    [
        (old("a", "one"), new("a", "two"), "another secret"),
        (old("a", user="u1"), new("a", user="u2"), "another user"),
        (old("a", project="p1"), new("a", project="p2"), "another project"),
        (old("a", project="p1"), new("a", project=None), "another project"),
        (old("a", "one", "u1"), new("a", "two", "u2"), "another secret, another user"),
        (old("a"), {**new("a"), "blob": "{"}, "no access and secret key"),
        (old("a"), {**new("a"), "type": "cert"}, "of the type cert"),
    ],
)
def test_a_conflict_is_named_and_nothing_is_written(task, here, there, differs):
    fill(task.mysql, [here], [there])
    before = content(task.mysql)
    standing = brought(task)
    assert ("conflict", "a") in kinds(standing)
    assert differs in next(finding.what for finding in standing.findings if finding.kind == "conflict")
    assert content(task.mysql) == before
    assert not standing.good
    assert not standing.remembered


def test_a_key_deleted_from_one_table_is_told_of_and_not_copied_again(task):
    fill(task.mysql, [old("kept"), old("gone-from-new"), old("gone-from-old")])
    known = brought(task).remembered
    fill(task.mysql, [old("kept"), old("gone-from-new")], [new("kept"), new("gone-from-old")])
    before = content(task.mysql)
    standing = brought(task, known)
    assert kinds(standing) == {("deleted", "gone-from-new"), ("deleted", "gone-from-old")}
    assert content(task.mysql) == before
    assert standing.remembered == known
    settled = brought(task, known, copy_back=["gone-from-new"], delete=["gone-from-old"])
    assert settled.good
    assert settled.removed == ("gone-from-old",)
    assert [row["access"] for row in content(task.mysql)[0]] == ["gone-from-new", "kept"]
    assert {row["id"] for row in content(task.mysql)[1]} == {key_id("gone-from-new"), key_id("kept")}
    assert settled.remembered == {key_id("gone-from-new"), key_id("kept")}


def test_a_table_that_was_emptied_is_not_filled_again_by_itself(task):
    keys = [f"k{number}" for number in range(5)]
    known = {key_id(key) for key in keys}
    fill(task.mysql, [], [new(key) for key in keys])
    assert kinds(brought(task, known)) == {("deleted", key) for key in keys}
    assert content(task.mysql)[0] == []


def test_a_key_that_is_gone_from_both_is_forgotten_and_may_come_back(task):
    fill(task.mysql)
    assert not brought(task, {key_id("a")}).remembered
    fill(task.mysql, [old("a")])
    assert brought(task).copied[NEW] == ("a",)


def test_only_what_was_deleted_can_be_copied_back_or_deleted(task):
    fill(task.mysql, [old("new-one")], [new("both"), new("other")])
    before = content(task.mysql)
    with pytest.raises(Refused, match="new-one: not deleted"):
        brought(task, {key_id("both")}, delete=["new-one"])
    assert content(task.mysql) == before


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (new("bound", trust_id="t1"), "trust t1"),
        (new("x" * 65), "64 plain"),
        (new("a", "x" * 65), "64 plain"),
        (new("a", ""), "64 plain"),
        (new("ümlaut"), "64 plain"),
        ({**new("a"), "id": "f" * 64}, "not that of its access key"),
        ({**new("a"), "blob": '{"access": "a"}'}, "no access and secret key"),
        ({**new("a"), "blob": r'{"access": "\ud800", "secret": "s"}'}, "no access and secret key"),
        ({**new("a"), "blob": "[1]"}, "no access and secret key"),
    ],
)
def test_what_grizzly_cannot_hold_is_named_and_left(task, row, why):
    fill(task.mysql, [], [row])
    standing = brought(task)
    assert [finding.kind for finding in standing.findings] == ["unusable"]
    assert why in standing.findings[0].what
    assert content(task.mysql)[0] == []


@pytest.mark.parametrize(
    ("row", "why"),
    [(old("a", None), "no secret"), (old("a", user=None), "no user"), (old("", "s"), "no name")],
)
def test_what_havana_cannot_hold_is_named_and_left(task, row, why):
    fill(task.mysql, [row])
    standing = brought(task)
    assert [finding.kind for finding in standing.findings] == ["unusable"]
    assert why in standing.findings[0].what
    assert content(task.mysql)[1] == []


def test_keys_that_grizzly_does_not_tell_apart_are_never_mixed_up(task):
    fill(task.mysql, [old("Key", "one")], [new("key", "two")])
    standing = brought(task)
    assert standing.copied[NEW] == ("Key",)
    assert kinds(standing) == {("unusable", "key")}
    assert content(task.mysql)[0] == [old("Key", "one")]
    fill(task.mysql, [], [new("twin"), new("TWIN")])
    assert kinds(brought(task)) == {("unusable", "twin"), ("unusable", "TWIN")}


def test_the_server_has_the_last_word_on_names_that_are_the_same_to_it(task):
    fill(task.mysql, [old("clé")], [new("cle")])
    standing = brought(task)
    assert kinds(standing) == {("refused", "cle")}
    assert not standing.good
    assert content(task.mysql)[0] == [old("clé")]


def test_a_row_that_the_server_refuses_does_not_keep_the_others_back(task):
    fill(task.mysql, database="constrained")
    with task.mysql.transaction("constrained") as transaction:
        transaction.execute("INSERT IGNORE INTO user VALUES ('u1', 'anna')")
    fill(task.mysql, [old("a", user="ldap"), old("b", user="u1")], database="constrained")
    standing = bring_in_step(task, database="constrained").result
    assert standing.copied[NEW] == ("b",)
    assert kinds(standing) == {("refused", "a")}
    assert "1452" in standing.findings[0].what


def test_a_key_that_changes_between_look_and_copy_is_left_for_the_next_time(task, monkeypatch):
    fill(task.mysql, [old("a", "as-seen"), old("deleted meanwhile")], [new("b", "as-seen")])
    seen = ec2._compared(task.mysql, "keystone", ())
    calls = iter([seen])
    fill(task.mysql, [old("a", "another-one")], [new("b", "another-one")])
    real = ec2._compared
    monkeypatch.setattr(ec2, "_compared", lambda *args: next(calls, None) or real(*args))
    standing = brought(task)
    assert not any(standing.copied.values())
    assert [row["secret"] for row in content(task.mysql)[0]] == ["another-one"]
    assert kinds(standing) == {("refused", "a"), ("refused", "b")}
    assert brought(task).good
    assert not any(row["access"] == "deleted meanwhile" for row in content(task.mysql)[0])


def test_one_who_was_taken_over_from_commits_nothing(task):
    def taken_over():
        raise Fenced("taken over")

    fill(task.mysql, [old("a")])
    before = content(task.mysql)
    bind(task, Binding("", "", still_ours=taken_over))
    try:
        with pytest.raises(Fenced):
            brought(task)
    finally:
        bind(task, Binding("", ""))
    assert content(task.mysql) == before


def test_a_deadlock_is_no_finding_but_an_error(task, server):
    fill(task.mysql, [old("a")])
    with task.mysql.transaction("keystone") as other:
        other.query("SELECT * FROM ec2_credential FOR UPDATE")
        server.execute("SET GLOBAL innodb_lock_wait_timeout = 1")
        try:
            with pytest.raises(DatabaseError, match="1205"):
                brought(task)
        finally:
            server.execute("SET GLOBAL innodb_lock_wait_timeout = 50")
    assert brought(task).good


def test_without_grizzlys_table_it_is_over(task, server):
    server.load("CREATE DATABASE IF NOT EXISTS after33; USE after33; CREATE TABLE IF NOT EXISTS credential (id int)")
    for call in (look, bring_in_step):
        assert "migration 33" in call(task, database="after33").result.over
    with pytest.raises(Refused, match="not keystone's"):
        look(task, database="mysql")


def test_no_secret_is_in_what_is_handed_out(task):
    fill(task.mysql, [old("a", "hush-1")], [new("b", "hush-2"), new("c", "hush-3", trust_id="t")])
    shown = repr(look(task, database="keystone").result) + repr(brought(task))
    rows = ([old("a", "hush-1")], [new("a", "hush-4"), new("b", "hush-2")])
    assert "hush" not in shown + repr(compare(*rows))


KEYS = st.sampled_from(["a", "b", "c", "d", "A"])
SECRETS = st.sampled_from(["s1", "s1", "s1", "s2"])
IDS = st.sampled_from(["1", "1", "1", "2"])
ROWS = st.dictionaries(KEYS, st.tuples(SECRETS, IDS, st.none() | IDS), max_size=5)


@settings(
    max_examples=120,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(olds=ROWS, news=ROWS, known=st.sets(KEYS))
def test_random_tables_end_as_plain_python_says(task, olds, news, known):
    folded = {}
    for key in olds:  # Grizzly's table takes one spelling of each
        folded.setdefault(key.lower(), key)
    olds = {key: olds[key] for key in folded.values()}
    fill(
        task.mysql,
        [old(key, *row) for key, row in olds.items()],
        [new(key, *row) for key, row in news.items()],
    )
    standing = brought(task, {key_id(key) for key in known})
    spelled = {key.lower() for key in {*olds, *news} if {key.lower(), key.upper()} <= {*olds, *news}}
    to_new = {key for key in olds if key not in news and key not in known}
    to_old = {key for key in news if key not in olds and key not in known and key.lower() not in spelled}
    olds_after = {**olds, **{key: news[key] for key in to_old}}
    news_after = {**news, **{key: olds[key] for key in to_new}}
    rows = content(task.mysql)
    assert {row["access"]: (row["secret"], row["user_id"], row["tenant_id"]) for row in rows[0]} == olds_after
    assert {
        json.loads(row["blob"])["access"]: (json.loads(row["blob"])["secret"], row["user_id"], row["project_id"])
        for row in rows[1]
    } == news_after
    assert set(standing.copied[NEW]) == to_new
    assert set(standing.copied[OLD]) == to_old
    alike = {key for key in olds_after if news_after.get(key) == olds_after[key]}
    assert standing.in_step == len(alike)
    differing = {key for key in olds if key in news and olds[key] != news[key]}
    assert {access for kind, access in kinds(standing) if kind == "conflict"} == differing
    one_sided = set(olds) ^ set(news)
    assert {access for kind, access in kinds(standing) if kind == "deleted"} == one_sided & known
    again = bring_in_step(task, database="keystone", known=standing.remembered)
    assert not again.changed
    assert content(task.mysql) == rows
