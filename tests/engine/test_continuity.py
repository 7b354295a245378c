"""Volumes and guests saved before, and judged after, on real databases with the releases' own schemas."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cellstep import kept, schemas
from cellstep.baseline import Baseline, windows_of
from cellstep.cloud.load import Cloud
from cellstep.comparison import tables_of
from cellstep.engine.context import Context, Options
from cellstep.engine.journal import Journal
from cellstep.stages import gates, runbook_of
from cellstep.stages.arguments import Site
from cellstep.verification import Answers
from plugins.connections.mysql import Mysql
from tasks import evidence, reboot
from tasks.evidence import Evidence
from tasks.facts import Facts, Guest
from tasks.schemas import Schema
from tests.support import mariadb
from tests.support.ddl import ddl
from tests.support.scripted import Scripted, task_on

TOP, CELL, NODE, OTHER = "top-infra01", "c01-ctl01", "c01-n01", "c01-n02"
PARTS = {
    "nova": ("instances", "instance_actions", "instance_actions_events", "block_device_mapping"),
    "cinder": ("volumes", "transfers"),
}
RELEASES = {
    "grizzly": {"nova": "nova-161", "cinder": "cinder-9"},
    "havana": {"nova": "nova-216", "cinder": "cinder-20"},
}
DATABASES = {(TOP, "nova"): "nova_top", (CELL, "nova"): "nova_cell", (TOP, "cinder"): "cinder_top"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that takes no careless GROUP BY, with the databases of a top cell and a child cell in both schemas."""
    options = ("--innodb-flush-method=nosync", "--sql-mode=ONLY_FULL_GROUP_BY")
    try:
        with mariadb.running(tmp_path_factory.mktemp("continuity"), *options) as running:
            for release, references in RELEASES.items():
                for (_, component), name in DATABASES.items():
                    whole = schemas.of_reference(references[component]).tables
                    some = Schema({table: whole[table] for table in PARTS[component] if table in whole})
                    running.load(
                        f"CREATE DATABASE {name}_{release} CHARACTER SET utf8; USE {name}_{release}; {ddl(some)}"
                    )
            yield running
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))


@dataclass
class Databases:
    """Those of one release."""

    server: mariadb.Server
    release: str

    def execute(self, sql: str, *, database: str) -> None:
        self.server.execute(sql, database=f"{database}_{self.release}")

    def empty(self) -> None:
        for (_, component), name in DATABASES.items():
            whole = schemas.of_reference(RELEASES[self.release][component]).tables
            for table in reversed([table for table in PARTS[component] if table in whole]):
                self.execute(f"DELETE FROM {table}", database=name)  # noqa: S608 - names of this file


@pytest.fixture
def databases(request, server):
    """Empty databases: Havana's, unless a test says otherwise."""
    found = Databases(server, getattr(request, "param", "havana"))
    found.empty()
    return found


class Routed:
    """The server's databases, as a node of the cloud names its own."""

    def __init__(self, databases, node):
        self.mysql = Mysql("scratch", "root", "", "127.0.0.1", databases.server.port)
        self.databases, self.node, self.opened = databases, node, 0

    def query(self, sql, args=(), *, database=None):
        name = f"{DATABASES[self.node, database]}_{self.databases.release}" if database else None
        # A server tells of itself alone: the release's own tables are what it has.
        args = tuple(name if each == database else each for each in args)
        return self.mysql.query(sql, args, database=name)

    def close(self):
        self.mysql.close()


@dataclass
class Place:
    """A cloud whose databases are real, and whose hypervisors say what a test wants."""

    databases: Databases
    context: Context
    guests: dict[str, list[Guest]] = field(default_factory=lambda: {NODE: [], OTHER: [], "c02-n01": [], "c02-n02": []})
    boots: dict[str, str] = field(default_factory=dict)

    @property
    def site(self) -> Site:
        return Site(self.context.cloud, "nova")

    def answers(self, *tables: str) -> dict[str, Evidence]:
        found = {}
        for node in self.context.cloud.nodes:
            wanted = self.site.asking(*tables)(self.context, node)["wanted"]
            if node.name in self.guests:
                facts = Facts(self.boots.get(node.name, "b1"), "k", {}, {}, self.guests[node.name])
                found[node.name] = Evidence(facts)
            elif node.name in (TOP, CELL):
                task = task_on(Scripted({}), database=Routed(self.databases, node.name))
                found[node.name] = evidence.gather(task, wanted=wanted).result
                task.host.close_connections()
        return found

    def save(self) -> None:
        self.context.journal.begin_step(self.context.run, 1, "Save", [])
        gates.save_volumes(self.context, self.answers("volumes"))
        gates.save_guests(self.context, self.answers("guests"))

    def nova(self, *statements: str, where: tuple[str, ...] = ("nova_top", "nova_cell")) -> None:
        for database in where:
            for statement in statements:
                self.databases.execute(statement, database=database)

    def cinder(self, statement: str) -> None:
        self.databases.execute(statement, database="cinder_top")

    def found(self, what: str) -> list[str]:
        judge = gates.volumes_kept if what == "volumes" else gates.guests_kept
        findings = judge(self.context, self.answers(what))
        assert all(finding.blocking for finding in findings)
        return [finding.text for finding in findings]

    def table(self, what: str, *, nodes=None):
        nodes = nodes or self.context.cloud.nodes
        names = {node.name for node in nodes}
        answers = Answers({name: answer for name, answer in self.answers(what).items() if name in names})
        baseline = Baseline.find(self.context.cloud, self.context.journal, "nova", self.context.output)
        return tables_of(self.context.cloud, "nova", nodes, answers, baseline, [what])[what]


@pytest.fixture
def place(databases, cloud: Cloud, tmp_path: Path) -> Place:
    """Three guests on two nodes, and two volumes, of which one is attached."""
    journal = Journal(tmp_path / "state" / "journal.sqlite3")
    run = journal.begin_run("nova", "grizzly-havana", "digest", {})
    output = tmp_path / "out" / run
    journal.set_output(run, str(output))
    here = Place(databases, Context(cloud, journal, run, "nova", output, cloud.nodes, Options()))
    for number, host in ((1, NODE), (2, NODE), (3, OTHER)):
        here.nova(
            "INSERT INTO instances (created_at, launched_at, uuid, host, vm_state, user_id, display_name, deleted)"  # noqa: S608 - names of this file
            f" VALUES ('2013-11-05', '2013-11-05', 'u{number}', '{host}.cern.ch', 'active', 'ann', 'web{number}', 0)"
        )
        here.guests[host].append(Guest(f"u{number}", number * 100, 1391400000.0 + number))
    here.nova(
        "INSERT INTO block_device_mapping (created_at, volume_id, instance_uuid, device_name, deleted)"
        " VALUES ('2013-11-05', 'v2', 'u2', 'vdb', 0)",
        where=("nova_cell",),
    )
    here.cinder(
        "INSERT INTO volumes (created_at, id, status, size, display_name, project_id, instance_uuid, deleted)"
        " VALUES ('2013-11-05', 'v1', 'available', 1, 'data', 'p', NULL, 0),"
        " ('2013-11-05', 'v2', 'in-use', 2, 'disk', 'p', 'u2', 0)"
    )
    here.save()
    return here


ACTION = (
    "INSERT INTO instance_actions (created_at, action, instance_uuid, user_id, start_time, deleted)"
    " VALUES (UTC_TIMESTAMP(), '{0}', '{1}', {2}, UTC_TIMESTAMP(), 0)"
)
DELETE = (
    "UPDATE instances SET deleted=id, deleted_at=UTC_TIMESTAMP(), terminated_at=UTC_TIMESTAMP(), vm_state='deleted'"
    " WHERE uuid='{0}'"
)


def asked(action: str, uuid: str, user: str = "'bob'") -> str:
    return ACTION.format(action, uuid, user)


def test_nothing_differs(place: Place):
    assert place.found("guests") == place.found("volumes") == []
    assert set(place.table("guests")["status"]) == {"running"}
    assert set(place.table("volumes")["status"]) == {"same"}


@pytest.mark.parametrize("databases", RELEASES, indirect=True)
def test_what_users_did_is_told_with_its_action_and_does_not_block(place: Place):
    place.nova(DELETE.format("u2"), asked("delete", "u2"))
    place.nova("UPDATE block_device_mapping SET deleted=id, deleted_at=UTC_TIMESTAMP()", where=("nova_cell",))
    place.cinder("UPDATE volumes SET status='available', instance_uuid=NULL, updated_at=UTC_TIMESTAMP() WHERE id='v2'")
    place.cinder("UPDATE volumes SET deleted=1, deleted_at=UTC_TIMESTAMP(), status='deleted' WHERE id='v1'")
    place.guests[NODE].pop()
    assert place.found("guests") == place.found("volumes") == []
    guest = place.table("guests").set_index("uuid").loc["u2"]
    assert (guest["status"], guest["action"], guest["who"]) == ("deleted by user", "delete", "bob")
    assert (guest["before_api"], guest["after_api"]) == ("active", "deleted")
    told = place.table("volumes").set_index("id")
    assert told["status"].to_dict() == {"v1": "deleted by user", "v2": "changed by user"}
    assert told.loc["v2", ["action", "who"]].tolist() == ["delete of guest u2", "bob"]
    assert told["when"].str.startswith(str(datetime.now(UTC).year)).all()


def test_a_volume_that_was_handed_over_to_another_project(place: Place):
    place.cinder("UPDATE volumes SET project_id='q', updated_at=UTC_TIMESTAMP() WHERE id='v1'")
    assert place.found("volumes") == ["v1: volume “data” is not as before: project p -> q"]
    place.cinder(
        "INSERT INTO transfers (id, volume_id, created_at, deleted, deleted_at)"
        " VALUES ('t', 'v1', UTC_TIMESTAMP(), 1, UTC_TIMESTAMP())"
    )
    assert place.found("volumes") == []


def test_what_nobody_did_blocks(place: Place):
    place.guests[NODE].pop(0)
    place.nova(asked("stop", "u1", "NULL"), "UPDATE instances SET vm_state='stopped', updated_at=UTC_TIMESTAMP()"
               " WHERE uuid='u1'")  # fmt: skip
    place.guests[OTHER][0] = Guest("u3", 999, 1391500000.0)
    place.cinder("DELETE FROM volumes WHERE id='v1'")
    place.cinder("UPDATE volumes SET size=1, updated_at=UTC_TIMESTAMP() WHERE id='v2'")
    one, two = place.found("guests")
    assert one.startswith(f"{NODE}: guest u1 is lost: API database: active -> stopped; cell database")
    assert "last action: stop by no user" in one
    assert two == f"{OTHER}: guest u3 is restarted: another process than before"
    lost, shrunk = place.found("volumes")
    assert lost == "v1: volume “data” is lost: in the list before, not in the list now"
    assert shrunk == "v2: volume “disk” is not as before: size in GiB 2 -> 1"


def test_what_was_done_before_the_lists_were_saved_explains_nothing(place: Place):
    hour = "DATE_SUB(UTC_TIMESTAMP(), INTERVAL 1 HOUR)"
    place.nova(DELETE.format("u2").replace("UTC_TIMESTAMP()", hour))
    place.guests[NODE].pop()
    assert [text.split(" is ")[0] for text in place.found("guests")] == [f"{NODE}: guest u2"]


def test_only_one_database_or_only_a_process_is_not_enough(place: Place):
    place.nova(DELETE.format("u2"), where=("nova_top",))
    place.guests[OTHER].append(Guest("stray", 5, 1391500000.0))
    one, two = place.found("guests")
    assert "deleted in the API's database, live in its cell's" in one
    assert two.startswith(f"{OTHER}: guest stray is not known from before: runs on {OTHER}")


def test_the_upgrades_own_guests_and_reboots_are_its_own(place: Place):
    journal, run = place.context.journal, place.context.run
    place.nova(
        "INSERT INTO instances (created_at, uuid, host, vm_state, user_id, display_name, deleted)"  # noqa: S608 - the same
        f" VALUES (UTC_TIMESTAMP(), 'test', '{OTHER}', 'active', 'admin', 'cellstep-{run}-1-1', 0)"
    )
    place.guests[OTHER].append(Guest("test", 5, datetime.now(UTC).timestamp()))
    title = next(s.title for s in runbook_of("nova", place.context.cloud).steps if s.does == reboot.for_new_kernel)
    journal.begin_step(run, 2, title, [("cell01", NODE)])
    journal.start_hosts(run, title, {NODE: 1})
    journal.end_hosts(run, title, [(NODE, "changed", "rebooted")])
    place.boots[NODE] = "b2"
    place.guests[NODE] = [Guest("u1", 3, datetime.now(UTC).timestamp()), Guest("u2", 4, datetime.now(UTC).timestamp())]
    assert place.found("guests") == []
    table = place.table("guests").set_index("uuid")
    assert table.loc["test", "status"] == "created by upgrade"
    assert table.loc["u1", ["status", "action", "who"]].tolist() == [
        "restarted by upgrade",
        f"reboot of {NODE}",
        f"run {run}",
    ]


def test_a_node_in_quarantine_is_told_as_such(place: Place):
    journal, run = place.context.journal, place.context.run
    journal.leave_out(run, "nova", "Update", [{"host": OTHER, "cell": "cell01", "state": "failed", "detail": "yum"}])
    nodes = [node for node in place.context.cloud.nodes if node.name in {TOP, CELL, NODE}]
    answers = Answers({name: answer for name, answer in place.answers("guests").items() if name != OTHER})
    baseline = Baseline.find(place.context.cloud, journal, "nova", place.context.output)
    table = tables_of(place.context.cloud, "nova", place.context.cloud.nodes, answers, baseline, ["guests"])["guests"]
    row = table.set_index("uuid").loc["u3"]
    assert row[["status", "explained_by", "action", "explanation"]].tolist() == [
        "unreachable",
        "upgrade",
        "quarantine",
        "missed “Update”",
    ]
    limited = place.table("guests", nodes=nodes)
    assert set(limited["host"]) == {NODE}, "a verification of some nodes says nothing of others"


def test_an_upgrade_begun_by_an_older_cellstep_counts_from_its_runs_beginning(place: Place):
    context = place.context
    for name in ("windows", "instances"):
        (context.output / "before" / f"{name}.json").unlink()
    window = windows_of(context.cloud, context.journal, "nova", context.output)[TOP]
    begun = datetime.fromisoformat(next(context.journal.runs("nova")).started_at)
    assert datetime.fromisoformat(window) == begun.replace(microsecond=0) - timedelta(seconds=4)
    place.nova(DELETE.format("u2"), asked("delete", "u2"))
    place.guests[NODE].pop()
    assert place.found("guests") == []


def test_guests_of_a_node_that_was_never_listed_are_new_and_no_finding(place: Place):
    path = place.context.output / "before" / "guests.json"
    path.write_text(path.read_text().replace('  "c02-n01",\n', ""))
    place.guests["c02-n01"] = [Guest("u9", 5, 1391400000.0)]
    assert place.found("guests") == []
    assert place.table("guests").set_index("uuid").loc["u9", "status"] == "new"
    place.guests["c02-n02"] = [Guest("u8", 5, 1391400000.0)]
    assert len(place.found("guests")) == 1


def test_a_gate_that_asks_no_database_judges_by_the_processes(place: Place):
    """A guest that came is not held against it, one that went is."""
    place.guests[OTHER] = [Guest("came", 5, 1391400000.0)]
    answers = {name: place.answers("guests")[name] for name in (NODE, OTHER)}
    assert [finding.text for finding in gates.guests_kept(place.context, answers)] == [
        f"{OTHER}: guest u3 is lost: does not run on {OTHER} any more"
    ]


def test_windows_begin_with_the_run_by_the_databases_own_clock(place: Place, monkeypatch):
    began = datetime.fromisoformat(next(place.context.journal.runs()).started_at)
    rows = {row["host"]: datetime.fromisoformat(row["since"]) for row in kept.load(place.context.output, "windows")}
    assert rows.keys() == {TOP, CELL}
    assert all(abs(since - began) <= timedelta(seconds=2) for since in rows.values())
    (place.context.output / "before" / "windows.json").unlink()
    later = began + timedelta(hours=3)
    monkeypatch.setattr("tasks.traces.clock", lambda _: later.isoformat())  # its clock is three hours ahead
    gates.save_volumes(place.context, place.answers("volumes"))
    rows = {row["host"]: datetime.fromisoformat(row["since"]) for row in kept.load(place.context.output, "windows")}
    took = timedelta(minutes=2)  # that such a test may take on a busy machine
    assert all(later - took <= since <= later for since in rows.values())
