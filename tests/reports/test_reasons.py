"""Who made a guest or a volume another than it was."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.reasons import UPGRADE, Ours, Reason, Standing, Traces
from reports.tables import findings, guests, volumes
from tests.support.facts import volume
from tests.support.nova_history import RUNNING, SINCE, Life, at, traces

Frame = pd.DataFrame


def seen(*lives, unreachable=(), **more):
    """The table of guests, by uuid."""
    before = [row for life in lives if life.first for row in life.first[1]]
    after = [row for life in lives for row in life.guest()]
    return guests.table(Frame(before), Frame(after), set(unreachable), traces(*lives, **more)).set_index("uuid")


def told(life, **more):
    row = seen(life, **more).loc[life.uuid]
    return row[["status", "explained_by", "action", "who", "when"]].tolist()


UNEXPLAINED = ["unexplained", "", "", ""]

# --- guests: what a user did ---


@pytest.mark.parametrize(
    ("action", "status"),
    [
        ("delete", "deleted by user"),
        ("stop", "stopped by user"),
        ("suspend", "stopped by user"),
        ("reboot", "restarted by user"),
        ("rebuild", "restarted by user"),
        ("pause", "changed by user"),
    ],
)
def test_what_a_user_asked_for_is_told_with_the_user_and_the_time(action, status):
    life = Life()
    life.asked(action, 5)
    assert told(life) == [status, "user", action, "alice", at(5)]


def test_a_guest_that_a_user_made_since():
    assert told(Life(born=5)) == ["created by user", "user", "create", "owner", at(5)]


def test_a_guest_that_came_and_went_is_no_difference():
    life = Life(born=5)
    life.asked("delete", 6)
    assert seen(life).empty


def test_a_stopped_guest_that_a_user_started():
    life = Life(runs=False, state="stopped")
    life.asked("start", 5)
    assert told(life) == ["started by user", "user", "start", "alice", at(5)]


def test_a_guest_that_never_ran_is_told_by_its_rows_alone():
    life = Life(runs=False, state="error")
    assert seen(life).empty
    life.asked("delete", 5)
    assert told(life) == ["deleted by user", "user", "delete", "alice", at(5)]


def test_a_live_migration_is_known_to_nova_by_the_host_in_its_row():
    life = Life()
    life.moved("c01-n02", 5)
    assert told(life) == ["moved by user", "user", "live migration", "", at(5)]
    life.row["host"] = "c01-n01.cern.ch"
    assert told(life)[:2] == ["moved", "unexplained"]


def test_a_deletion_without_an_action_is_told_without_a_user():
    life = Life()
    life.asked("delete", 5)
    life.actions.clear()
    assert told(life) == ["deleted by user", "user", "delete", "", at(5)]


def test_a_deletion_under_way_is_one():
    life = Life()
    life.row |= {"task_state": "deleting", "updated_at": at(5)}
    life.killed()
    assert told(life) == ["deleted by user", "user", "deleting", "", at(5)]


def test_what_was_being_built_has_begun_to_run():
    life = Life(state="building", runs=False)
    life.now("active", 5)
    life.row["launched_at"] = at(5)
    life.begun(5)
    assert told(life) == ["created by user", "user", "create", "owner", at(5)]


def test_an_action_that_failed_explains_the_error():
    life = Life()
    life.acted("reboot", 5, failed=True)
    life.now("error", 5)
    assert told(life) == ["changed by user", "user", "reboot", "alice", at(5)]
    assert "the action failed" in seen(life).loc["u", "explanation"]


# --- guests: what nobody asked for ---


def test_a_guest_that_is_gone_without_a_trace_is_lost():
    life = Life()
    life.killed()
    row = seen(life).loc["u"]
    assert (row["status"], row["explained_by"]) == ("lost", "unexplained")
    assert row["explanation"] == "does not run on c01-n01 any more"


def test_what_nova_did_when_it_found_the_guest_gone_explains_nothing():
    """It stops what does not run any more: an action without a user."""
    life = Life()
    life.killed()
    life.acted("stop", 5, who="")
    life.now("stopped", 5)
    row = seen(life).loc["u"]
    assert (row["status"], row["explained_by"]) == ("lost", "unexplained")
    assert "last action: stop by no user" in row["explanation"]


@pytest.mark.parametrize("action", ["reboot", "rebuild", "resume", "pause"])
def test_a_guest_that_should_run_after_what_was_asked_last_is_lost(action):
    life = Life()
    life.asked("stop", 4)
    life.asked(action, 5)
    life.killed()
    assert told(life)[:2] == ["lost", "unexplained"]


def test_a_process_that_began_long_after_the_action_is_not_its_doing():
    life = Life()
    life.asked("reboot", 5)
    life.begun(90)
    assert told(life)[:2] == ["restarted", "unexplained"]
    life.actions[0]["unended"] = 1  # still under way, for all that is known
    assert told(life)[:2] == ["restarted by user", "user"]


def test_a_process_that_began_before_the_action_is_not_its_doing():
    life = Life()
    life.begun(4)
    life.acted("reboot", 5)
    assert told(life)[:2] == ["restarted", "unexplained"]


def test_an_action_that_touches_no_process_explains_no_restart():
    life = Life()
    life.acted("changePassword", 5)
    life.begun(5)
    assert told(life)[:2] == ["restarted", "unexplained"]


@pytest.mark.parametrize("times", [{"deleted_at": "", "terminated_at": ""}, {"deleted_at": at(-60)}])
def test_a_row_that_was_deleted_at_no_time_since_is_not_a_users_doing(times):
    life = Life()
    life.asked("delete", 5)
    life.row |= {"deleted_at": "", "terminated_at": "", **times}
    assert told(life)[:2] == ["lost", "unexplained"]


def test_a_row_that_is_not_there_any_more_is_not_a_users_doing():
    life = Life()
    life.row = None
    row = seen(life).loc["u"]
    assert (row["status"], row["explained_by"]) == ("changed", "unexplained")
    assert row["explanation"].startswith("API database: active -> no row; cell database: active -> no row")
    assert "no database has it any more, and it runs" in row["explanation"]


def test_a_deleted_guest_that_still_runs_is_not_explained():
    life = Life()
    life.asked("delete", 5)
    life.runs = True
    assert told(life)[:2] == ["changed", "unexplained"]
    life.row |= {"task_state": "deleting"}
    assert told(life)[:2] == ["deleted by user", "user"]


def test_a_guest_that_only_one_database_has_deleted_is_not_explained():
    life = Life()
    life.asked("delete", 5)
    one = {"u": (Standing("active", "deleted"), Standing("active", "active"))}
    for runs, status in ((False, "lost"), (True, "changed")):
        life.runs = runs
        row = seen(life, standings=one).loc["u"]
        assert (row["status"], row["explained_by"]) == (status, "unexplained")
        assert "deleted in the API's database, live in its cell's" in row["explanation"]


def test_an_error_that_no_action_tells_of_is_not_explained():
    life = Life()
    life.acted("reboot", 5)
    life.now("error", 30)
    assert told(life)[:2] == ["changed", "unexplained"]


def test_a_process_that_no_database_knows_is_told():
    life = Life(born=5)
    life.row, life.actions = None, []
    row = seen(life).loc["u"]
    assert (row["status"], row["explained_by"]) == ("appeared", "unexplained")
    assert "no database has it any more" in row["explanation"]


def test_a_list_of_the_node_that_was_never_saved_has_nothing_to_compare_with():
    life = Life(born=-500)
    assert told(life, fresh=frozenset({"c01-n01"})) == ["new", "", "", "", ""]
    assert told(life)[:2] == ["appeared", "unexplained"]


# --- guests: what the upgrade did ---


def test_a_guest_of_the_check_out_tests_is_the_upgrades():
    life = Life(born=5)
    life.row["name"] = "cellstep-20140224-120000-1-2"
    ours = Ours({"cellstep-20140224-120000-": "20140224-120000"})
    assert told(life, ours=ours) == ["created by upgrade", "upgrade", "check-out test", "run 20140224-120000", at(5)]


def test_our_own_reboot_explains_another_process_and_no_loss():
    life = Life()
    ours = Ours(reboots={"c01-n01": [(at(10), at(12), "r1")]})
    life.boot = "b2"
    life.begun(11)
    assert told(life, ours=ours) == ["restarted by upgrade", "upgrade", "reboot of c01-n01", "run r1", at(10)]
    life.started = 8
    assert told(life, ours=ours)[:2] == ["restarted", "unexplained"]
    life.killed()
    row = seen(life, ours=ours).loc["u"]
    assert (row["status"], row["explained_by"]) == ("lost", "unexplained")
    assert "its host was rebooted by run r1" in row["explanation"]


def test_quarantine_is_the_upgrades_and_still_a_finding():
    life = Life()
    ours = Ours(quarantine={"c01-n01": Reason(UPGRADE, "quarantine", "run r1", at(3), "missed “Update”")})
    table = seen(life, ours=ours, unreachable={"c01-n01"})
    assert table.loc["u", ["status", "explained_by", "action"]].tolist() == ["unreachable", "upgrade", "quarantine"]
    assert len(findings("guests", table)) == 1


# --- guests: many, each with a life of its own ---

_STEPS = st.lists(st.sampled_from(["stop", "start", "reboot", "suspend", "resume", "pause", "delete"]), max_size=4)
_HARM = st.sampled_from(["", "", "kill", "crash", "lose the row", "error"])
_ALLOWED = {
    "active": {"stop", "reboot", "suspend", "pause", "delete"},
    "stopped": {"start", "delete"},
    "suspended": {"resume", "delete"},
    "paused": {"delete"},
    "deleted": set(),
}


def befalls(life, harm):
    """Do the guest a harm that no user asked for; whether it could be done."""
    runs, known = life.state in RUNNING, life.first is not None
    if harm == "kill" and runs:
        life.killed()
    elif harm == "crash" and runs and known:
        life.begun(100)
    elif harm == "lose the row" and known:
        life.row = None
    elif harm == "error" and known and life.state == "active":
        life.now("error", 100)
    else:
        return False
    return True


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), _STEPS, _HARM), min_size=1, max_size=6))
def test_users_are_believed_and_harm_is_found_whatever_else_was_done(stories):
    lives, harmed = [], set()
    for number, (born, steps, harm) in enumerate(stories):
        life = Life(uuid=f"u{number}", born=1 if born else None)
        for minute, step in enumerate(steps, 1):
            if step in _ALLOWED[life.state]:
                life.asked(step, minute * 10)
        lives.append(life)
        if befalls(life, harm):
            harmed.add(life.uuid)
    table = seen(*lives)
    assert set(table.index[table["explained_by"] == "unexplained"]) == harmed
    assert set(findings("guests", table).index) == harmed
    for life in lives:
        if life.uuid in table.index and life.uuid not in harmed:
            row = table.loc[life.uuid]
            assert (row["explained_by"] == "user") == (row["status"] != "running")
            assert not row["when"] or row["when"] >= SINCE


# --- volumes ---


def record(number="v", status="available", deleted=0, **times):
    empty = dict.fromkeys(("created_at", "updated_at", "deleted_at", "terminated_at", "launched_at"), "")
    row = {"id": number, "status": status, "deleted": deleted, "user_id": "alice", "attach_time": "", "since": SINCE}
    return {**row, **empty, "created_at": at(-500), **times}


def mapping(guest, deleted=0, created=-500, ended=None):
    row = {"volume_id": "v", "instance_uuid": guest, "deleted": deleted, "since": SINCE}
    return {**row, "created_at": at(created), "deleted_at": "" if ended is None else at(ended)}


def volumes_told(before, after, **more):
    kinds = {name: more.pop(name, []) for name in ("volumes", "attachments", "instances", "actions", "transfers")}
    table = volumes.table(Frame(before), Frame(after), Traces(**kinds, **more))
    return table.iloc[0][["status", "explained_by", "action", "who", "when"]].tolist()


def test_a_volume_that_a_user_deleted():
    gone = record(deleted=1, status="deleted", deleted_at=at(5))
    assert volumes_told([volume("v")], [], volumes=[gone]) == ["deleted by user", "user", "delete", "", at(5)]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [record(deleted=1)],
        [record(deleted=1, deleted_at=at(-60))],
        [record(deleted_at=at(5))],
        [record("another", deleted=1, deleted_at=at(5))],
    ],
)
def test_a_volume_that_is_gone_without_a_trace_is_lost(rows):
    assert volumes_told([volume("v")], [], volumes=rows) == ["lost", *UNEXPLAINED]


def test_a_volume_that_a_user_made():
    made = record(created_at=at(5))
    assert volumes_told([], [volume("v")], volumes=[made]) == ["created by user", "user", "create", "alice", at(5)]
    assert volumes_told([], [volume("v")], volumes=[record(updated_at=at(5))]) == ["appeared", *UNEXPLAINED]


ATTACHED, FREE = volume("v", status="in-use", attached="i"), volume("v")


def test_attachments_are_known_to_nova():
    made, ended = mapping("i", created=5), mapping("i", deleted=1, ended=6)
    assert volumes_told([FREE], [ATTACHED], attachments=[made]) == ["changed by user", "user", "attach", "", at(5)]
    assert volumes_told([ATTACHED], [FREE], attachments=[ended]) == ["changed by user", "user", "detach", "", at(6)]
    moved = volume("v", status="in-use", attached="j")
    both = [ended, mapping("j", created=7)]
    assert volumes_told([ATTACHED], [moved], attachments=both) == ["changed by user", "user", "attach", "", at(7)]
    assert volumes_told([ATTACHED], [moved], attachments=both[1:]) == ["changed", *UNEXPLAINED]


@pytest.mark.parametrize("written", ["2014-02-24T12:05:00.000000", "2014-02-24 12:05:00"])
def test_cinders_own_time_of_an_attachment_will_do(written):
    row = record(attach_time=written, updated_at=at(5))
    assert volumes_told([FREE], [ATTACHED], volumes=[row]) == ["changed by user", "user", "attach", "", at(5)]


@pytest.mark.parametrize("rows", [[], [mapping("i", created=-5)], [mapping("j", created=5)]])
def test_an_attachment_that_nova_does_not_know_is_not_explained(rows):
    assert volumes_told([FREE], [ATTACHED], attachments=rows) == ["changed", *UNEXPLAINED]


def test_a_volume_is_free_when_its_guest_is_deleted():
    life = Life("i")
    life.asked("delete", 5)
    story = {"instances": traces(life).instances, "actions": life.actions}
    assert volumes_told([ATTACHED], [FREE], **story) == ["changed by user", "user", "delete of guest i", "alice", at(5)]
    life.row["name"] = "cellstep-r1-1-1"
    ours = volumes_told([ATTACHED], [FREE], instances=traces(life).instances, ours=Ours({"cellstep-r1-": "r1"}))
    assert ours[:4] == ["changed by upgrade", "upgrade", "detach, check-out test", "run r1"]


@pytest.mark.parametrize(
    ("old", "new", "action"),
    [
        (volume("v", name="a"), volume("v", name="b"), "rename"),
        (volume("v", size=1), volume("v", size=2), "extend"),
        (volume("v", status="creating"), volume("v"), "creating"),
        (volume("v"), volume("v", status="backing-up"), "backing-up"),
        (volume("v", status="error"), volume("v"), "reset of the state"),
        (volume("v", size=2), volume("v", size=1), ""),
        (volume("v"), volume("v", status="error"), ""),
        (volume("v"), volume("v", status="in-use"), ""),
        (volume("v"), volume("v", project="q"), ""),
        (volume("v", name="a", size=2), volume("v", name="b", size=1), ""),
    ],
)
def test_what_cinder_writes_at_a_users_request_alone(old, new, action):
    said = volumes_told([old], [new], volumes=[record(updated_at=at(5))])
    assert said == (["changed by user", "user", action, "", at(5)] if action else ["changed", *UNEXPLAINED])
    assert volumes_told([old], [new], volumes=[record(updated_at=at(-5))]) == ["changed", *UNEXPLAINED]


def test_a_transfer_and_a_deletion_that_failed():
    taken = [{"volume_id": "v", "deleted_at": at(5), "since": SINCE}]
    said = volumes_told([volume("v")], [volume("v", project="q")], transfers=taken)
    assert said == ["changed by user", "user", "transfer", "", at(5)]
    row = record(status="error_deleting", updated_at=at(5), terminated_at=at(4))
    said = volumes_told([volume("v")], [volume("v", status="error_deleting")], volumes=[row])
    assert said == ["changed by user", "user", "delete", "", at(4)]


def test_without_a_list_from_before_all_is_new_and_good():
    table = volumes.table(Frame(), Frame([volume("v")]))
    assert table["status"].tolist() == ["new"]
    assert findings("volumes", table).empty
