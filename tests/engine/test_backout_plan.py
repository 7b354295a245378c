"""The way back: its plan, what it refuses, and which of several runs' lists and dumps it goes back to."""

import contextlib
import json
from pathlib import Path

import pytest

from cellstep import kept
from cellstep.baseline import Baseline
from cellstep.comparison import tables_of
from cellstep.engine.context import Context, Options
from cellstep.engine.journal import Journal
from cellstep.engine.plan import as_text, as_values
from cellstep.engine.steps import Finding
from cellstep.errors import Stopped
from cellstep.stages import gates, nova, runbook_of
from cellstep.stages.back import WayBack
from cellstep.verification import Answers, component_of, system_rows
from cellstep.wayback import BACKED_OUT, GOING_BACK, Upgrade
from tasks.evidence import Evidence
from tasks.facts import Facts
from tests.engine.conftest import ROOT

GOLDEN = ROOT / "tests" / "golden" / "plan-nova-backout-lab.txt"
BACK_UP = "Back up all DBs and create a local dump of each in case we need a rapid restore"
UPDATE = "Update all the Nova RPMs and the kernel on top controllers"
SYNC, SYNC_CELLS, OPEN = "Update the top DB", "Update the cell DBs", "Enable user facing APIs at the top cells"
CELLS = {"top-infra01": "top", "top-api01": "top", "c01-ctl01": "cell01", "c02-ctl01": "cell02"}


def test_the_plan_of_the_way_back_is_the_golden_text(cloud):
    """A changed step shows here: read it, then write the file anew with `cellstep plan nova-backout`."""
    runbook = runbook_of("nova-backout", cloud)
    assert as_text(cloud, runbook, cloud.nodes) + "\n" == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", ["nova", "nova-backout"])
def test_all_that_the_upgrade_holds_is_lifted(cloud, stage):
    """On every node on which either of the two places it."""
    lifted: dict[str, set[str]] = {}
    held: dict[str, set[str]] = {}
    for plan, kind, found in ((stage, "hold", held), ("nova-backout", "lift", lifted)):
        for step in as_values(cloud, runbook_of(plan, cloud), cloud.nodes)["steps"]:
            if step["kind"] == kind:
                found.setdefault(step["hold"], set()).update(step["nodes"])
    assert held.keys() == lifted.keys()
    assert all(held[name] <= lifted[name] for name in held)


def test_the_repository_is_gone_before_anything_may_be_updated_and_the_apis_open_last(cloud):
    titles = [step.title for step in runbook_of("nova-backout", cloud).steps]
    gone = titles.index("Prove that no node has the Havana repository any more")
    assert titles.index("Move the Havana repository back from the master branch in Puppet") < gone
    assert gone < titles.index("Lift the hold on Puppet automatic software updating")
    assert titles[-2] == OPEN


# Which upgrade, and whether its way back is open


class Past:
    """A journal in which runs of nova have been."""

    def __init__(self, cloud, folder: Path) -> None:
        self.cloud, self.folder = cloud, folder
        self.journal = Journal(folder / "journal.sqlite3")
        self.runbook = nova.runbook(cloud)

    def run(self, state: str = "stopped", dumps: str = "", fenced: bool = True, **options: str) -> str:
        run = self.journal.begin_run("nova", "grizzly-havana", "digest", options)
        self.journal.set_output(run, str(self.folder / run))
        for host in dumps.split():
            copy = self.folder / run / "backup" / host / "nova.sql.gz"
            copy.parent.mkdir(parents=True)
            copy.write_bytes(b"")
        if fenced:
            self.journal.place_holds(run, "nova", "the fence", "fence", {"top-infra01": {}})
        self.journal.end_run(run, state, 4)
        return run

    def step(self, run: str, title: str, *hosts: str, state: str = "changed", ended: str = "done") -> None:
        number = next(n for n, step in enumerate(self.runbook.steps, 1) if step.title == title)
        self.journal.begin_step(run, number, title, [(CELLS[host], host) for host in hosts])
        self.journal.end_hosts(run, title, [(host, state, "") for host in hosts])
        self.journal.end_step(run, title, ended)

    @property
    def upgrade(self) -> Upgrade | None:
        return Upgrade.find(self.cloud, self.journal, self.runbook)

    def go_back(self) -> Context:
        """As `cellstep backout` begins."""
        self.upgrade.leave(GOING_BACK, "being backed out")
        return self.context()

    def context(self, **options: str) -> Context:
        run = self.journal.begin_run("nova-backout", "grizzly-havana", "digest", options)
        self.journal.set_output(run, str(self.folder / run))
        output = self.folder / run
        return Context(self.cloud, self.journal, run, "nova-backout", output, self.cloud.nodes, Options(**options))


@pytest.fixture
def past(cloud, tmp_path: Path) -> Past:
    return Past(cloud, tmp_path)


def test_without_a_run_there_is_nothing_to_go_back_from(past: Past):
    assert past.upgrade is None
    past.run(limit="c01-n01")
    assert past.upgrade is None
    found = gates.way_back_is_open(past.context(), {})
    assert [(finding.text, finding.blocking) for finding in found] == [
        ("there is no run of nova to go back from", True)
    ]


def test_a_run_that_has_changed_no_schema_needs_no_dump(past: Past):
    run = past.run(fenced=False)
    past.step(run, UPDATE, "top-api01", state="failed", ended="stopped")
    upgrade = past.upgrade
    assert upgrade.closed() == ""
    assert (upgrade.synced(), upgrade.updated("top-api01"), upgrade.updated("c01-ctl01")) == (set(), True, False)


@pytest.mark.parametrize("state", ["changed", "failed", "unknown"])
def test_a_schema_change_that_was_begun_counts_whatever_came_of_it(past: Past, state):
    past.step(past.run(), SYNC, "top-api01", state=state)
    assert past.upgrade.synced() == {"top"}
    assert past.upgrade.closed() == "the schema was changed, and there is no dump from before: top-infra01"


@pytest.mark.parametrize("state", ["not_run", "unreachable", "skipped"])
def test_a_schema_change_of_which_nothing_was_sent_does_not_count(past: Past, state):
    past.step(past.run(), SYNC, "top-api01", state=state)
    assert past.upgrade.synced() == set()
    assert past.upgrade.closed() == ""


@pytest.mark.parametrize("state", ["changed", "skipped", "failed", "unknown"])
@pytest.mark.parametrize("options", [{}, {"step": OPEN}])
def test_the_point_of_no_return_closes_the_way_back(past: Past, state, options):
    """Also where it was crossed by a run of that step alone, or only begun to be."""
    past.run()
    run = past.run(**options)
    past.step(run, OPEN, "top-infra01", state=state)
    assert past.upgrade.closed() == f"the point of no return was crossed: “{OPEN}” in run {run}"
    with pytest.raises(Stopped, match="no way back: the point of no return was crossed"):
        WayBack(past.cloud, past.runbook).dump(past.context(), past.cloud.nodes[0])


def test_apis_that_were_to_be_opened_by_hand_close_it_too(past: Past):
    past.step(past.run(), OPEN, ended="empty")
    assert "point of no return was crossed" in past.upgrade.closed()


@pytest.mark.parametrize("state", ["not_run", "unreachable"])
def test_a_balancer_that_was_not_reached_keeps_it_open(past: Past, state):
    past.step(past.run(), OPEN, "top-infra01", state=state, ended="stopped")
    assert past.upgrade.closed() == ""


def test_a_few_nodes_that_were_caught_up_do_not_close_it(past: Past):
    past.run()
    past.step(past.run(limit="c01-n01"), OPEN, ended="empty")
    assert past.upgrade.closed() == ""


def test_apis_that_somebody_opened_after_the_schema_was_changed_close_it(past: Past):
    """The hold was lifted by hand: users have written since, and would lose it."""
    run = past.run(dumps="top-infra01", fenced=False)
    past.step(run, SYNC, "top-api01")
    assert "the user-facing APIs were opened after the schema was changed, on top-infra01" in past.upgrade.closed()


def test_dumps_are_from_before_the_first_schema_change_of_their_own_cell(past: Past):
    """A run that was begun afresh dumps what is half upgraded; in a cell that was not touched yet its dump is newer."""
    first = past.run("superseded", dumps="top-infra01 c01-ctl01")
    past.step(first, SYNC, "top-api01")
    second = past.run(dumps="top-infra01 c01-ctl01")
    past.step(second, SYNC, "top-api01", state="skipped")
    past.step(second, SYNC_CELLS, "c01-ctl01")
    nodes = {node.name: node for node in past.cloud.nodes}
    upgrade = past.upgrade
    assert upgrade.synced() == {"top", "cell01"}
    assert upgrade.dump(nodes["top-infra01"], "nova") == (
        first,
        past.folder / first / "backup" / "top-infra01" / "nova.sql.gz",
    )
    assert upgrade.dump(nodes["c01-ctl01"], "nova")[0] == second
    assert upgrade.dump(nodes["c02-ctl01"], "nova") is None
    assert upgrade.closed() == ""


def test_a_database_is_restored_only_where_a_schema_change_was_begun(past: Past):
    run = past.run(dumps="top-infra01 c01-ctl01 c02-ctl01")
    past.step(run, SYNC, "top-api01")
    site, context = WayBack(past.cloud, past.runbook), past.go_back()
    given = {node.name: site.dump(context, node) for node in past.cloud.nodes if "database" in node.roles}
    assert {host: arguments["here"] is not None for host, arguments in given.items()} == {
        "top-infra01": True,
        "c01-ctl01": False,
        "c02-ctl01": False,
    }
    assert given["top-infra01"]["folder"] == f"/var/lib/cellstep/backups/{run}"
    assert given["top-infra01"]["start"] == (161, 162)


def test_the_wait_for_rest_is_left_out_where_the_cloud_has_come_to_rest(past: Past):
    run = past.run()
    site, context = WayBack(past.cloud, past.runbook), past.go_back()
    assert site.rest(context, past.cloud.nodes[0]) == {"rested": False}
    past.step(run, BACK_UP, "top-infra01", state="unknown", ended="running")
    assert site.rest(context, past.cloud.nodes[0]) == {"rested": True}


def test_a_run_that_is_gone_back_from_is_not_resumed_and_not_gone_back_from_again(past: Past):
    past.run("complete")
    run = past.run("interrupted")
    past.upgrade.leave(GOING_BACK, "being backed out")
    assert past.journal.unfinished_run("nova") is None
    assert past.upgrade.closed() == ""
    past.upgrade.leave(BACKED_OUT, "backed out by run x")
    record = next(past.journal.runs("nova"))
    assert (record.id, record.state, record.message) == (run, BACKED_OUT, "backed out by run x")
    assert past.upgrade.closed() == f"run {run} of nova was backed out already"
    past.run()
    assert len(past.upgrade.runs) == 1


def test_nothing_is_taken_back_before_the_back_out_has_begun(past: Past):
    """A single step of its runbook, say, while the upgrade's run may be resumed."""
    past.run("interrupted")
    site = WayBack(past.cloud, past.runbook)
    with pytest.raises(Stopped, match="begin with `cellstep backout nova`"):
        site.upgrade(past.context())
    with pytest.raises(Stopped, match="was not backed out: there is nothing to catch up"):
        site.upgrade(past.context(limit="c01-n01"))
    assert site.upgrade(past.go_back()).last.state == GOING_BACK


def test_a_node_that_missed_the_back_out_is_caught_up_with_a_limit(past: Past):
    past.run("interrupted")
    past.upgrade.leave(BACKED_OUT, "")
    site = WayBack(past.cloud, past.runbook)
    assert site.upgrade(past.context(limit="c01-n01")).last.state == BACKED_OUT
    with pytest.raises(Stopped, match="was backed out already"):
        site.upgrade(past.context())


def test_a_node_that_was_updated_and_has_no_list_from_before_is_not_guessed_at(past: Past):
    run = past.run()
    site, context = WayBack(past.cloud, past.runbook), past.go_back()
    node = next(node for node in past.cloud.nodes if node.name == "top-api01")
    assert site.versions(context, node)["before"] is None
    past.step(run, UPDATE, "top-api01")
    with pytest.raises(Stopped, match="top-api01 was updated, and the list of its versions before is not there"):
        site.versions(context, node)


def test_nodes_that_missed_the_upgrade_and_the_back_out_are_to_catch_up_with_the_back_out(past: Past, monkeypatch):
    """And not with the upgrade, which would leave them alone on the new release."""
    run = past.run()
    missed = [
        {"host": host, "cell": "cell01", "state": "unreachable", "detail": "no answer"}
        for host in ("c01-n01", "c01-n02")
    ]
    past.journal.leave_out(run, "nova", "some step", missed)
    past.journal.note_disabled({"c01-n01": False, "c01-n02": False})
    context = past.go_back()
    context.left_out["c01-n01"] = "no answer"
    monkeypatch.setattr(gates, "services_up", lambda *_: [Finding("one is down", blocking=True)])
    gates.close_upgrade(context, {})
    assert past.upgrade.last.state == GOING_BACK
    monkeypatch.setattr(gates, "services_up", lambda *_: [])
    gates.close_upgrade(context, {})
    assert past.upgrade.last.state == BACKED_OUT
    left = past.journal.quarantined()
    assert {host: (row["stage"], row["run"], row["was_disabled"]) for host, row in left.items()} == {
        "c01-n01": ("nova-backout", context.run, 0)
    }


class Killed(BaseException):
    """What ends a test's own process, as far as the code under test can tell."""


@pytest.mark.parametrize("n", [1, 2])
def test_whoever_is_killed_while_the_upgrade_is_closed_loses_nobody_from_quarantine(past: Past, monkeypatch, n):
    run = past.run()
    missed = [{"host": host, "cell": "cell01", "state": "failed", "detail": "no"} for host in ("c01-n01", "c01-n02")]
    past.journal.leave_out(run, "nova", "some step", missed)
    context = past.go_back()
    context.left_out["c01-n01"] = "no"
    monkeypatch.setattr(gates, "services_up", lambda *_: [])
    writes = iter(range(1, 100))
    write = type(past.journal)._write

    def killed(journal):
        if next(writes) == n:
            raise Killed
        return write(journal)

    with monkeypatch.context() as until_killed, contextlib.suppress(Killed):
        until_killed.setattr(type(past.journal), "_write", killed)
        gates.close_upgrade(context, {})
    assert "c01-n01" in past.journal.quarantined()
    gates.close_upgrade(context, {})
    assert {host: row["stage"] for host, row in past.journal.quarantined().items()} == {"c01-n01": "nova-backout"}


# What was before


def facts(kernel: str, **packages: str) -> Evidence:
    return Evidence(Facts("boot", kernel, {name: [evr] for name, evr in packages.items()}, {}))


def test_nodes_that_are_alike_are_kept_once():
    rows = system_rows({"a": facts("k", p="1-1"), "b": facts("k", p="1-1"), "c": facts("k", p="2-1"), "d": Evidence()})
    assert [row["hosts"] for row in rows] == [["a", "b"], ["c"]]
    assert json.loads(json.dumps(rows)) == rows


def test_a_nodes_list_is_the_oldest_that_has_it(past: Past):
    """One that was away when the run began, and was caught up, has its list in the run that did that."""
    first, later = past.run("complete"), past.run(limit="b")
    for run, hosts, kernel in ((first, ["a"], "old"), (later, ["a", "b"], "new")):
        kept.save(past.folder / run, "systems", [{"hosts": hosts, "kernel": kernel, "packages": {}}])
        rows = [{"host": host, "package": "p", "installed": kernel} for host in hosts]
        kept.save(past.folder / run, "packages", rows)
    found = Baseline.find(past.cloud, past.journal, "nova-backout", past.folder)
    assert {host: row["kernel"] for row in found.systems for host in row["hosts"]} == {"a": "old", "b": "new"}
    assert {row["host"]: row["installed"] for row in found.packages} == {"a": "old", "b": "new"}


@pytest.mark.parametrize(("evr", "status"), [("2013.1.4-1.el6", "ok"), ("2013.2.1-1.el6", "newer")])
def test_after_a_back_out_the_versions_of_before_are_the_right_ones(past: Past, evr, status):
    node = next(node for node in past.cloud.nodes if node.name == "c01-n01")
    answer = facts("k", **{"python-nova": evr})
    baseline = Baseline(packages=[{"host": "c01-n01", "package": "python-nova", "installed": "2013.1.4-1.el6"}])
    answers = Answers(evidence={"c01-n01": answer})
    table = tables_of(past.cloud, "nova-backout", [node], answers, baseline, ["rpms"])["rpms"]
    assert table[["package", "expected", "status"]].to_numpy().tolist() == [["python-nova", "2013.1.4-1.el6", status]]


def quota(in_use: int, reserved: int = 0) -> dict[str, object]:
    usage = {"id": 1, "project_id": "atlas", "user_id": None, "resource": "cores", "in_use": in_use}
    actual = {"project_id": "atlas", "user_id": None, "resource": "cores", "actual": 4}
    return {"usages": [{**usage, "reserved": reserved}], "actual": [actual], "reservations": [], "per_user": False}


@pytest.mark.parametrize(("now", "status"), [(4, "ok"), (3, "as before"), (2, "wrong")])
def test_a_quota_that_was_odd_before_is_as_before(past: Past, now, status):
    answers = Answers(evidence={"top-infra01": Evidence(quotas=quota(now))})
    baseline = Baseline(quotas=json.loads(json.dumps([quota(3)])))
    for stage, told in (("nova-backout", status), ("nova", status.replace("as before", "wrong"))):
        table = tables_of(past.cloud, stage, past.cloud.nodes, answers, baseline, ["quotas"])["quotas"]
        assert table["status"].tolist() == [told]


def test_the_component_of_a_way_back_is_that_of_its_stage():
    assert (component_of("nova"), component_of("nova-backout")) == ("nova", "nova")
