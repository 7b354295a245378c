"""Nova's schema from 161 to 216 on a real MariaDB, run by the stand-in nova-manage as the hosts run it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pymysql
import pytest

from lab.content import schema
from tests.support import mariadb

FILES = Path(__file__).parents[2] / "lab" / "files" / "nova"
pytestmark = pytest.mark.mariadb
RUNS = (
    "CREATE DATABASE lab; CREATE TABLE lab.db_sync_runs (id int AUTO_INCREMENT PRIMARY KEY, at datetime,"
    " host varchar(64), from_version int, to_version int, `release` varchar(32))"
)

SAMPLE = """
INSERT INTO instances (uuid, user_id, project_id, vcpus, memory_mb, locked, vm_state, deleted) VALUES
 ('u1', 'ann', 'p1', 2, 512, 1, 'active', 0),
 ('u2', 'bob', 'p1', 1, 256, 0, 'error', 0),
 ('u3', 'bob', 'p1', 1, 256, 0, 'deleted', 3);
INSERT INTO floating_ips (address, project_id, auto_assigned, deleted) VALUES
 ('192.0.2.1', 'p1', 0, 0), ('192.0.2.2', NULL, 0, 0);
INSERT INTO quota_usages (project_id, resource, in_use, reserved, deleted) VALUES
 ('p1', 'instances', 2, 0, 0), ('p1', 'cores', 3, 0, 0), ('p1', 'ram', 768, 0, 0),
 ('p1', 'security_groups', 0, 0, 0), ('p1', 'floating_ips', 1, 1, 0);
INSERT INTO reservations (uuid, usage_id, project_id, resource, delta, deleted)
 SELECT 'r1', id, project_id, resource, 1, 0 FROM quota_usages WHERE resource = 'floating_ips';
INSERT INTO cells (name, username, password, rpc_host, rpc_port, rpc_virtual_host, is_parent, deleted) VALUES
 ('a', 'nova', 'pw', 'rabbit01', 5672, '/', 0, 0),
 ('b', 'nova', 'p@ss:w/rd#1', 'rabbit01', 5672, '/cell_02', 0, 0),
 ('c', 'nova', 'pw', 'rabbit01', NULL, NULL, 0, 0);
"""


class Nova(NamedTuple):
    """A scratch nova database at 161, and how to run either release's nova-manage on it."""

    connection: "pymysql.Connection[Any]"
    directory: Path

    def sql(self, *statements: str) -> tuple[tuple[Any, ...], ...]:
        """Run statements; the rows of the last one."""
        with self.connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return tuple(cursor.fetchall())

    def manage(self, *arguments: str, release: str = "havana") -> subprocess.CompletedProcess[str]:
        """Run nova-manage of that release."""
        environment = {
            **os.environ,
            "PYTHONPATH": f"{self.directory / release}",
            "NOVA_CONF": str(self.directory / "nova.conf"),
        }
        code = "import sys; from nova_lab.manage import main; sys.exit(main(sys.argv[1:]))"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def version(self) -> int:
        """The schema version as the database tells it."""
        return int(self.sql("SELECT version FROM migrate_version WHERE repository_id = 'nova'")[0][0])

    def tables(self) -> set[str]:
        """Names of all tables."""
        return {row[0] for row in self.sql("SHOW TABLES")}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mariadb.Server]:
    """A MariaDB of our own on loopback."""
    try:
        with mariadb.running(tmp_path_factory.mktemp("db"), "--innodb-flush-method=nosync") as running:
            yield running
    except mariadb.MariadbMissingError as error:
        pytest.skip(str(error))


@pytest.fixture
def nova(server: mariadb.Server, tmp_path: Path) -> Iterator[Nova]:
    """A fresh nova database at 161, with two projects, Grizzly's quota rows and a cells table."""
    for name in ("grizzly", "havana"):
        package = tmp_path / name / "nova_lab"
        shutil.copytree(FILES / "nova_lab", package)
        shutil.copy(FILES / f"release_{name}.py", package / "release.py")
        if name == "grizzly":
            (package / "migrations.py").unlink()
    (tmp_path / "nova.conf").write_text(f"[DEFAULT]\nsql_connection = mysql://root@127.0.0.1:{server.port}/nova\n")
    connection = pymysql.connect(host="127.0.0.1", port=server.port, user="root", autocommit=True)
    nova = Nova(connection, tmp_path)
    nova.sql("DROP DATABASE IF EXISTS nova", "DROP DATABASE IF EXISTS lab", "CREATE DATABASE nova", "USE nova")
    nova.sql(*RUNS.split("; "))
    nova.sql(*(part for part in schema.nova().split(";\n") if part.strip()))
    nova.sql(*(part for part in SAMPLE.split(";\n") if part.strip()))
    yield nova
    connection.close()


def test_reaches_216_and_keeps_the_data(nova: Nova) -> None:
    """From 161 all the way, in one run, counted once."""
    assert len(nova.tables()) == 111
    result = nova.manage("db", "sync")
    assert result.returncode == 0, result.stderr
    assert nova.version() == 216
    assert nova.manage("db", "version").stdout == "216\n"
    assert len(nova.tables()) == 115
    assert nova.sql("SELECT from_version, to_version, `release` FROM lab.db_sync_runs") == ((161, 216, "2013.2.1"),)
    assert nova.sql("SELECT uuid, locked_by, cleaned FROM instances ORDER BY id") == (
        ("u1", "admin", 0),
        ("u2", None, 0),
        ("u3", None, 1),
    )


def test_starts_from_a_local_162_too(nova: Nova) -> None:
    """Slot 162 holds a site's own migration; the way up is the same."""
    nova.sql("UPDATE migrate_version SET version = 162")
    assert nova.manage("db", "sync").returncode == 0
    assert nova.version() == 216


def test_a_second_run_changes_nothing(nova: Nova) -> None:
    """At the head already: exit 0, counted, nothing done."""
    nova.manage("db", "sync")
    assert nova.manage("db", "sync").returncode == 0
    assert nova.sql("SELECT COUNT(*), MIN(from_version), MAX(from_version) FROM lab.db_sync_runs") == ((2, 161, 216),)


def test_grizzly_knows_nothing_above_its_own_head(nova: Nova) -> None:
    """Grizzly's nova-manage does nothing at 161, and fails on a database that is newer than itself."""
    assert nova.manage("db", "sync", release="grizzly").returncode == 0
    assert nova.version() == 161
    nova.manage("db", "sync")
    refused = nova.manage("db", "sync", release="grizzly")
    assert refused.returncode == 1
    assert "version 216 is not in this release" in refused.stderr


def test_200_makes_transport_urls(nova: Nova) -> None:
    """Virtual hosts and passwords are quoted; what is NULL is left out."""
    nova.manage("db", "sync")
    assert nova.sql("SELECT transport_url FROM cells ORDER BY name") == (
        ("rabbit://nova:pw@rabbit01:5672/%2F",),
        ("rabbit://nova:p%40ss%3Aw%2Frd%231@rabbit01:5672/%2Fcell_02",),
        ("rabbit://nova:pw@rabbit01/",),
    )
    assert nova.manage("cell", "list").stdout.splitlines()[2].split() == [
        "1",
        "a",
        "child",
        "nova",
        "rabbit01",
        "5672",
        "/",
    ]


def test_216_loses_the_quota_rows(nova: Nova) -> None:
    """The four per-user resources are gone, reserved leaks, and a row without a project appears."""
    nova.manage("db", "sync")
    assert nova.sql("SELECT project_id, user_id, resource, in_use, reserved FROM quota_usages ORDER BY id") == (
        ("p1", None, "floating_ips", 1, 1),
        (None, None, "floating_ips", 1, 0),
    )
    assert nova.sql("SELECT COUNT(*) FROM reservations") == ((0,),)


@pytest.mark.parametrize(
    ("condition", "errno", "version"),
    [
        pytest.param(
            "CREATE TABLE site_types (id int PRIMARY KEY, type_id int,"
            " FOREIGN KEY (type_id) REFERENCES volume_types (id)) ENGINE=InnoDB",
            1451,
            192,
            id="local foreign key on volume_types",
        ),
        pytest.param(
            "ALTER TABLE services ADD disabled_reason varchar(255)",
            1060,
            187,
            id="backported disabled_reason",
        ),
        pytest.param(
            "CREATE TABLE project_user_quotas (id int PRIMARY KEY, note text)",
            1050,
            202,
            id="backported quotas",
        ),
        pytest.param("CREATE TABLE dump_migrations (id int PRIMARY KEY)", 1050, 208, id="leftover dump table"),
    ],
)
def test_stops_part_way(nova: Nova, condition: str, errno: int, version: int) -> None:
    """What stands in the way gives MariaDB's own error and leaves the version before it."""
    nova.sql(condition)
    result = nova.manage("db", "sync")
    assert result.returncode == 1
    assert f"({errno}," in result.stderr
    assert nova.version() == version
    if version == 202:
        assert "project_user_quotas" not in nova.tables(), "203's handler drops the table it found, with its data"


def test_an_extra_column_is_harmless(nova: Nova) -> None:
    """A site's own column and foreign key on instances do not stop the sync."""
    nova.sql(
        "ALTER TABLE instances ADD site_tag varchar(16)",
        "CREATE TABLE site_notes (id int PRIMARY KEY, uuid varchar(36),"
        " FOREIGN KEY (uuid) REFERENCES instances (uuid)) ENGINE=InnoDB DEFAULT CHARSET=utf8",
    )
    assert nova.manage("db", "sync").returncode == 0


def test_duplicates_and_orphans_are_put_aside(nova: Nova) -> None:
    """A dedupe keeps the newest row; 209 moves rows without a parent into its dump table."""
    nova.sql(
        "INSERT INTO services (host, `binary`, topic, report_count, deleted) VALUES"
        " ('n1', 'nova-compute', 'compute', 1, 0), ('n1', 'nova-compute', 'compute', 2, 0)",
        "INSERT INTO instance_faults (instance_uuid, code, deleted) VALUES ('gone', 500, 0), ('u1', 500, 0)",
    )
    assert nova.manage("db", "sync").returncode == 0
    assert nova.sql("SELECT id, deleted FROM services ORDER BY id") == ((1, 1), (2, 0))
    assert nova.sql("SELECT instance_uuid FROM dump_instance_faults") == (("gone",),)
    assert nova.sql("SELECT instance_uuid FROM instance_faults") == (("u1",),)
