"""The Nornir inventory plugin `cellstep_cells`: hosts, groups, and every fault at once."""

import pytest

from plugins.inventory.cells import CellsInventory
from plugins.inventory.document import InventoryError
from tests.support.clouds import INVENTORY

TOP = "top: {data_centre: geneva, roles: {controller: top-ctl01}}\n"


def load(tmp_path, text):
    path = tmp_path / "inventory.yaml"
    path.write_text(text, encoding="utf-8")
    return CellsInventory(path).load()


def faults(tmp_path, text):
    with pytest.raises(InventoryError) as caught:
        load(tmp_path, text)
    return [str(fault) for fault in caught.value.faults]


def test_hosts_come_top_first_then_by_cell_then_by_natural_order(tmp_path):
    names = list(load(tmp_path, INVENTORY).hosts)
    assert names[:4] == ["top-ctl01", "top-ctl02", "top-db01", "c01-ctl01"]
    assert names[-3:] == ["c02-n8", "c02-n9", "c02-n10"]
    assert len(names) == 25


def test_each_host_has_its_cell_roles_data_centre_and_their_groups(tmp_path):
    inventory = load(tmp_path, INVENTORY)
    host = inventory.hosts["c01-ctl01"]
    assert host.data == {"cell": "cell01", "roles": ["controller", "database"], "data_centre": "geneva"}
    assert [group.name for group in host.groups] == ["cell01", "controller", "database", "geneva"]
    assert (host.hostname, host.platform, host.port) == ("c01-ctl01", "el6", None)
    assert set(inventory.groups) == {
        "top", "cell01", "cell02", "controller", "database", "compute", "geneva", "budapest"
    }  # fmt: skip


def test_defaults_and_exceptions(tmp_path):
    text = (
        INVENTORY
        + """\
defaults: {platform: el7, port: 2222, username: ops, legacy_algorithms: true}
hosts:
  "c01-n[01-02]": {port: 22, platform: el6, legacy_algorithms: false}
  c01-n03: {address: "2001:db8::1", username: root}
"""
    )
    hosts = load(tmp_path, text).hosts
    assert [hosts[name].port for name in ("c01-n01", "c01-n02", "c01-n03")] == [22, 22, 2222]
    assert (hosts["c01-n01"].platform, hosts["c01-n03"].platform) == ("el6", "el7")
    assert (hosts["c01-n03"].hostname, hosts["c01-n03"].username, hosts["c01-n01"].username) == (
        "2001:db8::1", "root", "ops"
    )  # fmt: skip
    assert "cellstep_ssh" not in hosts["c01-n01"].connection_options
    assert hosts["c01-n03"].connection_options["cellstep_ssh"].extras == {"legacy_algorithms": True}


CASES = {
    "unknown key": (
        TOP + "cells:\n  cell01:\n    data_centre: geneva\n    rols: {controller: c1}\n",
        ["inventory.yaml:5: unknown key 'rols' in cell01; did you mean 'roles'?"],
    ),
    "unknown key with no near one": (
        TOP + "colour: red\n",
        ["inventory.yaml:2: unknown key 'colour'; known keys: cells, defaults, hosts, top"],
    ),
    "node in two cells": (
        TOP + "cells:\n  cell01:\n    data_centre: geneva\n    roles:\n      controller: [c1, top-ctl01]\n",
        ["inventory.yaml:6: top-ctl01 of cell01 is in top already (line 1); a node has one cell, keep one"],
    ),
    "node twice in a role": (
        TOP + "cells:\n  cell01:\n    data_centre: geneva\n    roles: {controller: 'c1,c[1-2]'}\n",
        ["inventory.yaml:5: role 'controller' of cell01 names c1 twice; keep one"],
    ),
    "node twice in a list": (
        TOP + "cells:\n  cell01:\n    data_centre: geneva\n    roles: {controller: ['c[1-3]', 'c[2-4]']}\n",
        ["inventory.yaml:5: role 'controller' of cell01 names c[2-3] twice; keep one"],
    ),
    "malformed range": (
        TOP + "cells:\n  cell01:\n    data_centre: geneva\n    roles:\n      controller: p05-[001-]\n",
        [
            (
                "inventory.yaml:6: role 'controller' of cell01: malformed range 'p05-[001-]': '001-' between brackets; "
                "write for instance [001-200]"
            )
        ],
    ),
    "empty range": (
        "top: {data_centre: geneva, roles: {controller: top-ctl01, compute: ''}}\n",
        [
            (
                "inventory.yaml:1: role 'compute' of top: an empty range; write a node's name, or a range such as "
                "p05-[001-200]"
            )
        ],
    ),
    "empty list": (
        "top: {data_centre: geneva, roles: {controller: top-ctl01, compute: []}}\n",
        ["inventory.yaml:1: top has no node in role 'compute'; write one, or leave the role out"],
    ),
    "no controller": (
        TOP + "cells:\n  cell01: {data_centre: geneva, roles: {compute: c1}}\n",
        ["inventory.yaml:3: cell01 has no controller; give it a node in roles.controller"],
    ),
    "misspelt controller": (
        TOP + "cells:\n  cell01: {data_centre: geneva, roles: {controler: c1}}\n",
        ["inventory.yaml:3: cell01 has no controller; write it in place of 'controler'"],
    ),
    "wrong types": (
        "top: {data_centre: 7, roles: {controller: 7}}\ncells: [a]\ndefaults: {port: '22', legacy_algorithms: 1}\n",
        [
            "inventory.yaml:1: top.data_centre is the number 7; write it in quotes",
            "inventory.yaml:1: top.roles.controller is the number 7; write a list",
            "inventory.yaml:2: cells is a list; write a mapping of keys and values",
            "inventory.yaml:3: defaults.port is '22'; write a whole number",
            "inventory.yaml:3: defaults.legacy_algorithms is the number 1; write true or false",
        ],
    ),
    "bad ports": (
        "defaults: {port: 0}\n" + TOP + "hosts: {top-ctl01: {port: 65536}}\n",
        [
            "inventory.yaml:1: defaults.port is the number 0; write 1 or more",
            "inventory.yaml:3: hosts.top-ctl01.port is the number 65536; write 65535 or less",
        ],
    ),
    "no top cell": (
        "cells: {cell01: {data_centre: geneva, roles: {controller: c1}}}\n",
        ["inventory.yaml:1: 'top' is missing; write it"],
    ),
    "cell named like a role": (
        TOP + "cells: {controller: {data_centre: geneva, roles: {controller: c1}}}\n",
        ["inventory.yaml:2: 'controller' is a cell here and also a role; rename one of them"],
    ),
    "cell named like a data centre": (
        TOP + "cells: {geneva: {data_centre: geneva, roles: {controller: c1}}}\n",
        ["inventory.yaml:2: 'geneva' is a cell here and also a data centre; rename one of them"],
    ),
    "cell named top": (
        TOP + "cells: {top: {data_centre: geneva, roles: {controller: c1}}}\n",
        ["inventory.yaml:2: 'top' is a cell here and also the top cell; rename one of them"],
    ),
    "node named like a cell": (
        TOP + "cells: {cell01: {data_centre: geneva, roles: {controller: cell01}}}\n",
        ["inventory.yaml:2: 'cell01' is a node and also a cell; rename one of them"],
    ),
    "bad names": (
        TOP + "cells: {'cell 1': {data_centre: 'a!b', roles: {controller: c1}}}\n",
        [
            "inventory.yaml:2: cells: 'cell 1' is not a name; write letters, digits, '-', '_' and '.'",
            "inventory.yaml:2: cell 1.data_centre: 'a!b' is not a name; write letters, digits, '-', '_' and '.'",
        ],
    ),
    "exception for nobody": (
        TOP + "hosts:\n  top-clt01: {port: 22}\n",
        ["inventory.yaml:3: hosts: top-clt01 is in no cell; did you mean 'top-ctl01'?"],
    ),
    "one address for many": (
        "top: {data_centre: geneva, roles: {controller: 'n[1-2]'}}\nhosts:\n  n[1-2]: {address: 10.0.0.1}\n",
        ["inventory.yaml:3: hosts.n[1-2]: one address for 2 nodes; give each its own"],
    ),
    "two exceptions": (
        TOP + "hosts:\n  top-ctl01: {port: 22}\n  'top-ctl[01]': {port: 23}\n",
        ["inventory.yaml:4: hosts: port of top-ctl01 was given above; keep one"],
    ),
    "a list in place of a mapping": (
        "- a\n- b\n",
        ["inventory.yaml:1: the file is a list; write a mapping of keys and values"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_fault_is_one_line(tmp_path, name):
    text, expected = CASES[name]
    assert faults(tmp_path, text) == expected


def test_all_faults_come_at_once_and_in_order_of_lines(tmp_path):
    text = """\
defaults: {port: 0}
top:
  data_centre: geneva
  roles: {controller: "top-ctl[01-"}
cells:
  cell01:
    data_centre: geneva
    rols: {controller: c01-ctl01, compute: "c01-n[1-2]"}
  cell02:
    data_centre: budapest
    roles: {controller: x1, compute: [x1, "x[3-2]"]}
  cell03:
    roles: {controller: x1}
hosts:
  c01-n1: {port: 22}
  top-ctl01: {port: 22}
  nobody: {}
"""
    lines = [fault.split(":")[1] for fault in faults(tmp_path, text)]
    # Neither c01-n1 nor top-ctl01 is called unknown: they stand where the file cannot be read.
    assert lines == ["1", "4", "8", "11", "12", "13", "17"]
