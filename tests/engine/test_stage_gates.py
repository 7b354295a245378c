"""What the gates of the stages before Nova judge: what an update brings, whose samples came, who was left behind."""

import contextlib
from pathlib import Path

import pytest

from cellstep import kept
from cellstep.cloud.load import load_cloud
from cellstep.engine.context import Context, Options
from cellstep.engine.journal import Journal
from cellstep.stages import gates, metering
from cellstep.stages.arguments import Site
from tasks.evidence import Evidence
from tasks.facts import Facts
from tasks.holds import Noted
from tests.support import clouds


@pytest.fixture
def context(tmp_path):
    (tmp_path / "cloud").mkdir()
    cloud = load_cloud(clouds.write(tmp_path / "cloud", clouds.CLOUD))
    with contextlib.closing(Journal(tmp_path / "journal")) as journal:
        yield lambda stage: Context(cloud, journal, "run", stage, Path(tmp_path), cloud.nodes, Options())


def said(findings):
    return [(finding.text, finding.blocking) for finding in findings if not finding.note]


def noted(findings):
    return [finding.text for finding in findings if finding.note]


def test_an_update_that_brings_another_components_package_is_stopped(context):
    whose = {"openstack-cinder": "cinder", "python-novaclient": "clients", "libfoo": ""}
    fine = Noted("with it python-novaclient", whose)
    odd = Noted("", {"openstack-cinder": "cinder", "openstack-glance": "glance"})
    quiet = gates.resolved(context("cinder"), {"top-api01": fine, "top-api02": fine})
    assert (said(quiet), noted(quiet)) == ([], ["top-api[01-02]: with it python-novaclient"])
    found = gates.resolved(context("cinder"), {"top-api01": odd, "top-api02": odd})
    assert said(found) == [("top-api[01-02]: the update brings openstack-glance of glance, too", True)]


def test_a_cell_without_any_sample_blocks_and_a_node_without_is_reported(context):
    here = context("ceilometer")
    kept.save(here.output, "instances", [{"host": "c01-ctl01", "instances": []}], ["c01-ctl01"])
    answer = {"came": ["c01-n01"], "lacking": ["c01-n02", "c02-n1", "c02-n2"]}
    assert said(metering.samples_arrive(here, {"top-infra01": answer})) == [
        ("cell01: no sample came of any guest on c01-n02; see the agent's log there", False),
        ("cell02: no sample came of any guest on c02-n[1-2]; see the agent's log there, and the collector's", True),
    ]
    assert metering.samples_arrive(here, {"top-infra01": {"came": ["c01-n01", "c02-n1"], "lacking": []}}) == []


def test_samples_of_nobody_prove_nothing(context):
    here, nothing = context("ceilometer"), {"top-infra01": {"came": [], "lacking": []}}
    assert said(metering.samples_arrive(here, nothing)) == [
        ("no list of guests was saved before: whether their samples come cannot be told", False)
    ]
    kept.save(here.output, "instances", [{"host": "c01-ctl01", "instances": []}], ["c01-ctl01"])
    found = metering.samples_arrive(here, {"top-infra01": {"came": ["c01-n01"], "lacking": []}})
    assert (said(found), noted(found)) == (
        [],
        ["cell02: no guest ran there when the run began: whether samples come cannot be told"],
    )


def test_samples_are_waited_for_of_guests_that_ran_and_of_nodes_that_are_there(context):
    here = context("ceilometer")
    instances = [
        {"uuid": "a", "host": "c01-n01.example.org", "vm_state": "active"},
        {"uuid": "b", "host": "c01-n01", "vm_state": "stopped"},
        {"uuid": "c", "host": "c02-n1", "vm_state": "active"},
        {"uuid": "d", "host": None, "vm_state": "active"},
        {"uuid": "e", "host": "gone", "vm_state": "active"},
    ]
    kept.save(here.output, "instances", [{"host": "c01-ctl01", "instances": instances}], ["c01-ctl01"])
    here.left_out["c02-n1"] = "it does not answer"
    asked = Site(here.cloud, "ceilometer").samples_to_come(here, here.nodes[0])
    assert asked["guests"] == {"c01-n01": ["a"]}


def test_nova_is_not_begun_while_puppet_would_update_another_component_in_service(context):
    here = context("nova")

    def evidence(evr):
        packages = {"openstack-cinder": [evr], "python-nova": ["2013.1.4-1.el6"], "bash": ["4.1.2-15.el6"]}
        return Evidence(Facts("boot", "2.6.32", packages, {}))

    late = "cinder is not upgraded yet"
    old = {"top-ctl01": evidence("2013.1.4-1.el6"), "top-ctl02": evidence("2013.2.1-1.el6")}
    assert said(gates.save_packages(here, old)) == [
        (f"{late} on top-ctl01: Puppet would update it after this stage; `cellstep run cinder` first", True)
    ]
    assert gates.save_packages(here, {"top-ctl01": evidence("2013.2.1-9.el6")}) == []
    assert gates.save_packages(context("cinder"), old) == [], "each other stage has its packages alone"
