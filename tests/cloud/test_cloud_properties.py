"""Any cloud that is written is loaded as it was meant, and nothing that is written wrong ends in a traceback."""

import io
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from cellstep.cloud.load import load_cloud
from cellstep.cloud.select import select
from cellstep.errors import ConfigurationError, UsageError
from plugins.inventory.ranges import fold
from tests.support import clouds

ROLES = ("controller", "compute", "database", "queue", "loadbalancer")


def render(data):
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(data, stream)
    return stream.getvalue()


def load(cloud, inventory):
    with tempfile.TemporaryDirectory() as name:
        return load_cloud(clouds.write(Path(name), cloud, inventory))


@st.composite
def inventories(draw):
    """An inventory, and what its nodes are: name to (cell, roles, data centre)."""
    meant = {}

    def cell(name, prefix):
        centre = draw(st.sampled_from(["geneva", "budapest"]))
        roles = {"controller": draw(st.integers(1, 3))}
        roles |= draw(st.dictionaries(st.sampled_from(ROLES), st.integers(1, 30), max_size=4))
        shared = draw(st.booleans())
        result = {}
        for role, count in roles.items():
            names = [f"{prefix}-{'n' if shared else role}{number}" for number in range(1, count + 1)]
            for node in names:
                meant.setdefault(node, (name, set(), centre))[1].add(role)
            folded = fold(names)
            result[role] = draw(st.sampled_from([folded, [folded], names]))
        return {"data_centre": centre, "roles": result}

    top = cell("top", "t")
    count = draw(st.integers(0, 6))
    cells = {f"cell{number}": cell(f"cell{number}", f"c{number}") for number in range(1, count + 1)}
    return {"top": top, "cells": cells}, meant


@settings(max_examples=40, deadline=None)
@given(inventories())
def test_what_is_written_is_what_is_loaded(given_inventory):
    data, meant = given_inventory
    on = next(iter(meant))
    cloud = load(clouds.CLOUD.replace("top-ctl01", on), render(data))
    assert {node.name: (node.cell, set(node.roles), node.data_centre) for node in cloud.nodes} == meant
    assert cloud.cells == tuple(data["cells"])
    hosts = cloud.nornir(None).inventory.hosts
    assert list(hosts) == [node.name for node in cloud.nodes]
    assert select(cloud, fold(meant)) == cloud.nodes


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["n[1-3]", "n[1-", "top", "cell01", "strict", "", "a\0b", "~x/y", "{name}", "1:2-3", "x" * 300])
)  # fmt: skip
KEYS = st.sampled_from(
    ["top", "cells", "hosts", "defaults", "roles", "data_centre", "controller", "compute", "port", "address", "name",
     "release", "inventory", "options", "path", "plugin", "ssh", "key", "databases", "packages", "services", "fence",
     "checkout", "commands", "repository", "promote", "on", "rols", "n[1-2]", "cell01"]
) | st.text(max_size=5)  # fmt: skip
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=25,
)


def refused_or_loaded(cloud, inventory):
    faults = None
    try:
        load(cloud, inventory)
    except ConfigurationError as error:
        faults = error.faults
    assert faults is None or (faults and all(line and "\n" not in line for line in faults))


@settings(max_examples=150, deadline=None)
@given(ANYTHING, ANYTHING)
def test_no_structure_ends_in_a_traceback(cloud, inventory):
    refused_or_loaded(render(cloud), render(inventory))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_change_to_a_sound_cloud_ends_in_a_traceback(data):
    def spoilt(text):
        content = YAML(typ="safe", pure=True).load(text)
        inner = content
        while True:
            key = data.draw(st.sampled_from(sorted(inner)))
            if not isinstance(inner[key], dict) or data.draw(st.booleans()):
                inner[key] = data.draw(ANYTHING)
                return render(content)
            inner = inner[key]

    refused_or_loaded(spoilt(clouds.CLOUD), spoilt(clouds.INVENTORY))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_slip_of_the_keyboard_ends_in_a_traceback(data):
    def slipped(text):
        place = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 5))
        return text[:place] + data.draw(st.text(alphabet="ab0:-[]{},&*!'\" \n\t#", max_size=4)) + text[place + length :]

    refused_or_loaded(slipped(clouds.CLOUD), slipped(clouds.INVENTORY))


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="c01-n[]{},!topel ", max_size=20))
def test_any_limit_selects_or_is_refused(expression):
    message = ""
    try:
        assert select(_CLOUD, expression)
    except UsageError as error:
        message = str(error)
    assert "\n" not in message


_CLOUD = load(clouds.CLOUD, clouds.INVENTORY)
