"""Where the databases of a component are, by the release and by cloud.yaml."""

from pathlib import Path

import pytest

from cellstep.cloud.load import load_cloud
from cellstep.cloud.places import places
from cellstep.errors import ConfigurationError, UsageError
from tests.support.folders import lab_folder

CLOUD = """
name: small
release: grizzly-havana
repository: {name: havana, promote: {on: c01-ctl01, command: "true"}}
databases: {names: {nova: nova_grizzly}%s}
"""
INVENTORY = """
top:
  data_centre: here
  roles: {controller: top-api01%s}
cells:
  cell01:
    data_centre: here
    roles: {controller: c01-ctl01, database: "c01-db[01-02]", compute: c01-n01}
"""


def small(folder: Path, databases: str = "", top: str = ""):
    folder.mkdir()
    (folder / "cloud.yaml").write_text(CLOUD % databases)
    (folder / "inventory.yaml").write_text(INVENTORY % top)
    return load_cloud(folder)


def test_nova_has_one_in_every_cell(tmp_path):
    cloud = load_cloud(lab_folder(tmp_path / "cloud"))
    assert list(map(str, places(cloud, "nova"))) == ["top-infra01/nova", "c01-ctl01/nova", "c02-ctl01/nova"]


def test_a_cell_with_two_servers_has_its_database_on_the_first(tmp_path):
    cloud = small(tmp_path / "cloud", top=", database: top-db01")
    assert list(map(str, places(cloud, "nova"))) == ["top-db01/nova_grizzly", "c01-db01/nova_grizzly"]


def test_cloud_yaml_may_name_the_node(tmp_path):
    """Of what every cell has it is that of its own cell; a server of another component alone has another role."""
    cloud = small(tmp_path / "cloud", ", on: {nova: c01-db02, glance: c01-n01}", top=", database: top-db01")
    assert list(map(str, places(cloud, "nova"))) == ["top-db01/nova_grizzly", "c01-db02/nova_grizzly"]
    assert list(map(str, places(cloud, "glance"))) == ["c01-n01/glance"]
    assert list(map(str, places(cloud, "cinder"))) == ["top-db01/cinder"]


def test_keystone_has_one_in_every_cell_that_runs_it(tmp_path):
    """With keystone in the top cell alone, cloud.yaml may name its node in any cell."""
    cells = small(tmp_path / "cells", top=", database: top-db01")
    assert list(map(str, places(cells, "keystone"))) == ["top-db01/keystone", "c01-db01/keystone"]
    alone = small(tmp_path / "alone", "}\nservices: {cell: [openstack-nova-cells]", top=", database: top-db01")
    assert list(map(str, places(alone, "keystone"))) == ["top-db01/keystone"]
    named = small(tmp_path / "named", ", on: {keystone: c01-n01}}\nservices: {cell: []", top=", database: top-db01")
    assert list(map(str, places(named, "keystone"))) == ["c01-n01/keystone"]


@pytest.mark.parametrize(
    ("databases", "said"),
    [
        (", on: {keystone: c01-n09}", "databases.on.keystone: there is no node 'c01-n09'"),
        (
            ", replicas: {c01-db01: c01-db02}",
            "databases.replicas.c01-db01: there is no node with the role `replica` 'c01-db02'",
        ),
        (", replicas: {c01-n01: c01-db02}", "databases.replicas: there is no database node 'c01-n01'"),
    ],
)
def test_cloud_yaml_is_refused_when_it_names_nodes_that_cannot_be_meant(tmp_path, databases, said):
    with pytest.raises(ConfigurationError) as caught:
        small(tmp_path / "cloud", databases)
    assert said in str(caught.value)


def test_a_component_without_a_database_is_refused_with_those_that_have_one(tmp_path):
    cloud = small(tmp_path / "cloud")
    with pytest.raises(UsageError, match=r"no component “clients” with a database; there are: nova"):
        places(cloud, "clients")
