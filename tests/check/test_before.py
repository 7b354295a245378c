"""What is found in a database before its schema is changed, and what the change then does."""

import pytest

from cellstep.check.before import LOCAL, NO_GO, NOTE, OK, WARNING, Expected, after_stop, judge
from cellstep.releases import load_release
from tasks.differences import compare
from tasks.hazards import look
from tasks.schemas import snapshot
from tests.support.keystonedb import new, old
from tests.support.migrations import migrate

pytestmark = pytest.mark.mariadb
RELEASE = load_release("grizzly-havana")


def expected(component):
    fact = RELEASE.components[component].databases[0]
    packages = RELEASE.components[component].packages
    return Expected(component, fact, fact.head_of(each.evr for each in packages.values()))


def checked(task, component="nova"):
    known = expected(component)
    seen = look(
        task,
        database="checked",
        repository_id=known.fact.repository_id,
        questions=known.questions,
        keystone=component == "keystone",
    ).result
    return judge(known, seen)


def bad(findings):
    return [finding for finding in findings if finding.status == NO_GO]


def about(findings, check, status=None):
    return [(f.what, f.rows) for f in findings if f.check == check and (status or f.status) == f.status != OK]


@pytest.fixture
def sql(server):
    def execute(*statements):
        for statement in statements:
            rows = server.execute(statement, database="checked")
        return rows

    return execute


@pytest.mark.parametrize("component", ["cinder", "glance", "ceilometer", "keystone"])
def test_an_empty_database_of_the_release_is_a_go(component, made, task):
    """Nothing is found in it but what the change drops; everything that was looked for is listed."""
    fact = RELEASE.components[component].databases[0]
    made(f"{component}-{fact.start[0]}", fact.repository_id)
    findings = checked(task, component)
    assert {finding.status for finding in findings} == {OK}
    assert sum(finding.check == "hazard" for finding in findings) == len(fact.hazards)


HAZARDS = {
    "1451": (
        "CREATE TABLE site_types (id int PRIMARY KEY, type_id int, FOREIGN KEY (type_id) REFERENCES volume_types (id))",
        192,
        "a foreign key of the site's own refers to volume_types: site_types.type_id: ",
    ),
    "1451 elsewhere": (
        "CREATE TABLE elsewhere.types (id int KEY, t int, FOREIGN KEY (t) REFERENCES checked.volume_types (id))",
        192,
        "a foreign key of the site's own refers to volume_types: types.t in the database elsewhere: ",
    ),
    "1060": (
        "ALTER TABLE services ADD disabled_reason varchar(255)",
        187,
        "services.disabled_reason exists already (a backport): ",
    ),
    "1050": (
        "CREATE TABLE project_user_quotas (id int PRIMARY KEY, note text)",
        202,
        "table project_user_quotas exists already: ",
    ),
    "1050 dump": ("CREATE TABLE dump_migrations (id int PRIMARY KEY)", 208, "a leftover table dump_migrations: "),
}


@pytest.mark.parametrize("name", HAZARDS)
def test_what_stops_nova_is_named_and_then_seen(name, made, task, sql, server):
    """Each with the error and the version that the change then really stops with."""
    statement, version, words = HAZARDS[name]
    errno = name[:4]
    made("nova-161")
    sql("CREATE DATABASE elsewhere", statement)
    (found,) = bad(checked(task))
    loses = "; 203 then drops that table with its data" if version == 202 else ""
    assert found.what == f"{words}`nova-manage db sync` stops with {errno} and leaves version {version}{loses}"
    assert found.remedy
    assert migrate(server, "checked") == (int(errno), version)
    (after,) = checked(task)
    assert (after.status, after.check) == (NO_GO, "version")
    assert after.what == f"at schema version {version}, not at 161 or 162: a change stopped part-way"
    assert f"known to come of this: {words.split(': ')[0]} ({errno})" in after.remedy
    assert "Restore the dump, then mend that before another try" in after.remedy


GENERIC = [
    ("CREATE TABLE pci_devices (id int PRIMARY KEY)", "table pci_devices", 1050, 212),
    ("ALTER TABLE compute_nodes ADD host_ip varchar(39)", "column compute_nodes.host_ip", 1060, 207),
    ("CREATE INDEX reservations_uuid_idx ON reservations (uuid)", "key reservations.reservations_uuid_idx", 1061, 203),
]


def test_what_else_stops_nova_is_told_by_the_references(made, task, sql, server):
    """Whatever the change makes and is there already; one after the other as it is mended."""
    made("nova-161")
    sql(*(statement for statement, *_ in GENERIC))
    found = {finding.what for finding in bad(checked(task))}
    assert found == {
        f"{what} exists already, and the change to 216 makes it: it can stop with {errno}"
        for _, what, errno, _ in GENERIC
    }
    seen = []
    for undo in ("DROP INDEX reservations_uuid_idx ON reservations", "ALTER TABLE compute_nodes DROP host_ip"):
        seen.append(migrate(server, "checked"))
        sql(undo)
    seen.append(migrate(server, "checked"))
    assert sorted(seen) == sorted((errno, version) for *_, errno, version in GENERIC)


ROWS = """
INSERT INTO services (host, `binary`, topic, report_count, deleted) VALUES ('n1', 'nova-compute', 'c', 1, 0),
 ('n1', 'nova-compute', 'c', 2, 0), ('n1', 'nova-compute', 'c', 3, 0), ('n2', 'nova-compute', 'c', 3, 0);
INSERT INTO key_pairs (user_id, name, deleted) VALUES ('u', 'k', 0), ('u', 'k', 0), ('u', 'k', 2), (NULL, 'k', 0);
INSERT INTO instances (uuid, deleted) VALUES ('u1', 0);
INSERT INTO compute_nodes (id, service_id, vcpus, memory_mb, local_gb, vcpus_used, memory_mb_used, local_gb_used,
 hypervisor_type, hypervisor_version, cpu_info, deleted)
 SELECT id, IF(id = 2, 99, 1), 1, 1, 1, 1, 1, 1, 'q', 1, '', 0 FROM services WHERE id < 3;
INSERT INTO compute_node_stats (compute_node_id, `key`, deleted) VALUES (1, 'a', 0), (2, 'b', 0), (77, 'c', 0);
INSERT INTO instance_faults (instance_uuid, code, deleted) VALUES ('gone', 500, 0), ('u1', 500, 0);
INSERT INTO volume_types (name, deleted) VALUES ('fast', 0);
INSERT INTO quota_usages (project_id, resource, in_use, reserved, deleted) VALUES ('p', 'instances', 2, 0, 0),
 ('p', 'floating_ips', 2, 0, 0);
INSERT INTO reservations (uuid, usage_id, delta, deleted) VALUES ('r', 1, 1, 0);
"""


def test_rows_that_go_are_counted_and_then_seen_to_go(made, task, sql, server):
    """Older duplicates, rows without a parent (a parent that is moved away itself is none), dropped tables."""
    made("nova-161")
    server.load(ROWS, database="checked")
    findings = checked(task)
    assert not bad(findings)
    assert sorted(about(findings, "duplicates")) == [
        ("key_pairs: older rows that are the same to uniq_key_pairs0user_id0name0deleted will be marked as deleted", 1),
        ("services: older rows that are the same to uniq_services0host0binary0deleted will be marked as deleted", 2),
        ("services: older rows that are the same to uniq_services0host0topic0deleted will be marked as deleted", 2),
    ]
    assert sorted(about(findings, "orphans", WARNING)) == [
        ("compute_node_stats: rows whose compute_node_id has no parent will be moved into dump_compute_node_stats", 2),
        ("compute_nodes: rows whose service_id has no parent will be moved into dump_compute_nodes", 1),
        ("instance_faults: rows whose instance_uuid has no parent will be moved into dump_instance_faults", 1),
    ]
    assert about(findings, "dropped", WARNING) == [("table volume_types will be dropped with its rows", 1)]
    assert [rows for _, rows in about(findings, "rows", NOTE)] == [1, 1]
    assert migrate(server, "checked") == (0, 216)
    moved = ("compute_node_stats", "compute_nodes", "instance_faults")
    counted = [sql(f"SELECT COUNT(*) AS n FROM dump_{table}")[0]["n"] for table in moved]  # noqa: S608 - names of this file
    assert counted == [2, 1, 1]
    assert sql("SELECT COUNT(*) AS n FROM services WHERE deleted = id") == [{"n": 2}]
    assert sql("SELECT COUNT(*) AS n FROM key_pairs WHERE deleted = id") == [{"n": 1}]
    assert sql("SELECT resource FROM quota_usages") == [{"resource": "floating_ips"}]
    (arrived,) = [finding for finding in checked(task) if finding.check == "version"]
    assert arrived.what == "at schema version 216 already: there is nothing to change"


def test_a_unique_key_over_deleted_rows_is_no_go(made, task, sql, server):
    """Rows that are marked as deleted with the same number: no migration makes them differ."""
    made("nova-161")
    sql("INSERT INTO key_pairs (user_id, name, deleted) VALUES ('u', 'k', 7), ('u', 'k', 7)")
    (found,) = bad(checked(task))
    assert found.what == (
        "key_pairs: rows that the unique key uniq_key_pairs0user_id0name0deleted cannot hold: it can stop with 1062"
    )
    assert migrate(server, "checked") == (1062, 197)


def test_what_is_the_sites_own_is_listed_and_lives_on(made, task, sql, server):
    """CERN's table and columns at version 162, a key, a foreign key; the change minds none of them."""
    made("nova-161", version=162)
    sql(
        "CREATE TABLE cern_network (id int PRIMARY KEY, netcluster varchar(255), host varchar(255), deleted bool)",
        "INSERT INTO cern_network VALUES (1, 'S513-C', 'h1', 0)",
        "ALTER TABLE fixed_ips ADD mac varchar(255), ADD netcluster varchar(255)",
        "CREATE TABLE site_notes (id int PRIMARY KEY, uuid varchar(36), FOREIGN KEY (uuid) REFERENCES instances (uuid))"
        " ENGINE=InnoDB DEFAULT CHARSET=utf8",
        "CREATE INDEX mine ON instances (display_name)",
        "CREATE TABLE dump_of_2013 (id int) ENGINE=MyISAM",
        "ALTER TABLE volume_types ADD colour varchar(9)",
    )
    findings = checked(task)
    assert sorted(about(findings, "local", LOCAL)) == [
        ("column fixed_ips.mac is the site's own: varchar(255)", None),
        ("column fixed_ips.netcluster is the site's own: varchar(255)", None),
        ("key instances.mine is the site's own: key (display_name)", None),
        ("table cern_network is the site's own", 1),
        ("table site_notes is the site's own", 0),
    ]
    assert about(findings, "leftover") == [("table dump_of_2013 is left over: no release makes it", 0)]
    assert [finding.what for finding in bad(findings)] == [
        "column volume_types.colour is the site's own, and its table is dropped with it"
    ]
    before = snapshot(task, "checked")
    assert migrate(server, "checked") == (0, 216)
    lost = [
        each.what for each in compare(before, snapshot(task, "checked")) if each.what.startswith("column fixed_ips")
    ]
    assert not lost


def test_what_the_release_has_and_the_database_has_not(made, task, sql):
    """A warning; no-go where the change takes away what is not there."""
    made("nova-161")
    sql(
        "ALTER TABLE key_pairs DROP KEY key_pair_user_id_name_idx",
        "ALTER TABLE instances MODIFY user_data text",
        "DROP TABLE certificates",
        "DROP TABLE sm_volume",
    )
    findings = checked(task)
    assert {finding.what.split(",")[0] for finding in bad(findings)} == {
        "key key_pairs.key_pair_user_id_name_idx is missing",
        "table sm_volume is missing",
    }
    assert {what for what, _ in about(findings, "reference", WARNING)} == {
        "column instances.user_data is text, not mediumtext, unlike nova-161",
        "table certificates is missing, unlike nova-161",
    }


def test_a_backport_in_cinder(made, task, sql):
    """volumes.attached_host."""
    made("cinder-9")
    sql("ALTER TABLE volumes ADD attached_host varchar(255)")
    (found,) = bad(checked(task, "cinder"))
    assert found.what == (
        "volumes.attached_host exists already (a backport): "
        "`cinder-manage db sync` stops with 1060 and leaves version 11"
    )


def test_keystones_keys_and_tokens(made, task, sql, server):
    """A key with another secret is named, its secrets are not; expired tokens are counted."""
    made("keystone-22")
    sql(
        "INSERT INTO domain (id, name, enabled) VALUES ('d', 'd', 1)",
        "INSERT INTO user (id, name, domain_id, enabled) VALUES ('u1', 'u1', 'd', 1)",
        "INSERT INTO project (id, name, domain_id, enabled) VALUES ('p1', 'p1', 'd', 1)",
        "INSERT INTO token (id, expires, valid) VALUES ('a', '2014-01-01', 1), ('b', '2999-01-01', 1)",
    )
    for table, row in (("ec2_credential", old("key", "one-secret")), ("credential", new("key", "other-secret"))):
        names, marks = ", ".join(f"`{name}`" for name in row), ", ".join(["%s"] * len(row))
        server.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()), database="checked")  # noqa: S608 - names of this file
    findings = checked(task, "keystone")
    (found,) = bad(findings)
    assert found.what.startswith("an EC2 access key exists in credential with another secret: key (")
    assert "`keystone-manage db_sync` stops with Conflict and leaves version 32" in found.what
    assert not [f for f in findings if "-secret" in f"{f.what}{f.remedy}"]
    assert about(findings, "tokens") == [("1 of 2 tokens have expired", 1)]


def test_no_version_and_another_release(made, task, sql):
    """A database that tells none, or one that the release does not begin at."""
    made("glance-22", "Glance Migrations", 30)
    (found,) = bad(checked(task, "glance"))
    assert found.what == "at schema version 30, not at 22"
    sql("DELETE FROM migrate_version")
    (found,) = bad(checked(task, "glance"))
    assert found.what == "it tells no schema version of Glance Migrations"


def test_after_a_stop():
    """By the release's rows: most are restored, keystone's is run again; an unknown cause is restored."""
    nova, keystone = (RELEASE.components[name].databases[0] for name in ("nova", "keystone"))
    assert after_stop(nova, 170) == "Restore the dump before another try"
    assert "and 203 then drops that table with its data. Restore the dump" in after_stop(nova, 202)
    assert after_stop(keystone, 32).endswith("then run `keystone-manage db_sync` again")
