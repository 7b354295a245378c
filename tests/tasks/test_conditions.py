"""The condition of a node: what a real bash prints of this machine, and what is read of it."""

import subprocess

import pytest

from tasks.conditions import parse, read_monit
from tasks.facts import parse as parse_facts
from tasks.platforms import PLATFORMS
from tasks.platforms.model import Care


def asked(care: Care, platform: str = "debian") -> str:
    its = PLATFORMS[platform]
    script = its.system.facts(its, [], care)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def test_one_command_brings_everything(tmp_path):
    lock = tmp_path / "agent_disabled.lock"
    lock.write_text('{"disabled_message":"because of a test"}')
    said = asked(Care(("/", "/nowhere/at/all"), str(lock), False))
    facts = parse_facts(said, PLATFORMS["debian"], (0.0, 0.0))
    assert facts.condition is not None
    assert facts.condition.puppet_disabled == '{"disabled_message":"because of a test"}'
    assert facts.condition.uptime_s > 0
    assert facts.condition.monit is None
    assert set(facts.condition.free_mib) == {"/", "/nowhere/at/all"}
    assert all(mount.startswith("/") and free > 0 for mount, free in facts.condition.free_mib.values())
    assert facts.packages["bash"]


def test_an_enabled_puppet_and_no_care():
    facts = parse_facts(asked(Care((), "/nowhere/lock", False)), PLATFORMS["debian"], (0.0, 0.0))
    assert facts.condition is not None
    assert facts.condition.puppet_disabled is None
    assert facts.condition.free_mib == {}
    plain = PLATFORMS["debian"].system.facts(PLATFORMS["debian"], [], None)
    assert "@began" not in plain


def test_the_clock_is_off_by_what_it_is_off():
    sections = {
        "began": ["1000.5"],
        "uptime": ["12.5"],
        "kernels": ["0 2.6.32-358.el6", "5 2.6.32-431.el6"],
        "pending": [],
        "set_aside": ["/etc/nova/nova.conf.rpmnew"],
        "puppet": [],
        "monit": ["Process 'crond'                     Running"],
        "space": ["/\t/\t2048", "broken"],
        "ended": ["1001.5"],
    }
    said = parse(sections, (990.0, 992.0))
    assert said.offset_s == pytest.approx(10.0)
    assert said.uncertainty_s == pytest.approx(0.5)
    assert said.kernels == ("2.6.32-358.el6", "2.6.32-431.el6")
    assert said.free_mib == {"/": ("/", 2)}
    assert said.monit == {"crond": "Running"}
    with pytest.raises(ValueError, match="cut off"):
        parse({**sections, "ended": []}, (990.0, 992.0))


MONIT_5_14 = """The Monit daemon 5.14 uptime: 3d 2h 1m

Process 'openstack-nova-compute'    Running
Process 'crond'                     Not monitored
System 'c01-n01'                    Running
Remote Host 'api'                   Connection failed
"""
MONIT_5_33 = """Monit 5.33.0 uptime: 1m
 Service Name                     Status                      Type
 c01-n01                          OK                          System
 openstack-nova-compute           Execution failed | Does not exist  Process
"""


def test_monits_words():
    assert read_monit(MONIT_5_14.splitlines()) == (
        {
            "openstack-nova-compute": "Running",
            "crond": "Not monitored",
            "c01-n01": "Running",
            "api": "Connection failed",
        },
        "",
    )
    found, error = read_monit(MONIT_5_33.splitlines())
    assert found == {"c01-n01": "OK", "openstack-nova-compute": "Execution failed | Does not exist"}
    assert error == ""
    assert read_monit([]) == (None, "")
    assert read_monit(["Monit daemon is not running"]) == (None, "Monit daemon is not running")
