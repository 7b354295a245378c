"""What must be known of the databases' dumps before a schema is changed: the gate, on journals of all kinds."""

from dataclasses import replace

import pytest

from cellstep.cloud.load import load_cloud
from cellstep.engine.context import Context, Options
from cellstep.engine.journal import Journal
from cellstep.errors import ConfigurationError, Stopped
from cellstep.stages.copies import BACK_UP, GATE, PROOF, PROVE, REHEARSAL, RESTORE, Copies
from tasks import manifest
from tasks.manifest import Entry, Manifest, Server
from tasks.rehearsal import Rehearsal
from tasks.staging import Proof, Staged
from tests.support.folders import lab_folder

TOP = "top-infra01/nova"
SERVERS = ("top-infra01", "c01-ctl01", "c02-ctl01")


def dump_of(node, run, *, steady=True):
    server = Server("", node, "/var/lib/mysql/", 3306, "10.11", 1)
    return Manifest(
        run=run,
        node=node,
        database="nova",
        repository_id="nova",
        head=161,
        server=server,
        replica_of="",
        origin=server,
        settings={},
        tables={"instances": Entry(2, "12", steady)},
        file="nova.sql.gz",
        size=1,
        sha256="0" * 64,
        began="2014-02-24T08:00:00Z",
        ended="2014-02-24T08:01:00Z",
    )


def proof_of(known, **changes):
    unsteady = tuple(sorted(known.unsteady))
    proof = Proof(f"{known.node}/nova", known.digest, 1, 2, unsteady, (), 1.0, "10.11")
    return replace(proof, **changes)


def rehearsal_of(known, **changes):
    tried = Rehearsal(
        place=f"{known.node}/nova",
        manifest=known.digest,
        command="nova-manage db sync",
        start=161,
        end=216,
        head=216,
        seconds=12.0,
        steps=(),
        schema=(),
        rows={},
        error="",
        server="10.11",
        live="10.11",
        alone=True,
    )
    return replace(tried, **changes)


class Night:
    """A run at its gate; everything is well but for what a test changes."""

    def __init__(self, folder):
        self.cloud = load_cloud(lab_folder(folder / "cloud"))
        self.journal = Journal(folder / "state" / "journal.sqlite3")
        self.run = self.journal.begin_run("nova", "r", "d", {})
        self.out = folder / "out"
        self.known = {node: dump_of(node, self.run) for node in SERVERS}
        self.proofs = {node: proof_of(known) for node, known in self.known.items()}
        self.tried = {node: rehearsal_of(known) for node, known in self.known.items()}
        self.now = {node: {"nova": ()} for node in SERVERS}

    def context(self, nodes=None):
        return Context(self.cloud, self.journal, self.run, "nova", self.out, nodes or self.cloud.nodes, Options())

    def copies(self):
        return Copies(self.cloud, "nova")

    def found(self, nodes=None):
        copies, context = self.copies(), self.context(nodes)
        for node, known in self.known.items():
            copies.keep_backups(context, node, [known])
            here = self.out / "backup" / node
            here.mkdir(parents=True, exist_ok=True)
            (here / manifest.name_of("nova")).write_text(known.text)
        for node, proof in self.proofs.items():
            copies.keep_proofs(context, "top-infra01", [Staged(proof, self.tried.get(node))])
        return [finding.text for finding in copies.proven(context, self.now) if finding.blocking]


@pytest.fixture
def night(tmp_path):
    return Night(tmp_path)


def test_dumps_that_are_proven_rehearsed_and_still_true_open_the_gate(night):
    assert night.found() == []


def test_a_database_without_a_dump_of_this_run_blocks(night):
    del night.known["c01-ctl01"]
    assert night.found() == ["c01-ctl01/nova: this run has no dump of it with its manifest"]


def test_a_dump_of_another_run_does_not_count(night):
    night.found()
    night.run = night.journal.begin_run("nova", "r", "d", {})
    night.known, night.proofs = {}, {}
    assert len(night.found()) == len(SERVERS)


def test_a_manifest_that_was_changed_since_does_not_count(night):
    night.found()
    other = replace(night.known["top-infra01"], size=2)
    (night.out / "backup" / "top-infra01" / "nova.manifest.json").write_text(other.text)
    night.known = {}
    assert f"{TOP}: this run has no dump of it with its manifest" in night.found()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"manifest": "0" * 64}, f"{TOP}: its dump was not proven by restoring it"),
        (
            {"differences": ("instances has 1 row, not 2",)},
            f"{TOP}: its dump is not proven: instances has 1 row, not 2",
        ),
        ({"unsteady": ("instances",)}, f"{TOP}: instances was written to while it was dumped"),
    ],
)
def test_a_dump_that_is_not_proven_blocks(night, changes, said):
    night.proofs["top-infra01"] = proof_of(night.known["top-infra01"], **changes)
    assert night.found() == [said]


def test_a_schema_change_that_was_not_rehearsed_on_this_very_copy_blocks(night):
    night.tried["top-infra01"] = rehearsal_of(night.known["top-infra01"], manifest="0" * 64)
    assert night.found() == [f"{TOP}: its schema change was not rehearsed on a copy of this dump"]


def test_a_rehearsal_that_failed_blocks_with_its_error(night):
    error = "it stopped at version 187 with exit status 1: 1060"
    night.tried["top-infra01"] = rehearsal_of(night.known["top-infra01"], error=error)
    assert night.found() == [f"{TOP}: the rehearsal of its schema change failed: {error}"]


def test_what_was_written_since_the_dump_blocks(night):
    night.now["c01-ctl01"] = {"nova": ("instances has 3 rows, not 2",)}
    assert night.found() == ["c01-ctl01/nova is not what was dumped: instances has 3 rows, not 2"]


def test_without_a_staging_node_nothing_is_rehearsed_and_that_blocks(night):
    config = night.cloud.config.model_copy(
        update={"staging": night.cloud.config.staging.model_copy(update={"on": None})}
    )
    night.cloud = replace(night.cloud, config=config)
    night.tried = {}
    assert night.found()[0] == (f"{TOP}: its schema change was not rehearsed: name a node in staging.on of cloud.yaml")
    assert [node.name for node in night.copies().provers.choose(night.cloud.nodes)] == list(SERVERS)


def test_a_run_on_one_cell_minds_that_cell_and_proves_on_the_staging_node_all_the_same(night):
    nodes = tuple(node for node in night.cloud.nodes if node.cell == "cell01")
    night.known = {"c01-ctl01": night.known["c01-ctl01"]}
    night.proofs = {"c01-ctl01": night.proofs["c01-ctl01"]}
    night.now = {}
    assert night.found(nodes) == []
    assert [node.name for node in night.copies().provers.choose(nodes)] == ["top-infra01"]
    computes = tuple(node for node in nodes if node.tier == "compute")
    assert (night.copies().provers.choose(computes), night.copies().sources.choose(computes)) == ([], [])


def test_a_run_on_controllers_alone_dumps_their_cells_database_and_needs_it(night):
    """The database is on another node, which the run leaves alone otherwise."""
    nodes = tuple(node for node in night.cloud.nodes if node.name.startswith("top-api"))
    assert [node.name for node in night.copies().sources.choose(nodes)] == ["top-infra01"]
    assert [node.name for node in night.copies().provers.choose(nodes)] == ["top-infra01"]
    night.known, night.proofs, night.now = {}, {}, {}
    assert night.found(nodes) == [f"{TOP}: this run has no dump of it with its manifest"]


def test_what_is_wrong_is_dumped_and_proven_again_when_the_run_goes_on(night):
    night.tried["top-infra01"] = rehearsal_of(night.known["top-infra01"], error="it stopped at version 187")
    for number, title, hosts in ((29, BACK_UP, SERVERS), (30, PROVE, ["top-infra01"])):
        night.journal.begin_step(night.run, number, title, [("top", host) for host in hosts])
        night.journal.end_hosts(night.run, title, [(host, "changed", "") for host in hosts])
        night.journal.end_step(night.run, title, "done")
    assert len(night.found()) == 1
    states = {(row["step"], row["host"]): row["state"] for row in night.journal.hosts(night.run)}
    again = [place for place, state in states.items() if state == "not_run"]
    assert again == [(BACK_UP, "top-infra01"), (PROVE, "top-infra01")]
    given = night.copies().to_prove(night.context(), night.cloud.nodes[0])
    assert [dump.place for dump in given["dumps"]] == [TOP], "what is proven and rehearsed is not done again"


def test_a_dump_from_before_the_change_is_never_made_again_after_it(night):
    night.found()
    sync = "Update the top DB"
    night.journal.begin_step(night.run, 33, sync, [("top", "top-api01")])
    night.journal.start_hosts(night.run, sync, {"top-api01": 1})
    night.now["top-infra01"] = {"nova": ("the schema of nova is at version 216, not 161",)}
    night.known, night.proofs = {}, {}
    assert night.found() == []


def test_what_another_run_found_out_hides_nothing_of_this_one(night):
    night.found()
    for kind in (PROOF, REHEARSAL):
        night.journal.keep_record(kind, "nova", TOP, {"of": "another"}, "another-run")
    night.known, night.proofs = {}, {}
    assert night.found() == []


def test_another_components_database_on_the_same_server_blocks_nothing(night):
    """Keystone is not at rest while nova is."""
    other = replace(dump_of("top-infra01", night.run, steady=False), database="keystone", repository_id="keystone")
    copies, context = night.copies(), night.context()
    copies.keep_backups(context, "top-infra01", [other])
    here = night.out / "backup" / "top-infra01"
    here.mkdir(parents=True)
    (here / manifest.name_of("keystone")).write_text(other.text)
    proof = replace(proof_of(other), place="top-infra01/keystone")
    copies.keep_proofs(context, "top-infra01", [Staged(proof)])
    assert night.found() == []
    node = next(node for node in night.cloud.nodes if node.name == "top-infra01")
    assert [known.database for known in copies.to_compare(context, node)["known"]] == ["nova"]
    said = [finding.text for finding in copies.proven(context, night.now)]
    assert said == ["top-infra01/keystone: instances was written to while it was dumped"]


def test_a_manifest_that_was_cut_off_is_none(night):
    night.found()
    path = night.out / "backup" / "top-infra01" / "nova.manifest.json"
    path.write_text(path.read_text()[:100])
    night.known = {}
    assert night.found() == [f"{TOP}: this run has no dump of it with its manifest"]


def test_the_live_change_is_measured_by_its_own_cells_rehearsal(night):
    night.tried["c01-ctl01"] = rehearsal_of(night.known["c01-ctl01"], seconds=99.0)
    night.found()
    node = next(node for node in night.cloud.nodes if node.name == "c01-ctl01")
    with pytest.raises(Stopped, match=f"no schema is changed before “{GATE}” has passed in the same run"):
        night.copies().forecast(night.context(), node)
    night.journal.begin_step(night.run, 30, GATE, [])
    night.journal.end_step(night.run, GATE, "done")
    given = night.copies().forecast(night.context(), node)
    assert (given["forecast_s"], given["warn_factor"], given["stop_factor"]) == (99.0, 2.0, 10.0)
    assert {stop.version for stop in given["stops"]} >= {187, 192, 202, 208}


def test_a_restore_that_was_begun_and_has_not_ended_comes_before_a_schema_change(night):
    night.found()
    night.journal.begin_step(night.run, 30, GATE, [])
    night.journal.end_step(night.run, GATE, "done")
    node = next(node for node in night.cloud.nodes if node.name == "c01-ctl01")
    night.journal.keep_record(RESTORE, "nova", "c01-ctl01/nova", {"state": "begun"})
    with pytest.raises(
        Stopped, match=r"c01-ctl01/nova: `cellstep restore --apply` was begun .* and has not ended well"
    ):
        night.copies().forecast(night.context(), node)
    night.journal.keep_record(RESTORE, "nova", "c01-ctl01/nova", {"state": "changed"})
    assert night.copies().forecast(night.context(), node)["forecast_s"] == 12.0


def test_a_backup_from_replicas_needs_one_for_each_database(night):
    with pytest.raises(ConfigurationError, match=r"databases\.replicas has none for top-infra01, c01-ctl01, c02-ctl01"):
        night.copies().replicas  # noqa: B018 - it is asked for
