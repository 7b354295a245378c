"""Clients by pip: a real pip in a scratch virtual environment, with packages of our own making."""

import json
import subprocess
import sys
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import downgrade, packages
from tasks.errors import CommandFailed
from tasks.platforms import pip
from tests.support.scripted import Bash, task_on, told


def wheel(folder, name, version, needs=""):
    """A wheel with nothing in it but its name."""
    stem, info = f"{name}-{version}", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as file:
        requires = f"Requires-Dist: {needs}\n" if needs else ""
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def venv(tmp_path_factory):
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    (folder / "index").mkdir()
    for version in ("2.13.0", "2.15.0"):
        wheel(folder / "index", "python_novaclient", version)
    wheel(folder / "index", "python_cinderclient", "1.0.6", needs="python-novaclient>=2.14")
    wheel(folder / "index", "python_cinderclient", "1.0.4")
    return folder


@pytest.fixture
def mac(venv, tmp_path, monkeypatch):
    monkeypatch.setattr(pip, "FOLDER", str(tmp_path / "pip"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(venv / "index"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    bash = Bash(tmp_path / "bin", longest=60)
    bash.program("python3", f'exec {venv}/env/bin/python "$@"')
    subprocess.run([venv / "env/bin/python", "-m", "pip", "install", "-q", *GRIZZLY], check=True)
    task = task_on(bash)
    task.host.platform = "darwin"
    return task


GRIZZLY = ["python-novaclient==2.13.0", "python-cinderclient==1.0.4"]
HAVANA = {"python-novaclient": "1:2.15.0-1.el6", "python-cinderclient": "1.0.6"}
BEFORE = {"python-novaclient": "2.13.0", "python-cinderclient": "1.0.4"}


def test_clients_go_to_exact_versions_and_back(mac):
    assert packages.installed(mac, HAVANA) == BEFORE
    assert told(packages.download(mac, expected=HAVANA)) == "changed: downloaded 2 packages"
    assert packages.installed(mac, HAVANA) == BEFORE
    assert told(packages.update(mac, expected=HAVANA)) == "changed: updated 2 packages"
    assert packages.installed(mac, HAVANA) == {"python-novaclient": "2.15.0", "python-cinderclient": "1.0.6"}
    assert told(packages.update(mac, expected=HAVANA)) == "skipped: all up to date"
    back = downgrade.to_before(mac, before=BEFORE, everything={}, release=list(HAVANA))
    assert told(back) == "changed: back to python-cinderclient 1.0.4, python-novaclient 2.13.0"
    assert packages.installed(mac, HAVANA) == BEFORE


def test_what_would_come_along_is_told_and_nothing_is_changed(mac):
    cinder = {"python-cinderclient": "1.0.6"}
    noted = packages.resolve(mac, expected=cinder, owners={"python-novaclient": "nova"}).result
    assert noted.words == "1 packages, and with them python-novaclient 2.15.0"
    assert noted.data == {"python-cinderclient": "", "python-novaclient": "nova"}
    assert packages.installed(mac, HAVANA) == BEFORE


def test_a_version_that_the_index_does_not_have_is_a_failure(mac):
    with pytest.raises(CommandFailed, match=r"pip update: exit status 1: .*No matching distribution"):
        packages.update(mac, expected={"python-novaclient": "9.9"})


@pytest.mark.parametrize(
    ("have", "want", "same"),
    [
        ("2.15.0", "2.15.0", True),
        ("2.15", "2.15.0", True),
        ("2.15.0", "1:2.15.0-1.el6", True),
        ("2.15.0", "2.15.1", False),
        ("2.15.0rc1", "2.15.0", False),
        ("2.15.0.post1", "2.15.0", False),
        ("10", "1", False),
        ("2.10", "2.1", False),
        ("0.20", "0.2", False),
    ],
)
def test_versions_are_those_of_pep_440(have, want, same):
    assert pip.matches(have, want) == same


@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(0, 3))
def test_zeros_at_the_end_say_nothing(parts, zeros):
    version = ".".join(map(str, parts))
    assert pip.matches(version + ".0" * zeros, version)
    assert not pip.matches(f"{version}.1", version)


@given(st.text(max_size=20))
def test_any_version_is_compared(text):
    assert pip.matches(pip.upstream(text), text)


@given(st.dictionaries(st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,8}[A-Za-z0-9]", fullmatch=True), st.text(max_size=5)))
def test_a_list_is_read_with_normal_names(versions):
    rows = [{"name": name, "version": version} for name, version in versions.items()]
    found = pip.parse(json.dumps(rows))
    assert set(found) == set(map(pip.normal, versions))
    assert sum(map(len, found.values())) == len(versions)
    if rows:
        with pytest.raises(ValueError, match=r"."):
            pip.parse(json.dumps(rows)[:-1])
