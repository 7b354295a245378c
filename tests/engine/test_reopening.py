"""Holds lifted under a run that is not finished: what it does again when it goes on, on the real runbooks."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from cellstep import runs
from cellstep.check.gates import Checks
from cellstep.cloud.load import load_cloud
from cellstep.engine.dispatch import Outcome
from cellstep.engine.journal import Journal
from cellstep.engine.plan import as_kept
from cellstep.engine.run import Crossing
from cellstep.engine.store import now
from cellstep.errors import Stopped, UsageError
from cellstep.reopening import ANEW, LIFTED, NO_MATCH, STILL_DISABLED, standing_on_rest
from cellstep.stages import runbook_of
from cellstep.wayback import GOING_BACK, Upgrade
from tests.engine.test_settling import CHANGED, Place, Scripted, well
from tests.support.folders import lab_folder

STANDS = "Check that nothing in the databases stands against the schema change"
AFTER = "Check the schemas: the release's, with all that is the site's own, and no row lost"
PROVE = "Restore each dump beside the cloud, compare it, and rehearse the schema change on the copy"
COMPARE = "Check that every dump is proven and rehearsed, and that nothing was written since"
BACK_UP = "Back up all DBs and create a local dump of each in case we need a rapid restore"
UPDATE = "Update all the Nova RPMs and the kernel on top controllers"
SYNC, AFTER_SYNC = "Update the top DB", "Reboot the top controllers to get the latest Linux kernel"
QUEUES = "Cell controllers: wait until the queues are empty"
TASKS = "Cell controllers: wait until no instance has a task state"
CELLS = ["top-infra01", "c01-ctl01", "c02-ctl01"]
CHECKS = [STANDS, BACK_UP, PROVE, COMPARE, AFTER]


class Yes:
    """Stands for an operator who goes on past a gate."""

    def confirm(self, _crossing: Crossing) -> bool:
        return True

    def accept(self, changes: Sequence[str]) -> bool:
        raise AssertionError(f"asked about {changes}")


class Night(Place):
    """A place in which a run has gone through the real runbook up to a step."""

    def until(self, title: str, stage: str = "nova") -> str:
        """All before this step was done."""
        journal, book, nodes = self.journal, runbook_of(stage, self.cloud), self.cloud.nodes
        run = journal.begin_run(
            stage, self.cloud.release.name, book.digest(nodes), {}, as_kept(self.cloud, book, nodes)
        )
        journal.set_output(run, str(self.cloud.directory / "out" / run))
        for number, step in enumerate(book.steps, 1):
            if step.title == title:
                break
            here = step.on.choose(nodes)
            journal.begin_step(run, number, step.title, [(node.cell, node.name) for node in here])
            journal.start_hosts(run, step.title, {node.name: 1 for node in here})
            if step.kind == "hold":
                journal.place_holds(run, stage, step.title, step.does.name, {node.name: {} for node in here})
            journal.end_hosts(run, step.title, [(node.name, "changed", "") for node in here])
            journal.end_step(run, step.title, "done" if here else "empty")
        journal.end_run(run, "stopped", 4)
        return run

    def resume(self, fails: str, *, looks_well: bool = False) -> list[tuple[str, str]]:
        """Go on until this task, which fails; what was sent to which nodes. The databases may look well meanwhile."""
        if looks_well:
            self.monkeypatch.setattr(Checks, "judge_before", lambda *_: [])
        read = {s.does.read.__name__ for s in runbook_of("nova", self.cloud).steps if s.kind == "hold"}

        def script(task: str, _host: str, _arguments: object) -> Outcome:
            return Outcome("failed", "no") if task == fails else Outcome("ok", "", {}) if task in read else CHANGED

        dispatcher = Scripted(script, self.stopping)
        self.monkeypatch.setattr(runs, "Dispatcher", lambda *_, **__: dispatcher)
        with pytest.raises(Stopped, match="failed on"):
            runs.resume(self.cloud, runs.Watch(self.shown, Yes(), self.stopping))
        return dispatcher.sent

    def states(self, run: str, title: str) -> dict[str, str]:
        return {row["host"]: row["state"] for row in self.journal.hosts(run, title)}

    @property
    def upgrade(self) -> Upgrade:
        found = Upgrade.find(self.cloud, self.journal, runbook_of("nova", self.cloud))
        assert found is not None
        return found


@pytest.fixture
def night(tmp_path: Path, monkeypatch) -> Night:
    return Night(load_cloud(lab_folder(tmp_path / "cloud")), monkeypatch)


def hosts(sent: list[tuple[str, str]], task: str) -> list[str]:
    return [host for name, host in sent if name == task]


def test_what_stands_on_rest_are_the_waits_and_the_dumps(night: Night):
    titles = [step.title for step in standing_on_rest(runbook_of("nova", night.cloud))]
    tiers = ("Top API controllers", "Cell controllers", "Compute nodes")
    waits = ("wait until no instance has a task state", "wait until the queues are empty")
    assert titles == [*(f"{tier}: {wait}" for tier in tiers for wait in waits), *CHECKS]
    back = [step.title for step in standing_on_rest(runbook_of("nova-backout", night.cloud))]
    assert back == ["Wait until no instance has a task state", "Wait until the queues are empty"]


def test_a_run_whose_rest_was_ended_waits_and_dumps_again_before_it_changes_anything(night: Night):
    """Users were let in for a day: the dumps of the night before are not what a back-out may bring back."""
    night.until(UPDATE)
    night.lift(well)
    sent = night.resume(fails="compare_all", looks_well=True)
    assert hosts(sent, "wait_for_tasks") == CELLS
    assert hosts(sent, "wait_until_empty") == CELLS
    assert hosts(sent, "look") == CELLS
    assert hosts(sent, "back_up") == CELLS
    assert hosts(sent, "prove") == ["top-infra01"]
    tasks = list(dict.fromkeys(task for task, _ in sent))
    assert tasks[-4:] == ["look", "back_up", "prove", "compare_all"]
    assert not {"gather", "promote", "receive_repository", "clean", "download"} & set(tasks)


def test_what_does_not_keep_the_cloud_at_rest_ends_no_rest(night: Night):
    run = night.until(UPDATE)
    night.lift(well, name="puppet")
    assert set(night.states(run, BACK_UP).values()) == {"changed"}
    assert hosts(night.resume(fails="update"), "back_up") == []


def test_queues_are_not_asked_for_where_rabbitmq_is_disabled_still(night: Night):
    """It could not answer; and while it is stopped nothing comes in."""
    run = night.until(UPDATE)
    night.lift(well, name="daemons")
    assert set(night.states(run, QUEUES).values()) == {"changed"}
    assert set(night.states(run, TASKS).values()) == {"not_run"}
    sent = night.resume(fails="compare_all", looks_well=True)
    assert (hosts(sent, "wait_until_empty"), hosts(sent, "back_up")) == ([], CELLS)


def test_queues_are_not_asked_for_where_rabbitmq_could_not_be_enabled(night: Night):
    run = night.until(UPDATE)
    night.lift(lambda _, host: Outcome("failed", "no") if host == "c01-ctl01" else CHANGED, name="rabbitmq")
    rows = {row["host"]: (row["state"], row["detail"]) for row in night.journal.hosts(run, QUEUES)}
    assert rows == {"c01-ctl01": ("skipped", STILL_DISABLED), "c02-ctl01": ("not_run", ANEW)}


# Once a schema change has begun


@pytest.mark.parametrize("name", ["", "fence", "daemons", "rabbitmq"])
def test_after_a_schema_change_the_rest_is_ended_only_by_who_knows_of_the_dumps(night: Night, name):
    run = night.until(AFTER_SYNC)
    held = night.journal.all_open_holds()
    with pytest.raises(UsageError) as refused:
        night.lift(well, name=name)
    assert f"cellstep holds lift --accept '{NO_MATCH}'" in str(refused.value)
    assert "in top" in str(refused.value)
    assert night.journal.all_open_holds() == held
    assert night.lift(well, name=name, accepted=NO_MATCH).left == {}
    assert set(night.states(run, BACK_UP).values()) == {"changed"}, "the dumps from before are the ones to keep"


def test_other_holds_are_lifted_without_that(night: Night):
    night.until(AFTER_SYNC)
    assert night.lift(well, name="monitoring").left == {}


def test_what_is_left_of_an_upgrade_that_is_over_is_lifted_without_that(night: Night):
    run = night.until(AFTER_SYNC)
    night.journal.end_run(run, "complete", 0)
    night.journal.end_run(night.journal.begin_run("nova", "r", "d", {"limit": "c01-n01"}), "stopped", 4)
    assert night.lift(well).left == {}


# A back-out


def backing_out(night: Night, upgrade_until: str) -> str:
    """A back-out that has brought the cloud to rest; most holds are still the upgrade's own."""
    night.until(upgrade_until)
    night.upgrade.leave(GOING_BACK, "being backed out")
    return night.until("Bring the RPMs on the top controllers back", "nova-backout")


def test_a_back_out_places_again_what_was_lifted_under_it(night: Night):
    """The holds are of the upgrade's stage, as it placed them first."""
    run = backing_out(night, UPDATE)
    assert {row["stage"] for row in night.journal.holds() if row["name"] == "daemons"} == {"nova"}
    night.lift(well)
    for title in ("Stop nova-compute", "Stop the daemons on the top controllers", "Disable RabbitMQ"):
        assert set(night.states(run, title).values()) == {"not_run"}, title
    sent = night.resume(fails="to_before")
    assert hosts(sent, "wait_for_tasks") == CELLS
    places = {step.does.place.__name__ for step in runbook_of("nova", night.cloud).steps if step.kind == "hold"}
    assert places <= {task for task, _ in sent}
    assert night.journal.open_holds("daemons")


def test_of_a_back_out_too_it_is_known_that_a_hold_is_not_there(night: Night):
    run = backing_out(night, UPDATE)
    night.journal.start_hosts(run, "Stop nova-compute", {"c01-n01": 1})
    night.lift(well)
    assert night.journal.unknown_hosts(run) == {}
    row = next(r for r in night.journal.hosts(run, "Stop nova-compute") if r["host"] == "c01-n01")
    assert (row["state"], row["detail"]) == ("not_run", LIFTED)


def test_under_a_back_out_of_a_changed_schema_the_rest_is_ended_only_by_who_knows_of_the_dumps(night: Night):
    backing_out(night, AFTER_SYNC)
    with pytest.raises(UsageError, match=NO_MATCH):
        night.lift(well)


# What the way back makes of it


def dump_again(journal: Journal, run: str) -> None:
    before = now()
    while now() == before:  # the journal tells times apart by the millisecond
        pass
    journal.start_hosts(run, BACK_UP, dict.fromkeys(CELLS, 2))


def test_dumps_from_before_a_lifting_prove_no_rest(night: Night):
    run = night.until(UPDATE)
    assert night.upgrade.rested()
    night.lift(well, name="puppet")
    assert night.upgrade.rested()
    night.lift(well, name="daemons")
    assert not night.upgrade.rested()
    dump_again(night.journal, run)
    assert night.upgrade.rested()


def test_letting_users_in_before_anything_was_changed_leaves_the_way_back_open(night: Night):
    run = night.until(SYNC)
    night.lift(well)
    assert night.upgrade.closed() == ""
    journal = night.journal
    journal.place_holds(run, "nova", "again", "fence", {"top-infra01": {}})
    journal.begin_step(run, 30, SYNC, [("top", "top-api01")])
    journal.end_hosts(run, SYNC, [("top-api01", "changed", "")])
    copy = night.cloud.directory / "out" / run / "backup" / "top-infra01" / "nova.sql.gz"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"")
    assert night.upgrade.synced() == {"top"}
    assert night.upgrade.closed() == "", "the schema was changed after the users were out again"
    night.lift(well, name="fence", accepted=NO_MATCH)
    journal.place_holds(run, "nova", "again", "fence", {"top-infra01": {}})
    assert "the point of no return was crossed" in night.upgrade.closed()


def test_a_lifting_after_the_upgrade_before_says_nothing_of_the_next(night: Night):
    """What an upgrade that is over has left held is lifted before the next one begins."""
    run = night.until(AFTER_SYNC)
    night.journal.end_run(run, "complete", 0)
    night.lift(well)
    night.until(UPDATE)
    assert night.upgrade.closed() == ""
