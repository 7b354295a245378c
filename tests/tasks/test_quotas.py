"""The quota check and repair against a real MariaDB."""

import datetime as dt
from collections import Counter

import pytest

from tasks.quotas import RepairRefusedError, apply, plan_repair
from tests.support.novadb import DATABASES, check, clean, everything, fill, instance, reservation, usage

pytestmark = pytest.mark.mariadb


@pytest.fixture(params=sorted(DATABASES))
def database(request, task):
    """An emptied database, by its release's name."""
    clean(task, request.param)
    return request.param


def test_the_loss_of_migration_216_is_found_and_repaired(task, database):
    """Everything in use has lost its row, by user or by project, and the repair adds them."""
    fill(
        task,
        database,
        {
            "instances": [
                instance(1),
                instance(2, vm_state="error"),
                instance(3, deleted=3),
                instance(4, user="u2"),
            ],
            "security_groups": [{"name": "default", "user_id": "u1", "project_id": "p1", "deleted": 0}],
        },
    )
    facts, table, rows = check(task, database)
    missing = {(row.user_id, row.resource): row.actual for row in table.itertuples() if row.status == "missing"}
    if database == "havana":
        assert missing == {
            ("u1", "instances"): 2,
            ("u1", "cores"): 4,
            ("u1", "ram"): 1024,
            ("u1", "security_groups"): 1,
            ("u2", "instances"): 1,
            ("u2", "cores"): 2,
            ("u2", "ram"): 512,
        }
    else:
        assert missing == {
            ("", "instances"): 3,
            ("", "cores"): 6,
            ("", "ram"): 1536,
            ("", "security_groups"): 1,
        }
    assert table["in_use"].isna().all()
    done = apply(task, repair=plan_repair(rows, facts), database=database)
    assert done.changed
    assert done.result["executed"] == len(missing)
    assert set(check(task, database)[1]["status"]) == {"ok"}
    inserted = everything(task, database)["quota_usages"][0]
    age = dt.datetime.now(dt.UTC).replace(tzinfo=None) - inserted["created_at"]
    assert abs(age) < dt.timedelta(minutes=1)
    assert (inserted["reserved"], inserted["until_refresh"], inserted["deleted"]) == (0, None, 0)


def test_fixed_and_floating_ips_count_by_project(task, database):
    fill(
        task,
        database,
        {
            "instances": [instance(1), instance(2, user="u2")],
            "fixed_ips": [
                {"address": "10.0.0.1", "instance_uuid": "i-1", "deleted": 0},
                {"address": "10.0.0.2", "instance_uuid": "i-2", "deleted": 0},
                {"address": "10.0.0.3", "instance_uuid": "i-2", "deleted": 3},
                {"address": "10.0.0.4", "instance_uuid": None, "deleted": 0},
            ],
            "floating_ips": [
                {"address": "192.0.2.1", "project_id": "p1", "auto_assigned": 0, "deleted": 0},
                {"address": "192.0.2.2", "project_id": "p1", "auto_assigned": 1, "deleted": 0},
                {"address": "192.0.2.3", "project_id": None, "auto_assigned": 0, "deleted": 0},
            ],
        },
    )
    table = check(task, database)[1]
    ips = table[table["resource"].str.endswith("_ips")].set_index("resource")
    assert set(ips["user_id"]) == {""}
    assert ips["actual"].to_dict() == ({"floating_ips": 1} | ({"fixed_ips": 2} if database == "havana" else {}))


def test_duplicates_keep_the_newest_row_and_all_reservations(server, task):
    server_now = "2014-02-03 04:05:06"
    fill_rows = {
        "quota_usages": [
            usage(1, "cores", 9, reserved=2),
            usage(2, "cores", 4, reserved=1, updated_at=server_now),
            usage(3, "cores", 1, deleted=3),
        ],
        "reservations": [
            reservation(1, 1, 2, expire="2014-01-01 00:00:00"),
            reservation(2, 1, -1),
            reservation(3, 1, 5, deleted=3),
            reservation(4, 2, 1),
        ],
        "instances": [instance(1, vcpus=2)],
    }
    clean(task, "havana")
    fill(task, "havana", fill_rows)
    before = everything(task, "havana")
    facts, table, rows = check(task, "havana")
    assert table.loc[table["resource"] == "cores", "status"].tolist() == ["duplicate", "duplicate"]
    undo = []
    result = apply(task, repair=plan_repair(rows, facts), database="havana", keep_undo=undo.append).result
    assert undo == [result["undo"]]
    after = everything(task, "havana")
    live = [row for row in after["quota_usages"] if row["deleted"] == 0 and row["resource"] == "cores"]
    assert [(row["id"], row["in_use"], row["reserved"]) for row in live] == [(2, 2, 3)]
    assert [row["usage_id"] for row in after["reservations"]] == [2, 2, 1, 2]
    first = after["quota_usages"][0]
    assert first["deleted"] == 1
    assert first["deleted_at"] is not None
    server.load(result["undo"], database="havana")
    assert everything(task, "havana") == before


def test_a_row_that_changed_meanwhile_refuses_the_whole_repair(task, database):
    fill(task, database, {"quota_usages": [usage(1, "cores", 9), usage(2, "ram", 9, reserved=1)]})
    facts, _, rows = check(task, database)
    repair = plan_repair(rows, facts)
    task.mysql.query("UPDATE quota_usages SET in_use = 10 WHERE id = 2", database=database)
    before = everything(task, database)
    with pytest.raises(RepairRefusedError, match=r"row 2, ram .* now: \(id 2, in_use 10, reserved 1"):
        apply(task, repair=repair, database=database)
    assert everything(task, database) == before


def test_a_row_that_appeared_meanwhile_refuses_the_insert(task, database):
    fill(task, database, {"instances": [instance(1)]})
    facts, _, rows = check(task, database)
    fill(task, database, {"quota_usages": [usage(7, "ram", 512, user="U1", project="P1")]})
    with pytest.raises(RepairRefusedError, match=r"insert ram .* now: \(id 7"):
        apply(task, repair=plan_repair(rows, facts), database=database)
    assert len(everything(task, database)["quota_usages"]) == 1


def test_undo_that_cannot_be_kept_rolls_back(task):
    clean(task, "havana")
    fill(task, "havana", {"instances": [instance(1)]})
    facts, _, rows = check(task, "havana")

    def full(_text):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        apply(task, repair=plan_repair(rows, facts), database="havana", keep_undo=full)
    assert everything(task, "havana")["quota_usages"] == []


def test_the_readable_script_does_what_apply_does(server, task):
    clean(task, "havana")
    evil = "x'; DROP TABLE quota_usages; -- \n%s\\ é"
    content = {"instances": [instance(1, user=evil)], "quota_usages": [usage(1, "cores", 9, project=None)]}
    fill(task, "havana", content)
    facts, table, rows = check(task, "havana")
    assert Counter(table["status"]) == {"missing": 3, "orphan": 1}
    repair = plan_repair(rows, facts)
    assert len(repair.changes) == 4
    server.load(repair.script, database="havana")
    assert set(check(task, "havana")[1]["status"]) == {"ok"}
    assert evil in check(task, "havana")[1]["user_id"].tolist()


def test_nothing_to_repair_is_said(task, database):
    facts, table, rows = check(task, database)
    repair = plan_repair(rows, facts)
    assert table.empty
    assert repair.script == "-- Nothing to repair.\n"
    result = apply(task, repair=repair, database=database)
    assert not result.changed
    assert result.result["executed"] == 0


def test_an_unknown_status_is_refused():
    facts = {"per_user": True, "usages": [], "reservations": []}
    with pytest.raises(ValueError, match="unknown status 'odd'"):
        plan_repair([{"status": "odd"}], facts)
