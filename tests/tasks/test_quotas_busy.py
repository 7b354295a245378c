"""A repair of the quota cache while nova works: every order of their transactions, and rows that are locked."""

import contextlib
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from reports.tables import quotas
from tasks.quotas import RepairRefusedError, apply, counting, plan_repair, read
from tests.support.novadb import check, clean, everything, fill, instance, reservation, usage

pytestmark = pytest.mark.mariadb
PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
FUTURE, PAST = "2037-01-01 00:00:00", "2013-10-17 10:11:12"
USERS = ("u1", "u2")


@dataclass
class Request:
    """One user's request: it reserves, makes or deletes a security group, and commits or rolls back."""

    user: str
    delta: int
    number: int
    usage: int
    done: bool = False


class Nova:
    """Nova's transactions on the quota cache, one at a time, and how far each row is from the truth."""

    def __init__(self, task):
        self.mysql = task.mysql
        self.requests: list[Request] = []
        self.number = 0

    def row(self, user):
        rows = self._ask("SELECT id, in_use FROM quota_usages WHERE deleted = 0 AND user_id = %s", user)
        return rows[0] if rows else None

    def count(self, user):
        return self._ask("SELECT COUNT(id) AS n FROM security_groups WHERE deleted = 0 AND user_id = %s", user)[0]["n"]

    def drift(self, user):
        """What in_use will be wrong by once all requests have ended; None without a row."""
        row = self.row(user)
        ahead = sum(each.delta for each in self.requests if each.user == user and each.done)
        return None if row is None else row["in_use"] + ahead - self.count(user)

    def reserve(self, user, delta):
        self.number += 1
        with self.mysql.transaction("havana") as nova:
            if self.row(user) is None:
                sql = "INSERT INTO quota_usages (project_id, user_id, resource, in_use, reserved, deleted)"
                nova.execute(f"{sql} VALUES ('p1', %s, 'security_groups', %s, 0, 0)", (user, self.count(user)))
            locked = "SELECT id FROM quota_usages WHERE deleted = 0 AND user_id = %s FOR UPDATE"
            usage_id = nova.query(locked, (user,))[0]["id"]
            sql = "INSERT INTO reservations (uuid, usage_id, delta, expire, deleted) VALUES (%s, %s, %s, %s, 0)"
            nova.execute(sql, (str(self.number), usage_id, delta, FUTURE))
            number = nova.lastrowid
            nova.execute("UPDATE quota_usages SET reserved = reserved + %s WHERE id = %s", (max(delta, 0), usage_id))
        self.requests.append(Request(user, delta, number, usage_id))

    def act(self, request):
        """Make or delete a group; a delete has one to delete, or ends as nothing."""
        with self.mysql.transaction("havana") as nova:
            if request.delta > 0:
                sql = "INSERT INTO security_groups (name, user_id, project_id, deleted) VALUES ('g', %s, 'p1', 0)"
                request.done = nova.execute(sql, (request.user,)) == 1
            else:
                sql = "UPDATE security_groups SET deleted = id WHERE deleted = 0 AND user_id = %s LIMIT 1"
                request.done = nova.execute(sql, (request.user,)) == 1

    def end(self, request):
        """Commit what was done, roll back what was not."""
        self.requests.remove(request)
        used = request.delta if request.done else 0
        with self.mysql.transaction("havana") as nova:
            sql = "UPDATE quota_usages SET in_use = in_use + %s, reserved = reserved - %s WHERE id = %s"
            nova.execute(sql, (used, max(request.delta, 0), request.usage))
            nova.execute("UPDATE reservations SET deleted = id WHERE id = %s", (request.number,))

    def _ask(self, sql, user):
        return self.mysql.query(sql, (user,), database="havana")


_CREATE, _DELETE = ["create", "act", "end"], ["delete", "act", "end"]
_WORK = st.sampled_from([_CREATE, _DELETE, ["act", "end"], ["act"], ["end"], ["create", "act"], ["delete", "act"], []])
_USER = st.sampled_from(["u1", "u1", "u1", "u1", "u2"])


@st.composite
def orders(draw):
    """What nova does before the repair reads, until it writes, and after that; often it has begun something."""
    begun = draw(st.sampled_from([[], [], [], ["create", "act"], ["delete", "act"], ["create"], ["delete"]]))
    return [
        *begun,
        *draw(_WORK if begun else st.just([])),
        "read",
        *draw(_WORK),
        "write",
        *draw(_WORK),
        "read",
        "write",
        *draw(_WORK),
    ]


@settings(max_examples=35, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(data=st.data(), order=orders())
def test_nothing_that_nova_writes_meanwhile_is_lost(task, data, order):
    """Wherever the repair reads and writes between nova's transactions, each row is as it was, or right."""
    clean(task, "havana")
    having = {user: data.draw(st.integers(1, 3)) for user in USERS}
    groups = [
        {"name": "g", "user_id": user, "project_id": "p1", "deleted": 0}
        for user, number in having.items()
        for _ in range(number)
    ]
    rows = [
        usage(n, "security_groups", having[user] + data.draw(st.integers(-2, 2)), user)
        for n, user in enumerate(USERS, start=1)
        if data.draw(st.sampled_from([True, True, False]))
    ]
    fill(task, "havana", {"security_groups": groups, "quota_usages": rows})
    nova, repair = Nova(task), None
    may_be = {user: {nova.drift(user), 0, None} for user in USERS}
    for step in order:
        if step in ("create", "delete"):
            nova.reserve(data.draw(_USER), 1 if step == "create" else -1)
        elif step == "act" and (waiting := [each for each in nova.requests if not each.done]):
            nova.act(data.draw(st.sampled_from(waiting)))
        elif step == "end" and nova.requests:
            nova.end(data.draw(st.sampled_from(nova.requests)))
        elif step == "read":
            facts = read(task, database="havana").result
            repair = plan_repair(quotas.odd_records(facts), facts)
        elif step == "write":
            with contextlib.suppress(RepairRefusedError):
                apply(task, repair=repair, database="havana")
        for user, drifts in may_be.items():
            drift = nova.drift(user)
            assert drift in drifts, (step, user)
            if drift == 0:
                may_be[user] = {0}  # once right, it stays right
    for request in list(nova.requests):
        nova.end(request)
    facts = read(task, database="havana").result
    apply(task, repair=plan_repair(quotas.odd_records(facts), facts), database="havana")
    assert set(check(task, "havana")[1]["status"]) == {"ok"}
    assert [nova.drift(user) for user in USERS] == [0, 0]


def test_all_is_read_as_of_one_moment(task, monkeypatch):
    """What nova commits while the instances are counted is in none of the answers."""
    clean(task, "havana")
    right = [usage(1, "instances", 1), usage(2, "cores", 2), usage(3, "ram", 512)]
    fill(task, "havana", {"instances": [instance(1)], "quota_usages": right})
    count = counting._nova

    def slowly(moment, per_user):
        counted = count(moment, per_user)
        fill(task, "havana", {"instances": [instance(2)]})
        with task.mysql.transaction("havana") as nova:
            nova.execute("UPDATE quota_usages SET in_use = in_use * 2")
        return counted

    monkeypatch.setattr(counting, "_nova", slowly)
    assert set(check(task, "havana")[1]["status"]) == {"ok"}
    monkeypatch.undo()
    table = check(task, "havana")[1]
    assert (set(table["status"]), table["in_use"].max()) == ({"ok"}, 1024)


def test_a_row_that_is_locked_refuses_the_whole_repair(server, task):
    clean(task, "havana")
    fill(task, "havana", {"quota_usages": [usage(1, "cores", 9), usage(2, "ram", 9)]})
    facts, _, rows = check(task, "havana")
    before = everything(task, "havana")
    server.execute("SET GLOBAL innodb_lock_wait_timeout = 1")
    with task.mysql.transaction("havana") as nova:
        nova.query("SELECT * FROM quota_usages WHERE id = 2 FOR UPDATE")
        with pytest.raises(RepairRefusedError, match=r"nothing was repaired: others write to these rows \(1205"):
            apply(task, repair=plan_repair(rows, facts), database="havana")
    assert everything(task, "havana") == before


def test_a_row_with_a_request_under_way_is_left_and_said(task):
    clean(task, "havana")
    content = {
        "instances": [instance(1, vcpus=2)],
        "quota_usages": [
            usage(1, "instances", 1),
            usage(2, "ram", 9, reserved=5),  # more than the request explains
            usage(3, "cores", 1, reserved=1),  # the request may have made it
        ],
        "reservations": [reservation(1, 2, 2, expire=FUTURE), reservation(2, 3, 1, expire=FUTURE)],
    }
    fill(task, "havana", content)
    facts, table, rows = check(task, "havana")
    assert table.set_index("resource")["status"].to_dict() == {"instances": "ok", "ram": "wrong", "cores": "busy"}
    repair = plan_repair(rows, facts)
    assert repair.changes == ()
    assert [line.split(":")[0] for line in repair.left] == ['row 2, ram of project "p1" user "u1", wrong']
    assert "-- left as it is: row 2, ram" in repair.script
    facts, _, rows = check(task, "havana", api_closed=True)
    assert sorted(change.args[0] for change in plan_repair(rows, facts).changes) == [2, 3]


def test_what_somebody_used_since_stays_when_the_repair_is_undone(server, task):
    """A reservation refers to a new row, another row was counted on: the undo leaves both, and takes back the rest."""
    clean(task, "havana")
    content = {
        "instances": [instance(1, vcpus=2, memory_mb=512)],
        "quota_usages": [usage(1, "cores", 9), usage(2, "security_groups", 9), usage(3, "ram", 512)],
    }
    fill(task, "havana", content)
    facts, _, rows = check(task, "havana")
    undo = apply(task, repair=plan_repair(rows, facts), database="havana").result["undo"]
    made = task.mysql.query("SELECT id FROM quota_usages WHERE resource = 'instances'", database="havana")[0]["id"]
    fill(task, "havana", {"reservations": [reservation(1, made, 1, deleted=1, expire=PAST)]})
    server.execute("UPDATE quota_usages SET in_use = 3 WHERE resource = 'cores'", database="havana")
    server.load(undo, database="havana")
    after = {row["resource"]: row["in_use"] for row in everything(task, "havana")["quota_usages"]}
    assert after == {"cores": 3, "instances": 1, "security_groups": 9, "ram": 512}


@pytest.mark.parametrize(("counts_down", "expected"), [(None, None), (7, 1)])
def test_a_new_row_is_counted_down_where_the_others_are(task, counts_down, expected):
    clean(task, "havana")
    rows = [usage(1, "ram", 512, until_refresh=counts_down), usage(2, "cores", 2)]
    fill(task, "havana", {"instances": [instance(1)], "quota_usages": rows})
    facts, _, rows = check(task, "havana")
    apply(task, repair=plan_repair(rows, facts), database="havana")
    made = everything(task, "havana")["quota_usages"][-1]
    assert (made["resource"], made["until_refresh"]) == ("instances", expected)


def test_networks_that_do_not_agree_are_left_for_nova_to_count(task):
    clean(task, "havana")
    rows = [usage(1, "networks", 3, None), usage(2, "networks", 4, None), usage(3, "networks", 4, None, "p2")]
    rows += [usage(4, "networks", 4, None, "p2"), usage(5, "networks", 1, None, "p3", reserved=2)]
    fill(task, "havana", {"quota_usages": rows})
    facts, table, found = check(task, "havana")
    assert table["status"].tolist() == ["duplicate"] * 4 + ["leaked"]
    apply(task, repair=plan_repair(found, facts), database="havana")
    live = [row for row in everything(task, "havana")["quota_usages"] if row["deleted"] == 0]
    assert [(row["id"], row["in_use"], row["reserved"]) for row in live] == [(2, -1, 0), (4, 4, 0), (5, 1, 0)]
    assert set(check(task, "havana")[1]["status"]) == {"uncounted"}
