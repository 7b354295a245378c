"""Horizon's stage: its plan, what its gates judge, and the table of what was measured."""

import contextlib

import pytest

from cellstep import sequence
from cellstep.cloud.load import load_cloud
from cellstep.engine import plan
from cellstep.engine.context import Context, Options
from cellstep.engine.journal import Journal
from cellstep.errors import ConfigurationError
from cellstep.stages import STAGES, horizon
from cellstep.stages.arguments import MEASURED
from cellstep.stages.dashboards import Dashboard
from cellstep.verification import expected_services, packages_of
from reports.tables import dashboard as table
from tasks.holds import Noted
from tests.support import clouds

DASHBOARD = """dashboard:
  old: dash01
  new: dash02
  url: http://cloud.example.org/dashboard
  username: tester
  password_file: {folder}/password
  guest: probe
  customisations:
    - {{path: /usr/share/x/login.html, how: copy, what: help buttons}}
  switch:
    on: top-db01
    command: /usr/local/sbin/alias dash02
    back: /usr/local/sbin/alias dash01
    state: /usr/local/sbin/alias
  watch_from: c01-ctl01
  restarts: {{every_min: 30, days: 14}}
"""
FAILED = "requests without an answer or with HTTP 500 and above (12%, before 0%)"
FIGURES = {
    "requests": 100,
    "errors": 0,
    "logins": 25,
    "failed_logins": 0,
    "median_ms": 50.0,
    "p95_ms": 90.0,
    "statuses": {"200": 50, "302": 50},
    "gave_up": False,
}
ENDS = {"hold", "lift", "settle"}
BAD = {**FIGURES, "errors": 12, "failed_logins": 5, "statuses": {"200": 88, "500": 12}}


def written(folder, more=DASHBOARD):
    folder.mkdir(exist_ok=True)
    (folder / "password").write_text("secret\n")
    (folder / "password").chmod(0o600)
    inventory = clouds.INVENTORY.replace("database: top-db01", 'database: top-db01, dashboard: "dash[01-02]"')
    base = clouds.CLOUD.replace("name: havana", "name: havana, baseurl: http://repo.example.org/havana")
    return load_cloud(clouds.write(folder, base + more.format(folder=folder), inventory))


@pytest.fixture
def cloud(tmp_path):
    return written(tmp_path / "cloud")


@pytest.fixture
def context(cloud, tmp_path):
    with contextlib.closing(Journal(tmp_path / "journal")) as journal:
        run = journal.begin_run("horizon", "r", "d", {})
        yield Context(cloud, journal, run, "horizon", tmp_path, cloud.nodes, Options())


def test_the_plan_goes_to_the_new_machine_and_leaves_the_old_one(cloud):
    book = STAGES["horizon"](cloud)
    touched = {step.title: [node.name for node in step.on.choose(cloud.nodes)] for step in book.steps}
    assert touched["Install the dashboard on the new machine"] == ["dash02"]
    assert touched[horizon.SWITCHED] == ["top-db01"]
    on_old = [step for step in book.steps if touched[step.title] == ["dash01"]]
    assert [step.kind for step in on_old] == ["gate"], "it is only looked at"
    text = plan.as_text(cloud, book, cloud.nodes)
    assert "[gate; undoes the hold where it stops]" in text
    assert "[lets stay dashboard-switch]" in text


def test_every_hold_is_lifted_or_settled_on_every_node(cloud):
    placed, ended = set(), set()
    for step in STAGES["horizon"](cloud).steps:
        where = {(step.does.name, node.name) for node in step.on.choose(cloud.nodes)} if step.kind in ENDS else set()
        (placed if step.kind == "hold" else ended).update(where)
    assert placed == ended
    assert len(placed) == 5


def test_the_old_machine_is_to_have_nothing_of_the_release(cloud):
    old, new = (next(node for node in cloud.nodes if node.name == name) for name in ("dash01", "dash02"))
    assert packages_of(cloud, "horizon", old) == {}
    assert expected_services(cloud, "horizon", old) == {}
    assert packages_of(cloud, "horizon", new) == {
        "openstack-dashboard": "2013.2.1-1.el6",
        "python-django-horizon": "2013.2.1-1.el6",
    }
    assert expected_services(cloud, "horizon", new) == {"httpd": ""}


@pytest.mark.parametrize(
    ("wrong", "right", "words"),
    [
        ("new: dash02", "new: dash03", "dashboard.new: there is no node with the role `dashboard` 'dash03'"),
        ("new: dash02", "new: dash01", "dashboard: has one node as old and new"),
        ("watch_from: c01-ctl01", "watch_from: nowhere", "dashboard.watch_from: there is no node 'nowhere'"),
        ("how: copy", "how: patch", "needs `patch` with `how: patch`"),
        ("how: copy", "how: command", "needs `command` and `done` with `how: command`"),
        ("url: http://", "url: http://me:secret@", "has a user or a password in it"),
        ("guest: probe", "browser: true\n  guest: probe", "needs browser_url with `browser: true`"),
    ],
)
def test_a_fault_of_cloud_yaml_is_one_line(tmp_path, wrong, right, words):
    with pytest.raises(ConfigurationError) as caught:
        written(tmp_path / "cloud", DASHBOARD.replace(wrong, right))
    assert len(caught.value.faults) == 1
    assert words in caught.value.faults[0]


def test_a_cloud_without_a_dashboard_has_no_such_stage(tmp_path):
    cloud = written(tmp_path / "cloud", "")
    with pytest.raises(ConfigurationError, match="dashboard is not there; the stage horizon needs old, new, url"):
        STAGES["horizon"](cloud)


def noted(figures):
    return {"c01-ctl01": Noted("", figures)}


def said(findings):
    return [(finding.text, finding.blocking) for finding in findings]


def test_worse_than_before_blocks_with_the_figures_and_both_are_kept(context, cloud):
    its = Dashboard(cloud)
    assert its.save_before(context, noted(FIGURES)) == []
    assert its.not_worse(context, noted(FIGURES)) == []
    assert said(its.not_worse(context, noted(BAD))) == [
        (
            f"dash02 is worse than dash01: 12 of 100 {FAILED}; 5 of 25 failed log-ins (20%, before 0%)",
            True,
        )
    ]
    records = context.journal.records(MEASURED, "horizon", context.run)
    made = table.table({side: record.data for side, record in records.items()})
    assert list(made.columns) == table.COLUMNS
    assert made[["when", "machine", "errors", "failed_logins", "status"]].values.tolist() == [
        ["before", "dash01", 0, 0, "before"],
        ["after", "dash02", 12, 5, "worse"],
    ]
    assert made["detail"][1].endswith("12 x HTTP 500")


def test_an_old_dashboard_that_is_bad_already_is_reported(context, cloud):
    assert [finding.blocking for finding in Dashboard(cloud).save_before(context, noted(BAD))] == [False]


def test_a_second_run_puts_no_load_on_what_users_have_already(context, cloud):
    its, node = Dashboard(cloud), context.nodes[0]
    assert its.to_press(context, node)["needless"] == ""
    its.save_serving(context, {"top-db01": {"serving": "dash02"}})
    assert its.to_press(context, node)["needless"] == "users came to dash02 before this run"
    context.journal.place_holds(context.run, "horizon", "x", "dashboard-switch", {"top-db01": {"serving": "dash01"}})
    assert its.to_press(context, node)["needless"] == "", "this run has switched it"
    assert its.not_worse(context, noted(None)) == []


def test_what_was_tried_and_did_not_go_well_blocks(context, cloud):
    its = Dashboard(cloud)
    tried = [{"what": "log in", "well": True, "said": "50 ms"}, {"what": "test 2", "well": False, "said": "HTTP 500"}]
    assert said(its.tested(context, {"dash02": Noted("", tried)})) == [("dash02: HTTP 500", True)]
    assert said(its.tested(context, {"dash02": Noted("", [])})) == [("dash02: nothing was tried", True)]
    assert its.browsed(context, {"dash02": Noted("not tested", None)}) == [], "no browser was asked for"
    assert said(its.browsed(context, {"dash02": Noted("", ["a script fails: x"])})) == [
        ("dash02, in a browser: a script fails: x", True)
    ]


def test_what_is_customised_and_not_listed_blocks(context, cloud):
    found = Noted("", {"changed": {"/usr/share/x/login.html": "changed", "/etc/y": "changed"}, "absent": []})
    words = [finding.text for finding in Dashboard(cloud).all_listed(context, {"dash01": found})]
    assert len(words) == 1
    assert words[0].startswith("/etc/y is changed on the old machine, and not in dashboard.customisations")


def test_the_password_is_read_only_from_a_file_that_no_other_can_read(cloud):
    assert cloud.dashboard_password() == "secret"
    cloud.config.dashboard.password_file.chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"dashboard\.password_file: .* is open to others"):
        cloud.dashboard_password()


def test_all_stages_are_those_of_the_cloud(cloud, tmp_path):
    assert sequence.stages(cloud)[-2:] == ("horizon", "nova")
    assert "horizon" not in sequence.stages(written(tmp_path / "without", ""))
