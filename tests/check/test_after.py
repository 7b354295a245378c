"""What is found in a database after its schema was changed, compared with how it was before."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from cellstep.check.after import Before
from cellstep.check.gates import Checks, records
from cellstep.cloud.load import load_cloud
from cellstep.engine.journal import Journal
from tasks.hazards import look
from tests.support.folders import lab_folder
from tests.support.migrations import migrate

pytestmark = pytest.mark.mariadb
NODE = "top-infra01"
SITE = """
CREATE TABLE cern_network (id int PRIMARY KEY, netcluster varchar(255), host varchar(255), deleted bool);
INSERT INTO cern_network VALUES (1, 'S513-C', 'h1', 0), (2, NULL, 'h2', 1);
ALTER TABLE fixed_ips ADD mac varchar(255), ADD netcluster varchar(255);
INSERT INTO fixed_ips (address, mac, deleted) VALUES ('192.0.2.1', '02:00', 0), ('192.0.2.1', '02:01', 0);
ALTER TABLE instance_faults ADD why varchar(20);
INSERT INTO instances (uuid, deleted) VALUES ('u1', 0);
INSERT INTO instance_faults (instance_uuid, code, deleted, why) VALUES ('gone', 5, 0, 'a'), ('u1', 5, 0, 'b');
CREATE INDEX mine ON instances (display_name);
ALTER TABLE instances MODIFY user_data text;
INSERT INTO cells (name, username, password, rpc_host, rpc_port, rpc_virtual_host, is_parent, deleted) VALUES
 ('a', 'nova', 'pw', 'rabbit01', 5672, '/', 0, 0);
INSERT INTO quota_usages (project_id, resource, in_use, reserved, deleted) VALUES ('p', 'instances', 2, 0, 0);
"""


class World:
    """The lab's cloud, of which one database is the scratch one."""

    def __init__(self, folder: Path, task, server):
        self.cloud = load_cloud(lab_folder(folder / "cloud"))
        self.checks, self.task, self.server = Checks(self.cloud, "nova"), task, server
        self.journal = Journal(folder / "journal.db")
        self.node = next(node for node in self.cloud.nodes if node.name == NODE)
        self.context = SimpleNamespace(journal=self.journal, run="r1", options=SimpleNamespace(dry_run=False))

    def seen(self, arguments):
        return {NODE: look(self.task, **{**arguments, "database": "checked"}).result}

    def before(self):
        return self.checks.judge_before(self.context, self.seen(self.checks.before(self.context, self.node)))

    def after(self):
        results = self.seen(self.checks.after(self.context, self.node))
        return [
            (found.text.partition(": ")[2], found.blocking) for found in self.checks.judge_after(self.context, results)
        ]

    def table(self, *, quiet=True, back=False):
        known = records(self.journal, "nova")
        asked = self.seen(self.checks.asking(self.node, known, quiet=quiet))
        return self.checks.table(known, asked, quiet=quiet, back=back)

    def sql(self, *statements):
        for statement in statements:
            self.server.execute(statement, database="checked")


@pytest.fixture
def world(tmp_path, task, server, made):
    made("nova-161", version=162)
    server.load(SITE, database="checked")
    return World(tmp_path, task, server)


def test_all_is_kept_and_listed(world):
    """The site's own with its data, what was unlike the release before, and rows as the release's data says."""
    assert world.before() == []
    assert migrate(world.server, "checked") == (0, 216)
    assert world.after() == []
    table = world.table()
    rows = {row.what: (row.status, row.before, row.after) for row in table.itertuples()}
    assert rows["schema version 216"] == ("ok", "162", "216")
    assert rows["column instances.user_data"][0] == "as before"
    assert rows["table cern_network"][0] == "kept"
    assert rows["table cern_network"][1].startswith("2 rows, checksum ")
    assert rows["column instance_faults.why"][1].startswith("1 row, ")  # without the one that was moved
    assert {
        rows[what][0] for what in ("column fixed_ips.mac", "column fixed_ips.netcluster", "key instances.mine")
    } == {"kept"}
    assert rows["every live row of cells has a transport_url"] == ("ok", "", "")
    assert "112 tables with the rows that the release leaves in them" in rows
    running = world.table(quiet=False)
    assert set(running["status"]) == {"ok", "kept", "as before"}
    assert "rows" not in set(running["check"])


def test_each_loss_is_found(world):
    """Whatever happened to the database meanwhile."""
    world.before()
    assert migrate(world.server, "checked") == (0, 216)
    world.sql(
        "UPDATE cern_network SET host = 'h3' WHERE id = 2",
        "ALTER TABLE fixed_ips DROP mac",
        "UPDATE instance_faults SET why = NULL",
        "DROP INDEX mine ON instances",
        "DELETE FROM fixed_ips WHERE id = 1",
        "DELETE FROM dump_instance_faults",
        "UPDATE cells SET transport_url = ''",
        "ALTER TABLE services DROP disabled_reason",
        "ALTER TABLE networks MODIFY label varchar(9)",
        "CREATE TABLE odd (id int)",
        "UPDATE migrate_version SET version = 215",
    )
    found = dict(world.after())
    assert {text.split(" (")[0]: blocking for text, blocking in found.items()} == {
        "schema version 216: wrong": True,
        "column services.disabled_reason: missing": True,
        "column networks.label: other": True,
        "table odd: unexpected": False,
        "every live row of cells has a transport_url: empty": True,
        "table cern_network: lost": True,
        "column fixed_ips.mac: lost": True,
        "column fixed_ips.netcluster: lost": True,  # its row went
        "column instance_faults.why: lost": True,
        "key instances.mine: lost": True,
        "rows of fixed_ips: changed": True,
        "rows of dump_instance_faults: changed": True,
    }
    assert "rows of fixed_ips: changed (before 2, now 1)" in found


def test_without_a_list_of_before_what_is_unknown_is_called_the_sites_own(world):
    """A verification of a database that was changed before cellstep came."""
    assert migrate(world.server, "checked") == (0, 216)
    table = world.table()
    assert sorted(table[table["status"] == "own"]["what"]) == [
        "column dump_instance_faults.why",
        "column fixed_ips.mac",
        "column fixed_ips.netcluster",
        "column instance_faults.why",
        "key instances.mine",
        "table cern_network",
    ]
    assert table[table["check"] == "reference"]["status"].tolist() == ["other"]


def test_what_stops_it_blocks_and_a_later_try_does_not_forget_how_it_was(world):
    """A step that is done again after the change keeps what was before; a dry run keeps nothing."""
    world.sql("ALTER TABLE services ADD disabled_reason varchar(255)")
    world.context.options.dry_run = True
    (finding,) = world.before()
    assert finding.blocking
    assert finding.text.startswith(f"{NODE}/nova: services.disabled_reason exists already (a backport): ")
    assert finding.text.endswith(". Save what is in the column and drop it; 188 adds it")
    assert world.journal.records("schema", "nova") == {}
    world.context.options.dry_run = False
    world.sql("ALTER TABLE services DROP disabled_reason")
    assert world.before() == []
    kept = world.journal.records("schema", "nova")[f"{NODE}/nova"]
    assert migrate(world.server, "checked") == (0, 216)
    assert world.before() == []
    assert world.journal.records("schema", "nova")[f"{NODE}/nova"] == kept
    before = Before.of_data(kept.data)
    assert (before.head, before.answers["orphans", "instance_faults", "instance_uuid"]) == (162, "1")
    assert Before.of_data(before.data()) == before


def test_a_change_that_was_taken_back_leaves_all_as_before(world):
    """Tables of the newer release that stayed behind are told."""
    world.before()
    back = world.table(quiet=False, back=True)
    assert list(zip(back["what"], back["status"], strict=True)) == [
        ("schema version 162", "ok"),
        ("all tables, columns and keys of before", "ok"),
    ]
    world.sql(
        "CREATE TABLE pci_devices (id int)", "DROP TABLE cern_network", "UPDATE migrate_version SET version = 213"
    )
    back = world.table(quiet=False, back=True)
    assert list(zip(back["what"], back["status"], strict=True)) == [
        ("schema version 162", "wrong"),
        ("table cern_network", "missing"),
        ("table pci_devices", "unexpected"),
    ]


def test_a_later_run_does_not_take_what_users_did_meanwhile_for_a_loss(world):
    """Days after the change a run goes over everything again: rows have come and gone, and the schema is the same."""
    assert world.before() == []
    assert migrate(world.server, "checked") == (0, 216)
    world.sql("INSERT INTO key_pairs (name, user_id, deleted) VALUES ('mine', 'u', 0)", "DELETE FROM instance_faults")
    assert world.after() != []
    world.context.run = "r2"
    assert world.after() == []
