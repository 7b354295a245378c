"""The client CLIs on a lab: a user's machine, its repository for the stage alone, a real call, an old boto found."""

import json
from collections.abc import Iterator

import pytest

from tests.support.labs import TestLab, lab_up

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

HOST = "cli01"


@pytest.fixture(scope="module")
def lab() -> Iterator[TestLab]:
    with lab_up("clients", 1, 1, ("clients",)) as up:
        settings = up.cloud / "cloud.yaml"
        text = settings.read_text(encoding="utf-8")
        assert "{python-boto: 2.6.0}" in text
        settings.write_text(text.replace("{python-boto: 2.6.0}", "{}"), encoding="utf-8")
        yield up


def test_an_old_boto_under_euca2ools_is_found_by_an_actual_call(lab: TestLab):
    said = lab.cellstep("run", "clients", "--yes", expect=3)
    assert "instance-type should be of type string”: the boto under euca2ools is too old" in said
    assert "update python-boto on the machine" in said
    assert "1:2.15.0-1.el6 1.0.6-1.el6 0.10.0-1.el6" in lab.on(
        HOST,
        "rpm -q --qf '%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE} ' python-{nova,cinder,glance}client",
    )
    assert "1:2.13.0" in lab.on("top-api01", "rpm -q --qf '%{EPOCH}:%{VERSION}' python-novaclient"), "no client machine"


def test_caught_up_with_the_newer_boto_it_is_compliant_and_all_is_as_before(lab: TestLab):
    settings = lab.cloud / "cloud.yaml"
    text = settings.read_text(encoding="utf-8")
    assert "  packages: {}  " in text
    settings.write_text(text.replace("packages: {}  ", "packages: {python-boto: 2.6.0}  "), encoding="utf-8")
    said = lab.cellstep("run", "clients", "--catch-up", "--yes")
    assert "done, and compliant" in said
    assert "2.6.0" in lab.on(HOST, "rpm -q python-boto")
    assert "cellstep-" not in lab.on(HOST, "ls /etc/yum.repos.d")
    assert 'ENABLED="true"' in lab.on(HOST, "cat /etc/sysconfig/yum-autoupdate")
    assert json.loads(lab.cellstep("status", "--json"))["holds"] == {}


def test_a_second_run_changes_nothing(lab: TestLab):
    before = lab.on(HOST, "cat /srv/lab/transactions")
    assert "done, and compliant" in lab.cellstep("run", "clients", "--yes")
    assert lab.on(HOST, "cat /srv/lab/transactions") == before
    table = lab.table("rpms", stage="clients")
    assert set(table["host"]) == {HOST}
    assert set(table["status"]) == {"ok"}
