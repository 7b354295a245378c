"""The quota check, repair and undo on random databases in a real MariaDB, with plain loops as the truth."""

import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from reports.tables import findings, quotas
from tasks.quotas import apply, plan_repair
from tests.support.novadb import DATABASES, PER_USER, check, clean, everything, fill, instance, reservation, usage

pytestmark = pytest.mark.mariadb

_PROJECT = st.sampled_from(["p1", "p1", "P1", "p2", "a 'quoted' %s\\"])
_USER = st.sampled_from(["u1", "u1", "U1 ", "u2", "", None])
_DELETED = st.sampled_from([0, 0, 0, 99])
_RESOURCE = st.sampled_from([*quotas.RESOURCES, "networks"])
_OFF = st.sampled_from([0, 0, 1, -1, -9])
_STAMP = st.sampled_from([None, "2013-10-17 10:11:12"])


PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]  # explaining takes a minute here
_RESERVED = st.tuples(st.integers(0, 13), st.integers(-2, 2), _DELETED)


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
        reservation(number, index + 1, delta, deleted)
        for number, (index, delta, deleted) in enumerate(draw(st.lists(_RESERVED, max_size=6)), start=1)
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
                updated_at=draw(_STAMP),
                deleted_at=draw(_STAMP),
            )
        )
    return content | {"reservations": reservations}


def held_by(reservations, usage_id):
    """What the live reservations of a row add up to."""
    return sum(max(row["delta"], 0) for row in reservations if row["usage_id"] == usage_id and row["deleted"] == 0)


def fold(name):
    return None if name is None else name.rstrip(" ").lower()


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


def expected_statuses(content, used, *, per_user):
    """How often each (identity, status) must be in the table, by the rules in plain loops."""
    live = [row for row in content["quota_usages"] if row["deleted"] == 0 and row["resource"] in quotas.RESOURCES]

    def identity(row):
        return fold(row["project_id"]), fold(row["user_id"]) if per_user else None, row["resource"]

    number = Counter(identity(row) for row in live)
    statuses = Counter()
    for row in live:
        held = held_by(content["reservations"], row["id"])
        if row["project_id"] is None:
            status = "orphan"
        elif number[identity(row)] > 1:
            status = "duplicate"
        elif row["in_use"] != used[identity(row)]:
            status = "wrong"
        else:
            status = "ok" if row["reserved"] == held else "leaked"
        statuses[identity(row), status] += 1
    for lacking in used.keys() - number.keys():
        statuses[lacking, "missing"] += 1
    return statuses


def undone(task, database, text):
    """Carry an undo script out, statement by statement: quicker than a client for each random database."""
    with task.mysql.transaction(database) as transaction:
        for statement in statements_of(text):
            if statement.startswith(("UPDATE", "DELETE")):
                assert transaction.execute(statement) == 1


def statements_of(text):
    """Statements of a script; those lines that end in `;` end one (values with line ends are escaped)."""
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [statement for statement in "\n".join(lines).split(";\n") if statement.strip()]


@pytest.mark.parametrize("database", sorted(DATABASES))
@settings(max_examples=20, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_databases_check_repair_and_undo(task, database, data):
    """The table is the plain loops' truth; repaired it is clean, twice is nothing, undone it is as it was."""
    per_user = database == "havana"
    content = data.draw(databases(per_user=per_user))
    clean(task, database)
    fill(task, database, content)
    before = everything(task, database)
    used = truth(content, per_user=per_user)
    facts, table, rows = check(task, database)
    assert facts["per_user"] == per_user
    found = Counter(((fold(row["project_id"]), fold(row["user_id"]), row["resource"]), row["status"]) for row in rows)
    assert found == expected_statuses(content, used, per_user=per_user)
    assert list(table.columns) == quotas.COLUMNS

    result = apply(task, repair=plan_repair(rows, facts), database=database).result
    facts, table, rows = check(task, database)
    assert findings("quotas", table).empty
    assert {
        (fold(row["project_id"]), fold(row["user_id"]), row["resource"]): row["in_use"] for row in rows if row["in_use"]
    } == used
    assert plan_repair(rows, facts).changes == ()
    json.dumps(rows)

    undone(task, database, result["undo"])
    assert everything(task, database) == before
    for status in {status for _, status in found}:
        event(status)
