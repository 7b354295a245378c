"""The quota check, repair and undo on random databases in a real MariaDB, with plain loops as the truth."""

import json
from collections import Counter, defaultdict

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from reports.tables import findings, quotas
from tasks.quotas import apply, plan_repair
from tests.support.novadb import (
    BY_PROJECT,
    DATABASES,
    PER_USER,
    check,
    clean,
    everything,
    fill,
    instance,
    reservation,
    undone,
    usage,
)

pytestmark = pytest.mark.mariadb

_PROJECT = st.sampled_from(["p1", "p1", "P1", "é", "E", "a 'quoted' %s\\"])
_USER = st.sampled_from(["u1", "u1", "U1 ", "u2", "", None])
_DELETED = st.sampled_from([0, 0, 0, 99])
_RESOURCE = st.sampled_from([*PER_USER, *BY_PROJECT, "local_thing"])
_OFF = st.sampled_from([0, 0, 1, -1, -9])
_STAMP = st.sampled_from([None, "2013-10-17 10:11:12"])
_REFRESH = st.sampled_from([None, None, 1, 5])
PAST, FUTURE = "2013-10-17 10:11:12", "2037-01-01 00:00:00"

PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]  # explaining takes a minute here
_RESERVED = st.tuples(st.integers(0, 13), st.integers(-2, 2), _DELETED, st.sampled_from([None, PAST, PAST, FUTURE]))


@st.composite
def databases(draw, *, per_user):
    """Random content of the tables that count: few names, so that they often meet, and many right rows."""
    small = st.integers(0, 3)
    instances = [
        instance(number, draw(_USER), draw(_PROJECT), draw(small), draw(small), draw(_DELETED))
        for number in range(draw(st.integers(0, 5)))
    ]
    groups = [
        {"name": f"g{number}", "user_id": draw(_USER), "project_id": draw(_PROJECT), "deleted": draw(_DELETED)}
        for number in range(draw(small))
    ]
    floating = [
        {
            "address": f"192.0.2.{number}",
            "project_id": draw(st.none() | _PROJECT),
            "auto_assigned": draw(st.booleans()),
            "deleted": draw(_DELETED),
        }
        for number in range(draw(small))
    ]
    fixed = [
        {
            "address": f"10.0.0.{number}",
            "instance_uuid": draw(st.sampled_from([None, *(row["uuid"] for row in instances)])),
            "deleted": draw(_DELETED),
        }
        for number in range(draw(small))
    ]
    content = {
        "instances": instances,
        "security_groups": groups,
        "floating_ips": floating,
        "fixed_ips": fixed,
        "quota_usages": [],
        "reservations": [],
    }
    used = truth(content, per_user=per_user)
    wanted = [*used, *((fold(draw(_PROJECT)), fold(draw(_USER)), draw(_RESOURCE)) for _ in range(3))]
    identities = draw(st.lists(st.sampled_from([*wanted, (None, None, "ram")]), min_size=3, max_size=14))
    reservations = [
        reservation(number, index + 1, delta, deleted, expire=expire)
        for number, (index, delta, deleted, expire) in enumerate(draw(st.lists(_RESERVED, max_size=6)), start=1)
        if index < len(identities)
    ]
    for number, (project, user, resource) in enumerate(identities, start=1):
        held = held_by(reservations, number)
        content["quota_usages"].append(
            usage(
                number,
                resource,
                max(used[project, user if per_user else None, resource] + draw(_OFF), -1),
                user,
                project if project is None or draw(st.booleans()) else project.upper(),
                held + draw(st.sampled_from([0, 0, 0, 1])),
                draw(_DELETED),
                until_refresh=draw(_REFRESH),
                updated_at=draw(_STAMP),
                deleted_at=draw(_STAMP),
            )
        )
    return content | {"reservations": reservations}


def live_of(reservations, usage_id):
    return [row for row in reservations if row["usage_id"] == usage_id and row["deleted"] == 0]


def held_by(reservations, usage_id):
    """What the live reservations of a row add up to."""
    return sum(max(row["delta"], 0) for row in live_of(reservations, usage_id))


def under_way(reservations, usage_id):
    return [row["delta"] for row in live_of(reservations, usage_id) if row["expire"] == FUTURE]


def fold(name):
    """One text for all names that utf8_general_ci calls equal."""
    return None if name is None else name.rstrip(" ").lower().replace("é", "e")


def truth(content, *, per_user):
    """What is in use by identity, counted in plain loops."""
    used = Counter()

    def count(row, resource, amount):
        by_user = per_user and resource in PER_USER
        used[fold(row["project_id"]), fold(row["user_id"]) if by_user else None, resource] += amount

    for row in content["instances"]:
        if row["deleted"] == 0:
            count(row, "instances", 1)
            count(row, "cores", row["vcpus"])
            count(row, "ram", row["memory_mb"])
    for row in content["security_groups"]:
        if row["deleted"] == 0:
            count(row, "security_groups", 1)
    for row in content["floating_ips"]:
        if row["deleted"] == 0 and not row["auto_assigned"] and row["project_id"] is not None:
            count(row, "floating_ips", 1)
    owners = {row["uuid"]: row for row in content["instances"]}
    for row in content["fixed_ips"]:
        if row["deleted"] == 0 and row["instance_uuid"] and per_user:
            count(owners[row["instance_uuid"]], "fixed_ips", 1)
    return Counter({identity: amount for identity, amount in used.items() if amount})


def expected_statuses(content, used, *, per_user, closed):
    """How often each (identity, status) must be in the table, by the rules in plain loops."""
    counted = {*PER_USER, "floating_ips"} | ({"fixed_ips"} if per_user else set())

    def identity(row):
        return fold(row["project_id"]), fold(row["user_id"]) if per_user else None, row["resource"]

    live = [row for row in content["quota_usages"] if row["deleted"] == 0]
    number = Counter(identity(row) for row in live)
    statuses = Counter()
    for row in live:
        held, (project, user, resource) = held_by(content["reservations"], row["id"]), identity(row)
        deltas = [] if closed else under_way(content["reservations"], row["id"])
        possible = {used[identity(row)] + part for part in parts_of(deltas)}
        by_nobody = per_user and user is None and resource in PER_USER and not used[identity(row)]
        if project is None or by_nobody or (per_user and user is not None and resource in BY_PROJECT):
            status = "orphan"
        elif number[identity(row)] > 1:
            status = "duplicate"
        elif resource in counted and row["in_use"] not in possible:
            status = "wrong"
        elif row["reserved"] != held:
            status = "leaked"
        elif resource not in counted:
            status = "uncounted"
        else:
            status = "ok" if row["in_use"] == used[identity(row)] else "busy"
        statuses[identity(row), status] += 1
    for lacking in used.keys() - number.keys():
        statuses[lacking, "missing"] += 1
    return statuses


def parts_of(deltas):
    """How far in_use may be from the truth: from nobody's request being ahead to everybody's."""
    return range(-sum(d for d in deltas if d > 0), sum(-d for d in deltas if d < 0) + 1)


@pytest.mark.parametrize("database", sorted(DATABASES))
@settings(max_examples=20, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_databases_check_repair_and_undo(task, database, data):
    """The table is the plain loops' truth; repaired it is clean, twice is nothing, undone it is as it was."""
    per_user, closed = database == "havana", data.draw(st.booleans())
    content = data.draw(databases(per_user=per_user))
    clean(task, database)
    fill(task, database, content)
    before = everything(task, database)
    used = truth(content, per_user=per_user)
    facts, table, rows = check(task, database, api_closed=closed)
    assert facts["per_user"] == per_user
    found = Counter(((fold(row["project_id"]), fold(row["user_id"]), row["resource"]), row["status"]) for row in rows)
    assert found == expected_statuses(content, used, per_user=per_user, closed=closed)
    assert list(table.columns) == quotas.COLUMNS
    assert plan_repair(quotas.odd_records(facts), facts) == plan_repair(rows, facts)

    repair = plan_repair(rows, facts)
    result = apply(task, repair=repair, database=database).result
    facts, table, rows = check(task, database, api_closed=closed)
    again = plan_repair(rows, facts)
    assert (again.changes, len(again.left)) == ((), len(repair.left))
    assert len(findings("quotas", table)) >= len(repair.left)
    assert not closed or not repair.left
    if not repair.left:
        assert findings("quotas", table).empty
    if closed:
        in_use = defaultdict(int)
        for row in rows:
            if row["actual"] is not None and row["in_use"]:
                in_use[fold(row["project_id"]), fold(row["user_id"]), row["resource"]] += row["in_use"]
        assert in_use == used
    json.dumps(rows)

    undone(task, database, result["undo"])
    assert everything(task, database) == before
    for status in {status for _, status in found}:
        event(status)
