"""The quota check and repair against a real MariaDB, with plain loops as the truth."""

import datetime as dt
import json
from collections import Counter
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from plugins.connections.mysql import Mysql
from reports.tables import findings, quotas
from tasks.quotas import RepairRefusedError, apply, plan_repair, read
from tests.support import mariadb

pytestmark = pytest.mark.mariadb

STAMPS = "created_at datetime, updated_at datetime, deleted_at datetime"
KEY = f"{STAMPS}, id int NOT NULL AUTO_INCREMENT PRIMARY KEY, deleted int"
TEXT = "varchar(255)"
# What nova's tables have of the columns counted; `{user}` is Havana's.
SCHEMA = f"""
CREATE TABLE instances ({KEY}, user_id {TEXT}, project_id {TEXT}, vm_state {TEXT}, memory_mb int, vcpus int,
  uuid varchar(36) UNIQUE);
CREATE TABLE security_groups ({KEY}, name {TEXT}, user_id {TEXT}, project_id {TEXT});
CREATE TABLE floating_ips ({KEY}, address varchar(39), project_id {TEXT}, auto_assigned tinyint(1));
CREATE TABLE fixed_ips ({KEY}, address varchar(39), instance_uuid varchar(36),
  FOREIGN KEY (instance_uuid) REFERENCES instances (uuid));
CREATE TABLE quota_usages ({KEY}, project_id {TEXT}, resource {TEXT}, in_use int NOT NULL,
  reserved int NOT NULL, until_refresh int {{user}});
CREATE TABLE reservations ({KEY}, uuid varchar(36) NOT NULL, usage_id int NOT NULL, project_id {TEXT},
  resource {TEXT}, delta int NOT NULL, expire datetime {{user}},
  FOREIGN KEY (usage_id) REFERENCES quota_usages (id));
"""
TABLES = ("reservations", "quota_usages", "fixed_ips", "floating_ips", "security_groups", "instances")
DATABASES = {"havana": ", user_id varchar(255)", "grizzly": ""}
PER_USER = ("instances", "cores", "ram", "security_groups")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    try:
        found = mariadb.start(tmp_path_factory.mktemp("quotas"))
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))
    try:
        for name, user in DATABASES.items():
            found.load(
                f"CREATE DATABASE {name} CHARACTER SET utf8 COLLATE utf8_general_ci; USE {name};"
                + SCHEMA.format(user=user)
            )
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def task(server):
    """A task on a host whose connection is the scratch server."""
    mysql = Mysql("scratch", "root", "", "127.0.0.1", server.port)
    host = SimpleNamespace(
        name="top-infra01",
        get_connection=lambda _plugin, _config: mysql,
        get_connection_parameters=lambda _plugin: SimpleNamespace(extras={"via": "direct"}),
    )
    yield SimpleNamespace(host=host, nornir=SimpleNamespace(config=None), mysql=mysql)
    mysql.close()


@pytest.fixture(params=sorted(DATABASES))
def database(request, task):
    """An emptied database, by its release's name."""
    clean(task, request.param)
    return request.param


def clean(task, database):
    with task.mysql.transaction(database) as cursor:
        for table in TABLES:
            cursor.execute(f"DELETE FROM {table}")  # noqa: S608 - names of this file


def fill(task, database, content):
    """Insert rows: a dict of table to a list of dicts."""
    with task.mysql.transaction(database) as cursor:
        for table, rows in content.items():
            userless = database == "grizzly" and table in ("quota_usages", "reservations")
            for row in rows:
                columns = [column for column in row if column != "user_id" or not userless]
                marks = ", ".join(["%s"] * len(columns))
                names = ", ".join(columns)
                sql = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 - names of this file
                cursor.execute(sql, tuple(row[column] for column in columns))


def everything(task, database):
    return {
        "quota_usages": task.mysql.query("SELECT * FROM quota_usages ORDER BY id", database=database),
        "reservations": task.mysql.query("SELECT * FROM reservations ORDER BY id", database=database),
    }


def check(task, database):
    """Facts, the table, and its rows as the repair wants them."""
    facts = read(task, database=database).result
    frames = [pd.DataFrame(facts[name]) for name in ("usages", "actual", "reservations")]
    return (
        facts,
        quotas.table(*frames, per_user=facts["per_user"]),
        quotas.records(*frames, per_user=facts["per_user"]),
    )


def instance(number, user="u1", project="p1", vcpus=2, memory_mb=512, deleted=0, **more):
    return {
        "uuid": f"i-{number}",
        "user_id": user,
        "project_id": project,
        "vcpus": vcpus,
        "memory_mb": memory_mb,
        "deleted": deleted,
        **more,
    }


def usage(number, resource, in_use, user="u1", project="p1", reserved=0, deleted=0, **more):
    return {
        "id": number,
        "project_id": project,
        "user_id": user,
        "resource": resource,
        "in_use": in_use,
        "reserved": reserved,
        "deleted": deleted,
        **more,
    }


def reservation(number, usage_id, delta, deleted=0, **more):
    return {
        "id": number,
        "uuid": f"r-{number}",
        "usage_id": usage_id,
        "delta": delta,
        "deleted": deleted,
        **more,
    }


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
    assert len(repair.statements) == 4
    server.load(repair.sql, database="havana")
    assert set(check(task, "havana")[1]["status"]) == {"ok"}
    assert evil in check(task, "havana")[1]["user_id"].tolist()


def test_nothing_to_repair_is_said(task, database):
    facts, table, rows = check(task, database)
    repair = plan_repair(rows, facts)
    assert table.empty
    assert repair.sql == "-- Nothing to repair.\n"
    result = apply(task, repair=repair, database=database)
    assert not result.changed
    assert result.result["executed"] == 0


def test_an_unknown_status_is_refused():
    facts = {"per_user": True, "usages": [], "reservations": []}
    with pytest.raises(ValueError, match="unknown status 'odd'"):
        plan_repair([{"status": "odd"}], facts)


# --- random databases ---

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
