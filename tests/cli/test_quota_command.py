"""`cellstep quota` on a real MariaDB, with few rights: what it prints, writes, keeps and ends with."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cellstep import quota, runs
from cellstep.cli.main import app
from cellstep.cloud.load import load_cloud
from cellstep.engine.journal import Journal
from cellstep.errors import CellstepError
from tasks import quotas
from tests.support import cinderdb, clouds, mariadb, novadb
from tests.support.cinderdb import volume
from tests.support.novadb import instance, reservation, usage

pytestmark = pytest.mark.mariadb

CLOUD = """\
name: test
release: grizzly-havana
repository: {{name: havana, promote: {{on: top-ctl01, command: promote}}}}
databases: {{via: direct, port: {port}, password_file: secret, names: {{nova: havana, cinder: cinder_h}}}}
"""
INVENTORY = clouds.INVENTORY + "hosts:\n  top-db01: {address: 127.0.0.1}\n"
PASSWORD = "not-to-be-seen"  # noqa: S105 - of the scratch server
GRANTS = """
GRANT SELECT ON {name}.* TO cellstep@'127.0.0.1';
GRANT INSERT, UPDATE ON {name}.quota_usages TO cellstep@'127.0.0.1';
GRANT UPDATE ON {name}.reservations TO cellstep@'127.0.0.1';
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A server with both databases, and a user of few rights."""
    try:
        with mariadb.running(tmp_path_factory.mktemp("quotas")) as server:
            novadb.make(server)
            cinderdb.make(server)
            server.load(f"CREATE USER cellstep@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
            for name in ("havana", "cinder_h"):
                server.load(GRANTS.format(name=name))
            yield server
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def task(root):
    """A task whose connection is root's."""
    with novadb.task_on(root) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path, root: mariadb.Server, task) -> Path:
    """A cloud's folder; the databases are as the loss of migration 216 leaves them, cinder's too."""
    clouds.write(tmp_path, CLOUD.format(port=root.port), INVENTORY)
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    novadb.clean(task, "havana")
    novadb.fill(task, "havana", {"instances": [instance(1), instance(2, user="u2")]})
    cinderdb.fill(task, "cinder_h", {"volumes": [volume(1, size=7), volume(2, size=3)]})
    return tmp_path


def call(folder: Path, *arguments: str, code: int = 0) -> str:
    """The command's output, with its error's text where it ended with one."""
    done = CliRunner().invoke(app, ["quota", *arguments, "--cloud", str(folder)])
    if isinstance(done.exception, CellstepError):
        assert done.exception.exit_code == code, done.exception
        return done.output + str(done.exception)
    assert done.exit_code == code, (done.output, done.exception)
    assert PASSWORD not in done.output
    return done.output


class Task:
    """A task that is no dry run; a plain namespace cannot be remembered as one that changes something."""

    def __init__(self, task):
        self.host, self.nornir = task.host, task.nornir

    def is_dry_run(self):
        return False


def rows(root: mariadb.Server, database: str) -> list[dict]:
    return root.execute("SELECT * FROM quota_usages ORDER BY id", database=database)


@pytest.fixture
def undo_files(folder: Path):
    return lambda: sorted({path.resolve() for path in folder.glob("out/*/*/quota-undo*.sql")})


@pytest.mark.parametrize(("stage", "database", "lost"), [("nova", "havana", 6), ("cinder", "cinder_h", 2)])
def test_what_is_lost_is_found_shown_repaired_and_brought_back(root, folder, undo_files, stage, database, lost):
    report = json.loads(call(folder, "check", stage, "--json", code=3))
    assert report["counts"] == {"quotas": {"missing": lost}}
    assert {row["heals"] for row in report["tables"]["quotas"]} == {"at the next reservation"}
    assert call(folder, "repair", stage).count("INSERT INTO quota_usages") == 1
    assert rows(root, database) == []
    said = call(folder, "repair", stage, "--apply")
    assert f"changed {lost} rows; undo with " in said
    assert len(rows(root, database)) == lost
    assert json.loads(call(folder, "check", stage, "--json"))["counts"] == {"quotas": {"ok": lost}}
    assert "nothing to repair" in call(folder, "repair", stage, "--apply")
    (undo,) = undo_files()
    assert str(undo) in said.replace("\n", "")
    root.load(undo.read_text(encoding="utf-8"), database=database)
    assert rows(root, database) == []
    journal = Journal(folder / "state" / "journal.sqlite3")
    assert any(f"changed {lost} rows" in event["what"] for event in journal.events(""))
    journal.close()


def test_snapshots_take_gigabytes_unless_it_is_said_that_they_do_not(folder, task):
    cinderdb.fill(
        task,
        "cinder_h",
        {
            "volumes": [volume(1, size=7)],
            "snapshots": [cinderdb.snapshot(1, 1, size=7)],
            "quota_usages": [cinderdb.usage(n, name, 1) for n, name in enumerate(("volumes", "snapshots"), 1)]
            + [cinderdb.usage(3, "gigabytes", 7)],
        },
    )
    assert json.loads(call(folder, "check", "cinder", "--json", code=3))["counts"]["quotas"] == {"wrong": 1, "ok": 2}
    call(folder, "check", "cinder", "--no-snapshot-gigabytes")
    assert "for cinder" in call(folder, "check", "nova", "--no-snapshot-gigabytes", code=2)


def test_rows_with_requests_under_way_are_left_and_the_exit_code_says_so(root, folder, task):
    novadb.fill(
        task,
        "havana",
        {
            "quota_usages": [usage(1, "cores", 99, reserved=1), usage(2, "ram", 1)],
            "reservations": [reservation(1, 1, 1, expire="2037-01-01 00:00:00")],
        },
    )
    shown = call(folder, "repair", "nova", code=3)
    assert (
        '-- left as it is: row 1, cores of project "p1" user "u1", wrong: a reservation of it has not expired' in shown
    )
    said = call(folder, "repair", "nova", "--apply", code=3)
    assert "changed 5 rows; 1 left as they are, with requests under way; undo with" in said.replace("\n", "")
    assert "nothing to repair now; 1 left" in call(folder, "repair", "nova", "--apply", code=3)
    assert json.loads(call(folder, "check", "nova", "--json", code=3))["counts"]["quotas"] == {"wrong": 1, "ok": 5}
    call(folder, "repair", "nova", "--apply", "--api-closed")
    assert {row["resource"]: row["in_use"] for row in rows(root, "havana")}["cores"] == 2


def test_a_row_that_changes_meanwhile_is_read_again(root, folder, monkeypatch):
    """The first try finds a row that came meanwhile; the second plans anew."""
    real, tries = quotas.apply, []

    def late(task, **arguments):
        if not tries:
            novadb_row = "INSERT INTO quota_usages (project_id, user_id, resource, in_use, reserved, deleted)"
            root.execute(f"{novadb_row} VALUES ('p1', 'u1', 'cores', 2, 0, 0)", database="havana")
        tries.append(len(arguments["repair"].changes))
        return real(task, **arguments)

    monkeypatch.setattr(quotas, "apply", late)
    assert "changed 5 rows" in call(folder, "repair", "nova", "--apply")
    assert tries == [6, 5]
    assert len(rows(root, "havana")) == 6


def test_a_repair_that_never_gets_through_is_refused(root, folder, undo_files, monkeypatch):
    def busy(_task, **_arguments):
        raise quotas.RepairRefusedError("nothing was repaired: row 1 changed meanwhile. Check again")

    monkeypatch.setattr(quotas, "apply", busy)
    call(folder, "repair", "nova", "--apply", code=1)
    assert rows(root, "havana") == []
    assert undo_files() == []


def test_an_undo_that_is_there_already_is_not_overwritten(folder, task, root):
    """A run's step may come twice: what undoes the first repair stays."""
    undo, task = folder / "quota-undo.sql", Task(task)
    quota.repair(task, database="havana", undo=undo)
    first = undo.read_text(encoding="utf-8")
    root.execute("UPDATE quota_usages SET in_use = 9 WHERE resource = 'cores'", database="havana")
    said = quota.repair(task, database="havana", undo=undo).result
    assert undo.read_text(encoding="utf-8") == first
    assert said.words == f"changed 2 rows; undo with {folder / 'quota-undo-2.sql'}"


@pytest.mark.parametrize("command", ["check", "repair"])
def test_a_stage_without_quotas_is_wrong_usage(folder, command):
    assert "there is no quota usage of “glance”; the stages are: nova, cinder" in call(
        folder, command, "glance", code=2
    )


def test_a_database_that_is_not_there_is_not_compliant(folder):
    text = (folder / "cloud.yaml").read_text()
    (folder / "cloud.yaml").write_text(text.replace("cinder: cinder_h", "cinder: cinder_x"))
    report = json.loads(call(folder, "check", "cinder", "--json", code=3))
    assert report["tables"] == {}
    assert "cinder_x" in report["unreachable"]["top-db01"]


def test_a_repair_needs_the_lock(folder):
    cloud = load_cloud(folder)
    journal = runs.open_journal(cloud)
    with runs.lock_of(cloud).held(journal, "another"):
        assert "another" in call(folder, "repair", "nova", "--apply", code=5)
    journal.close()
