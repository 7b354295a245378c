"""Ceilometer and Cinder end to end on a lab: their packages alone, proven dumps, lists that match, the dark time told.

One lab, one story, in order: each test goes on where the one before it stopped.
"""

import json
from collections.abc import Iterator

import pytest

from tests.support.labs import TestLab, lab_up

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

TOP = ("top-api01", "top-api02")
COMPUTES = ("c01-n01", "c02-n01")
DATABASE = "top-infra01"
NEW = "2013.2.1-1.el6"


@pytest.fixture(scope="module")
def lab() -> Iterator[TestLab]:
    with lab_up("stages", 2, 1, ("ceilometer", "cinder")) as up:
        settings = up.cloud / "cloud.yaml"
        text = settings.read_text(encoding="utf-8")
        settings.write_text(text.replace("samples_s: 60", "samples_s: 25"), encoding="utf-8")
        yield up


def versions(lab: TestLab, *packages: str) -> dict[str, str]:
    return {
        host: lab.on(host, f"rpm -q --qf '%{{VERSION}}-%{{RELEASE}} ' {' '.join(packages)}").strip() for host in TOP
    }


def head(lab: TestLab, component: str) -> str:
    return lab.sql(DATABASE, f"select version from {component}.migrate_version limit 1")  # noqa: S608 - a fixed name


def as_it_was(lab: TestLab, host: str) -> None:
    """Nothing of what a stage holds is in place."""
    assert "cellstep-" not in lab.on(host, "ls /etc/yum.repos.d")
    assert 'ENABLED="true"' in lab.on(host, "cat /etc/sysconfig/yum-autoupdate")
    lab.on(host, "! alarms masked && [ ! -e /var/lib/puppet/state/agent_disabled.lock ]")


# Cinder


def test_a_dry_run_of_cinder_changes_nothing(lab: TestLab):
    said = lab.cellstep("run", "cinder", "--dry-run")
    assert "would run `cinder-manage db sync`: 9 to 20" in said
    assert head(lab, "cinder") == "9"
    as_it_was(lab, "top-api01")
    assert not (lab.cloud / "state" / "journal.sqlite3").exists()


def test_a_column_of_the_release_that_is_there_already_is_found_before_anything_changes(lab: TestLab):
    lab.sql(DATABASE, "alter table cinder.volumes add attached_host varchar(255)")
    said = lab.cellstep("run", "cinder", "--yes", expect=4)
    assert "python-novaclient 1:2.15.0-1.el6" in said, "the newer cinderclient brings a newer novaclient"
    assert "volumes.attached_host exists already (a backport)" in said
    assert head(lab, "cinder") == "9"
    assert versions(lab, "openstack-cinder") == dict.fromkeys(TOP, "2013.1.4-1.el6")
    lab.sql(DATABASE, "alter table cinder.volumes drop attached_host")


def test_a_service_that_cannot_start_stops_the_stage_with_the_api_closed_and_resume_goes_on(lab: TestLab):
    lab.sql(DATABASE, "alter table cinder.volumes add cern_pool varchar(20), add index (cern_pool)")
    lab.sql(DATABASE, "update cinder.volumes set cern_pool = concat('pool-', size)")
    lab.on("top-api02", "mv /var/log/cinder/volume.log /var/log/cinder/volume.old; mkdir /var/log/cinder/volume.log")
    said = lab.cellstep("resume", "--yes", expect=4)
    assert "starting openstack-cinder" in said
    assert head(lab, "cinder") == "20"
    status = json.loads(lab.cellstep("status", "--json"))
    assert {"fence", "daemons", "repository", "dark-time"} <= status["holds"].keys()
    lab.on("top-api02", "rmdir /var/log/cinder/volume.log")
    said = lab.cellstep("resume", "--yes")
    assert "done, and compliant" in said


def test_cinder_is_upgraded_and_nothing_else(lab: TestLab):
    assert versions(lab, "openstack-cinder", "python-cinder") == dict.fromkeys(TOP, f"{NEW} {NEW}")
    assert versions(lab, "python-nova") == dict.fromkeys(TOP, "2013.1.4-1.el6")
    assert lab.sql(DATABASE, "select count(*) from lab.db_sync_runs where component='cinder'") == "1"
    assert lab.sql(DATABASE, "select count(*) from cinder.volumes where cern_pool = concat('pool-', size)") == lab.sql(
        DATABASE, "select count(*) from cinder.volumes"
    )
    for host in TOP:
        as_it_was(lab, host)
    assert json.loads(lab.cellstep("status", "--json"))["holds"] == {}


def test_volumes_are_the_same_and_the_dark_time_is_told(lab: TestLab):
    volumes = lab.table("volumes", stage="cinder")
    assert set(volumes["status"]) == {"same"}
    assert {"in-use", "available"} <= set(lab.sql(DATABASE, "select status from cinder.volumes").split())
    dark = lab.table("darktime", stage="cinder")
    assert list(dark["api"]) == ["cinder"]
    assert list(dark["status"]) == ["dark"]
    assert 5 < float(dark["seconds"].iloc[0]) < 600
    assert set(lab.table("schemas", stage="cinder")["status"]) <= {"ok", "kept"}


def test_a_second_run_changes_nothing(lab: TestLab):
    before = {host: lab.snapshot(host)[host]["counters"] for host in TOP}
    said = lab.cellstep("run", "cinder", "--yes")
    assert "done, and compliant" in said
    assert {host: lab.snapshot(host)[host]["counters"] for host in TOP} == before
    assert lab.sql(DATABASE, "select count(*) from lab.db_sync_runs where component='cinder'") == "1"


def test_a_lost_volume_is_named(lab: TestLab):
    volume = lab.sql(DATABASE, "select id from cinder.volumes where deleted=0 and status='available' limit 1")
    lab.sql(DATABASE, f"delete from cinder.snapshots where volume_id='{volume}'")  # noqa: S608 - the lab's own id
    lab.sql(DATABASE, f"delete from cinder.volumes where id='{volume}'")  # noqa: S608 - the same
    said = json.loads(lab.cellstep("verify", "cinder", "--json", expect=3))
    lost = [row for row in said["tables"]["volumes"] if row["status"] == "lost"]
    assert [row["id"] for row in lost] == [volume]


# Ceilometer


def test_a_build_that_the_repository_does_not_have_is_found_before_anything_changes(lab: TestLab):
    settings = lab.cloud / "cloud.yaml"
    text = settings.read_text(encoding="utf-8")
    own = text.replace("\n  python-novaclient:", "\n  python-ceilometer: 2013.2.1-1.cern2\n  python-novaclient:", 1)
    assert own != text
    settings.write_text(own, encoding="utf-8")
    said = lab.cellstep("run", "ceilometer", "--yes", expect=4)
    assert "python-ceilometer-2013.2.1-1.cern2" in said
    settings.write_text(text, encoding="utf-8")
    assert lab.on("top-api01", "rpm -q --qf '%{VERSION}' python-ceilometer") == "2013.1.4"
    assert lab.on("top-api01", "service openstack-ceilometer-collector status").endswith("is running...\n")


def test_a_cell_of_which_no_sample_comes_keeps_the_api_closed(lab: TestLab):
    conf = "/etc/ceilometer/ceilometer.conf"
    lab.on("c02-n01", f"cp -p {conf} /root/kept && sed -i 's/^rabbit_password.*/rabbit_password = wrong/' {conf}")
    said = lab.cellstep("resume", "--yes", "--accept-plan", expect=4)
    assert "cell02: no sample came of any guest on c02-n01" in said
    assert "cell01" not in said.partition("cell02: no sample")[2]
    assert "fence" in json.loads(lab.cellstep("status", "--json"))["holds"]
    lab.on("c02-n01", f"cp -p /root/kept {conf} && service openstack-ceilometer-compute restart")
    assert "done, and compliant" in lab.cellstep("resume", "--yes")


def test_ceilometer_is_upgraded_on_every_tier_and_nova_is_not(lab: TestLab):
    assert head(lab, "ceilometer") == "19"
    for host in COMPUTES:
        assert lab.on(host, "rpm -q --qf '%{VERSION}-%{RELEASE}' openstack-ceilometer-compute").strip() == NEW
        assert "2013.1.4-1.el6" in lab.on(host, "rpm -q python-nova")
        as_it_was(lab, host)
    assert set(lab.table("rpms", stage="ceilometer")["status"]) == {"ok"}


def test_nova_refuses_to_begin_before_a_component_is_upgraded(lab: TestLab):
    """With cinder brought back: Puppet would update it, in service, once all nodes have the repository."""
    names = " ".join(f"{name}-2013.1.4-1.el6" for name in ("openstack-cinder", "python-cinder"))
    lab.on("top-api01", f"yum -q -y downgrade {names} > /dev/null 2>&1; rpm -q openstack-cinder")
    said = lab.cellstep("run", "nova", "--yes", expect=4)
    assert "cinder is not upgraded yet on top-api01: Puppet would update it after this stage" in said
