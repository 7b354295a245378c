"""The lab's plan on paper: hosts, names, addresses, cloud folder, apt sources, cache digests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellstep.cloud.load import load_cloud
from lab.cloud import render, shipped_cloud
from lab.errors import LabError, LabUsageError
from lab.sources import apt_sources
from lab.spec import HostSpec, LabSpec

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12)) | st.tuples(st.integers(98, 120), st.integers(1, 3))


def test_default_lab_is_nine_hosts_in_three_cells():
    hosts = LabSpec().hosts()
    assert [h.name for h in hosts] == [
        *("top-api01", "top-api02", "top-infra01"),
        *("c01-ctl01", "c01-n01", "c01-n02"),
        *("c02-ctl01", "c02-n01", "c02-n02"),
    ]
    assert hosts[3] == HostSpec(
        "c01-ctl01", "cell01", ("controller", "database", "queue"), "10.90.0.4", "02:ce:11:00:00:04", "geneva"
    )
    assert {h.cell: h.data_centre for h in hosts} == {"top": "geneva", "cell01": "geneva", "cell02": "budapest"}


@given(SIZES)
def test_names_addresses_and_links_never_clash(size):
    hosts = LabSpec("x", *size).hosts()
    for attribute in ("name", "address", "mac"):
        assert len({getattr(h, attribute) for h in hosts}) == len(hosts)
    assert all(len(h.name) <= 15 for h in hosts), "a network device's name"
    assert not {h.address.rsplit(".", 1)[1] for h in hosts} & {"0", "254", "255"}
    assert [h.name for h in hosts if "compute" in h.roles] == sorted(h.name for h in hosts if "compute" in h.roles)


def test_names_grow_to_three_digits_beyond_99():
    assert LabSpec("x", 100, 1).cell_names()[0] == "cell001"
    assert LabSpec("x", 1, 100).hosts()[-1].name == "c01-n100"


@pytest.mark.parametrize("name", ["", "A", "a-b", "1a", "a/b", "a" * 13, "a\n"])
def test_a_name_that_could_be_another_labs_is_refused(name):
    with pytest.raises(LabUsageError, match="lab name"):
        LabSpec(name)


@pytest.mark.parametrize("size", [(0, 1), (1, 0), (500, 2)])
def test_a_size_that_cannot_be_is_refused(size):
    with pytest.raises(LabUsageError):
        LabSpec("x", *size)


def test_an_unknown_host_is_a_usage_error():
    with pytest.raises(LabUsageError, match="no host 'c09-n01'"):
        LabSpec().host("c09-n01")


def test_the_default_cloud_is_the_shipped_one():
    for name, text in render(LabSpec()).items():
        assert text == (shipped_cloud() / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("spec", [LabSpec("other"), LabSpec("x", 1, 1), LabSpec("y", 3, 12), LabSpec("z", 101, 2)])
def test_a_rendered_cloud_lists_exactly_the_labs_hosts(tmp_path, spec):
    for name, text in render(spec).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    cloud = load_cloud(tmp_path)
    hosts = {(h.name, h.cell, frozenset(h.roles), h.data_centre) for h in spec.hosts()}
    assert {(n.name, n.cell, n.roles, n.data_centre) for n in cloud.nodes} == hosts
    assert cloud.config.name == spec.name
    assert cloud.config.network_namespace == f"cellstep-{spec.name}"
    assert f"/labs/{spec.name}/" in str(cloud.config.ssh.key)


def test_apt_sources_keeps_the_suite_and_nothing_of_vendors(tmp_path):
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (parts / "debian.sources").write_text(
        "# the mirror\nTypes: deb deb-src\nURIs: http://mirror.test/debian\n"
        "Suites: bookworm bookworm-updates\nComponents: main\nSigned-By: /usr/share/keyrings/d.gpg\n\n"
        "Types: deb\nURIs: http://mirror.test/security\nSuites: bookworm-security\nComponents: main\n\n"
        "Enabled: no\nTypes: deb\nURIs: http://off.test/\nSuites: bookworm\nComponents: main\n",
        encoding="utf-8",
    )
    (parts / "vendor.list").write_text("deb https://vendor.test/apt sdk-bookworm main\n", encoding="utf-8")
    assert apt_sources("bookworm", tmp_path).splitlines() == [
        "deb [signed-by=/usr/share/keyrings/d.gpg] http://mirror.test/debian bookworm main",
        "deb [signed-by=/usr/share/keyrings/d.gpg] http://mirror.test/debian bookworm-updates main",
        "deb http://mirror.test/security bookworm-security main",
    ]


def test_apt_sources_reads_one_line_files_and_says_when_there_is_none(tmp_path):
    with pytest.raises(LabError, match="Debian bookworm"):
        apt_sources("bookworm", tmp_path)
    (tmp_path / "sources.list").write_text(
        "# deb x bookworm main\ndeb http://m.test/ bookworm main\n", encoding="utf-8"
    )
    assert apt_sources("bookworm", tmp_path) == "deb http://m.test/ bookworm main\n"
