"""Dashboards and clients: in the inventory, with tiers of their own, and left alone by the other stages."""

import re
import shutil
from pathlib import Path

import pytest

from cellstep.cloud.load import load_cloud
from cellstep.cloud.nodes import Node
from cellstep.engine import plan
from cellstep.errors import ConfigurationError
from cellstep.stages import STAGES, choices, runbook_of
from cellstep.verification import concerns, wanted

LAB = Path(__file__).parent.parent.parent / "inventory" / "lab"
ROLES = """    dashboard: [dash-old, dash-new]
    client: [lxplus01, win-cli01, mac-cli01]
"""
HOSTS = """
hosts:
  win-cli01: {platform: windows}
  mac-cli01: {platform: darwin}
  dash-new: {platform: el9}
"""
OUTSIDE = {"dash-old", "dash-new", "lxplus01", "win-cli01", "mac-cli01"}


def cloud_with(folder, hosts=HOSTS, roles=ROLES):
    shutil.copytree(LAB, folder / "cloud")
    file = folder / "cloud" / "inventory.yaml"
    text = file.read_text()
    queue, own = "    queue: top-infra01\n", re.compile(r"^    (?:client: cli01|dashboard: dash) ?.*\n", re.MULTILINE)
    assert queue in text
    text, found = own.subn("", text)
    assert found == 2
    file.write_text(text.replace(queue, queue + roles) + hosts)
    settings = folder / "cloud" / "cloud.yaml"
    text = settings.read_text()
    for old, new in (("  old: dash01", "  old: dash-old"), ("  new: dash02", "  new: dash-new")):
        assert old in text
        text = text.replace(old, new)
    settings.write_text(text)
    return load_cloud(folder / "cloud")


@pytest.fixture
def cloud(tmp_path):
    return cloud_with(tmp_path)


def node(*roles, cell="top"):
    return Node("n", cell, frozenset(roles), "geneva", "el6")


@pytest.mark.parametrize(
    ("roles", "tier", "outside"),
    [
        (["client"], "client", True),
        (["dashboard"], "dashboard", True),
        (["dashboard", "client"], "dashboard", True),
        (["client", "lxplus"], "client", True),
        (["controller", "dashboard"], "top", False),
        (["compute", "client"], "compute", False),
        (["database", "client"], "client", False),
        (["database"], None, False),
    ],
)
def test_tiers(roles, tier, outside):
    assert (node(*roles).tier, node(*roles).outside) == (tier, outside)


def test_their_platforms_say_how_they_are_spoken_to(cloud):
    found = {each.name: (each.tier, each.platform) for each in cloud.nodes if each.name in OUTSIDE}
    assert found == {
        "dash-old": ("dashboard", "el6"),
        "dash-new": ("dashboard", "el9"),
        "lxplus01": ("client", "el6"),
        "win-cli01": ("client", "windows"),
        "mac-cli01": ("client", "darwin"),
    }
    hosts = cloud.nornir(None).inventory.hosts
    shells = {
        name: hosts[name].connection_options["cellstep_ssh"].extras["shell"] for name in ("win-cli01", "mac-cli01")
    }
    assert shells == {"win-cli01": "powershell", "mac-cli01": "bash-perl"}
    assert hosts["lxplus01"].connection_options["cellstep_ssh"].extras["shell"] == "bash"


@pytest.mark.parametrize("stage", sorted({*STAGES, "nova-backout"} - {"clients", "horizon"}))  # their own
def test_no_other_stage_touches_them(cloud, stage):
    touched = {each.name for step in runbook_of(stage, cloud).steps for each in step.on.choose(cloud.nodes)}
    assert touched
    assert not touched & OUTSIDE


@pytest.mark.parametrize("stage", ["nova", "nova-backout"])
def test_the_plan_is_the_one_without_them(cloud, stage):
    without = load_cloud(LAB)
    plans = [plan.as_kept(each, runbook_of(stage, each), each.nodes) for each in (cloud, without)]
    assert [(line["title"], line["nodes"]) for line in plans[0]] == [
        (line["title"], line["nodes"]) for line in plans[1]
    ]


def test_a_verification_asks_them_nothing_and_misses_nothing_of_them(cloud):
    for each in cloud.nodes:
        if each.name in OUTSIDE:
            assert not concerns(cloud, "nova", each)
            assert wanted(cloud, "nova", each, ["rpms", "services", "guests"]).facts is None
        elif each.tier:
            assert concerns(cloud, "nova", each)


def test_their_own_choices_find_them(cloud):
    assert {each.name for each in choices.DASHBOARDS.choose(cloud.nodes)} == {"dash-old", "dash-new"}
    assert {each.name for each in choices.CLIENTS.choose(cloud.nodes)} == {"lxplus01", "win-cli01", "mac-cli01"}


def test_an_unknown_platform_is_a_fault_of_the_inventory(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        cloud_with(tmp_path, HOSTS.replace("platform: el9", "platform: el5"))
    known = "el6, el9, debian, windows, darwin"
    assert caught.value.faults == [f"inventory: dash-new: unknown platform 'el5'; write one of {known}"]
