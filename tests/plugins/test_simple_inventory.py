"""Nornir's SimpleInventory in place of inventory.yaml: the same nodes, the same faults."""

import pytest

from cellstep.cloud.load import load_cloud
from cellstep.errors import ConfigurationError
from tests.support import clouds

CLOUD = (
    clouds.CLOUD + "inventory: {plugin: SimpleInventory, options: {host_file: hosts.yaml, group_file: groups.yaml}}\n"
)
HOSTS = """\
top-ctl01: {groups: [first], data: {roles: [controller, database]}}
c01-ctl01: {groups: [one], data: {roles: controller}}
c01-n10: {groups: [one], hostname: 10.0.0.10}
c01-n9: {groups: [one], port: 2222, connection_options: {cellstep_ssh: {extras: {legacy_algorithms: true}}}}
"""
GROUPS = """\
cell: {data: {data_centre: geneva}}
first: {groups: [cell], data: {cell: top}}
one: {groups: [cell], platform: el9, data: {cell: cell01, roles: [compute]}}
"""


def write(tmp_path, hosts=HOSTS, groups=GROUPS):
    clouds.write(tmp_path, CLOUD, None)
    (tmp_path / "hosts.yaml").write_text(hosts, encoding="utf-8")
    if groups is not None:
        (tmp_path / "groups.yaml").write_text(groups, encoding="utf-8")
    return tmp_path


def faults(tmp_path, hosts=HOSTS, groups=GROUPS):
    with pytest.raises(ConfigurationError) as caught:
        load_cloud(write(tmp_path, hosts, groups))
    return caught.value.faults


def test_cell_roles_and_data_centre_are_inherited(tmp_path):
    cloud = load_cloud(write(tmp_path))
    assert [(node.name, node.cell, sorted(node.roles), node.data_centre) for node in cloud.nodes] == [
        ("top-ctl01", "top", ["controller", "database"], "geneva"),
        ("c01-ctl01", "cell01", ["controller"], "geneva"),
        ("c01-n9", "cell01", ["compute"], "geneva"),
        ("c01-n10", "cell01", ["compute"], "geneva"),
    ]
    assert [node.platform for node in cloud.nodes] == ["el6", "el9", "el9", "el9"]
    assert [node.name for node in cloud.groups["one"]] == ["c01-ctl01", "c01-n9", "c01-n10"]


def test_nornir_has_the_groups_of_cells_roles_and_data_centres(tmp_path):
    hosts = load_cloud(write(tmp_path)).nornir(None).inventory.hosts
    assert {group.name for group in hosts["c01-n9"].groups} == {"one", "cell01", "compute", "geneva"}
    ssh = hosts["c01-n9"].get_connection_parameters("cellstep_ssh")
    assert (ssh.port, ssh.extras["legacy_algorithms"], ssh.extras["host_keys"]) == (2222, True, "strict")
    assert hosts["c01-n10"].hostname == "10.0.0.10"


CASES = {
    "no controller": (
        {"hosts": HOSTS.replace("roles: controller}", "roles: compute}")},
        ["hosts.yaml:2: cell01 has no controller; give one of its hosts that role"],
    ),
    "no top": (
        {"groups": GROUPS.replace("cell: top", "cell: tip")},
        ["hosts.yaml:1: no host is in the cell 'top'; write the top cell's hosts with cell: top"],
    ),
    "no cell": (
        {"groups": GROUPS.replace("cell: cell01, ", "")},
        ["hosts.yaml:2: c01-ctl01,c01-n[9-10] has no cell; write it into data, here or in a group"],
    ),
    "no roles": (
        {"hosts": HOSTS + "c01-n11: {groups: [first]}\n"},
        ["hosts.yaml:5: c01-n11 has no roles; write a list of them into data, here or in a group"],
    ),
    "unknown key": (
        {"hosts": HOSTS.replace("hostname", "hostnme")},
        ["hosts.yaml:3: unknown key 'hostnme' in c01-n10; did you mean 'hostname'?"],
    ),
    "unknown group": (
        {"hosts": HOSTS.replace("[first]", "[frist]")},
        ["hosts.yaml:1: top-ctl01 is in the unknown group 'frist'; did you mean 'first'?"],
    ),
    "circle": (
        {"groups": GROUPS.replace("cell: {", "cell: {groups: [one], ")},
        [
            "groups.yaml:1: group 'cell' contains itself; take it out of its parents",
            "groups.yaml:3: group 'one' contains itself; take it out of its parents",
        ],
    ),
    "host twice": (
        {"hosts": HOSTS + "c01-n9: {groups: [one]}\n"},
        ["hosts.yaml:5: key 'c01-n9' stands twice (first in line 4); keep one"],
    ),
    "bad port": (
        {"hosts": HOSTS.replace("2222", "-1")},
        ["hosts.yaml:4: c01-n9.port is the number -1; write 1 or more"],
    ),
    "no mapping": ({"hosts": "a\n"}, ["hosts.yaml:1: the file is 'a'; write a mapping of keys and values"]),
    "empty host": (
        {"hosts": HOSTS + "x:\n"},
        ["hosts.yaml:5: x is empty; write a mapping of keys and values"],
    ),
    "no group file": (
        {"hosts": HOSTS, "groups": None},
        [
            "groups.yaml: there is no such file",
        ],
    ),
    "role and group disagree": (
        {
            "hosts": HOSTS.replace("c01-n10: {groups: [one]", "c01-n10: {groups: [one, controller]"),
            "groups": GROUPS + "controller: {}\n",
        },
        ["hosts.yaml:3: c01-n10 is in the group 'controller', but its data does not say so; mend one of the two"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_fault_is_one_line(tmp_path, name):
    files, expected = CASES[name]
    found = faults(tmp_path, **files)
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True)), found
