"""Expired tokens counted and purged on a real MariaDB, beside keystone's own work."""

import threading
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.connections.errors import ConnectionLost, DatabaseError
from plugins.connections.mysql import Mysql, Transaction
from tasks.binding import Binding, bind
from tasks.errors import Fenced, Refused
from tasks.keystone import tokens
from tasks.keystone.tokens import Tally, count, purge
from tests.support import keystonedb, mariadb

pytestmark = pytest.mark.mariadb

OLD, YOUNG, ENDLESS = "2013-10-17 10:11:12", "2099-01-01 00:00:00", None


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    try:
        with mariadb.running(tmp_path_factory.mktemp("tokens")) as found:
            keystonedb.make(found)
            yield found
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def task(server):
    made = keystonedb.task(server)
    yield made
    made.mysql.close()


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr(tokens, "WINDOW", 7)
    monkeypatch.setattr(tokens, "RETRY_S", 0.02)


def fill(task, rows):
    """Make the table have these tokens: id to expiry."""
    with task.mysql.transaction("keystone") as transaction:
        transaction.execute("DELETE FROM token")
        if rows:
            values = ", ".join(["(%s, %s, '{}', 1, NULL, 'u1')"] * len(rows))
            arguments = [part for row in rows.items() for part in row]
            transaction.execute(f"INSERT INTO token VALUES {values}", arguments)  # noqa: S608 - marks


def left(task):
    return {row["id"] for row in task.mysql.query("SELECT id FROM token", database="keystone")}


def purged(task, tally=None, stopping=None, batch=3, **more):
    tally = tally or Tally()
    purge(
        task,
        database="keystone",
        tally=tally,
        stopping=stopping or threading.Event(),
        batch=batch,
        pause_s=0,
        **more,
    )
    return tally


def some(number, expires=OLD, name="t{:03}"):
    return {name.format(n): expires for n in range(number)}


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.dictionaries(
        st.text("0af.-", max_size=3),
        st.sampled_from([OLD, YOUNG, ENDLESS]),
        max_size=30,
    ),
    batch=st.integers(1, 9),
)
def test_what_has_expired_goes_and_nothing_else(task, rows, batch):
    fill(task, rows)
    counted = Tally()
    count(task, database="keystone", tally=counted, stopping=threading.Event())
    expired = {key for key, expires in rows.items() if expires == OLD}
    endless = {key for key, expires in rows.items() if expires is ENDLESS}
    assert (counted.seen, counted.expired, counted.endless) == (len(rows), len(expired), len(endless))
    assert left(task) == set(rows)
    tally = purged(task, batch=batch)
    assert left(task) == set(rows) - expired
    assert (tally.seen, tally.expired, tally.deleted, tally.locked) == (len(rows), len(expired), len(expired), 0)
    assert tally.whole
    assert counted.whole
    assert purged(task).deleted == 0


def test_the_clock_is_the_databases_and_in_utc(server, task):
    now = server.execute("SELECT UTC_TIMESTAMP() AS now")[0]["now"]
    server.execute("SET GLOBAL time_zone = '+09:00'")
    try:
        fill(task, {"past": now - timedelta(minutes=1), "soon": now + timedelta(minutes=10)})
        tally = purged(task)
    finally:
        server.execute("SET GLOBAL time_zone = 'SYSTEM'")
    assert left(task) == {"soon"}
    assert abs(datetime.fromisoformat(tally.until) - now) < timedelta(minutes=1)


def test_valid_tokens_are_never_locked(server, task):
    """A session that keeps the valid ones locked is not waited for; without the hint MariaDB scans so small a table."""
    fill(task, {**some(20), **some(10, YOUNG, "v{:03}")})
    server.execute("SET GLOBAL innodb_lock_wait_timeout = 1")
    try:
        with task.mysql.transaction("keystone") as keystone:
            assert len(keystone.query("SELECT id FROM token WHERE id >= 'v' FOR UPDATE")) == 10
            tally = purged(task, batch=1000)
    finally:
        server.execute("SET GLOBAL innodb_lock_wait_timeout = 50")
    assert (tally.deleted, tally.locked) == (20, 0)


def test_new_tokens_come_in_while_a_batch_is_not_committed(server, task, monkeypatch):
    """Seen from keystone: an insert between two rows of the batch does not wait."""
    fill(task, some(20))
    execute = Transaction.execute

    def watched(self, sql, args=()):
        done = execute(self, sql, args)
        if sql.startswith("DELETE"):
            server.execute("SET SESSION innodb_lock_wait_timeout = 1")
            server.execute(
                "INSERT INTO token VALUES (CONCAT('t000', UUID()), %s, '{}', 1, NULL, 'u1')",
                (YOUNG,),
                database="keystone",
            )
        return done

    monkeypatch.setattr(Transaction, "execute", watched)
    assert purged(task, batch=20).deleted == 20
    assert len(left(task)) == 3  # one for each window of seven


def test_it_ends_after_the_batch_where_it_is_told_to_and_goes_on_when_called_again(task):
    fill(task, some(30))
    stopping, tally = threading.Event(), Tally()

    def stop_soon():
        if tally.deleted >= 6:
            stopping.set()

    purged(task, tally, stopping, progress=stop_soon)
    assert (tally.deleted, tally.whole) == (6, False)
    assert len(left(task)) == 24
    again = purged(task)
    assert (again.deleted, again.whole) == (24, True)


def test_what_another_session_keeps_locked_is_left_and_told_of(task, monkeypatch):
    monkeypatch.setattr(tokens, "LOCK_WAIT_S", 1)
    monkeypatch.setattr(tokens, "TRIES", 1)
    fill(task, some(7))
    with task.mysql.transaction("keystone") as keystone:
        keystone.query("SELECT id FROM token WHERE id = 't000' FOR UPDATE")
        tally = purged(task)
    assert (tally.deleted, tally.locked, tally.whole) == (4, 3, True)
    assert left(task) == {"t000", "t001", "t002"}


@pytest.mark.parametrize("committed", [True, False])
def test_a_connection_that_breaks_in_mid_batch_is_made_anew_and_nothing_is_counted_twice(task, monkeypatch, committed):
    fill(task, some(10))
    execute, broken = Transaction.execute, []

    def breaking(self, sql, args=()):
        rows = execute(self, sql, args)
        if sql.startswith("DELETE") and not broken:
            broken.append(rows)
            if committed:
                self._connection.commit()
            raise ConnectionLost("gone")
        return rows

    monkeypatch.setattr(Transaction, "execute", breaking)
    tally = purged(task)
    assert broken == [3]
    assert (tally.deleted, tally.whole) == (10, True)
    assert not left(task)


def test_a_database_that_stays_away_is_given_up_on_and_the_tally_says_how_far_it_came(task, monkeypatch):
    fill(task, some(10))
    monkeypatch.setattr(tokens, "PATIENCE_S", 0.1)
    query, calls = Mysql.query, []

    def away(self, sql, args=(), *, database=None):
        calls.append(sql)
        if len(calls) > 3:  # the table, the clock, the first window
            raise ConnectionLost("gone")
        return query(self, sql, args, database=database)

    monkeypatch.setattr(Mysql, "query", away)
    tally = Tally()
    with pytest.raises(ConnectionLost):
        purged(task, tally)
    assert (tally.deleted, tally.whole) == (7, False)
    assert len(calls) > 5


def test_a_refusal_is_not_tried_again(server, task):
    fill(task, some(3))
    server.execute(
        "CREATE TRIGGER guard BEFORE DELETE ON token FOR EACH ROW SIGNAL SQLSTATE '45000'", database="keystone"
    )
    try:
        with pytest.raises(DatabaseError, match="1644"):
            purged(task)
    finally:
        server.execute("DROP TRIGGER guard", database="keystone")
    assert len(left(task)) == 3


def test_one_who_was_taken_over_from_deletes_nothing(task):
    def taken_over():
        raise Fenced("taken over")

    fill(task, some(3))
    bind(task, Binding("", "", still_ours=taken_over))
    try:
        with pytest.raises(Fenced):
            purged(task)
    finally:
        bind(task, Binding("", ""))
    assert len(left(task)) == 3


def test_another_database_is_refused(task):
    with pytest.raises(Refused, match="not keystone's"):
        count(task, database="mysql", tally=Tally(), stopping=threading.Event())


def test_both_statements_go_by_the_primary_key(server, task):
    fill(task, some(30))
    window = tokens._NEXT % ("%(until)s", "%(id)s", "5")
    delete = tokens._DELETE.replace("{marks}", "%(id)s, 't011'").replace("< %s", "< %(until)s")
    for sql in (window, delete):
        plan = server.execute(f"EXPLAIN {sql}", {"id": "t010", "until": YOUNG}, database="keystone")[0]
        assert (plan["type"], plan["key"]) == ("range", "PRIMARY")
