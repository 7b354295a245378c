"""`cellstep restore` on a real MariaDB: dumps found, proven, put back, and all that it refuses."""

import gzip
import tempfile
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from cellstep import restoring, runs
from cellstep.cli.restore import restore
from cellstep.cloud.load import load_cloud
from cellstep.engine.dispatch import outcome_of
from cellstep.errors import CellstepError, UsageError
from plugins.errors import OperatorError
from tasks import manifest, shell
from tasks.binding import bind
from tests.support import mariadb, staged
from tests.support.dumping import CLOUD, Node
from tests.support.scripted import Scripted, task_on

pytestmark = pytest.mark.mariadb

# The host of a scripted task is called c01-n01: here it is the database's node.
FILES = {
    "cloud.yaml": """
name: test
release: grizzly-havana
repository: {{name: havana, promote: {{on: top-ctl01, command: promote}}}}
databases: {{password_file: secret}}
backup_folder: {backups}
staging: {{folder: {staging}}}
""",
    "inventory.yaml": """
top:
  data_centre: here
  roles: {{controller: top-ctl01}}
cells:
  cell01:
    data_centre: here
    roles: {{controller: c01-ctl01, database: c01-n01, compute: c01-p01}}
""",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    try:
        with mariadb.running(tmp_path_factory.mktemp("restore-command")) as found:
            yield found
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


class Sender:
    """Stands for the `Dispatcher`: the database's node is real, the services' are scripted."""

    running = ""
    node: Node

    def __init__(self, _cloud):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def send(self, task, nodes, arguments, errand):
        found = {}
        for node in nodes:
            nornir_task = self.node.task()
            bind(nornir_task, errand.bindings[node.name])
            try:
                result = task(nornir_task, **arguments[node.name])
            except OperatorError as error:
                result = type("Failed", (), {"exception": error, "result": None})()
            else:
                result.exception = None
            found[node.name] = outcome_of([result])
        return found

    def ask(self, task, nodes, arguments):
        said = "".join(f"{name} 0 on\n" for name in self.running.split())
        task_of = {node.name: task_on(Scripted({"chkconfig": said})) for node in nodes if node.name != "c01-p01"}
        answers = {name: task(each, **arguments[name]).result for name, each in task_of.items()}
        return answers, {"c01-p01": "no answer on port 22"}


class Cloud:
    """A cloud of which one database was dumped by a run, and what `cellstep restore` says."""

    def __init__(self, folder, server, work, staging):
        self.folder = folder
        self.node = Node(folder, server)
        self.node.longest = 60.0
        staged.empty_servers(self.node, work)
        paths = {"backups": folder / "dumps", "staging": staging}
        for name, text in FILES.items():
            (folder / name).write_text(text.format(**paths))
        (folder / "secret").write_text("not-to-be-seen\n")
        (folder / "secret").chmod(0o600)
        self.cloud = load_cloud(folder)
        self.journal = runs.open_journal(self.cloud)
        self.run = self.back_up()

    def back_up(self):
        run = self.journal.begin_run("nova", "grizzly-havana", "d", {})
        output = self.folder / "out" / run
        self.journal.set_output(run, str(output))
        self.journal.end_run(run, "complete", 0)
        self.node.there, self.node.here = self.folder / "dumps" / run, output / "backup" / "c01-n01"
        self.node.back_up()
        return run

    def restore(self, *arguments, answers="", code=0):
        app = typer.Typer()
        app.command()(restore)
        result = CliRunner().invoke(app, [*arguments, "--cloud", str(self.folder)], input=answers)
        error = result.exception
        if isinstance(error, CellstepError):
            assert error.exit_code == code
            return str(error)
        assert result.exit_code == code, result.output
        return result.output

    def version(self):
        return self.node.server.execute("SELECT version FROM nova.migrate_version WHERE repository_id='nova'")


@pytest.fixture
def cloud(tmp_path, server, work, monkeypatch):
    server.load(CLOUD)
    with tempfile.TemporaryDirectory(prefix="st") as staging:  # a socket's path must be short
        yield from made(tmp_path, server, work, staging, monkeypatch)


def made(tmp_path, server, work, staging, monkeypatch):
    found = Cloud(tmp_path, server, work, staging)
    monkeypatch.setattr(restoring, "Dispatcher", Sender)
    monkeypatch.setattr("cellstep.cli.restore.Dispatcher", Sender)
    monkeypatch.setattr(Sender, "node", found.node, raising=False)
    monkeypatch.setattr(Sender, "running", "")
    monkeypatch.setattr(shell, "ROOT", str(tmp_path / "jobs"))
    yield found
    found.journal.close()
    found.node.mysql.close()


UPGRADE = "UPDATE migrate_version SET version=216 WHERE repository_id='nova'; CREATE TABLE pci_devices (id int)"


def test_a_dump_is_proven_and_then_put_back(cloud):
    cloud.node.server.load(UPGRADE, database="nova")
    said = cloud.restore("all", "--verify")
    assert f"restoring c01-n01/nova of run {cloud.run}, dumped just now, version 161, 3 tables" in said
    assert "c01-n01/nova: proven: 3 tables, 6 rows as dumped; loaded in" in said
    record = cloud.journal.records("proof", "nova")["c01-n01/nova"]
    assert (record.run, record.data["differences"]) == (cloud.run, [])
    assert cloud.version() == [{"version": 216}]
    said = cloud.restore("c01-n01", "--apply", "--accept", "c01-n01")
    assert "at version 216 before, at 161 now, 3 tables; dumped again, the same" in said
    assert cloud.version() == [{"version": 161}]
    told = [event["what"] for event in cloud.journal.events("")]
    assert told[-2].startswith(f"begins to put c01-n01/nova of run {cloud.run}")
    assert told[-1].startswith("putting c01-n01/nova back: changed: restored from")


def test_a_dump_that_is_not_proven_is_not_put_back(cloud):
    said = cloud.restore("c01-n01", "--apply", "--accept", "c01-n01", code=4)
    assert f"is not proven: `cellstep restore c01-n01 --verify --from {cloud.run}` does that" in said
    path = cloud.node.there / "nova.sql.gz"
    text = gzip.decompress(path.read_bytes()).replace(b"zwei", b"drei")
    for copy in (path, cloud.node.here / "nova.sql.gz"):
        copy.write_bytes(gzip.compress(text))
    beside = cloud.node.here / "nova.manifest.json"
    beside.write_text(staged.resigned(manifest.load(beside), path).text)
    said = cloud.restore("c01-n01", "--verify", code=3)
    assert "table instances has as many rows, 2, but other contents" in said
    assert "is not proven" in cloud.restore("c01-n01", "--apply", "--accept", "c01-n01", code=4)


def test_where_a_dump_cannot_be_restored_at_all_that_is_told(cloud, monkeypatch):
    monkeypatch.setattr("tasks.staging.SCRIPT", "echo 'no room' >&2; exit 3")
    assert "c01-n01/nova: not proven: c01-n01 failed: restoring c01-n01/nova" in cloud.restore(
        "all", "--verify", code=3
    )


def test_nothing_is_put_back_while_services_run_or_to_another_server(cloud, monkeypatch):
    cloud.restore("c01-n01", "--verify")
    monkeypatch.setattr(Sender, "running", "openstack-nova-cells")
    said = cloud.restore("c01-n01", "--apply", "--accept", "c01-n01", code=4)
    assert said == ("services that work with c01-n01/nova run: c01-ctl01: openstack-nova-cells; stop them first")
    monkeypatch.setattr(Sender, "running", "")
    beside = cloud.node.here / "nova.manifest.json"
    known = manifest.load(beside)
    beside.write_text(replace(known, server=replace(known.server, hostname="elsewhere")).text)
    cloud.restore("c01-n01", "--verify")
    said = cloud.restore("c01-n01", "--apply", "--accept", "c01-n01", code=4)
    assert "c01-n01/nova was not put back: another server answers" in said


def test_it_asks_twice(cloud, monkeypatch, capsys):
    cloud.restore("c01-n01", "--verify")
    cloud.node.server.load(UPGRADE, database="nova")
    run = cloud.journal.begin_run("nova", "grizzly-havana", "d", {})
    cloud.journal.end_run(run, "stopped", 4)
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda _self: True})())

    def apply(*answers):
        said = iter(answers)
        monkeypatch.setattr(typer, "confirm", lambda _question: next(said) == "y")
        monkeypatch.setattr(typer, "prompt", lambda _question: next(said))
        restore("c01-n01", cloud.folder, apply=True)

    with pytest.raises(UsageError, match="not confirmed: nothing was done"):
        apply("n")
    with pytest.raises(UsageError, match="that is not c01-n01: nothing was done"):
        apply("y", "c01-n02")
    assert cloud.version() == [{"version": 216}]
    apply("y", "c01-n01")
    shown = capsys.readouterr().out
    assert "What was written to it since is lost." in shown
    assert f"run {run} of nova is not finished (stopped)" in shown
    assert "did not tell whether a service runs there: c01-p01" in shown
    assert cloud.version() == [{"version": 161}]


def test_the_newest_dump_of_a_version_to_start_from_is_taken(cloud):
    cloud.node.server.load(UPGRADE, database="nova")
    later = cloud.back_up()
    find = restoring.find
    assert [kept.run for kept in find(cloud.cloud, cloud.journal, "nova", "all")] == [later]
    assert [kept.run for kept in find(cloud.cloud, cloud.journal, "nova", "c01-n01", before=True)] == [cloud.run]
    assert [kept.run for kept in find(cloud.cloud, cloud.journal, "nova", "all", later, before=True)] == [later]


CANNOT_BE = {
    "c01-n01": "say --verify, or --apply",
    "c01-n01 --verify --apply": "say --verify, or --apply",
    "all --apply": "one database is put back at a time: name its node",
    "c01-n01 --apply --accept c01-n02": "--accept c01-n02 is not c01-n01: nothing was done",
    "c01-n01 --apply": "there is no terminal to ask on: say --accept c01-n01",
    "c01-n02 --verify": "c01-n02 has no database of nova; say c01-n01, or all",
    "all --verify --from 19990101-000000": "there is no run 19990101-000000 in the journal",
    "all --verify --component neutron": "there is no component “neutron” with a database",
}


def test_what_cannot_be_is_told(cloud, monkeypatch):
    monkeypatch.setattr(restoring, "proven", lambda *_: True)
    for arguments, told in CANNOT_BE.items():
        assert told in cloud.restore(*arguments.split(), code=2)
    with runs.lock_of(cloud.cloud).held(cloud.journal, "another"):
        assert "another by" in cloud.restore("all", "--verify", code=5)


def test_without_a_dump_the_way_to_one_is_told(cloud):
    (cloud.node.here / "nova.manifest.json").unlink()
    with pytest.raises(UsageError, match="there is no dump of c01-n01/nova: `cellstep backup nova` makes one"):
        restoring.find(cloud.cloud, cloud.journal, "nova", "all")
