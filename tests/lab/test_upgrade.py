"""The Nova stage end to end on a lab: what fails is found, what was done is proven, what was held is put back.

One lab, one story, in order: each test goes on where the one before it stopped.
"""

import json
from collections.abc import Iterator

import pytest

from tests.support.labs import TestLab, lab_up

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

OFF = "c02-n02"
CONTROLLER = "c02-ctl01"
SCHEDULING = "select disabled, disabled_reason from nova.services where host='c02-n02' and topic='compute'"
DATABASES = ("top-infra01", "c01-ctl01", "c02-ctl01")
NODES = ("top-api01", "top-api02", "top-infra01", "c01-ctl01", "c01-n01", "c01-n02", "c02-ctl01", "c02-n01", "c02-n02")


@pytest.fixture(scope="module")
def lab() -> Iterator[TestLab]:
    with lab_up("tests", 2, 2) as up:
        settings = up.cloud / "cloud.yaml"
        text = settings.read_text(encoding="utf-8")
        assert "canary: 1" in text
        # The canary has tests of its own; here it would only take time.
        settings.write_text(text.replace("canary: 1", "canary: 9"), encoding="utf-8")
        yield up


def state_of(lab: TestLab, host: str) -> str:
    """Everything that an upgrade changes on a host."""
    return lab.on(
        host,
        "rpm -qa | sort; chkconfig --list 2>/dev/null | grep -E 'nova|monit|rabbit|puppet';"
        " cat /proc/sys/kernel/random/boot_id /etc/sysconfig/yum-autoupdate;"
        " ls /etc/yum.repos.d /var/lib/cellstep 2>&1; alarms masked; echo $?;"
        " for s in openstack-nova-api openstack-nova-compute openstack-nova-cells monit; do"
        " service $s status > /dev/null 2>&1; echo $s $?; done",
    )


def heads(lab: TestLab, hosts: tuple[str, ...] = DATABASES) -> list[str]:
    question = "select version from nova.migrate_version where repository_id='nova'"
    return [lab.sql(host, question) for host in hosts]


def test_a_dry_run_reads_everything_and_changes_nothing(lab: TestLab):
    before = {host: state_of(lab, host) for host in ("top-api01", "c01-ctl01", "c01-n01")}
    said = lab.cellstep("run", "nova", "--dry-run")
    assert "would run `nova-manage db sync`: 161 to 216" in said
    assert "would reboot into kernel" in said or "would update" in said
    assert {host: state_of(lab, host) for host in before} == before
    assert heads(lab) == ["161"] * 3
    assert not (lab.cloud / "state" / "journal.sqlite3").exists()


def test_a_controller_that_is_off_stops_the_run_before_anything_is_half_done(lab: TestLab):
    lab.fault(OFF, "power-off")
    lab.fault(CONTROLLER, "power-off")
    said = lab.cellstep("run", "nova", "--yes", expect=4)
    assert f"not reached, and needed: {CONTROLLER}" in said
    assert "cellstep resume" in said
    status = json.loads(lab.cellstep("status", "--json"))
    assert status["run"]["state"] == "stopped"
    assert heads(lab, DATABASES[:2]) == ["161", "161"]
    assert "2013.1.4-1.el6" in lab.on("top-api01", "rpm -q python-nova")


def test_the_run_refuses_to_begin_beside_the_stopped_one(lab: TestLab):
    assert "cellstep resume" in lab.cellstep("run", "nova", "--yes", expect=2)


def test_resume_carries_the_upgrade_through_without_the_compute_node_that_is_off(lab: TestLab):
    lab.clear(CONTROLLER)
    lab.on(CONTROLLER, "for i in $(seq 60); do rabbitmqctl -q status > /dev/null 2>&1 && exit 0; sleep 1; done; exit 1")
    said = lab.cellstep("resume", "--yes", expect=3)
    assert "done, but not compliant" in said
    assert heads(lab) == ["216"] * 3
    # Each schema was synced exactly once, and every controller booted once for its kernel.
    assert [lab.sql(host, "select count(*) from lab.db_sync_runs") for host in DATABASES] == ["1"] * 3
    for host in ("top-api01", "top-api02", "c01-ctl01", CONTROLLER):
        assert "2.6.32-431.5.1.el6" in lab.on(host, "uname -r")
    assert "2.6.32-431.el6" in lab.on("c01-n01", "uname -r")


def test_every_hold_was_put_back(lab: TestLab):
    assert json.loads(lab.cellstep("status", "--json"))["holds"] == {}
    for host in NODES[:-1]:
        assert 'ENABLED="true"' in lab.on(host, "cat /etc/sysconfig/yum-autoupdate")
        lab.on(host, "! alarms masked && [ ! -e /var/lib/puppet/state/agent_disabled.lock ]")
    assert "UP" in lab.on("top-infra01", "exec 3<>/dev/tcp/127.0.0.1/9999; echo 'show stat' >&3; grep top-api01 <&3")


def test_the_node_that_was_off_is_in_quarantine_and_unreachable_in_every_table(lab: TestLab):
    steps = lab.table("hosts")
    mine = steps[steps["host"] == OFF]
    assert next(iter(mine["state"])) == "unreachable"
    assert set(mine["state"][1:]) == {"quarantined"}
    assert len(mine) == len(steps[steps["host"] == "c01-n01"])
    for name in ("rpms", "services", "guests"):
        table = lab.table(name)
        bad = table[~table["status"].isin({"ok", "running"})]
        assert set(bad["host"]) == {OFF}, name
        assert set(bad["status"]) == {"unreachable"}, name
    quarantine = lab.table("quarantine")
    assert list(quarantine["host"]) == [OFF]
    assert lab.sql(CONTROLLER, SCHEDULING).startswith('1\tcellstep: missed "Save a list')
    assert set(lab.table("volumes")["status"]) == {"same"}
    assert len(lab.table("guests")) == 8


def test_the_quota_loss_of_migration_216_is_found_and_shown_before_the_apis_open(lab: TestLab):
    quotas = lab.table("quotas")
    missing = quotas[quotas["status"] == "missing"]
    assert set(missing["resource"]) == {"instances", "cores", "ram", "security_groups"}
    assert set(missing["in_use"]) == {""}
    findings = json.loads(lab.cellstep("status", "--json"))["findings"]
    assert any("limits are not enforced" in finding["text"] for finding in findings)


def test_a_node_that_comes_back_on_old_packages_is_named_exactly(lab: TestLab):
    lab.clear(OFF)
    tables = lab.verify("--table", "rpms", expect=3)["tables"]["rpms"]
    older = {(row["host"], row["package"]) for row in tables if row["status"] == "older"}
    packages = {"openstack-nova-common", "openstack-nova-compute", "python-nova"}
    assert {package for host, package in older if host == OFF} >= packages
    assert {host for host, _ in older} == {OFF}


def test_the_node_is_caught_up(lab: TestLab):
    lab.cellstep("run", "nova", "--catch-up", "--yes")
    assert lab.sql(CONTROLLER, SCHEDULING) == "0\tNULL"
    assert json.loads(lab.cellstep("status", "--json"))["quarantine"] == []
    assert "2013.2.1-1.el6" in lab.on(OFF, "rpm -q openstack-nova-compute")
    lab.on(OFF, "service openstack-nova-compute status")


def test_planted_deviations_are_named_exactly(lab: TestLab):
    lab.on("c01-n01", "service monit stop; service openstack-nova-compute stop; chkconfig openstack-nova-compute off")
    lab.on("top-api02", "rpm -e --nodeps --justdb openstack-nova-console")
    lab.on("c02-n01", "kill $(pgrep -of qemu-kvm)")
    found = lab.verify(expect=3)["tables"]
    assert [(r["host"], r["service"], r["status"]) for r in found["services"] if r["status"] != "ok"] == [
        ("c01-n01", "openstack-nova-compute", "stopped")
    ]
    assert [(r["host"], r["package"], r["status"]) for r in found["rpms"] if r["status"] != "ok"] == [
        ("top-api02", "openstack-nova-console", "missing")
    ]
    assert [(r["host"], r["status"]) for r in found["guests"] if r["status"] != "running"] == [("c02-n01", "lost")]
    lab.on("top-api02", "yum -y install openstack-nova-console-2013.2.1-1.el6")
    lab.on("c01-n01", "chkconfig openstack-nova-compute on; service openstack-nova-compute start; service monit start")


def test_the_repair_makes_the_quotas_compliant_and_can_be_undone(lab: TestLab):
    assert "INSERT INTO quota_usages" in lab.cellstep("quota", "repair", "nova")
    lab.cellstep("quota", "check", "nova", expect=3)
    before = lab.sql("top-infra01", "select * from nova.quota_usages order by id")
    said = lab.cellstep("quota", "repair", "nova", "--apply")
    lab.cellstep("quota", "check", "nova")
    assert "nothing to repair" in lab.cellstep("quota", "repair", "nova", "--apply")
    undo = said.split("undo with ")[1].strip()
    with open(undo, encoding="utf-8") as file:  # noqa: PTH123 - the path as it was printed
        lab.on("top-infra01", f"mysql nova <<'SQL'\n{file.read()}\nSQL")
    assert lab.sql("top-infra01", "select * from nova.quota_usages order by id") == before
    lab.cellstep("quota", "repair", "nova", "--apply")


def test_verify_is_compliant_at_the_end_but_for_the_guest_that_was_killed(lab: TestLab):
    report = lab.verify(expect=3)
    assert report["counts"]["quotas"].keys() == {"ok"}
    assert report["counts"]["rpms"].keys() == {"ok"}
    assert report["counts"]["services"].keys() == {"ok"}
    assert report["counts"]["guests"]["lost"] == 1


def test_a_second_run_from_the_start_changes_no_package_schema_or_guest(lab: TestLab):
    """Every step is idempotent: the upgrade run again finds its work done, and puts back what it holds."""
    guests = lab.table("guests")
    lab.cellstep("run", "nova", "--yes")
    steps = lab.table("hosts")
    changed = set(steps[steps["state"] == "changed"]["step"])
    assert not {step for step in changed if step.startswith(("Update", "Reboot", "Move"))}, changed
    assert [lab.sql(host, "select count(*) from lab.db_sync_runs") for host in DATABASES] == ["1"] * 3
    now = lab.table("guests")
    alive = set(guests[guests["status"] == "running"]["uuid"])
    assert set(now["uuid"]) == alive
    assert set(now["status"]) == {"running"}
