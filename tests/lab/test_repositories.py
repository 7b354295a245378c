"""The RPM repositories: what is in them, what requires what, and what happens on an update."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from lab.content import build_repositories
from lab.content.components import COMPONENTS
from lab.content.settings import PACKAGES

pytestmark = pytest.mark.skipif(
    not shutil.which("rpmbuild") or not shutil.which("createrepo_c"),
    reason="rpmbuild or createrepo_c is not installed (apt packages rpm and createrepo-c)",
)
SUBPACKAGES = [
    *("api", "cells", "cert", "compute", "conductor", "console"),
    *("network", "novncproxy", "objectstore", "scheduler"),
]


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both repositories, built once."""
    path = tmp_path_factory.mktemp("repositories")
    build_repositories(path)
    return path


def query(repositories: Path, pattern: str, *options: str) -> list[str]:
    """`rpm -qp` on the packages whose file name matches; its lines."""
    files = sorted(map(str, repositories.glob(pattern)))
    assert files, pattern
    command = ["rpm", "--dbpath", str(repositories / "db"), "-qp", *options, *files]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_names_and_versions(repositories: Path) -> None:
    """Every package of nova, the clients and a kernel, in both releases."""
    form = "%{NAME} %|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}.%{ARCH}\\n"
    for release, nova, clients, kernel in (
        ("grizzly", "2013.1.4-1.el6", ("1:2.13.0", "1.0.3", "0.9.0"), "2.6.32-431.el6"),
        ("havana", "2013.2.1-1.el6", ("1:2.15.0", "1.0.6", "0.10.0"), "2.6.32-431.5.1.el6"),
    ):
        expected = {f"openstack-nova-{name} {nova}.noarch" for name in [*SUBPACKAGES, "common"]}
        expected |= {f"openstack-nova {nova}.noarch", f"python-nova {nova}.noarch"}
        expected |= {
            f"python-{name}client {evr}-1.el6.noarch"
            for name, evr in zip(("nova", "cinder", "glance"), clients, strict=True)
        }
        expected.add(f"kernel {kernel}.{platform.machine()}")
        if release == "grizzly":
            expected.add("el6-base 6.5-1.el6.noarch")
        for source in (source for component in COMPONENTS.values() for source in component.sources(release)):
            expected |= {f"{each.name} {source.version}-{source.release}.noarch" for each in source.packages}
        assert set(query(repositories, f"{release}/*.rpm", "--qf", form)) == expected
        assert (repositories / release / "repodata" / "repomd.xml").exists()


def test_subpackages_follow_common_and_common_follows_the_code(repositories: Path) -> None:
    """An update of one package of nova takes all of them along."""
    for name in SUBPACKAGES:
        assert "openstack-nova-common = 2013.2.1-1.el6" in query(
            repositories, f"havana/openstack-nova-{name}-2*.rpm", "--requires"
        )
    assert "python-nova = 2013.2.1-1.el6" in query(repositories, "havana/openstack-nova-common-*.rpm", "--requires")
    meta = query(repositories, "havana/openstack-nova-2013*.rpm", "--requires")
    assert {f"openstack-nova-{name} = 2013.2.1-1.el6" for name in SUBPACKAGES} <= set(meta)


def test_an_update_restarts_a_running_service(repositories: Path) -> None:
    """%postun calls condrestart, and only when a package of that name stays."""
    script = "\n".join(query(repositories, "havana/openstack-nova-compute-*.rpm", "--scripts"))
    assert 'if [ "$1" -ge 1 ]; then' in script
    assert "/sbin/service openstack-nova-compute condrestart" in script


def test_settings_are_not_replaced(repositories: Path) -> None:
    """What an operator changed stays; the new file lies beside it as .rpmnew."""
    assert query(repositories, "havana/openstack-nova-common-*.rpm", "--configfiles") == [
        "/etc/nova/nova.conf",
        "/etc/nova/policy.json",
    ]
    flags = query(repositories, "havana/openstack-nova-common-*.rpm", "--qf", "[%{FILENAMES} %{FILEFLAGS:fflags}\\n]")
    assert "/etc/nova/nova.conf cn" in flags


def test_only_havana_knows_the_migrations(repositories: Path) -> None:
    """Grizzly's nova-manage cannot go beyond its own head."""
    assert not [f for f in query(repositories, "grizzly/python-nova-2*.rpm", "--list") if "migrations" in f]
    assert [f for f in query(repositories, "havana/python-nova-2*.rpm", "--list") if "migrations" in f]


def test_hosts_get_packages_that_exist(repositories: Path) -> None:
    """What a tier installs is in Grizzly's repository."""
    names = set(query(repositories, "grizzly/*.rpm", "--qf", "%{NAME}\\n"))
    for packages in PACKAGES.values():
        assert set(packages) <= names
    for component in COMPONENTS.values():
        for packages in component.packages.values():
            assert set(packages) <= names


def test_a_newer_cinderclient_takes_a_newer_novaclient_along(repositories: Path) -> None:
    """And Havana's cinder takes the cinderclient along; Grizzly's asks for neither."""
    assert "python-novaclient >= 1:2.15.0" in query(repositories, "havana/python-cinderclient-*.rpm", "--requires")
    assert "python-cinderclient >= 1.0.6" in query(repositories, "havana/openstack-cinder-*.rpm", "--requires")
    for name in ("python-cinderclient", "openstack-cinder"):
        assert not [each for each in query(repositories, f"grizzly/{name}-*.rpm", "--requires") if "client" in each]
