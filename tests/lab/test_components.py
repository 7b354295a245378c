"""Cinder and ceilometer on a lab: they answer, report, and fail in the wrong order where an operator can see it.

One small lab, one story, in order.
"""

import json
import re
from collections.abc import Iterator

import pytest

from lab.content.components.schemas import reference
from tasks.schemas import SNAPSHOT, parse_client
from tests.support.labs import TestLab, lab_up
from tests.support.stories import eventually, everywhere

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

TOP, OTHER_TOP, INFRA, CONTROLLER, COMPUTE = "top-api01", "top-api02", "top-infra01", "c01-ctl01", "c01-n01"
NODES = (TOP, OTHER_TOP, INFRA, CONTROLLER, COMPUTE)
CINDER = ("openstack-cinder-api", "openstack-cinder-scheduler", "openstack-cinder-volume")
COLLECTOR = "openstack-ceilometer-collector"
PUPPET_LOCK = "/var/lib/puppet/state/agent_disabled.lock"
HAVANA = (
    "printf '[havana]\\nname=havana\\nbaseurl=http://127.0.0.1:8081/havana\\nenabled=1\\ngpgcheck=0\\n'"
    " > /etc/yum.repos.d/havana.repo"
)
AS_ALICE = "-H 'X-Auth-Token: alice:atlas'"
VOLUMES = "http://top-infra01:8776/v1/atlas/volumes"


@pytest.fixture(scope="module")
def lab() -> Iterator[TestLab]:
    with lab_up("components", 1, 1, ("ceilometer", "cinder")) as up:
        # The runs of the timer are not part of the story.
        everywhere(up, NODES, f"""echo '{{"disabled_message":"test"}}' > {PUPPET_LOCK}""")
        yield up


def status(lab: TestLab, url: str) -> int:
    """What a user gets, through the load balancer."""
    return int(lab.on(CONTROLLER, f"curl -s -o /dev/null -w '%{{http_code}}' {AS_ALICE} {url}"))


def volumes(lab: TestLab) -> dict[str, dict[str, str]]:
    found = json.loads(lab.on(CONTROLLER, f"curl -s {AS_ALICE} {VOLUMES}/detail"))["volumes"]
    return {volume["display_name"]: volume for volume in found}


def running(lab: TestLab, host: str) -> dict[str, bool]:
    return {name: lab.on(host, f"service {name} status", expect=None).endswith("is running...\n") for name in CINDER}


def schema(lab: TestLab, database: str) -> str:
    return str(parse_client(lab.on(INFRA, f"mysql -N -B {database} <<'end'\n{SNAPSHOT}\nend\n")))


def newest(lab: TestLab) -> str:
    return lab.sql(INFRA, "select coalesce(max(id), 0) from ceilometer.meter")


def samples_of(host: str, after: str) -> str:
    """A condition: a sample of a guest on that host has come since."""
    after_that = f"counter_name = 'instance' and id > {after}"
    query = f"select resource_metadata from meter where {after_that}"  # noqa: S608 - a number of ours
    return f'mysql -N -B ceilometer -e "{query}" | grep -q {host}'


def test_a_volume_is_made_and_deleted_through_the_balancer(lab: TestLab) -> None:
    body = json.dumps({"volume": {"size": 3, "display_name": "trial"}})
    lab.on(CONTROLLER, f"curl -sf -X POST {AS_ALICE} -d '{body}' {VOLUMES}")
    eventually(lab, CONTROLLER, f'curl -s {AS_ALICE} {VOLUMES} | grep -q \'"trial", "size": 3, "status": "available"\'')
    made = volumes(lab)["trial"]
    assert made["os-vol-host-attr:host"] in {TOP, OTHER_TOP}
    lab.on(CONTROLLER, f"curl -sf -X DELETE {AS_ALICE} {VOLUMES}/{made['id']}")
    eventually(lab, CONTROLLER, f"! curl -s {AS_ALICE} {VOLUMES} | grep -q trial")
    assert status(lab, f"{VOLUMES}/{made['id']}") == 404
    in_use = volumes(lab)["disk-vm-c01-n01-1"]
    refused = lab.on(CONTROLLER, f"curl -s -X DELETE {AS_ALICE} {VOLUMES}/{in_use['id']}")
    assert "must be available or error, it is in-use" in refused


def test_the_service_list_is_cinders(lab: TestLab) -> None:
    head, *rows = lab.on(TOP, "cinder-manage service list").splitlines()
    line = "%-16s %-36s %-16s %-10s %-5s %-10s"
    assert head == line % ("Binary", "Host", "Zone", "Status", "State", "Updated At")
    alive = {tuple(row.split()[:5]) for row in rows}
    assert alive == {
        (binary, host, "nova", "enabled", ":-)")
        for binary in ("cinder-scheduler", "cinder-volume")
        for host in (TOP, OTHER_TOP)
    }
    assert lab.on(TOP, "cinder-manage db version") == "9\n"


def test_requests_for_images_can_be_blocked_alone(lab: TestLab) -> None:
    nova = "http://top-infra01:8774/v2/atlas"
    tell = "exec 3<>/dev/tcp/127.0.0.1/9999; echo '%s server nova-images/%s' >&3; cat <&3"
    assert status(lab, f"{nova}/servers") == 200
    assert status(lab, f"{nova}/images") != 503
    for host in (TOP, OTHER_TOP):
        lab.on(INFRA, tell % ("disable", host))
    assert (status(lab, f"{nova}/images"), status(lab, f"{nova}/servers")) == (503, 200)
    for host in (TOP, OTHER_TOP):
        lab.on(INFRA, tell % ("enable", host))


def test_samples_arrive_and_wait_for_a_collector(lab: TestLab) -> None:
    eventually(lab, INFRA, samples_of(COMPUTE, newest(lab)))
    everywhere(lab, (TOP, OTHER_TOP), f"service monit stop; service {COLLECTOR} stop")
    last = newest(lab)
    queued = "rabbitmqctl -q list_queues name messages | grep -qE '^metering\\s+[1-9]'"
    eventually(lab, INFRA, queued)
    assert newest(lab) == last
    lab.on(TOP, f"service {COLLECTOR} start")
    eventually(lab, INFRA, samples_of(COMPUTE, last))
    found = json.loads(lab.on(CONTROLLER, "curl -s http://top-infra01:8777/v2/meters"))
    assert {meter["name"] for meter in found} == {"instance", "ip.floating"}
    assert all(meter["user_id"] for meter in found if meter["name"] == "instance")


def test_a_sample_that_is_signed_with_another_secret_is_discarded(lab: TestLab) -> None:
    settings, agent = "/etc/ceilometer/ceilometer.conf", "openstack-ceilometer-compute"
    lab.on(COMPUTE, f"sed -i.own 's/^metering_secret.*/metering_secret = x/' {settings}; service {agent} restart")
    discarded = "message signature is invalid, discarding sample of"
    eventually(lab, TOP, f"grep -q '{discarded}' /var/log/ceilometer/collector.log")
    last = newest(lab)
    lab.on(COMPUTE, f"mv {settings}.own {settings}; service {agent} restart")
    eventually(lab, INFRA, samples_of(COMPUTE, last))
    everywhere(lab, (TOP, OTHER_TOP), f"service {COLLECTOR} start; service monit start")


def test_monit_and_puppet_start_what_is_stopped(lab: TestLab) -> None:
    lab.on(TOP, "service openstack-cinder-volume stop")
    eventually(lab, TOP, "service openstack-cinder-volume status")
    lab.on(OTHER_TOP, f"service monit stop; service openstack-cinder-scheduler stop; rm {PUPPET_LOCK}")
    lab.on(OTHER_TOP, "sed -i 's/true/false/' /etc/sysconfig/yum-autoupdate; puppet-run")
    assert running(lab, OTHER_TOP) == dict.fromkeys(CINDER, True)
    everywhere(lab, (TOP, OTHER_TOP), f"service monit stop; echo '{{}}' > {PUPPET_LOCK}")


def test_an_update_restarts_services_which_refuse_the_old_schema(lab: TestLab) -> None:
    before = volumes(lab)
    said = lab.on(OTHER_TOP, f"{HAVANA}; yum -y update openstack-cinder")
    assert re.search(r"python-novaclient\s.*2\.15\.0", said), "the newer cinderclient takes it along"
    assert lab.on(OTHER_TOP, "rpm -q --qf '%{VERSION}' python-nova") == "2013.1.4"
    assert lab.on(OTHER_TOP, "ls /etc/cinder") == "cinder.conf\ncinder.conf.rpmnew\npolicy.json\n"
    assert running(lab, OTHER_TOP) == dict.fromkeys(CINDER, False)
    for name in ("api", "scheduler", "volume"):
        line = lab.on(OTHER_TOP, f"grep CRITICAL /var/log/cinder/{name}.log")
        assert f"cinder-{name} cannot run: database schema is at version 9, cinder 2013.2.1 (havana) needs 20" in line
    told = "exec 3<>/dev/tcp/127.0.0.1/9999; echo 'show stat' >&3; grep -q '^cinder-api,top-api02,.*,DOWN,' <&3"
    eventually(lab, INFRA, f"( {told} )")
    assert volumes(lab) == before, "the other controller still answers"


def test_a_new_schema_ends_the_services_of_the_release_before(lab: TestLab) -> None:
    lab.on(OTHER_TOP, "cinder-manage db sync")
    assert schema(lab, "cinder") == str(reference("cinder", 20))
    runs = "select component, from_version, to_version, `release` from lab.db_sync_runs"
    assert lab.on(INFRA, f"mysql -N -B -e '{runs}'") == "cinder\t9\t20\t2013.2.1\n"
    eventually(lab, TOP, "! service openstack-cinder-api status > /dev/null")
    eventually(lab, TOP, "! service openstack-cinder-volume status > /dev/null")
    assert "needs 9" in lab.on(TOP, "grep CRITICAL /var/log/cinder/volume.log")
    assert "[FAILED]" in lab.on(TOP, "service openstack-cinder-api start", expect=1)
    said = lab.on(TOP, "cinder-manage db sync", expect=1)
    assert "version 20 is not in this release's migrate repository (head 9)" in said


def test_on_its_own_schema_havana_runs(lab: TestLab) -> None:
    for service in CINDER:
        lab.on(OTHER_TOP, f"service {service} start")
    eventually(lab, CONTROLLER, f"curl -sf {AS_ALICE} {VOLUMES} > /dev/null")
    assert volumes(lab)["data-1"]["bootable"] == "false"
    lab.on(OTHER_TOP, "cinder-manage db sync")
    assert schema(lab, "cinder") == str(reference("cinder", 20))


def test_ceilometer_of_havana_takes_samples_of_grizzlys_nova(lab: TestLab) -> None:
    services = "for s in $(rpm -qa --qf '%{NAME}\\n' 'openstack-ceilometer-*' | grep -v common); do service $s"
    everywhere(lab, (TOP, OTHER_TOP, COMPUTE), f"service monit stop; {services} stop; done")
    everywhere(lab, (TOP, OTHER_TOP, COMPUTE), f"{HAVANA}; yum -y update '*ceilometer*'")
    lab.on(TOP, "ceilometer-dbsync")
    assert schema(lab, "ceilometer") == str(reference("ceilometer", 19))
    at = "select distinct from_unixtime(timestamp) from ceilometer.meter order by id limit 1"
    assert lab.sql(INFRA, at).startswith("2013-11-05 08:30:00"), "a sample keeps its time"
    last = newest(lab)
    everywhere(lab, (TOP, OTHER_TOP, COMPUTE), f"{services} start; done")
    eventually(lab, INFRA, samples_of(COMPUTE, last))
    assert lab.on(COMPUTE, "rpm -q --qf '%{VERSION}' python-nova") == "2013.1.4"
    url = "http://top-infra01:8777/v2/meters/instance?limit=1"
    eventually(lab, CONTROLLER, f"curl -sf -o /tmp/samples '{url}'")
    found = json.loads(lab.on(CONTROLLER, "cat /tmp/samples"))
    assert found[0]["timestamp"].startswith("20")
