"""Cinder's quota check and repair against a real MariaDB, with plain loops as the truth."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from reports.tables import findings
from tasks.quotas import apply, plan_repair
from tests.support.cinderdb import DATABASES, fill, make, snapshot, usage, volume, volume_type
from tests.support.novadb import check, everything, reservation, undone

pytestmark = pytest.mark.mariadb
PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
PARTS = ("volumes", "snapshots", "gigabytes")
GOOD = {"ok", "due", "uncounted", "busy"}


@pytest.fixture(scope="module", autouse=True)
def _databases(server):
    make(server)


@pytest.fixture(params=sorted(DATABASES))
def database(request):
    """A database, by its release."""
    return request.param


def statuses(table):
    return {(row.project_id, row.resource): row.status for row in table.itertuples()}


def test_each_part_and_each_type_is_counted_by_project(task, database):
    """A snapshot is of its volume's type, and takes gigabytes; types are Havana's."""
    content = {
        "volume_types": [volume_type("ssd"), volume_type("old", deleted=1)],
        "volumes": [
            volume(1, size=10, kind="ssd"),
            volume(2, size=5),
            volume(3, size=7, kind="old"),
            volume(4, size=100, deleted=1),
            volume(5, "p2", 3, "ssd"),
            volume(6, None, 3),
        ],
        "snapshots": [snapshot(1, 1, size=10), snapshot(2, 2, size=5), snapshot(3, 2, size=5, deleted=1)],
    }
    fill(task, database, content)
    facts, table, rows = check(task, database, component="cinder")
    actual = {(row.project_id, row.resource): row.actual for row in table.itertuples()}
    plain = {("p1", "volumes"): 3, ("p1", "gigabytes"): 37, ("p1", "snapshots"): 2}
    plain |= {("p2", "volumes"): 1, ("p2", "gigabytes"): 3}
    by_type = {("p1", "volumes_ssd"): 1, ("p1", "gigabytes_ssd"): 20, ("p1", "snapshots_ssd"): 1}
    by_type |= {("p2", "volumes_ssd"): 1, ("p2", "gigabytes_ssd"): 3}
    assert actual == plain | (by_type if database == "cinder_h" else {})
    assert {status for key, status in statuses(table).items() if key in plain} == {"missing"}
    assert {status for key, status in statuses(table).items() if key in by_type} <= {"due"}
    apply(task, repair=plan_repair(rows, facts), database=database)
    assert set(check(task, database, component="cinder")[1]["status"]) == {"ok"}
    without = check(task, database, component="cinder", snapshot_gigabytes=False)[1]
    wrong = {key for key, status in statuses(without).items() if status == "wrong"}
    assert wrong == {key for key in actual if key[0] == "p1" and key[1].startswith("gigabytes")}


def test_a_soft_deleted_row_is_flagged_as_cinder_does_it(server, task, database):
    content = {"quota_usages": [usage(5, "volumes", 1), usage(6, "volumes", 2), usage(7, "volumes", 3, project=None)]}
    content |= {"reservations": [reservation(1, 5, 1, expire="2013-10-17"), reservation(2, 7, 1, expire="2013-10-17")]}
    fill(task, database, content | {"volumes": [volume(1)]})
    before = everything(task, database)
    facts, _, rows = check(task, database, component="cinder")
    undo = apply(task, repair=plan_repair(rows, facts), database=database).result["undo"]
    after = everything(task, database)
    live = [(row["id"], row["in_use"], row["reserved"]) for row in after["quota_usages"] if not row["deleted"]]
    assert live[0] == (6, 1, 1)
    assert {row["deleted"] for row in after["quota_usages"]} == {0, 1}
    assert [(row["usage_id"], row["deleted"]) for row in after["reservations"]] == [(6, 0), (7, 1)]
    server.load(undo, database=database)
    assert everything(task, database) == before


def test_resources_that_are_not_known_are_left_alone(task, database):
    """Rows of a type that is gone, of two types with one name, or of a resource of the site's own."""
    kinds = [volume_type("gone", deleted=1), volume_type("twice"), {**volume_type("x"), "name": "twice"}]
    rows = [usage(1, "volumes_gone", 4), usage(2, "volumes_twice", 9), usage(3, "backups", 3, reserved=1)]
    fill(task, database, {"volume_types": kinds, "quota_usages": rows, "volumes": [volume(1, kind="twice")]})
    facts, table, found = check(task, database, component="cinder")
    assert Counter(table["status"]) == {"uncounted": 2, "leaked": 1, "missing": 2}
    apply(task, repair=plan_repair(found, facts), database=database)
    after = [row for row in everything(task, database)["quota_usages"] if row["id"] <= 3]
    assert [(row["in_use"], row["reserved"]) for row in after] == [(4, 0), (9, 0), (3, 0)]


_PROJECT = st.sampled_from(["p1", "P1", "p2", None])
_KIND = st.sampled_from([None, "ssd", "SAN, 'fast' %s", "gone"])
_GONE = st.sampled_from([0, 0, 0, 1])
_SIZE = st.integers(0, 9)


@st.composite
def contents(draw):
    """Random volumes, snapshots and usage rows of three types, one of them deleted."""
    volumes = [
        volume(n, draw(_PROJECT), draw(_SIZE), draw(_KIND), draw(_GONE)) for n in range(1, draw(st.integers(1, 6)))
    ]
    snapshots = [
        snapshot(n, draw(st.sampled_from(volumes))["id"][2:], draw(_PROJECT), draw(_SIZE), draw(_GONE))
        for n in range(draw(st.integers(0, 4)))
        if volumes
    ]
    names = [*PARTS, "volumes_ssd", "gigabytes_SAN, 'fast' %s", "snapshots_gone"]
    usages = [
        usage(n, draw(st.sampled_from(names)), draw(st.integers(-1, 9)), draw(_PROJECT), draw(st.integers(0, 1)))
        for n in range(1, draw(st.integers(1, 7)))
    ]
    kinds = [volume_type("ssd"), volume_type("SAN, 'fast' %s"), volume_type("gone", deleted=1)]
    return {"volume_types": kinds, "volumes": volumes, "snapshots": snapshots, "quota_usages": usages}


def truth(content, by_type):
    """What is in use by project and resource, counted in plain loops; what is not zero."""
    kinds = {row["id"]: row["name"] for row in content["volume_types"] if not row["deleted"] and by_type}
    types = {row["id"]: row["volume_type_id"] for row in content["volumes"]}
    used = Counter()

    def count(project, kind, parts):
        if project is None:
            return
        for part, amount in parts.items():
            used[project.lower(), part] += amount
            if kind in kinds:
                used[project.lower(), f"{part}_{kinds[kind]}"] += amount

    for row in content["volumes"]:
        if not row["deleted"]:
            count(row["project_id"], row["volume_type_id"], {"volumes": 1, "gigabytes": row["size"]})
    for row in content["snapshots"]:
        if not row["deleted"]:
            count(row["project_id"], types[row["volume_id"]], {"snapshots": 1, "gigabytes": row["volume_size"]})
    return +used


@pytest.mark.parametrize("name", sorted(DATABASES))
@settings(max_examples=10, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(content=contents())
def test_random_volumes_check_repair_and_undo(task, name, content):
    """The table is the plain loops' truth; repaired it is clean, twice is nothing, undone it is as it was."""
    fill(task, name, content)
    before, used = everything(task, name), truth(content, name == "cinder_h")
    facts, _, rows = check(task, name, component="cinder")
    actual = {(row["project_id"].lower(), row["resource"]): row["actual"] for row in rows if row["actual"]}
    assert actual == used
    undo = apply(task, repair=plan_repair(rows, facts), database=name).result["undo"]
    facts, table, rows = check(task, name, component="cinder")
    assert findings("quotas", table).empty
    assert plan_repair(rows, facts).changes == ()
    counted = {(row["project_id"].lower(), row["resource"]): row["in_use"] for row in rows if row["actual"]}
    assert counted == used
    undone(task, name, undo)
    assert everything(task, name) == before
