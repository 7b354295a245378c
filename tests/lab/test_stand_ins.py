"""The stand-in services are as adversarial as the real ones: each wrong order fails where an operator can see it.

One small lab, one story, in order.
"""

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.labs import TestLab, lab_up
from tests.support.snapshot import differences
from tests.support.stories import eventually, everywhere, guests, reboot

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

TOP, OTHER_TOP, INFRA, CONTROLLER, COMPUTE = "top-api01", "top-api02", "top-infra01", "c01-ctl01", "c01-n01"
DATABASES = (INFRA, CONTROLLER)
NODES = (TOP, OTHER_TOP, INFRA, CONTROLLER, COMPUTE)
SERVICE = "openstack-nova-compute"
PUPPET_LOCK = "/var/lib/puppet/state/agent_disabled.lock"
# What `puppet agent --disable test` writes, without the seconds it takes.
DISABLE = f"""echo '{{"disabled_message":"test"}}' > {PUPPET_LOCK}"""
CHECKSUMS = "checksum table nova.instances, nova.quota_usages, nova.reservations, nova.cells, nova.migrate_version"
AGE = (
    "select timestampdiff(second, updated_at, utc_timestamp()) from nova.services"
    " where deleted = 0 and topic = 'compute'"
)


@pytest.fixture(scope="module")
def lab() -> Iterator[TestLab]:
    with lab_up("standins", 1, 1) as up:
        # The runs of the timer are not part of the story.
        everywhere(up, NODES, f"{DISABLE}; sed -i 's/true/false/' /etc/sysconfig/yum-autoupdate")
        yield up


def nova(lab: TestLab, arguments: str, expect: int | None = 0) -> str:
    """The nova command on the first top controller."""
    return lab.on(TOP, f". /root/openrc; nova {arguments}", expect=expect)


# Every file of a host that is not some server's own, with what any change of it or of its attributes changes. SQLite
# touches the two beside the RPM database when it is read.
FILES = (
    "find /boot /etc /opt /root /srv /tmp /usr/local /var/cache /var/lib /var/tmp -xdev -type f"
    " -printf '%p %s %T@ %C@\\n' | grep -vE"
    " '/(mysql|rabbitmq|monit|nova|puppet|systemd|private)/|rpmdb.sqlite-(shm|wal)' | sort"
)
FOREIGN = """\
Name: site-agent
Version: 1.4
Release: 2
Summary: A site's own package
License: Apache-2.0
Vendor: Example Site
BuildArch: noarch
AutoReqProv: no
Requires: python-nova = 2013.1.4-1.el6
%description
It needs Grizzly's python-nova.
%files
"""


def preflight(lab: TestLab, expect: int) -> set[tuple[str, str, str]]:
    """Severity, folded nodes and words of each cause but Puppet's being disabled, which this lab's is."""
    found = json.loads(lab.cellstep("preflight", "nova", "--json", expect=expect))
    assert sum(map(len, found["nodes"].values())) == len(NODES)
    causes = [cause for cause in found["causes"] if cause["check"] != "puppet"]
    return {(cause["severity"], cause["folded"], cause["cause"]) for cause in causes}


def foreign_package(folder: Path) -> str:
    """The package as text for a script."""
    spec = folder / "site-agent.spec"
    spec.write_text(FOREIGN, encoding="utf-8")
    defines = ["--define", f"_topdir {folder}", "--define", f"_dbpath {folder}/db"]
    subprocess.run(["rpmbuild", "-bb", "--quiet", *defines, spec], check=True, timeout=60)
    return base64.b64encode(next(folder.glob("RPMS/noarch/*.rpm")).read_bytes()).decode()


def test_the_preflight_of_a_sound_cloud_is_a_go_and_changes_nothing(lab: TestLab) -> None:
    """Not a file of any node is another one afterwards, and none is left behind."""
    before = everywhere(lab, NODES, FILES)
    assert preflight(lab, expect=0) == set()
    after = everywhere(lab, NODES, FILES)
    for node, old, new in zip(NODES, before, after, strict=True):
        assert set(new.splitlines()) ^ set(old.splitlines()) == set(), node


def test_the_preflight_names_each_cause(lab: TestLab, tmp_path: Path) -> None:
    """One of each kind, planted at once; none is hidden by another, and nothing else is named."""
    lock = "/etc/dnf/plugins/versionlock"
    user = "'cellstep'@'127.0.0.1'"
    foreign = "site-agent-1.4-2 (Example Site) requires python-nova = 2013.1.4-1.el6"
    package = foreign_package(tmp_path)
    lab.fault(COMPUTE, "full-var")
    lab.fault(TOP, "no-repository")
    lab.fault(OTHER_TOP, "rpm-lock")
    lab.on(CONTROLLER, f"echo {package} | base64 -d > /root/a.rpm; rpm -i --nodeps /root/a.rpm 2>/dev/null")
    lab.on(COMPUTE, f"echo enabled=1 > {lock}.conf; echo 'python-novaclient-0:2.13.0-*' > {lock}.list")
    lab.sql(INFRA, f"revoke all privileges, grant option from {user}")
    try:
        found = preflight(lab, expect=3)
    finally:
        for node in (COMPUTE, TOP, OTHER_TOP):
            lab.clear(node)
        lab.on(COMPUTE, f"rm -f {lock}.conf {lock}.list")
        lab.on(CONTROLLER, "rpm -e site-agent 2>/dev/null; rm -f /root/a.rpm")
        lab.sql(INFRA, f"grant all on *.* to {user} with grant option")
    (unread,) = [each for each in found if each[1] == TOP]
    assert unread[2].startswith("the repository havana cannot be read: ")
    assert found - {unread} == {
        ("no-go", COMPUTE, "/var has less than 1,024 MiB free"),
        ("no-go", COMPUTE, f"versionlock keeps python-novaclient back: python-novaclient-0:2.13.0-* ({lock}.list)"),
        (
            "no-go",
            CONTROLLER,
            f"{foreign}: it blocks the update to 2013.2.1-1.el6",
        ),
        ("warning", OTHER_TOP, "rpm's lock is held by python3"),
        ("no-go", INFRA, "the database user cellstep may not read nova, cinder: grant it SELECT"),
        ("warning", INFRA, "the database user may not see the replication: grant it REPLICATION CLIENT"),
    }


def test_guests_come_and_go_through_the_api(lab: TestLab) -> None:
    """From the API over both cells' brokers to a process on the compute node, and back."""
    nova(lab, "boot --flavor m1.tiny --image cirros --hint target_cell='api!cell01' trial")
    eventually(lab, TOP, ". /root/openrc; nova show trial | grep -q ACTIVE")
    assert len(guests(lab, COMPUTE)) == 3
    nova(lab, "delete trial")
    eventually(lab, TOP, ". /root/openrc; ! nova show trial > /dev/null 2>&1")
    assert len(guests(lab, COMPUTE)) == 2
    assert "No server with a name or ID of 'trial' exists" in nova(lab, "show trial", expect=1)
    services = nova(lab, "service-list")
    assert "api!cell01@c01-n01" in services
    assert services.count(" up ") == 8


def test_monit_starts_what_was_stopped_unless_told_not_to(lab: TestLab) -> None:
    """Wrong order: stopping services before monit is told."""
    before = guests(lab, COMPUTE)
    lab.on(COMPUTE, f"service {SERVICE} stop")
    eventually(lab, COMPUTE, f"service {SERVICE} status > /dev/null")
    lab.on(COMPUTE, f"monit unmonitor {SERVICE}")
    eventually(lab, COMPUTE, "monit summary | grep -q 'Not monitored'")
    lab.on(COMPUTE, f"service {SERVICE} stop; sleep 12; service {SERVICE} status", expect=3)
    lab.on(COMPUTE, f"service {SERVICE} start; monit monitor {SERVICE}")
    assert guests(lab, COMPUTE) == before, "guests outlive nova-compute"


def test_without_rabbitmq_services_run_and_do_not_report(lab: TestLab) -> None:
    """Wrong order: starting services while RabbitMQ is off looks right on the node, and is not."""
    lab.on(CONTROLLER, "service rabbitmq-server stop")
    lab.on(COMPUTE, f"service {SERVICE} restart; sleep 8; service {SERVICE} status")
    assert int(lab.sql(CONTROLLER, AGE)) >= 7
    assert "is unreachable" in lab.on(COMPUTE, "tail -n 1 /var/log/nova/compute.log")
    assert "Timed out waiting for a response from cell cell01" in nova(lab, "service-list", expect=1)
    lab.on(CONTROLLER, "service rabbitmq-server start")
    eventually(lab, CONTROLLER, f'[ "$(mysql -BNe "{AGE}")" -lt 6 ]')


def test_a_frozen_heartbeat_stays_frozen_over_a_restart(lab: TestLab) -> None:
    """A service that runs and works, and whose row in the services table grows stale, until the fault is cleared."""
    lab.fault(COMPUTE, "frozen-heartbeat")
    lab.on(COMPUTE, f"service {SERVICE} restart")
    eventually(lab, CONTROLLER, f'[ "$(mysql -BNe "{AGE}")" -ge 10 ]')
    lab.on(COMPUTE, f"service {SERVICE} status")
    lab.clear(COMPUTE)
    eventually(lab, CONTROLLER, f'[ "$(mysql -BNe "{AGE}")" -lt 6 ]')


def test_puppet_does_nothing_while_it_is_disabled(lab: TestLab) -> None:
    """A promoted repository reaches a node with a run of Puppet, and not before."""
    assert "no repository nothing" in lab.on(INFRA, "promote-repository nothing", expect=1)
    lab.on(INFRA, "promote-repository havana")
    assert "administratively disabled (Reason: 'test')" in lab.on(COMPUTE, "puppet-run", expect=1)
    assert "havana" not in lab.on(COMPUTE, "yum -q repolist")
    lab.on(COMPUTE, "puppet agent --enable && puppet-run && puppet agent --disable test")
    everywhere(lab, (TOP, OTHER_TOP, CONTROLLER), f"rm {PUPPET_LOCK}; puppet-run; {DISABLE}")
    for said in everywhere(lab, (TOP, OTHER_TOP, CONTROLLER, COMPUTE), "yum -q repolist; rpm -q python-nova"):
        assert "havana" in said
        assert "2013.1.4-1.el6" in said


def test_packages_are_downloaded_before_they_are_needed(lab: TestLab) -> None:
    """With the packages in yum's cache an update needs no repository."""
    lab.on(COMPUTE, "yum clean all; yum -y update --downloadonly")
    found = lab.on(COMPUTE, "find /var/cache/yum -name '*.rpm'")
    assert "openstack-nova-compute-2013.2.1-1.el6" in found
    assert "python-novaclient-2.15.0-1.el6" in found
    assert "2013.1.4-1.el6" in lab.on(COMPUTE, "rpm -q python-nova")


def test_a_repository_that_is_moved_back_leaves_the_node(lab: TestLab) -> None:
    """The revert of a promotion takes the repository off a node with its next run of Puppet."""
    assert "no longer on the master branch" in lab.on(INFRA, "promote-repository --back havana")
    assert "is not on the master branch" in lab.on(INFRA, "promote-repository --back havana")
    assert lab.on(INFRA, "promote-repository --list") == ""
    lab.on(COMPUTE, f"cp /etc/yum.repos.d/havana.repo /root; rm {PUPPET_LOCK}; puppet-run; {DISABLE}")
    assert "havana" not in lab.on(COMPUTE, "yum -q repolist")
    lab.on(INFRA, "promote-repository havana")
    lab.on(COMPUTE, "mv /root/havana.repo /etc/yum.repos.d")


def test_dumps_of_the_old_schema_are_kept(lab: TestLab) -> None:
    """The dumps that the way back begins with."""
    for host in DATABASES:
        lab.on(
            host,
            "mysqldump --opt --single-transaction --add-drop-database --databases nova | gzip > /root/nova.sql.gz;"
            f' mysql -BNe "{CHECKSUMS}" > /root/checksums; grep -c nova.instances /root/checksums',
        )


def test_a_dump_can_be_held_up_in_its_middle(lab: TestLab) -> None:
    """For kills: the file has a beginning and no end until the pause is over."""
    lab.on(
        INFRA,
        "echo 300 > /etc/lab/mysqldump-pause; (setsid mysqldump nova > /root/slow.sql; echo $? > /root/slow.status) &"
        " while ! pgrep -fx 'sleep 300' > /dev/null; do sleep 0.1; done; rm /etc/lab/mysqldump-pause;"
        " grep 'MariaDB dump' /root/slow.sql && ! grep 'Dump completed' /root/slow.sql"
        " && kill $(pgrep -fx 'sleep 300')",
    )
    eventually(lab, INFRA, "grep -qx 0 /root/slow.status")
    lab.on(INFRA, "tail -n 1 /root/slow.sql | grep 'Dump completed'; zcat /root/nova.sql.gz | head -n 1")


def test_an_update_can_be_held_up_in_its_middle(lab: TestLab) -> None:
    """For kills: with the pause a transaction stands still where a package is there in both versions."""
    client = "yum -y -q update 'python-*client'"
    before = lab.snapshot(OTHER_TOP)
    lab.on(OTHER_TOP, f"echo 300 > /etc/lab/yum-pause; {client}; ! pgrep -fx 'sleep 300'")
    assert before[OTHER_TOP]["counters"] == {"boots": 1, "yum install begun": 1, "yum install": 1}
    assert {line.partition(": ")[0] for line in differences(before, lab.snapshot(OTHER_TOP)) if "counters" in line} == {
        f"{OTHER_TOP} counters yum update",
        f"{OTHER_TOP} counters yum update begun",
    }
    lab.on(OTHER_TOP, "monit unmonitor all; (setsid yum -y update kernel python-nova > /root/update.log 2>&1 &)")
    eventually(lab, OTHER_TOP, "pgrep -fx 'sleep 300' > /dev/null")
    middle = lab.snapshot(OTHER_TOP)[OTHER_TOP]
    assert {"python-nova-2013.1.4-1.el6.noarch", "python-nova-2013.2.1-1.el6.noarch"} <= set(middle["nevras"])
    assert (middle["counters"]["yum update begun"], middle["counters"]["yum update"]) == (2, 1)
    lab.on(OTHER_TOP, "rm /etc/lab/yum-pause; kill $(pgrep -fx 'sleep 300')")
    eventually(lab, OTHER_TOP, "grep -q ^Complete! /root/update.log")
    after = lab.snapshot(OTHER_TOP)[OTHER_TOP]
    assert "python-nova-2013.1.4-1.el6.noarch" not in after["nevras"]
    assert after["counters"]["yum update"] == 2
    # Back, for what follows.
    lab.on(OTHER_TOP, "rpm -e $(rpm -q kernel | tail -n 1)")
    lab.on(OTHER_TOP, "yum -y -q downgrade $(rpm -qa --qf '%{NAME}-2013.1.4-1.el6\\n' '*nova*' | grep -v client)")
    lab.on(OTHER_TOP, "for s in api cells consoleauth novncproxy; do service openstack-nova-$s start; done")


def test_an_update_under_a_running_service_breaks_it(lab: TestLab) -> None:
    """Wrong order: %postun restarts the service on new code, which refuses the old schema."""
    before = guests(lab, COMPUTE)
    lab.on(COMPUTE, f"monit unmonitor {SERVICE}; service {SERVICE} status; yum -y update")
    assert lab.on(COMPUTE, f"service {SERVICE} status", expect=1).strip().endswith("dead but pid file exists")
    line = lab.on(COMPUTE, "grep CRITICAL /var/log/nova/compute.log | tail -n 1")
    assert "database schema is at version 161, nova 2013.2.1 (havana) needs 216" in line
    assert "/etc/nova/nova.conf.rpmnew" in lab.on(COMPUTE, "find /etc -name '*.rpmnew'")
    assert guests(lab, COMPUTE) == before


def test_puppet_updates_while_updating_is_on(lab: TestLab) -> None:
    """Wrong order: automatic updating left on takes a controller to the new release by itself."""
    lab.on(CONTROLLER, f"sed -i 's/false/true/' /etc/sysconfig/yum-autoupdate; rm {PUPPET_LOCK}")
    lab.on(CONTROLLER, "puppet-run", expect=None)
    assert "2013.2.1-1.el6" in lab.on(CONTROLLER, "rpm -q python-nova")
    assert "needs 216" in lab.on(CONTROLLER, "cat /var/log/nova/conductor.log")
    lab.on(CONTROLLER, f"sed -i 's/true/false/' /etc/sysconfig/yum-autoupdate; {DISABLE}")


def test_a_sync_under_running_services_ends_them(lab: TestLab) -> None:
    """Wrong order: services of the old release do not run on the new schema."""
    lab.on(OTHER_TOP, "monit unmonitor all")
    lab.on(TOP, "monit unmonitor all")
    eventually(lab, TOP, "! monit summary | grep -q OK")
    lab.on(TOP, "for s in api cells consoleauth novncproxy; do service openstack-nova-$s stop; done; yum -y -q update")
    lab.on(TOP, "nova-manage db sync")
    eventually(lab, OTHER_TOP, "! service openstack-nova-cells status > /dev/null")
    assert "nova 2013.1.4 (grizzly) needs 161 or 162" in lab.on(OTHER_TOP, "cat /var/log/nova/cells.log")
    assert lab.sql(INFRA, "select count(*), max(to_version) from lab.db_sync_runs") == "1\t216"


def test_the_new_release_works_with_quotas_by_user(lab: TestLab) -> None:
    """After the cell's sync too, the cloud works on Havana; the quota rows are as the faulty 216 leaves them."""
    lab.on(OTHER_TOP, "yum -y -q update")
    lab.on(CONTROLLER, "nova-manage db sync")
    for node in (CONTROLLER, COMPUTE, TOP, OTHER_TOP):
        lab.on(
            node,
            "for u in /usr/lib/systemd/system/openstack-nova-*.service; do"
            " service $(basename $u .service) start; done; monit monitor all",
        )
    eventually(lab, TOP, '. /root/openrc; [ "$(nova service-list | grep -c " up ")" = 8 ]', 60)
    assert lab.sql(INFRA, "select count(*) from nova.quota_usages where resource = 'instances'") == "0"
    nova(lab, "boot --flavor m1.tiny --image cirros --hint target_cell='api!cell01' trial")
    eventually(lab, TOP, ". /root/openrc; nova show trial | grep -q ACTIVE")
    assert lab.sql(INFRA, "select user_id, in_use from nova.quota_usages where resource = 'instances'") == "operator\t1"
    nova(lab, "delete trial")
    eventually(lab, COMPUTE, '[ "$(pgrep -xc qemu-kvm)" = 2 ]')


def test_a_disabled_compute_node_reports_and_gets_no_guest(lab: TestLab) -> None:
    """A service that is disabled in the services table is left out by the scheduler, and by nothing else."""
    lab.sql(CONTROLLER, "update nova.services set disabled = 1 where topic = 'compute'")
    nova(lab, "boot --flavor m1.tiny --image cirros --hint target_cell='api!cell01' trial")
    eventually(lab, TOP, ". /root/openrc; nova show trial | grep -q ERROR")
    assert "No valid host was found" in lab.on(CONTROLLER, "tail -n 3 /var/log/nova/scheduler.log")
    assert len(guests(lab, COMPUTE)) == 2
    nova(lab, "delete trial")
    assert int(lab.sql(CONTROLLER, AGE)) < 10
    assert "disabled" in nova(lab, "service-list")
    lab.sql(CONTROLLER, "update nova.services set disabled = 0 where topic = 'compute'")


def test_the_old_release_comes_back_by_downgrade_and_from_the_dumps(lab: TestLab) -> None:
    """%postun restarts a running service on a downgrade too; with the old schema restored everything runs again."""
    before = guests(lab, COMPUTE)
    assert len(before) == 2
    lab.on(COMPUTE, f"monit unmonitor all; service {SERVICE} status")
    everywhere(lab, (TOP, OTHER_TOP, CONTROLLER), "monit unmonitor all")
    eventually(lab, TOP, "! monit summary | grep -q OK")
    old = "rpm -qa --qf '%{NAME}-2013.1.4-1.el6\\n' '*nova*' | grep -v client"
    everywhere(lab, (TOP, OTHER_TOP, CONTROLLER, COMPUTE), f"yum -y -q downgrade $({old})")
    for said in everywhere(lab, (TOP, OTHER_TOP, CONTROLLER, COMPUTE), "rpm -qa '*nova*' | grep -v client"):
        assert "2013.2.1" not in said
    assert lab.on(COMPUTE, f"service {SERVICE} status", expect=1).strip().endswith("dead but pid file exists")
    assert "nova 2013.1.4 (grizzly) needs 161" in lab.on(COMPUTE, "tail -n 1 /var/log/nova/compute.log")
    for host in DATABASES:
        lab.on(host, "set -o pipefail; gunzip < /root/nova.sql.gz | mysql")
        assert lab.on(host, f'mysql -BNe "{CHECKSUMS}" | diff - /root/checksums') == ""
    for node in (CONTROLLER, COMPUTE, TOP, OTHER_TOP):
        lab.on(
            node,
            "for u in /usr/lib/systemd/system/openstack-nova-*.service; do"
            " service $(basename $u .service) start; done; monit monitor all",
        )
    eventually(lab, TOP, '. /root/openrc; [ "$(nova service-list | grep -c " up ")" = 8 ]', 60)
    assert guests(lab, COMPUTE) == before
    nova(lab, "boot --flavor m1.tiny --image cirros --hint target_cell='api!cell01' trial")
    eventually(lab, TOP, ". /root/openrc; nova show trial | grep -q ACTIVE")
    nova(lab, "delete trial")


def test_a_reboot_takes_the_new_kernel_and_costs_the_guests(lab: TestLab) -> None:
    """Wrong order: a compute node that is rebooted comes back without its guests."""
    assert lab.on(COMPUTE, "uname -r").startswith("2.6.32-431.el6.")
    assert "stand-in" in lab.on(COMPUTE, "uname --help")
    reboot(lab, COMPUTE)
    assert lab.on(COMPUTE, "uname -r").startswith("2.6.32-431.5.1.el6.")
    eventually(lab, COMPUTE, f"service {SERVICE} status > /dev/null")
    assert guests(lab, COMPUTE) == []
    eventually(lab, COMPUTE, "grep -q 'is not running on this host and is not started again' /var/log/nova/compute.log")


def test_without_the_new_kernel_the_old_one_is_booted(lab: TestLab) -> None:
    """The way back: the package goes while its kernel runs, and the next boot takes the one that is left."""
    lab.on(COMPUTE, "rpm -e kernel-2.6.32-431.5.1.el6")
    assert lab.on(COMPUTE, "uname -r").startswith("2.6.32-431.5.1.el6.")
    reboot(lab, COMPUTE)
    assert lab.on(COMPUTE, "uname -r").startswith("2.6.32-431.el6.")


def test_a_snapshot_counts_what_happened_to_a_host(lab: TestLab) -> None:
    """Boots, transactions and syncs, each as often as this story did them."""
    found = lab.snapshot(COMPUTE, INFRA)
    assert found[COMPUTE]["counters"] == {
        "boots": 3,
        **{f"yum {command}{state}": 1 for command in ("install", "update", "downgrade") for state in ("", " begun")},
    }
    assert found[INFRA]["counters"]["db syncs"] == 1
    assert found[INFRA]["databases"] == {"nova": "161", "cinder": "9"}
    servers = {f"{backend}/{host}" for backend in ("nova-api", "nova-images") for host in (TOP, OTHER_TOP)}
    assert found[INFRA]["haproxy"].keys() == servers
    assert found[COMPUTE]["puppet"] == "disabled: test"
    assert found[COMPUTE]["services"][SERVICE] == "running on"
    lab.fault(COMPUTE, "power-off")
    assert lab.snapshot(COMPUTE)[COMPUTE].keys() == {"unreachable"}
