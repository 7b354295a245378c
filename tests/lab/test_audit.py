"""Audits on a lab: a sound cloud is sound, what is planted by hand is found and nothing else, and told once.

One lab, one story, in order: each test goes on where the one before it stopped.
"""

import fcntl
import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from lab.content.components import COMPONENTS
from tests.support.installed import CLOUD, install
from tests.support.labs import CELLSTEP, TestLab, lab_up

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

OLD = "2013.1.4-1.el6"
# A run of Puppet's that is under way would start a service again, and so would monit.
LEFT_ALONE = (
    "puppet agent --disable mine; for n in $(seq 120); do pgrep -f '[p]uppet (apply|agent)' > /dev/null || break;"
    " sleep 1; done; service monit stop; "
)
VOLUME = "select id from cinder.volumes where deleted=0 and status='available' order by id limit 1"
IMAGE = "select id from glance.images where deleted=0 order by id limit 1"


@pytest.fixture(scope="module")
def lab() -> Iterator[TestLab]:
    with lab_up("audit", 2, 2, tuple(COMPONENTS)) as up:
        settings = up.cloud / "cloud.yaml"
        text = settings.read_text(encoding="utf-8").replace("samples_s: 60", "samples_s: 25")
        settings.write_text(
            text.replace("free_mib: {/: 512, /var: 1024}", "free_mib: {/: 64, /var: 64}"), encoding="utf-8"
        )
        yield up


def audit(lab: TestLab, expect: int) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(lab.cellstep("audit", "--json", expect=None).partition("\ncellstep: ")[0])
    told = sorted(wrong(said)), said["unreachable"], said["no_answer"]
    assert said["compliant"] is (expect == 0), told
    return said


def wrong(found: dict[str, Any]) -> set[tuple[str, str, str]]:
    """(table, what it is about, status) of all rows that are not as they should be."""
    good = {"ok", "new", "same", "running", "kept", "own", "as before", "busy", "due", "uncounted"}
    names = {"rpms": "package", "services": "service", "condition": "what", "schemas": "what"}
    return {
        (table, f"{row.get('host', '')} {row.get(names.get(table, 'uuid'), row.get('id', ''))}".strip(), row["status"])
        for table, rows in found["tables"].items()
        for row in rows
        if row["status"] not in good
    }


def test_before_the_upgrade_only_what_can_be_expected_is(lab: TestLab):
    found = audit(lab, expect=0)
    assert wrong(found) == set()
    assert found["changes"] is None
    assert found["scope"]["upgraded"] == "nothing yet"
    assert "rpms" not in found["tables"]


def test_a_cloud_whose_stage_is_done_is_as_it_should_be(lab: TestLab):
    lab.cellstep("run", "ceilometer", "--yes")
    found = audit(lab, expect=3)
    # The update's own configuration stands beside Puppet's, for somebody to merge.
    assert {row[2] for row in wrong(found)} == {"set aside"}
    for host in {row[1].split()[0] for row in wrong(found)}:
        lab.on(host, "find /etc -name '*.rpmnew' -delete")
    found = audit(lab, expect=0)
    assert wrong(found) == set()
    assert {row["package"] for row in found["tables"]["rpms"]} >= {"openstack-ceilometer-collector"}
    # Nobody is told of what the upgrade brought about on purpose.
    assert [row for row in found["changes"] if row["tone"] in {"bad", "silent"}] == []


def test_exactly_what_was_planted_is_found(lab: TestLab):
    killed = (
        lab.on(
            "c02-n01",
            "pgrep -f -- '-uuid' | head -n 1 | xargs -I{} sh -c"
            ' \'tr "\\0" "\\n" < /proc/{}/cmdline | grep -A1 -x -- -uuid | tail -n 1; kill -9 {}\'',
        )
        .strip()
        .splitlines()[0]
    )
    volume, image = lab.sql("top-infra01", VOLUME), lab.sql("top-infra01", IMAGE)
    planted = {
        "c01-n01": f"{LEFT_ALONE}service openstack-nova-compute stop",
        "c01-n02": "rpm -e --nodeps openstack-ceilometer-compute && touch /etc/nova/nova.conf.rpmnew",
        "c02-n02": "chkconfig openstack-nova-compute off; monit unmonitor openstack-nova-compute",
        "c02-ctl01": "touch /etc/nova/policy.json.rpmsave",
        "top-api01": f"{LEFT_ALONE}service openstack-ceilometer-central stop",
    }
    for host, script in planted.items():
        lab.on(host, script)
    lab.sql("top-infra01", f"set foreign_key_checks=0; delete from cinder.volumes where id='{volume}'")  # noqa: S608 - of the lab's own database
    lab.sql("top-infra01", f"set foreign_key_checks=0; delete from glance.images where id='{image}'")  # noqa: S608 - the same
    lab.sql("top-infra01", "alter table ceilometer.meter drop column message_signature")
    lab.fault("top-api02", "power-off")
    found = audit(lab, expect=3)
    seen = wrong(found)
    away = {row for row in seen if row[1].startswith("top-api02")}
    assert {row[2] for row in away} == {"unreachable"}
    assert list(found["unreachable"]) == ["top-api02"]
    assert seen - away == {
        ("condition", "c01-n01 puppet", "disabled"),
        ("condition", "c01-n01 monit", "silent"),
        ("services", "c01-n01 openstack-nova-compute", "stopped"),
        ("rpms", "c01-n02 openstack-ceilometer-compute", "missing"),
        ("services", "c01-n02 openstack-ceilometer-compute", "stopped"),
        ("condition", "c01-n02 files", "set aside"),
        ("condition", "c02-n02 boot: openstack-nova-compute", "not at boot"),
        ("condition", "c02-n02 monit: openstack-nova-compute", "not watched"),
        ("condition", "c02-ctl01 files", "set aside"),
        ("condition", "top-api01 puppet", "disabled"),
        ("condition", "top-api01 monit", "silent"),
        ("services", "top-api01 openstack-ceilometer-central", "stopped"),
        ("guests", f"c02-n01 {killed}", "lost"),
        ("volumes", volume, "lost"),
        ("images", image, "missing"),
        ("schemas", "top-infra01 column meter.message_signature", "missing"),
    }


def test_what_is_lost_stays_lost_and_is_told_once(lab: TestLab):
    found = audit(lab, expect=3)
    assert {row[0] for row in wrong(found)} >= {"guests", "volumes", "images"}
    assert [row for row in found["changes"] if row["kind"] in {"worse", "new"}] == []


def test_a_node_that_comes_back_on_old_rpms_is_the_first_line(lab: TestLab):
    lab.clear("top-api02")
    lab.on("top-api02", f"yum -y downgrade openstack-ceilometer-api-{OLD}")
    said = lab.cellstep("audit", expect=3)
    first = said.splitlines()[1].split()
    assert first[:3] == ["worse", "rpms", "top-api02"]
    assert f"came back on old RPMs: openstack-ceilometer-api {OLD}" in said.splitlines()[1]


def test_the_report_and_the_difference_can_be_had_again(lab: TestLab):
    said = lab.cellstep("report", "latest")
    assert "Not compliant" in said
    assert '<testsuite name="rpms"' in lab.cellstep("report", "latest", "--format", "junit", "--output", "-")
    said = lab.cellstep("audit", "diff", "previous", "latest")
    assert "came back on old RPMs" in said
    assert len(json.loads(lab.cellstep("audit", "list", "--json"))) == 6
    assert "there is no audit" in lab.cellstep("audit", "diff", "2013", expect=2)


def test_no_audit_beside_a_run(lab: TestLab):
    holder = lab.cloud / "state" / "lock"
    with holder.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said = lab.cellstep("audit", expect=5)
    assert "no audit beside a run" in said


def test_a_timer_of_systemd_audits_from_a_host_of_the_lab(lab: TestLab):
    """Installed as an operator would: enabled, fired by the clock, and what it found is no failure of the unit."""
    host, unit, metrics = "top-infra01", f"cellstep-audit-{lab.name}", "/var/lib/node_exporter/cellstep.prom"
    cellstep = install(lab, host)
    lab.on(host, f"sed -i 's|metrics: null|metrics: {metrics}|' {CLOUD}/cloud.yaml")
    lab.on("c01-n01", f"{LEFT_ALONE}service openstack-ceilometer-compute stop")
    # systemd forgets how a unit ended that nothing refers to: each end is written down as it comes.
    ends, drop_in = f"{CLOUD}/state/ends", f"/etc/systemd/system/{unit}.service.d"
    recording = f"[Service]\nExecStopPost=/bin/sh -c 'echo $SERVICE_RESULT $EXIT_STATUS >> {ends}'\n"
    lab.on(host, f"mkdir {drop_in} && printf %s {shlex.quote(recording)} > {drop_in}/ends.conf")
    said = lab.on(host, f"{cellstep} audit install --cloud {CLOUD} --calendar '*:*:0/20'")
    assert f"enabled {unit}.timer" in said
    assert lab.on(host, f"systemctl is-enabled {unit}.timer").strip() == "enabled"
    # systemd adds up to a minute to the calendar's time, so that not all timers fire at once.
    lab.on(host, f"timeout 300 sh -c 'until test -s {ends}; do sleep 1; done'")
    lab.on(host, f"systemctl disable --now {unit}.timer && systemctl stop {unit}.service")
    assert lab.on(host, f"head -n 1 {ends}").split() == ["success", "3"]
    kept = json.loads(lab.on(host, f"{cellstep} audit list --json --cloud {CLOUD}"))
    assert kept[-1]["nodes"]["bad"] >= 1
    assert f'cellstep_audit_compliant{{cloud="{lab.name}"}} 0' in lab.on(host, f"cat {metrics}")
    lab.on("c01-n01", "service openstack-ceilometer-compute start")


def test_an_audit_beside_a_run_asks_nothing_and_disturbs_nothing(lab: TestLab):
    """A real run of a stage under way: the audit is refused at once, and the run ends as it would have."""
    environment = {**os.environ, "CELLSTEP_CLOUD": str(lab.cloud), "CELLSTEP_LAB": lab.name}
    log = lab.cloud / "run.log"
    with (
        log.open("w") as out,
        subprocess.Popen(
            [*CELLSTEP, "run", "glance", "--yes"], stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment
        ) as run,
    ):
        while '"under_way": true' not in lab.cellstep("status", "--json"):
            assert run.poll() is None, log.read_text()
        said = lab.cellstep("audit", expect=5)
        assert "no audit beside a run, which it must not disturb" in said
        watched = lab.cellstep("watch", "--until-end", expect=run.wait(600))
    assert run.returncode in {0, 3}, log.read_text()
    assert "glance: Done" in watched
    page = (lab.cloud / "out" / "latest" / "status.html").read_text(encoding="utf-8")
    assert "Done" in page
