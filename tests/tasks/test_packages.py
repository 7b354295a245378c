"""Packages: what is installed, downloading, and updating to exact versions."""

import os
import subprocess
import threading

import pytest

from tasks import jobs, packages, shell
from tasks.binding import Binding, bind
from tasks.errors import CommandFailed, Refused
from tasks.platforms import rpm
from tests.support.scripted import Bash, Scripted, reply, said, task_on, told

OLD = "python-nova 2013.1.4-1.el6\npython-novaclient 2.13.0-1.el6\nbash 4.1.2-15.el6\n"
NEW = "python-nova 2013.2.1-1.el6\npython-novaclient 1:2.15.0-7.el6\nbash 4.1.2-15.el6\n"
EXPECTED = {"python-nova": "2013.2.1-1.el6", "python-novaclient": "1:2.15.0"}
CACHED = """/var/cache/yum/x86_64/6/havana/packages/python-nova-2013.2.1-1.el6.noarch.rpm
/var/cache/yum/x86_64/6/havana/packages/python-novaclient-2.15.0-7.el6.noarch.rpm
"""
ONLY = "exiting because --downloadonly specified \n"
UPDATE = "yum -y update python-nova-2013.2.1-1.el6 'python-novaclient-2.15.0-*'"


def node(rpms, *, yum="", rpmnew="", kernels="", cached=CACHED):
    """A node on which `rpm -qa` answers in turn; anything else asked of it fails the test."""
    return Scripted(
        [
            ("rpm -qa", rpms),
            ("yum -y", yum),
            ("find /etc -name '*.rpmnew'", rpmnew),
            ("find /var/cache/yum", cached),
            ("%{INSTALLTIME}", kernels),
        ]
    )


def update(rpms, **more):
    kernel = more.pop("kernel", False)
    return reply(node(rpms, **more), packages.update, expected=EXPECTED, kernel=kernel)


def download(rpms, **more):
    kernel = more.pop("kernel", False)
    return reply(node(rpms, **more), packages.download, expected=EXPECTED, kernel=kernel)


BROKEN = said("", 1, "error: cannot open Packages database in /var/lib/rpm")


@pytest.mark.parametrize("answer", [BROKEN, said(OLD.splitlines()[0] + "\n", 1, BROKEN.stderr)])
@pytest.mark.parametrize("ask", [update, download])
def test_a_broken_rpm_database_is_a_failure_and_never_up_to_date(ask, answer):
    """Also one that gives some of its packages before it breaks."""
    with pytest.raises(CommandFailed, match="reading the RPM database: exit status 1: error: cannot open Packages"):
        ask(answer)


def test_a_real_rpm_tells_a_broken_database(tmp_path):
    """The exit status of `rpm -qa` is what tells it: is that so?"""
    bash = Bash(tmp_path / "bin")
    if bash.run("type -P rpm").exit_status:
        pytest.skip("rpm is not installed: apt-get install rpm")
    database = tmp_path / "db"
    bash.program("rpm", f'exec /usr/bin/rpm --dbpath {database} "$@"')
    subprocess.run(["rpm", "--initdb", "--dbpath", database], check=True, capture_output=True, timeout=20)
    assert packages.versions(task_on(bash), EXPECTED) == {}
    (broken,) = database.glob("rpmdb.sqlite")
    broken.write_bytes(b"no database at all" * 500)
    with pytest.raises(CommandFailed, match="reading the RPM database: exit status"):
        packages.versions(task_on(bash), EXPECTED)


@pytest.mark.parametrize("ask", [update, download])
def test_a_node_with_none_of_the_packages_is_refused(ask):
    with pytest.raises(Refused, match="none of these is installed here: python-nova, python-novaclient;"):
        ask("bash 4.1.2-15.el6\n")


@pytest.mark.parametrize("ask", [update, download])
def test_a_package_that_is_there_twice_is_refused(ask):
    """An update that was cut off leaves the old one beside the new one."""
    twice = OLD + "python-nova 2013.2.1-1.el6\n"
    with pytest.raises(Refused, match=r"python-nova \(2013.1.4-1.el6, 2013.2.1-1.el6\); mend with package-cleanup"):
        ask(twice)


def test_other_packages_may_be_there_twice():
    assert update(NEW + "kernel 2.6.32-358.el6\nkernel 2.6.32-431.el6\n") == "skipped: all up to date"


def test_update_asks_yum_for_exact_versions_without_the_epoch():
    """Yum of EL6 takes no epoch before a version; an expected one without a release takes any."""
    asked = node([OLD, NEW])
    assert reply(asked, packages.update, expected=EXPECTED) == "changed: updated 2 packages"
    assert asked.sent_with("yum") == [UPDATE]


def test_only_what_is_installed_and_old_is_updated():
    before = "python-nova 2013.1.4-1.el6\n"
    asked = node([before, "python-nova 2013.2.1-1.el6\n"])
    assert reply(asked, packages.update, expected=EXPECTED) == "changed: updated 1 packages"
    assert asked.sent_with("yum") == ["yum -y update python-nova-2013.2.1-1.el6"]


@pytest.mark.parametrize(
    ("after", "told_of"),
    [
        (OLD, "python-nova is 2013.1.4-1.el6, not 2013.2.1-1.el6, python-novaclient is 2.13.0-1.el6, not 1:2.15.0"),
        (NEW.replace("2013.2.1-1", "2013.2.1-2"), "python-nova is 2013.2.1-2.el6, not 2013.2.1-1.el6"),
        (NEW.replace("1:2.15.0", "2.15.0"), "python-novaclient is 2.15.0-7.el6, not 1:2.15.0"),
        (NEW.replace("1:2.15.0-7", "1:2.15.0.1-7"), "python-novaclient is 1:2.15.0.1-7.el6, not 1:2.15.0"),
    ],
)
def test_a_yum_that_ends_well_elsewhere_is_refused(after, told_of):
    """Another version is in the repository, or it is excluded: yum says nothing of that."""
    with pytest.raises(Refused) as refused:
        update([OLD, after, after])
    assert str(refused.value).startswith(f"yum ended well, but {told_of}; is the version in the repository")


def test_a_yum_that_fails_is_told():
    with pytest.raises(CommandFailed, match="yum update: exit status 1: No Packages marked"):
        update(OLD, yum=said("No Packages marked for Update\n", 1))


def test_what_is_to_be_merged_is_named_only_when_this_update_left_it():
    old, new = "/etc/nova/old.rpmnew\n", "/etc/nova/nova.conf.rpmnew\n/etc/nova/old.rpmnew\n"
    assert update([OLD, NEW], rpmnew=[old, new]) == "changed: updated 2 packages; to merge: /etc/nova/nova.conf.rpmnew"
    assert update([OLD, NEW], rpmnew=[old, old]) == "changed: updated 2 packages"


def test_a_new_kernel_is_named_and_none_is_no_change():
    old, both = "100 2.6.32-358.el6\n", "100 2.6.32-358.el6\n200 2.6.32-431.el6\n"
    assert update([OLD, NEW], kernel=True, kernels=[old, both]) == "changed: updated 2 packages; kernel 2.6.32-431.el6"
    assert update(NEW, kernel=True, kernels=[old, both]) == "changed: kernel 2.6.32-431.el6"
    assert update(NEW, kernel=True, kernels=[both, both]) == "skipped: all up to date"


def test_the_newest_kernel_is_the_one_that_was_installed_last(tmp_path):
    """By time, as a number; a kernel of another vendor may have a lower version. Without any, rpm says so in words."""
    bash = Bash(tmp_path)
    bash.program("rpm", "printf '1390000000 2.6.32-358.el6\\n999000000 3.10.20-11.el6\\n'")
    assert packages.installed_kernels(task_on(bash)) == ["3.10.20-11.el6", "2.6.32-358.el6"]
    bash.program("rpm", "echo 'package kernel is not installed'; exit 1")
    assert packages.installed_kernels(task_on(bash)) == []


@pytest.mark.parametrize("ended", ["", said(ONLY, 1), said(ONLY, 0)])
def test_downloaded_packages_are_looked_for_in_the_cache(ended):
    """The plugin of EL6 ends yum with 1."""
    asked = node([OLD, OLD], yum=ended)
    assert reply(asked, packages.download, expected=EXPECTED) == "changed: downloaded 2 packages"
    assert asked.sent_with("yum -y") == [UPDATE.replace("-y", "-y --downloadonly") + " 2>&1"]
    assert download([OLD, OLD], yum=ended, kernel=True) == "changed: downloaded 2 packages and the kernel"


@pytest.mark.parametrize("status", [1, 2])
def test_a_yum_that_fails_is_not_taken_for_the_plugin(status):
    """Exit 1 without the plugin's words is yum's general error: the repository does not answer."""
    error = said("Error: Cannot retrieve repository metadata (repomd.xml)\n", status)
    with pytest.raises(CommandFailed, match=f"downloading: exit status {status}: Error: Cannot retrieve repository"):
        download([OLD, OLD], yum=error)


def test_the_plugins_words_do_not_excuse_another_status():
    with pytest.raises(CommandFailed, match="exit status 137"):
        download([OLD, OLD], yum=said(ONLY, 137))


@pytest.mark.parametrize(
    ("cached", "missing"),
    [
        ("", "python-nova-2013.2.1-1.el6, python-novaclient-2.15.0-*"),
        (CACHED.splitlines()[0], "python-novaclient-2.15.0-*"),
        (CACHED.replace("2013.2.1-1.el6", "2013.2.1-1.el6_5"), "python-nova-2013.2.1-1.el6"),
        (CACHED.replace("2.15.0-7", "2.15.0.1-7"), "python-novaclient-2.15.0-*"),
    ],
)
def test_a_package_that_is_not_in_the_cache_is_told(cached, missing):
    with pytest.raises(Refused) as refused:
        download([OLD, OLD], yum=said(ONLY, 1), cached=cached)
    assert str(refused.value) == f"yum ended well, but these are not in its cache: {missing}; is keepcache set?"


def test_a_download_that_installs_is_refused():
    """The plugin is off: yum does what it always does."""
    with pytest.raises(Refused, match="packages changed while they were only to be downloaded"):
        download([OLD, NEW])


def test_where_all_is_up_to_date_nothing_is_sent():
    asked = node(NEW)
    assert reply(asked, packages.download, expected=EXPECTED) == "skipped: nothing to download"
    assert reply(asked, packages.update, expected=EXPECTED) == "skipped: all up to date"
    assert not asked.sent_with("yum")


def test_a_dry_run_sends_nothing_that_changes():
    asked = node(OLD)
    task = task_on(asked, dry_run=True)
    assert told(packages.update(task, expected=EXPECTED)) == "changed: would update python-nova, python-novaclient"
    assert told(packages.download(task, expected=EXPECTED)) == "changed: downloaded 2 packages"
    assert told(packages.clean(task)) == "changed: yum clean all"
    assert not asked.sent_with("yum")


def test_yum_clean_all():
    asked = Scripted({"yum clean all": ""})
    assert reply(asked, packages.clean) == "changed: yum clean all"
    assert asked.sent == ["yum clean all"]


# As part of a run: yum is a job


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A node with an RPM database in a file, which its `yum` changes as `how` says."""
    monkeypatch.setattr(shell, "ROOT", str(tmp_path / "jobs"))
    bash = Bash(tmp_path / "bin")
    bash.program("rpm", f"cat {tmp_path}/rpms")
    (tmp_path / "rpms").write_text(OLD)
    (tmp_path / "new").write_text(NEW)
    bash.yum = lambda how="": bash.program("yum", f"cd {tmp_path}; echo x >> ran; {how}\ncp new rpms; echo Complete!")
    bash.ran = lambda: len((tmp_path / "ran").read_text().split())
    bash.yum()
    return bash


def bound(machine, **more):
    task = task_on(machine)
    binding = Binding(**{"run": "r1", "step": "Update", "token": 1} | more)
    bind(task, binding)
    return told(packages.update(task, expected=EXPECTED)), binding.commands


def test_an_update_of_a_run_is_a_job(machine):
    told_of, (command,) = bound(machine)
    assert told_of == "changed: updated 2 packages"
    assert (command.what, command.exit_status, command.head) == ("yum update", 0, "Complete!\n")
    assert bound(machine, generation=2) == ("skipped: all up to date", [])
    assert machine.ran() == 1


def test_an_update_under_way_is_waited_for_before_the_rpm_database_is_read(machine, tmp_path):
    """In the middle of its transaction every package is there twice."""
    (tmp_path / "both").write_text(OLD + NEW)
    os.mkfifo(tmp_path / "gate")
    machine.yum("cp both rpms; echo > gate; read -r go < gate")
    task = task_on(machine)
    bind(task, Binding("r1", "Update", token=1))
    jobs.begin(task, UPDATE, name="update", timeout=15)
    (tmp_path / "gate").read_text()
    with pytest.raises(Refused, match="installed twice"):
        packages.installed(task, EXPECTED)
    opener = threading.Thread(target=(tmp_path / "gate").write_text, args=("go\n",))
    opener.start()
    assert bound(machine, again=True)[0] == "changed: updated by the try before, of which the end was not known"
    opener.join(10)
    assert machine.ran() == 1


def test_an_update_that_failed_unseen_is_told_and_not_started_again(machine):
    machine.yum("echo No space left >&2; exit 1")
    task = task_on(machine)
    bind(task, Binding("r1", "Update", token=1))
    jobs.begin(task, UPDATE, name="update", timeout=15)
    with pytest.raises(CommandFailed, match="yum update: exit status 1: No space left"):
        bound(machine, again=True)
    assert machine.ran() == 1
    machine.yum()
    assert bound(machine, generation=2)[0] == "changed: updated 2 packages"


def test_a_try_that_was_lost_before_yum_started_starts_it(machine):
    assert bound(machine, again=True)[0] == "changed: updated 2 packages"
    assert machine.ran() == 1


# What an update brings

DNF = """Dependencies resolved.
================================================================================
 Package                  Arch        Version                Repository    Size
================================================================================
Upgrading:
 openstack-cinder         noarch      2013.2.1-1.el6         havana        10 k
 python-cinder            noarch      2013.2.1-1.el6         havana       1.0 M
Installing dependencies:
 python-cinderclient      noarch      1.0.6-1.el6            havana        10 k
     replacing  python-oldclient.noarch 1.0-1
 python-novaclient        noarch      1:2.15.0-1.el6         havana        10 k

Transaction Summary
================================================================================
Upgrade  4 Packages
"""
YUM = """Resolving Dependencies
Dependencies Resolved

================================================================================
 Package                  Arch        Version                Repository    Size
================================================================================
Updating:
 openstack-ceilometer-collector-with-a-long-name
                          noarch      2013.2.1-1.el6         havana        10 k
Updating for dependencies:
 python-novaclient        noarch      1:2.15.0-1.el6         havana        10 k

Transaction Summary
================================================================================
"""
OWNERS = {"openstack-cinder": "cinder", "python-cinder": "cinder", "python-novaclient": "clients"}


def test_the_tables_of_yum_and_dnf_are_read():
    assert rpm.transaction(DNF) == {
        "openstack-cinder": "2013.2.1-1.el6",
        "python-cinder": "2013.2.1-1.el6",
        "python-cinderclient": "1.0.6-1.el6",
        "python-novaclient": "1:2.15.0-1.el6",
    }
    assert rpm.transaction(YUM) == {
        "openstack-ceilometer-collector-with-a-long-name": "2013.2.1-1.el6",
        "python-novaclient": "1:2.15.0-1.el6",
    }
    assert rpm.transaction("Nothing to do.\n") == {}


def resolve(rpms, yum):
    node = Scripted([("rpm -qa", rpms), ("yum update", yum)])
    expected = {"openstack-cinder": "2013.2.1", "python-cinder": "2013.2.1"}
    return packages.resolve(task_on(node), expected=expected, owners=OWNERS).result


def test_what_comes_with_an_update_is_told_with_whose_it_is():
    noted = resolve("openstack-cinder 2013.1.4-1.el6\npython-cinder 2013.1.4-1.el6\n", said(DNF, 1))
    assert noted.words == "2 packages, and with them python-cinderclient 1.0.6-1.el6, python-novaclient 1:2.15.0-1.el6"
    assert noted.data == {**OWNERS, "python-cinderclient": ""}


def test_an_update_that_cannot_be_worked_out_is_told_in_yums_words():
    error = "Error: Package: python-cinderclient requires python-novaclient >= 1:2.15.0\n"
    with pytest.raises(CommandFailed, match=r"working out the update: exit status 1: Error: Package: .* >= 1:2.15.0"):
        resolve("openstack-cinder 2013.1.4-1.el6\n", said(error, 1))


def test_a_package_that_yum_would_leave_alone_is_told():
    text = DNF.replace(" python-cinder  ", " python-sinder  ")
    with pytest.raises(Refused, match="yum would not update python-cinder: is the version in the repository"):
        resolve("openstack-cinder 2013.1.4-1.el6\npython-cinder 2013.1.4-1.el6\n", said(text, 1))


def test_where_all_is_up_to_date_yum_is_not_asked():
    assert resolve("openstack-cinder 2013.2.1-1.el6\npython-cinder 2013.2.1-9.el6\n", []).words == "all up to date"
