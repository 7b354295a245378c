"""`cellstep check` and `cellstep schema` on a cloud whose database is a scratch MariaDB, as an operator calls them."""

import json
import os
import subprocess
import sys

import pytest

from cellstep import schemas
from cellstep.check.before import LOCAL, NO_GO, OK, WARNING, Finding
from cellstep.check.survey import Check
from cellstep.cloud.load import load_cloud
from cellstep.cloud.places import places
from tests.support import mariadb
from tests.support.ddl import ddl

pytestmark = pytest.mark.mariadb
CLOUD = """
name: small
release: grizzly-havana
repository: {{name: havana, promote: {{on: top-api01, command: "true"}}}}
databases: {{via: direct, port: {port}, username: operator, password_env: SMALL_PASSWORD{more}}}
"""
INVENTORY = """
top:
  data_centre: here
  roles: {controller: top-api01, database: top-db01, replica: top-db02}
hosts:
  top-db01: {address: 127.0.0.1}
  top-db02: {address: 127.0.0.1, port: 9}
"""
PASSWORD = "of this test alone"  # noqa: S105 - of a scratch server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    try:
        with mariadb.running(tmp_path_factory.mktemp("cli")) as found:
            found.load("CREATE DATABASE glance CHARACTER SET utf8")
            found.load(ddl(schemas.of_reference("glance-22")), database="glance")
            found.load(f"CREATE USER operator IDENTIFIED BY '{PASSWORD}'; GRANT SELECT ON *.* TO operator")
            found.load(
                "INSERT INTO migrate_version (repository_id, version) VALUES ('Glance Migrations', 22);"
                "CREATE TABLE site_notes (id int); INSERT INTO site_notes VALUES (1), (2)",
                database="glance",
            )
            yield found
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def folder(server, tmp_path):
    def make(more="", port=server.port):
        (tmp_path / "cloud.yaml").write_text(CLOUD.format(port=port, more=more))
        (tmp_path / "inventory.yaml").write_text(INVENTORY)
        return tmp_path

    return make


def cellstep(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "cellstep", *arguments],
        env={**os.environ, "CELLSTEP_CLOUD": str(folder), "SMALL_PASSWORD": PASSWORD},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_go_with_what_is_the_sites_own(folder):
    """Exit code 0, the table in the reports; and the schema of the same place by `cellstep schema`."""
    here = folder()
    done = cellstep(here, "check", "glance")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " GO   the databases of glance: 1 database in " in done.stdout
    assert "  local    top-db01/glance (2 rows): table site_notes is the site's own" in done.stdout
    table = (here / "out" / "latest" / "glance" / "hazards.csv").read_text()
    assert "top,top-db01,glance,local,local,table site_notes is the site's own,2," in table
    differ = cellstep(here, "schema", "diff", "glance-22", "top-db01/glance")
    assert (differ.returncode, differ.stdout) == (3, "+ table site_notes\n")
    described = cellstep(here, "schema", "snapshot", "top-db01/glance").stdout
    assert schemas.schemas.parse(described).tables.keys() >= {"images", "site_notes"}


def test_a_no_go_for_machines(folder, server):
    """Exit code 3, and the same finding as JSON."""
    server.execute("CREATE INDEX checksum_image_idx ON images (checksum)", database="glance")
    try:
        done = cellstep(folder(), "check", "glance", "--json")
    finally:
        server.execute("DROP INDEX checksum_image_idx ON images", database="glance")
    values = json.loads(done.stdout)
    assert (done.returncode, values["go"], values["databases"]) == (3, False, ["top-db01/glance"])
    (found,) = [each for each in values["findings"] if each["status"] == NO_GO]
    assert found["what"].startswith("key images.checksum_image_idx exists already, and the change to 29 makes it")
    assert found["databases"] == {"top-db01/glance": None}


def test_a_database_that_does_not_answer_is_no_go(folder):
    """Nor is one that is not there."""
    done = cellstep(folder(port=mariadb.free_port()), "check", "glance")
    assert done.returncode == 3
    assert "NO-GO" in done.stdout
    assert "  no-go    top-db01/glance: cannot be asked: " in done.stdout
    absent = cellstep(folder(), "check", "cinder")
    assert (absent.returncode, "Unknown database 'cinder'" in absent.stdout) == (3, True)
    assert PASSWORD not in done.stdout + done.stderr + absent.stdout + absent.stderr


@pytest.mark.parametrize(
    ("arguments", "more", "words"),
    [
        (["check", "horizon"], "", "there is no component “horizon” with a database"),
        (["check", "glance", "--replica"], "", "top-db01 has no replica in cloud.yaml (databases.replicas)"),
        (["schema", "snapshot", "top-db1/glance"], "", "“top-db1/glance” is no NODE/DATABASE with a node"),
        (["schema", "snapshot", "top-db01"], "", "“top-db01” is no NODE/DATABASE"),
    ],
)
def test_a_call_that_cannot_be(folder, arguments, more, words):
    """One line, exit code 2."""
    done = cellstep(folder(more), *arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_replica_that_cannot_be_asked_is_not_passed_over(folder):
    """It is never the master that is asked instead."""
    done = cellstep(folder(", replicas: {top-db01: top-db02}"), "check", "glance", "--replica")
    assert done.returncode == 3
    assert "top-db01/glance: cannot be asked: " in done.stdout


def test_findings_alike_are_one_line(folder):
    """With the rows of each database; the worst first."""
    place = places(load_cloud(folder()), "glance")[0]
    found = Check((place,))
    found.findings = {
        "a/x": [Finding("local", LOCAL, "table t", 1), Finding("version", OK, "fine")],
        "b/x": [Finding("local", LOCAL, "table t", 2), Finding("hazard", NO_GO, "stops")],
        "c/x": [Finding("orphans", WARNING, "moved", 0)],
    }
    lines = found.lines()
    assert [line.finding.status for line in lines] == [NO_GO, WARNING, LOCAL, OK]
    assert lines[2].places == {"a/x": 1, "b/x": 2}
    assert not found.go
    assert Check((place,), {"a/x": [Finding("version", OK, "fine")]}).go
    assert not Check((place,), {}, {"a/x": "silent"}).go
    assert not Check(()).go
