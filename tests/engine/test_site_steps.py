"""The site's own steps in a runbook: where they come, what they may not, and that they run like all others."""

import dataclasses
from typing import Any

import pytest

from cellstep.cloud.load import load_cloud
from cellstep.cloud.steps import StepConfig
from cellstep.engine.dispatch import Outcome
from cellstep.engine.plan import as_kept, as_text, as_values, difference
from cellstep.engine.steps import Nodes, Runbook, Step
from cellstep.engine.steps import step as do
from cellstep.errors import ConfigurationError
from cellstep.stages import BACKOUTS, STAGES, check_steps, runbook_of
from cellstep.stages.copies import BACK_UP, GATE
from cellstep.stages.site import PROTECTING, _Fault, _Loom
from tests.support import clouds

SYNC, CLEAN = "Update the top DB", "Run “yum clean all” on all the nodes"
REBOOT = "Reboot the top controllers to get the latest Linux kernel"
PLACE_FENCE = "Top API controllers: block requests to stop new operations arriving"
DO = f"stage: nova, after: {SYNC!r}, on: top-ctl01"
COMMANDS = "hold: cron, read: 'true', place: 'true', lift: 'true'"
MODULE = """\
from tasks.holds import Hold, changed, unchanged
from . import other

def sync(task, *, database, tables=()):
    return changed(task, f"{other.WORD} {database}")

def read(task, *, file):
    return unchanged(task, {"file": object() if file == "odd" else file})

def place(task, *, prior, file):
    return changed(task, "placed")

def lift(task, *, prior, file):
    return changed(task, "lifted")

CRON = Hold("cron", read, place, lift)
WRONG = Hold("wrong", read, lambda task, *, prior: None, lift)
"""


@pytest.fixture
def write(tmp_path):
    """A cloud with these entries under `steps`, and modules in `site/`."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "network.py").write_text(MODULE)
    (tmp_path / "site" / "other.py").write_text("WORD = 'brought up to date:'\n")

    def cloud(*entries: str):
        steps = "".join(f"\n  - {{{entry}}}" for entry in entries) or " []"
        return load_cloud(clouds.write(tmp_path, f"{clouds.CLOUD}steps:{steps}\n"))

    return cloud


def _step(title: str, section: str = "") -> Step:
    return do(title, print, on=Nodes("all", list), section=section)


def titles(cloud, stage="nova"):
    return [step.title for step in runbook_of(stage, cloud).steps]


def around(cloud, title, before=1, after=1):
    found = titles(cloud)
    place = found.index(title)
    return found[place - before : place + after + 1]


def faults(cloud):
    with pytest.raises(ConfigurationError) as caught:
        runbook_of("nova", cloud)
    assert caught.value.exit_code == 2
    with pytest.raises(ConfigurationError) as again:
        check_steps(cloud)
    assert again.value.faults == caught.value.faults
    return caught.value.faults


def test_steps_come_after_and_before_others_in_the_files_order(write):
    cloud = write(
        f"{DO}, title: one, command: 'true'",
        f"{DO}, title: two, command: 'true'",
        f"stage: nova, before: {SYNC!r}, on: top, title: zero, command: 'true'",
        "stage: nova, after: two, on: top, title: three, command: 'true'",
        "stage: nova, before: one, on: top, title: half, command: 'true'",
    )
    assert around(cloud, SYNC, 1, 4) == ["zero", SYNC, "half", "one", "two", "three"]
    assert around(cloud, "three")[-1] == REBOOT


def test_after_a_replaced_step_comes_right_after_it(write):
    cloud = write(
        f"stage: nova, replace: {REBOOT!r}, on: top, command: reboot-them, reason: ours waits for the batch",
        f"{DO}, title: one, command: 'true'",
        f"stage: nova, after: {REBOOT!r}, on: top, title: two, command: 'true'",
    )
    assert around(cloud, REBOOT, 2, 1) == [SYNC, "one", REBOOT, "two"]


def test_the_plan_marks_what_is_the_sites_and_says_what_it_changed(write):
    cloud = write(
        f"{DO}, title: Bring the network up to date, run: 'network:sync', arguments: {{database: network}}",
        f"stage: nova, leave_out: {CLEAN!r}, reason: our mirror is local",
        f"stage: nova, replace: {REBOOT!r}, title: Reboot by hand, on: top, command: reboot-them, reason: BMCs",
        f"{DO}, kind: hold, title: No cron, {COMMANDS}, lift_after: Reboot by hand, lift_title: Cron again",
    )
    book = runbook_of("nova", cloud)
    text = as_text(cloud, book, cloud.nodes)
    assert "Bring the network up to date  (site)\n       top-ctl01: top-ctl01 (1)\n" in text
    assert "No cron  [holds cron]  (site)\n" in text
    assert "Cron again  [lifts cron]  (site)\n" in text
    assert text.endswith(
        "Changed by cloud.yaml:\n"
        f"    left out: “{CLEAN}”: our mirror is local\n"
        f"    replaced: “{REBOOT}” by “Reboot by hand”: BMCs"
    )
    assert text.count("(site)") == 4
    values = as_values(cloud, book, cloud.nodes)
    assert [step["title"] for step in values["steps"] if step["site"]] == [
        *("Bring the network up to date", "No cron", "Reboot by hand", "Cron again"),
    ]
    assert len(values["changes"]) == 2
    assert CLEAN not in titles(cloud)


def test_the_heading_above_a_step_that_is_left_out_or_replaced_stays(write):
    loom = _Loom(write(), Runbook("nova", (_step("a", "One"), _step("b"), _step("c", "Two")), lambda _: True))
    loom.take(StepConfig(stage="nova", leave_out="a", reason="x"))
    loom.take(StepConfig(stage="nova", replace="c", title="d", on="top", command="x", reason="y"))
    assert [(step.title, step.section) for step in loom.done().steps] == [("b", "One"), ("d", "Two")]


def test_another_command_argument_or_reason_is_another_plan(write):
    def kept(*entries):
        cloud = write(*entries)
        book = runbook_of("nova", cloud)
        return book.digest(cloud.nodes), as_kept(cloud, book, cloud.nodes)

    one = f"{DO}, title: one, command: sync-it"
    plain, first, same, other = kept(), kept(one), kept(one), kept(f"{one} --all")
    assert first == same
    assert len({plain[0], first[0], other[0]}) == 3
    assert difference(plain[1], first[1])[0] == "+ one: top-ctl01"
    assert difference(first[1], other[1]) == [
        "~ the site's step “one”: command: sync-it before, command: sync-it --all now"
    ]
    why = kept(f"stage: nova, leave_out: {CLEAN!r}, reason: our mirror is local")
    assert f"- {CLEAN}" in difference(plain[1], why[1])
    assert f"+ left out: “{CLEAN}”: our mirror is local" in difference(plain[1], why[1])


FAULTS = [
    ("stage: nowa, after: x, on: top, title: t, command: x", "there is no stage 'nowa'; did you mean 'nova'?"),
    (
        "stage: nova, after: Update the top DBs, on: top, title: t, command: x",
        f"nova has no step “Update the top DBs”; did you mean “{SYNC}”?",
    ),
    (
        "stage: nova, before: Have lunch, on: top, title: t, command: x",
        "nova has no step “Have lunch”; `cellstep plan nova` shows its titles",
    ),
    (f"{DO}, title: {SYNC!r}, command: x", f"nova has a step “{SYNC}” already; write another title"),
    (
        f"{DO}, title: t, run: 'nets:sync'",
        (
            "there is no module 'nets' in SITE, and none is installed; known modules in "
            "site/: bad, network, other, raises"
        ),
    ),
    (
        f"{DO}, title: t, run: 'netwrk:sync'",
        ("there is no module 'netwrk' in SITE, and none is installed; did you mean 'network'?"),
    ),
    (f"{DO}, title: t, run: 'network:snc'", "site/network.py has no 'snc'; did you mean 'sync'?"),
    (
        f"{DO}, title: t, run: 'network:other'",
        ("network:other is no function; write the name of one that takes a Nornir task"),
    ),
    (
        f"{DO}, title: t, run: 'network:CRON'",
        ("network:CRON is a hold; write kind: hold, and after or before which step it is lifted"),
    ),
    (
        f"{DO}, title: t, run: 'network:sync'",
        ("network:sync cannot be called with a task and these arguments: missing a required argument: 'database'"),
    ),
    (
        f"{DO}, title: t, run: 'network:sync', arguments: {{database: x, colour: red}}",
        ("network:sync cannot be called with a task and these arguments: got an unexpected keyword argument 'colour'"),
    ),
    (f"{DO}, title: t, run: 'bad:sync'", "site/bad.py cannot be imported: SyntaxError: '(' was never closed (line 2)"),
    (
        f"{DO}, title: t, run: 'raises:sync'",
        ("site/raises.py cannot be imported: ModuleNotFoundError: No module named 'nothing_of_this_name'"),
    ),
    (
        f"{DO}, kind: hold, title: t, run: 'network:sync', lift_after: {REBOOT!r}",
        ("network:sync is no hold; write the name of a tasks.holds.Hold, or kind: do"),
    ),
    (
        f"{DO}, kind: hold, title: t, run: 'network:WRONG', arguments: {{file: f}}, lift_after: {REBOOT!r}",
        (
            "place of "
            "network:WRONG cannot be called with a task and these arguments: got an unexpected keyword argument 'file'"
        ),
    ),
    (
        f"{DO}, kind: hold, title: t, {COMMANDS}, lift_before: {CLEAN!r}",
        ("is lifted before it is placed; name a later step in lift_after or lift_before"),
    ),
    (
        f"{DO}, kind: hold, title: t, {COMMANDS}, lift_after: Have lunch",
        ("nova has no step “Have lunch”; `cellstep plan nova` shows its titles"),
    ),
    (
        f"{DO}, kind: hold, title: t, {COMMANDS}, lift_after: {REBOOT!r}, lift_title: t",
        ("has a lift_title that is its title; write another"),
    ),
    (
        f"{DO}, kind: hold, title: t, {COMMANDS}, lift_after: {REBOOT!r}, lift_title: {SYNC!r}",
        (f"nova has a step “{SYNC}” already; write another title"),
    ),
    (
        f"{DO}, kind: hold, title: t, hold: puppet, {COMMANDS.removeprefix('hold: cron, ')}, lift_after: {REBOOT!r}",
        "the hold 'puppet' has the name of another one of nova; rename it",
    ),
    (
        f"stage: nova, leave_out: {GATE!r}, reason: hurry",
        (
            f"“{GATE}” is a gate: it cannot be left out; one that blocks "
            "is passed knowingly, with `cellstep resume --override`"
        ),
    ),
    (
        f"stage: nova, leave_out: {BACK_UP!r}, reason: hurry",
        (f"“{BACK_UP}” keeps data safe, or what is needed to go back: it cannot be left out"),
    ),
    (
        f"stage: nova, replace: {SYNC!r}, on: top, command: x, reason: hurry",
        (f"“{SYNC}” keeps data safe, or what is needed to go back: it cannot be replaced"),
    ),
    (
        f"stage: nova, leave_out: {PLACE_FENCE!r}, reason: hurry",
        (
            f"“{PLACE_FENCE}” places the hold fence, which protects "
            "the cloud while it is upgraded: it cannot be left out"
        ),
    ),
    (
        "stage: nova, leave_out: Enable Puppet on all nodes, reason: hurry",
        (
            "“Enable Puppet on all nodes” lifts the hold "
            "puppet: it cannot be left out, or the cloud would not be put back as it was"
        ),
    ),
    (
        "stage: nova, leave_out: Save a list of all volumes, reason: hurry",
        ("“Save a list of all volumes” saves what a gate compares with afterwards: it cannot be left out"),
    ),
]


@pytest.mark.parametrize(("entry", "said"), FAULTS)
def test_each_fault_is_one_line_before_anything_is_sent(write, tmp_path, entry, said):
    (tmp_path / "site" / "bad.py").write_text("x = 1\nsync = (\n")
    (tmp_path / "site" / "raises.py").write_text("import nothing_of_this_name\n")
    assert faults(write(entry)) == [f"cloud.yaml:6: steps.0: {said.replace('SITE', str(tmp_path / 'site'))}"]


def test_all_faults_come_at_once_also_those_of_another_stage(write):
    cloud = write(
        f"{DO}, title: t, command: x",
        "stage: nova-backout, after: y, on: top, title: t, command: x",
        "stage: nova, leave_out: t, reason: it is ours",
        "stage: neither, after: y, on: top, title: t, command: x",
    )
    found = faults(cloud)
    assert [line.partition(": “")[0].partition("; ")[0] for line in found] == [
        "cloud.yaml:7: steps.1: nova-backout has no step “y”",
        "cloud.yaml:8: steps.2",
        "cloud.yaml:9: steps.3: there is no stage 'neither'",
    ]
    assert found[1].endswith(": “t” is a step of the site's own; take its entry away instead")


@pytest.mark.parametrize("stage", [*STAGES, *BACKOUTS])
def test_no_step_but_a_plain_one_can_be_left_out(cloud, stage):
    book = runbook_of(stage, cloud)
    for step in book.steps:
        if step.kind != "do":
            with pytest.raises(_Fault, match="it cannot be left out"):
                _Loom(cloud, book).take(StepConfig(stage=stage, leave_out=step.title, reason="hurry"))


# What a site may do in another way, or not at all: what is lost with it is time, or a test that a gate makes, too.
A_SITE_CAN_DO_WITHOUT = {
    *("packages.clean", "packages.download", "downgrade.download", "tokens.purge_all", "quota.repair_if_asked"),
    *("puppet.promote", "puppet.receive_repository", "backout.move_back", "backout.lose_repository"),
    *("reboot.for_new_kernel", "downgrade.kernel_to_before", "customisations.reapply", "webserver.refresh"),
    *("checkout.cells_answer", "checkout.guest_in_each_cell", "checkout.site_command", "backout.cells_answer"),
    *("clients.call",),
}


def name_of(does: Any) -> str:
    return f"{does.__module__.rpartition('.')[2]}.{does.__name__}"


def test_every_plain_step_keeps_data_safe_or_is_one_that_a_site_can_do_without(cloud):
    """A new task is in one of the two: somebody has thought about it."""
    books = [runbook_of(stage, cloud) for stage in (*STAGES, *BACKOUTS)]
    plain = {step.does for book in books for step in book.steps if step.kind == "do"}
    assert {name_of(does) for does in plain - PROTECTING} == A_SITE_CAN_DO_WITHOUT
    assert {name_of(does) for does in PROTECTING - plain} == set()


def test_the_rules_of_policies_are_added_whatever_a_site_thinks(cloud):
    book = runbook_of("glance", cloud)
    entry = StepConfig(
        stage="glance", leave_out="Add the rules that policies lack, with a backup and a diff", reason="x"
    )
    with pytest.raises(_Fault, match="keeps data safe, or what is needed to go back: it cannot be left out"):
        _Loom(cloud, book).take(entry)


def test_the_way_back_lifts_the_sites_holds_before_users_are_let_in(write):
    entry = f"{DO}, kind: hold, title: No cron, {COMMANDS}, lift_after: {REBOOT!r}"
    back = titles(write(entry), "nova-backout")
    assert back[back.index("Put back: No cron") + 1] == "Enable user facing APIs at the top cells"
    own = (
        f"stage: nova-backout, kind: hold, after: {back[3]!r}, title: No cron, on: top, {COMMANDS},"
        " lift_after: Stop nova-compute, lift_title: Cron again"
    )
    assert "Put back: No cron" not in titles(write(entry, own), "nova-backout")


def outcomes(sent: list[tuple[str, str, Any]]):
    def script(task: str, node: str, arguments: Any) -> Outcome:
        sent.append((task, node, arguments))
        return Outcome("ok", "", {"file": "f"}) if task == "read" else Outcome("changed", "did it", "did it")

    return script


def test_they_run_are_held_and_journalled_like_all_others(write, rehearsal):
    cloud = write(
        f"{DO}, kind: hold, title: No cron, run: 'network:CRON', arguments: {{file: f}}, lift_after: {REBOOT!r}",
        f"{DO}, title: Sync, run: 'network:sync', arguments: {{database: network}}",
    )
    steps = [step for step in runbook_of("nova", cloud).steps if step.site]
    assert [step.title for step in steps] == ["No cron", "Sync", "Put back: No cron"]
    mine = dataclasses.replace(rehearsal, cloud=cloud)
    sent: list[tuple[str, str, Any]] = []
    went = mine.go(steps[:2], outcomes(sent))
    assert went.error is None
    assert sent == [
        ("read", "top-ctl01", {"file": "f"}),
        ("place", "top-ctl01", {"file": "f", "prior": {"file": "f"}}),
        ("sync", "top-ctl01", {"database": "network"}),
    ]
    held = mine.journal.holds()
    assert [(row["name"], row["host"], row["title"], row["prior"]) for row in held] == [
        ("cron", "top-ctl01", "No cron", {"file": "f"})
    ]
    assert mine.go(steps, outcomes(sent)).error is None
    assert sent[3:] == [("lift", "top-ctl01", {"file": "f", "prior": {"file": "f"}})]
    assert mine.journal.holds() == []
    assert [(row["step"], row["host"], row["state"]) for row in mine.journal.hosts(mine.run)] == [
        ("No cron", "top-ctl01", "changed"),
        ("Sync", "top-ctl01", "changed"),
        ("Put back: No cron", "top-ctl01", "changed"),
    ]
