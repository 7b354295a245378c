"""The facts of a release pair."""

import pytest

from cellstep.errors import ConfigurationError
from cellstep.releases import load_release, release_names


def test_grizzly_to_havana():
    release = load_release("grizzly-havana")
    assert (release.source, release.target) == ("grizzly", "havana")
    here = release.packages_on("compute")
    assert here.pop("openstack-ceilometer-compute") == "2013.2.1"
    assert {name: here.pop(name) for name in ("openstack-ceilometer-common", "python-ceilometer")}
    assert here == {
        "openstack-nova-common": "2013.2.1-1.el6",
        "python-nova": "2013.2.1-1.el6",
        "openstack-nova-compute": "2013.2.1-1.el6",
        "python-novaclient": "2.15.0",
        "python-cinderclient": "1.0.6",
        "python-glanceclient": "0.10.0",
    }
    schema = release.components["nova"].databases[0]
    assert (schema.repository_id, schema.start, schema.head) == ("nova", (161, 162), 216)


def test_every_release_that_ships_is_sound():
    assert release_names() == ["grizzly-havana"]
    for name in release_names():
        assert load_release(name).name == name


def test_unknown_keys_are_refused(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "name: own\nsource: a\ntarget: b\ncomponents:\n  nova:\n    packages:\n"
        "      x: {evr: 1-1, tiers: [top, cel], arch: noarch}\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigurationError) as caught:
        load_release(str(path))
    assert caught.value.faults == [
        (
            "own.yaml:7: components.nova.packages.x.tiers.1 is 'cel'; "
            "write 'top', 'cell', 'compute', 'dashboard' or 'client'"
        ),
        "own.yaml:7: unknown key 'arch' in components.nova.packages.x; known keys: evr, tiers, was",
    ]


@pytest.mark.parametrize("name", ["", "none", "none.yaml", "x" * 5000, "~nobody-of-that-name/x", "a\0b"])
def test_a_release_that_is_not_there(name):
    with pytest.raises(ConfigurationError, match="write one of grizzly-havana"):
        load_release(name)


@pytest.mark.parametrize(
    ("evrs", "head"),
    [
        ([], 20),
        (["2013.2-1.el6"], 20),
        (["2013.2.3-1.el6"], 20),
        (["2013.2.4-1.el6"], 21),
        (["1:2013.2.4-2.el6", "2013.2-1.el6"], 21),
        (["1:2013.2.1-2.el6"], 20),
        (["2014.1-1"], 21),
    ],
)
def test_the_head_is_that_of_the_exact_packages(evrs, head):
    """Cinder's stable release 2013.2.4 has one migration more."""
    cinder = load_release("grizzly-havana").components["cinder"].databases[0]
    assert cinder.head_of(evrs) == head


def test_a_hazard_is_one_thing(tmp_path):
    path = tmp_path / "own.yaml"
    database = "name: n, repository_id: n, start: [1], head: 9, sync: s, version: v"
    hazard = "{name: it, error: '1060', stops_at: 2, remedy: drop it, column: a.b, table: c}"
    path.write_text(
        "name: own\nsource: a\ntarget: b\ncomponents:\n  nova:\n    databases:\n"
        f"      - {{{database}, hazards: [{hazard}]}}\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigurationError, match="write one of them"):
        load_release(str(path))
