"""The tables of the platforms: el6 as it always was, el9 and debian with the programs that are here."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks import backout, packages, puppet, reboot, repositories, services
from tasks.errors import CommandFailed, Refused
from tasks.platforms import PLATFORMS, Lacking, UnknownPlatform, debian, platform_of, systemd
from tests.support import recorded
from tests.support.scripted import Bash, Scripted, reply, said, task_on, told

GOLDEN = Path(__file__).parent.parent / "golden" / "el6-scripts.txt"
ROOT = Path(__file__).parent.parent.parent


def on(node, platform, **more):
    task = task_on(node, **more)
    task.host.platform = platform
    return task


def test_what_is_sent_to_el6_is_what_it_always_was():
    """Byte for byte: it was recorded before there was any other platform."""
    assert recorded.text() == GOLDEN.read_text()


def test_a_node_of_which_the_inventory_says_nothing_runs_el6():
    assert platform_of(task_on(Scripted({}))).name == "el6"


def test_an_unknown_platform_is_one_line_with_the_known_ones():
    with pytest.raises(
        UnknownPlatform, match=r"^c01-n01: unknown platform 'el5'; write one of el6, el9, debian, windows"
    ):
        services.states(on(Scripted({}), "el5"), ["api"])


def test_no_code_outside_asks_which_platform_it_is_on():
    pattern = re.compile(r"(if|match|and|or) .*platform(\.name)? *(==|!=|in|not in) ")
    places = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("cellstep", "tasks", "plugins", "reports")
        for path in (ROOT / folder).rglob("*.py")
        if "platforms" not in path.parts
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if pattern.search(line) and "inherits" not in line
    ]
    assert places == []


def test_each_platform_stands_in_the_table_under_its_name():
    assert {name: each.name for name, each in PLATFORMS.items()} == {name: name for name in PLATFORMS}


def test_what_a_platform_does_not_have_is_refused_by_name():
    for call in (
        lambda task: reboot.for_new_kernel(task, timeout_s=1),
        lambda task: puppet.has_repository(task, "havana"),
        lambda task: repositories._ours(task, "havana"),
    ):
        for platform, words in (("windows", "Windows"), ("darwin", "a Mac")):
            with pytest.raises(Lacking, match=f"^c01-n01: no .* on {words}$"):
                call(on(Scripted({}), platform))
    with pytest.raises(Lacking, match="no way to tell that a reboot is due on Enterprise Linux 6"):
        reboot.where_due(on(Scripted({}), "el6"), timeout_s=1)
    assert told(packages.clean(on(Scripted({}), "windows"))).startswith("skipped: nothing to clean")
    assert told(backout.wait_until_idle(on(Scripted({}), "windows"), sync="x")) == "ok: nothing of the upgrade runs"


# ---- el9


SYSTEMCTL = """cd {folder}; verb=$1; shift
[ "$verb" != --quiet ] || {{ verb=$1; shift; }}
for unit; do
  case $unit in -*|LoadState|ActiveState) continue;; esac
  case $verb in
    show) if [ -e "$unit" ]; then load=loaded; else load=not-found; fi
      echo "LoadState=$load"; echo "ActiveState=$(sed -n 1p "$unit" 2>/dev/null || :)";;
    is-enabled) sed -n 2p "$unit"; [ "$(sed -n 2p "$unit")" = enabled ];;
    stop) grep -q again "$unit" || sed -i 1s/.*/inactive/ "$unit";;
    start) grep -q broken "$unit" && sed -i 1s/.*/activating/ "$unit" || sed -i 1s/.*/active/ "$unit";;
    disable) sed -i 2s/.*/disabled/ "$unit";;
    enable) sed -i 2s/.*/enabled/ "$unit";;
  esac
done"""


@pytest.fixture
def system(tmp_path):
    bash = Bash(tmp_path / "bin")
    (tmp_path / "units").mkdir()
    bash.program("systemctl", SYSTEMCTL.format(folder=tmp_path / "units"))
    bash.has = lambda **units: [
        (tmp_path / "units" / f"{name}.service").write_text(text.replace(" ", "\n") + "\n")
        for name, text in units.items()
    ]
    return bash


def test_services_of_systemd_are_stopped_and_put_back(system):
    system.has(api="active enabled", cells="active disabled", off="inactive disabled", static="inactive static")
    task, names = on(system, "el9"), ["api", "cells", "off", "static", "missing"]
    prior = services.read(task, services=names).result
    assert prior == {
        "api": {"actual": "running", "boot": "on"},
        "cells": {"actual": "running", "boot": "off"},
        "off": {"actual": "stopped", "boot": "off"},
        "static": {"actual": "stopped", "boot": "off"},
    }
    assert told(services.stop(task, prior=prior, services=names)) == "changed: stopped api, cells"
    assert told(services.stop(task, prior=prior, services=names)) == "skipped: all stopped and off already"
    assert told(services.restore(task, prior=prior, services=names)) == "changed: started api, cells"
    assert services.states(task, names) == prior


def test_one_that_systemd_starts_again_and_again_neither_runs_nor_is_stopped(system):
    system.has(api="activating disabled", broken="inactive enabled broken")
    task = on(system, "debian")
    assert services.states(task, ["api"]) == {"api": {"actual": "starting", "boot": "off"}}
    assert told(services.stop(task, prior={}, services=["api"])) == "changed: stopped api"
    with pytest.raises(Refused, match="not as before: broken"):
        services.restore(task, prior={"broken": {"actual": "running", "boot": "on"}}, services=[])


def test_without_systemd_its_services_are_a_failure_and_not_none(tmp_path):
    """The real systemctl, where the system was not booted with systemd."""
    if not shutil.which("systemctl") or Path("/run/systemd/system").exists():
        pytest.skip("needs a systemctl without its systemd")
    with pytest.raises(CommandFailed, match="asking for services: exit status 1"):
        services.states(on(Bash(tmp_path / "bin"), "debian"), ["ssh"])


def test_systemds_lines_are_read():
    assert systemd.parse_states("a active enabled\nb failed\nc reloading masked\n") == {
        "a": {"actual": "running", "boot": "on"},
        "b": {"actual": "stopped", "boot": "off"},
        "c": {"actual": "running", "boot": "off"},
    }


def test_el9_is_told_what_el6_is_with_dnf():
    old = "python-nova 2013.1.4-1.el6\n"
    node = Scripted([("rpm -qa", [old, "python-nova 2013.2.1-1.el6\n"]), ("dnf", "Complete!"), ("find", "")])
    update = packages.update(on(node, "el9"), expected={"python-nova": "2013.2.1-1.el6"})
    assert told(update) == "changed: updated 1 packages"
    assert node.sent_with("dnf -y") == ["dnf -y update python-nova-2013.2.1-1.el6"]


def test_a_real_dnf_takes_the_commands(tmp_path):
    """An empty repository: dnf understands what is asked, and says that it does not have it."""
    if not shutil.which("dnf"):
        pytest.skip("no dnf here")
    bash = Bash(tmp_path / "bin", longest=60)
    options = f"--installroot={tmp_path}/root --setopt=reposdir={tmp_path} --releasever=9"
    bash.program("dnf", f'exec /usr/bin/dnf {options} "$@"')
    ended = bash.run(PLATFORMS["el9"].packages.update({"nova": "1:2-1"}, False), timeout=60)
    assert ended.exit_status != 0
    assert re.search(r"No match for argument: nova-2-1|no enabled repositories", ended.stdout + ended.stderr)


# ---- debian


@pytest.fixture
def machine(tmp_path):
    if not shutil.which("dpkg-query"):
        pytest.skip("no dpkg here")
    return Bash(tmp_path / "bin", longest=60)


def test_the_real_dpkg_tells_what_is_installed(machine):
    found = packages.versions(on(machine, "debian"), ["dpkg", "bash", "no-such-package"])
    real = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "dpkg"], capture_output=True, text=True, check=True)
    assert found["dpkg"] == [real.stdout]
    assert sorted(found) == ["bash", "dpkg"]


def test_the_real_apt_works_out_a_downgrade_of_nothing_and_refuses_another_version(machine):
    have = packages.installed(on(machine, "debian"), ["bash"])["bash"]
    task = on(machine, "debian")
    assert told(packages.resolve(task, expected={"bash": have}, owners={})).startswith(
        "ok: Noted(words='all up to date'"
    )
    with pytest.raises(CommandFailed, match=r"working out the update: exit status 100: .*Version '0.1-1' for 'bash'"):
        packages.resolve(task, expected={"bash": "0.1-1"}, owners={})


def test_the_real_apt_lists_its_repositories(machine):
    mine = PLATFORMS["debian"].packages
    ended = machine.run(mine.repositories)
    assert ended.exit_status == 0
    if not ended.stdout.strip():
        pytest.skip("no lists of packages here")
    assert "Debian" in mine.parse_repositories(ended.stdout)


def test_what_apt_says_it_would_install_is_read():
    said_of_apt = """Reading package lists...
Inst libnova [1:1.0-1] (1:2.0-1 Debian:12.1/stable [amd64]) []
Inst nova-new (2.0-1 Debian:12.1/stable [all])
Conf libnova (1:2.0-1 Debian:12.1/stable [amd64])
"""
    assert debian.transaction(said_of_apt) == {"libnova": "1:2.0-1", "nova-new": "2.0-1"}


def test_debs_in_the_cache_are_known_by_their_names():
    cached = "/var/cache/apt/archives/nova_1%3a2.0-1_all.deb\n/var/cache/apt/archives/x_1-1_amd64.deb\n"
    missing = PLATFORMS["debian"].packages.download.missing
    assert missing({"nova": "1:2.0-1", "x": "1"}, cached) == []
    assert missing({"nova": "1:2.1-1", "y": "1-1"}, cached) == ["nova=1:2.1-1", "y=1-1"]


def test_removed_packages_and_second_architectures_do_not_count():
    text = "ii  libc6 2.36-9\nii  libc6 2.36-9\nrc  gone 1-1\nun  never \n"
    assert debian.parse(text) == {"libc6": ["2.36-9"]}


def test_a_debian_node_is_rebooted_where_that_is_due(monkeypatch):
    monkeypatch.setattr(reboot, "ASK_EVERY_S", 0.01)
    due = Scripted([("reboot-required", ["linux-image-6.1\n", ""]), ("boot_id", ["b1\n", "b2\n"]), ("reboot", "")])
    assert told(reboot.where_due(on(due, "debian"), timeout_s=5)) == "changed: rebooted, boot id b2"
    not_due = Scripted([("reboot-required", "")])
    assert told(reboot.where_due(on(not_due, "debian"), timeout_s=5)) == "skipped: no reboot is due"
    dry = Scripted([("reboot-required", "linux-image-6.1\n")])
    assert (
        told(reboot.where_due(on(dry, "debian", dry_run=True), timeout_s=5)) == "changed: would reboot: linux-image-6.1"
    )


def test_a_listing_that_cannot_be_read_is_told():
    node = Scripted([("", said("no json"))])
    with pytest.raises(Refused, match="c01-n01: what is installed gave no answer that can be read"):
        packages.versions(on(node, "windows"), ["x"])
    assert reply(Scripted([("yum", "")]), packages.clean) == "changed: yum clean all"
