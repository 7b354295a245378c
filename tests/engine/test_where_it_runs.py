"""A stage goes to the nodes on which its component runs, as `services` in cloud.yaml says, and to no others."""

import pytest

from cellstep.cloud.load import load_cloud
from cellstep.stages import runbook_of
from tasks import databases, packages
from tasks.services import DAEMONS
from tests.support import clouds

MORE = """\
staging: {on: top-ctl01, live: {glance: "/opt/havana/glance-manage db_sync"}}
repository: {name: havana, baseurl: "http://repo.example.org/havana", promote: {on: top-ctl01, command: promote}}
checkout: {images: {environment: /root/openrc-user, project: atlas}}
services:
"""
OF_NOVA = "cell: [openstack-nova-cells, openstack-nova-conductor, openstack-nova-scheduler"
TOP = {"top-ctl01", "top-ctl02"}
CELLS = {"c01-ctl01", "c02-ctl01"}
COMPUTES = {f"c01-n{number:02}" for number in range(1, 11)} | {f"c02-n{number}" for number in range(1, 11)}


@pytest.fixture
def places(tmp_path):
    """A stage's nodes that are stopped, updated and started, in a cloud with these `services`."""

    def of(stage, *services):
        lines = [line for line in clouds.CLOUD.splitlines() if not line.startswith("repository")]
        (tmp_path / "secret").write_text("x")
        text = "\n".join([*lines, MORE, *(f"  {line}" for line in services)]) + "\n"
        cloud = load_cloud(clouds.write(tmp_path, text))
        steps = runbook_of(stage, cloud).steps
        assert all(step.on.choose(cloud.nodes) or step.when_empty for step in steps), "else such a run stops there"
        nodes = {}
        for step in steps:
            if step.does in {DAEMONS, packages.update, packages.resolve, databases.sync}:
                kind = step.kind if step.does == DAEMONS else step.does.__name__
                nodes.setdefault(kind, set()).update(node.name for node in step.on.choose(cloud.nodes))
        assert nodes["hold"] == nodes["lift"] == nodes["update"] == nodes["resolve"]
        return nodes["update"], cloud

    return of


def test_glance_in_the_top_cell_alone_leaves_the_cells_controllers_alone(places):
    assert places("glance", f"{OF_NOVA}]")[0] == TOP
    assert places("glance", f"{OF_NOVA}, openstack-glance-api]")[0] == TOP | CELLS


def test_a_volume_service_in_a_cell_is_stopped_and_upgraded_too(places):
    nodes, cloud = places("cinder", f"{OF_NOVA}, openstack-cinder-volume]")
    assert nodes == TOP | CELLS
    assert set(cloud.release.components["cinder"].packages["openstack-cinder"].tiers) == {"top", "cell"}


def test_ceilometers_agents_are_where_the_cloud_has_them(places):
    assert places("ceilometer", f"{OF_NOVA}]")[0] == TOP | COMPUTES
    assert places("ceilometer", "compute: [openstack-nova-compute]")[0] == TOP
    nodes, cloud = places("ceilometer", f"{OF_NOVA}, openstack-ceilometer-central]")
    assert nodes == TOP | CELLS | COMPUTES
    known = cloud.release.components["ceilometer"].packages
    assert "cell" in known["openstack-ceilometer-central"].tiers
    assert "cell" in known["openstack-ceilometer-common"].tiers
    assert "cell" not in known["openstack-ceilometer-api"].tiers
