"""A cloud's folder: what ships, what may be left out, and every fault of both files at once."""

from pathlib import Path

import pytest

from cellstep import sequence
from cellstep.cloud.load import load_cloud
from cellstep.errors import ConfigurationError
from cellstep.stages import runbook_of
from tests.support import clouds

SHIPPED = Path(__file__).parents[2] / "inventory"


def faults(directory):
    with pytest.raises(ConfigurationError) as caught:
        load_cloud(directory)
    assert caught.value.exit_code == 2
    return caught.value.faults


def test_the_lab_that_ships():
    cloud = load_cloud(SHIPPED / "lab")
    assert cloud.cells == ("cell01", "cell02")
    assert [(node.name, node.tier) for node in cloud.nodes] == [
        ("cli01", "client"),
        ("dash01", "dashboard"),
        ("dash02", "dashboard"),
        ("top-api01", "top"),
        ("top-api02", "top"),
        ("top-infra01", None),
        ("c01-ctl01", "cell"),
        ("c01-n01", "compute"),
        ("c01-n02", "compute"),
        ("c02-ctl01", "cell"),
        ("c02-n01", "compute"),
        ("c02-n02", "compute"),
    ]


def test_the_lab_shows_every_key_of_cloud_yaml():
    text = (SHIPPED / "lab" / "cloud.yaml").read_text(encoding="utf-8")
    model = type(load_cloud(SHIPPED / "lab").config)
    for name, field in model.model_fields.items():
        assert f"\n{name}:" in text
        for inner in getattr(field.annotation, "model_fields", {}):
            assert f"{inner}:" in text, f"{name}.{inner}"


def test_the_example_of_cerns_shape():
    cloud = load_cloud(SHIPPED / "cern")
    assert len(cloud.cells) == 10
    assert len([node for node in cloud.nodes if node.tier == "compute"]) == 2000
    assert {node.data_centre for node in cloud.nodes} == {"geneva", "budapest"}
    assert cloud.release.packages_on("compute")["openstack-nova-compute"] == "2013.2.1-1.slc6"
    for stage in sequence.stages(cloud):
        steps = runbook_of(stage, cloud).steps
        assert all(step.on.choose(cloud.nodes) or step.when_empty for step in steps), f"{stage} would stop there"


def test_paths_are_relative_to_the_folder_and_tilde_expands(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/operator")
    text = clouds.CLOUD + "ssh: {key: keys/id, known_hosts: ~/known, config: /etc/config}\n"
    cloud = load_cloud(clouds.write(tmp_path, text))
    ssh = cloud.config.ssh
    assert (ssh.key, ssh.known_hosts, ssh.config) == (
        tmp_path / "keys/id",
        Path("/home/operator/known"),
        Path("/etc/config"),
    )
    assert cloud.config.databases.password_file == tmp_path / "secret"


def test_the_inventory_may_lie_elsewhere(tmp_path):
    folder = tmp_path / "cloud"
    folder.mkdir()
    clouds.write(tmp_path, None)
    clouds.write(folder, clouds.CLOUD + "inventory: {options: {path: ../inventory.yaml}}\n", None)
    assert len(load_cloud(folder).nodes) == 25


def test_faults_of_both_files_come_at_once(tmp_path):
    clouds.write(tmp_path, "name: x\nrelease: grizly\nwokers: 3\n", "top: {data_centre: geneva, roles: {compute: a}}\n")
    assert faults(tmp_path) == [
        "cloud.yaml:1: 'repository' is missing; write it",
        "cloud.yaml:2: there is no release 'grizly'; write one of grizzly-havana, or the path of a file",
        "cloud.yaml:3: unknown key 'wokers'; did you mean 'workers'?",
        "inventory.yaml:1: top has no controller; give it a node in roles.controller",
    ]


CASES = {
    "ssh: {host_keys: loose}": "ssh.host_keys is 'loose'; write 'strict' or 'accept-new'",
    "ssh: {connect_timeout_s: 0}": "ssh.connect_timeout_s is the number 0; write more than 0",
    "ssh: {connect_timeout_s: soon}": "ssh.connect_timeout_s is 'soon'; write a number",
    "ssh: {sudo: 'yes'}": "ssh.sudo is 'yes'; write true or false",
    "ssh: {usernam: root}": "unknown key 'usernam' in ssh; did you mean 'username'?",
    "ssh: {key: ~nobody-of-that-name/x}": "ssh.key: '~nobody-of-that-name/x' has no home folder; write the whole path",
    "workers: 0": "workers is the number 0; write 1 or more",
    "workers: 1.5": "workers is the number 1.5; write a whole number",
    "stale_after_s: .inf": "stale_after_s is the number inf; write a finite number",
    "fence: {socket: here}": "fence.socket: 'here' is no socket; write 127.0.0.1:9999 or a path such as "
    "/run/haproxy.sock",
    "fence: {socket: 'a:99999'}": "fence.socket: 'a:99999' is no socket; write 127.0.0.1:9999 or a path such as "
    "/run/haproxy.sock",
    "fence: {backends: []}": "fence.backends.nova is an empty list; write at least one item",
    "puppet: {lock: relative}": "puppet.lock: 'relative' is not a whole path; begin with /",
    "monitoring: {mask_alarms: x}": "monitoring: needs mask_alarms, unmask_alarms and alarms_masked together; write "
    "all three or none",
    "checkout: {show: 'nova show {nmae}'}": "checkout.show: has the unknown placeholder {nmae}; write {name}, and the "
    "shell's own braces twice",
    "checkout: {delete: 'x {'}": "checkout.delete: has a single brace; write {name}, and the shell's own braces twice",
    "checkout: {commands: [{on: nobody, command: x}]}": "checkout.commands: 'nobody' is neither a node nor a group of "
    "test; `cellstep inventory` shows them",
    "packages: {openstack-nova-compte: 1-1}": "packages: unknown package 'openstack-nova-compte'; did you mean "
    "'openstack-nova-compute'?",
    "packages: {python-nova: 2013.2}": "packages.python-nova is the number 2013.2; write it in quotes",
    "packages: {python-nova: 'a b'}": "packages.python-nova: 'a b' is not a version; write [epoch:]version[-release], "
    "such as 2013.2.1-1.el6",
    "services: {tpo: []}": "unknown key 'tpo' in services; write 'top', 'cell', 'compute', 'dashboard' or 'client'",
    "services: {top: [openstack-nova-apy]}": "services.top: unknown service 'openstack-nova-apy'; did you mean "
    "'openstack-nova-api'?",
    "inventory: {plugin: Simple}": "inventory.plugin is 'Simple'; write 'cellstep_cells' or 'SimpleInventory'",
    "inventory: {options: {pth: x}}": "inventory: cellstep_cells has no option 'pth'; known options: path",
    "network_namespace: a/b": "network_namespace: 'a/b' is not a name; write letters, digits, '-', '_' and '.'",
}


@pytest.mark.parametrize("line", CASES)
def test_each_fault_of_cloud_yaml_is_one_line(tmp_path, line):
    text = clouds.CLOUD + line + "\n"
    assert faults(clouds.write(tmp_path, text)) == [f"cloud.yaml:{text.count(chr(10))}: {CASES[line]}"]


def test_two_ways_to_the_password_are_one_too_many(tmp_path):
    text = clouds.CLOUD.replace("{password_file: secret}", "{password_file: secret, password_env: SECRET, port: 0}")
    assert faults(clouds.write(tmp_path, text)) == [
        "cloud.yaml:4: databases.port is the number 0; write 1 or more",
        "cloud.yaml:4: databases: has both password_file and password_env; keep one",
    ]


def test_the_promotion_needs_a_node_that_is_there(tmp_path):
    text = clouds.CLOUD.replace("on: top-ctl01", "on: top-ctl1")
    assert faults(clouds.write(tmp_path, text)) == [
        "cloud.yaml:3: repository.promote.on: there is no node 'top-ctl1'; did you mean 'top-ctl01'?"
    ]


@pytest.mark.parametrize(
    ("cloud", "inventory", "expected"),
    [
        (None, clouds.INVENTORY, ["cloud.yaml: there is no such file"]),
        (clouds.CLOUD, None, ["inventory.yaml: there is no such file"]),
        (None, None, ["cloud.yaml: there is no such file", "inventory.yaml: there is no such file"]),
        ("", "", ["cloud.yaml: is empty", "inventory.yaml: is empty"]),
        (b"\xff", b"\xfe", ["cloud.yaml:1: is not UTF-8", "inventory.yaml:1: is not UTF-8"]),
        ("a: [", "- b: {", ["cloud.yaml:1: is not YAML", "inventory.yaml:1: is not YAML"]),
        ("[]", "7", ["cloud.yaml:1: the file is an empty list", "inventory.yaml:1: the file is the number 7"]),
    ],
)
def test_files_that_are_missing_or_no_files_at_all(tmp_path, cloud, inventory, expected):
    found = faults(clouds.write(tmp_path, cloud, inventory))
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True)), found


def test_a_folder_that_is_not_there(tmp_path):
    assert "there is no such folder" in faults(tmp_path / "none")[0]
    assert "there is no such folder" in faults(tmp_path / ("x" * 5000))[0]


def test_a_release_of_the_sites_own_and_its_faults(tmp_path):
    clouds.write(tmp_path, clouds.CLOUD.replace("grizzly-havana", "own.yaml"))
    own = tmp_path / "own.yaml"
    own.write_text("name: own\nsource: a\ntarget: b\ncomponents: {nova: {}}\n", encoding="utf-8")
    assert load_cloud(tmp_path).release.name == "own"
    own.write_text("name: own\nsource: a\ncomponents: {nova: {package: {}}}\n", encoding="utf-8")
    assert faults(tmp_path) == [
        "own.yaml:1: 'target' is missing; write it",
        "own.yaml:3: unknown key 'package' in components.nova; did you mean 'packages'?",
    ]


def test_own_packages_and_services_replace_the_releases(tmp_path):
    text = clouds.CLOUD + "packages: {python-nova: '1:9-1'}\nservices: {cell: [openstack-nova-cells]}\n"
    cloud = load_cloud(clouds.write(tmp_path, text))
    assert cloud.expected_packages(["python-nova", "python-novaclient"]) == {
        "python-nova": "1:9-1",
        "python-novaclient": "2.15.0",
    }
    assert cloud.services_on("nova", "cell") == {"openstack-nova-cells": "nova-cells"}
    assert cloud.services_on("nova", "compute") == {"openstack-nova-compute": "nova-compute"}
    assert "openstack-nova-scheduler" not in cloud.services("nova")
