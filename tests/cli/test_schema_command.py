"""`cellstep schema`: references, files and live databases, described and compared."""

import json
import re

import pytest
from typer.testing import CliRunner

from cellstep import schemas
from cellstep.cli.schema import app
from cellstep.errors import Stopped, UsageError
from lab.content import schema as lab_schema
from tasks import differences
from tests.support import mariadb

RUNNER = CliRunner()
NOVA = "table services\n  id int not null\n  primary key (id)\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A MariaDB with the lab's nova database."""
    try:
        with mariadb.running(tmp_path_factory.mktemp("schema")) as found:
            found.load("CREATE DATABASE nova CHARACTER SET utf8")
            found.load(lab_schema.nova(), database="nova")
            yield found
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))


def test_the_references_that_ship():
    """All can be read, are as our own tool prints them, and the tables are as many as the releases have."""
    counted = {name: len(schemas.of_reference(name).tables) for name in schemas.references()}
    assert counted == {
        "ceilometer-6": 7,
        "ceilometer-19": 12,
        "cinder-9": 19,
        "cinder-20": 19,
        "glance-22": 6,
        "glance-29": 6,
        "keystone-22": 19,
        "keystone-34": 18,
        "nova-161": 111,
        "nova-216": 115,
    }
    for name in counted:
        text = (schemas._HERE / f"{name}.txt").read_text(encoding="utf-8")
        assert text.endswith(f"\n\n{schemas.of_reference(name)}")


@pytest.mark.parametrize(
    ("version", "nearest"), [(161, "nova-161"), (162, "nova-161"), (216, "nova-216"), (500, "nova-216"), (160, "None")]
)
def test_the_reference_of_a_version_is_the_nearest_before(version, nearest):
    """Slot 162 was free for a site's own migration."""
    assert str(schemas.reference("nova", version)) == nearest


@pytest.mark.mariadb
def test_a_snapshot_over_a_socket(server, tmp_path):
    """The description of a live database, read back, has no more differences than the server's own types."""
    printed = RUNNER.invoke(app, ["snapshot", "nova", "--socket", str(server.socket)])
    assert printed.exit_code == 0, printed.output
    (tmp_path / "live.txt").write_text(printed.stdout)
    live = schemas.of_file(tmp_path / "live.txt")
    assert len(live.tables) == 111
    found = differences.compare(schemas.of_reference("nova-161"), live)
    assert not [str(each) for each in found if "mediumtext" not in each.other]


@pytest.mark.mariadb
def test_a_database_that_is_not_there(server):
    """The client's own words."""
    with pytest.raises(Stopped, match="Unknown database 'none'"):
        schemas.of_socket(server.socket, "none")


def test_differences_and_the_exit_code(tmp_path):
    """- + and !, or JSON; 3 where there are some."""
    (tmp_path / "one").write_text(NOVA)
    (tmp_path / "other").write_text(NOVA.replace("id int", "id bigint") + "  key own (id)\n")
    same = RUNNER.invoke(app, ["diff", str(tmp_path / "one"), str(tmp_path / "one")])
    assert (same.exit_code, same.stdout) == (0, "no differences\n")
    differ = RUNNER.invoke(app, ["diff", str(tmp_path / "one"), str(tmp_path / "other")])
    assert (differ.exit_code, differ.stdout.splitlines()) == (
        3,
        ["! column services.id: int not null | bigint not null", "+ key services.own: key (id)"],
    )
    values = json.loads(RUNNER.invoke(app, ["diff", "nova-161", "nova-216", "--json"]).stdout)
    assert {"kind": "table", "table": "pci_devices", "name": "", "one": "", "other": "there"} in values


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nova-162", "“nova-162” is no file, no NODE/DATABASE and no reference; the references are: ceilometer-6,"),
        ("/no/such/file", "is no file"),
        (__file__, r"line 1: “.*” is no line of a schema's description"),
    ],
)
def test_a_schema_that_is_none(name, words):
    """One line that says what can be named."""
    ended = RUNNER.invoke(app, ["diff", "nova-161", name])
    assert isinstance(ended.exception, UsageError)
    assert re.search(words, str(ended.exception))
