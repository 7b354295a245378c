"""Packages and kernels back to what they were."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import downgrade, reboot
from tasks.errors import CommandFailed, Refused
from tests.support.scripted import Bash, Scripted, said, task_on, told

BEFORE = {"python-nova": "2013.1.4-1.el6", "python-novaclient": "1:2.13.0-1.el6"}
RELEASE = ["python-nova", "python-novaclient", "openstack-nova-cert"]
EVERYTHING = {"python-nova": ["2013.1.4-1.el6"], "python-novaclient": ["1:2.13.0-1.el6"], "python-six": ["1.2-1"]}
NEW = """\
python-nova 2013.2.1-1.el6 500
python-novaclient 1:2.15.0-1.el6 500
python-six 1.5-1.el6 500
python-jsonschema 2.0-1.el6 500
kernel 2.6.32-431.5.1.el6 500
strace 4.5-1.el6 501
"""
OLD = "python-nova 2013.1.4-1.el6 600\npython-novaclient 1:2.13.0-1.el6 600\npython-six 1.2-1 600\nstrace 4.5-1 501\n"
CACHED = "/var/cache/yum/grizzly/python-nova-2013.1.4-1.el6.noarch.rpm\n/c/python-novaclient-2.13.0-1.el6.noarch.rpm\n"


def go(rpms, *, task=downgrade.to_before, yum="", cached=CACHED, dry_run=False, **changed):
    node = Scripted([("rpm -qa", rpms), ("yum -y", yum), ("find /var/cache", cached)])
    arguments = {"before": BEFORE, "everything": EVERYTHING, "release": RELEASE, **changed}
    try:
        return told(task(task_on(node, dry_run=dry_run), **arguments))
    finally:
        go.sent = node.sent_with("yum")


def test_everything_that_the_update_did_is_taken_back_by_exact_versions():
    """Without the epoch, which the yum of EL6 does not take; what somebody installed by hand since stays."""
    answer = go([NEW, OLD])
    assert answer == (
        "changed: back to python-nova 2013.1.4-1.el6, python-novaclient 1:2.13.0-1.el6; removed python-jsonschema"
    )
    (script,) = go.sent
    together, alone = "python-nova-2013.1.4-1.el6 python-novaclient-2.13.0-1.el6", "python-six-1.2-1"
    assert f"yum -y downgrade {together} {alone} || yum -y downgrade {together}\n" in script
    assert "rpm -e python-jsonschema ||" in script
    assert "strace" not in script
    assert "kernel" not in script


def test_without_the_list_of_all_packages_only_the_releases_own_go_back():
    after = OLD + "python-jsonschema 2.0-1.el6 500\n"
    answer = go([NEW, after], everything={})
    assert answer == "changed: back to python-nova 2013.1.4-1.el6, python-novaclient 1:2.13.0-1.el6"
    assert "rpm -e" not in go.sent[0]


def test_a_package_of_the_release_that_was_not_there_before_is_removed():
    brought = NEW + "openstack-nova-cert 2013.2.1-1.el6 500\n"
    assert "; removed openstack-nova-cert, python-jsonschema" in go([brought, OLD])


def test_a_package_that_is_gone_is_installed_again():
    """The new release may have put another one in its place."""
    without = "\n".join(line for line in NEW.splitlines() if not line.startswith("python-novaclient")) + "\n"
    assert "python-novaclient 1:2.13.0-1.el6" in go([without, OLD])
    assert "yum -y install python-novaclient-2.13.0-1.el6" in go.sent[0]


def test_what_cannot_be_taken_back_is_named():
    kept = OLD.replace("python-six 1.2-1 ", "python-six 1.5-1.el6 ") + "python-jsonschema 2.0-1.el6 500\n"
    assert go([NEW, kept]).endswith(
        "; left as it is, since others need it: python-jsonschema 2.0-1.el6, python-six 1.5-1.el6"
    )


@pytest.mark.parametrize("task", [downgrade.to_before, downgrade.download])
def test_a_node_that_is_as_before_is_left_alone(task):
    assert go(OLD, task=task) == "skipped: at the versions of before already"
    assert go.sent == []


@pytest.mark.parametrize("task", [downgrade.to_before, downgrade.download])
def test_a_node_of_which_nothing_was_saved_is_left_alone(task):
    assert go([], task=task, before=None) == "skipped: no versions were saved: nothing had been updated then"


@pytest.mark.parametrize("task", [downgrade.to_before, downgrade.download])
def test_a_broken_rpm_database_is_a_failure(task):
    with pytest.raises(CommandFailed, match="reading the RPM database: exit status 1"):
        go(said("", 1, "error: cannot open Packages database"), task=task)


@pytest.mark.parametrize("task", [downgrade.to_before, downgrade.download])
def test_a_package_that_is_there_twice_is_refused(task):
    with pytest.raises(Refused, match=r"python-nova \(2013.2.1-1.el6, 2013.1.4-1.el6\); mend with package-cleanup"):
        go(NEW + "python-nova 2013.1.4-1.el6 400\n", task=task)


def test_a_yum_that_fails_is_told():
    with pytest.raises(CommandFailed, match="yum downgrade: exit status 1: No package python-nova"):
        go(NEW, yum=said("", 1, "No package python-nova-2013.1.4-1.el6 available."))


@pytest.mark.parametrize(
    ("after", "told_of"),
    [
        (NEW, "python-nova is 2013.2.1-1.el6, not 2013.1.4-1.el6, python-novaclient is 1:2.15.0-1.el6, not 1:2.13.0"),
        (OLD.replace("1:2.13.0", "2.13.0"), "python-novaclient is 2.13.0-1.el6, not 1:2.13.0-1.el6"),
        (OLD.split("\n", 1)[1], "python-nova is not there, not 2013.1.4-1.el6"),
    ],
)
def test_a_yum_that_ends_well_elsewhere_is_refused(after, told_of):
    with pytest.raises(Refused) as refused:
        go([NEW, after])
    assert str(refused.value).startswith(f"yum ended well, but {told_of}")


@pytest.mark.parametrize("ended", ["", said("exiting because --downloadonly specified\n", 1)])
def test_the_versions_of_before_are_fetched_beforehand(ended):
    """The plugin of EL6 ends yum with 1."""
    assert go(NEW, task=downgrade.download, yum=ended) == "changed: downloaded 2 packages"
    assert go.sent[0].startswith("yum -y --downloadonly downgrade python-nova-2013.1.4-1.el6 python-novaclient-2.13.0")


def test_versions_that_no_repository_has_any_more_are_known_before_anything_is_stopped():
    with pytest.raises(CommandFailed, match="downloading: exit status 1: Error: Nothing to do"):
        go(NEW, task=downgrade.download, yum=said("Error: Nothing to do\n", 1))
    with pytest.raises(Refused, match=r"not in yum's cache: python-novaclient-2.13.0-1.el6; has the node its repo"):
        go(NEW, task=downgrade.download, cached=CACHED.splitlines()[0])


def test_a_dry_run_changes_nothing():
    words = "python-nova 2013.1.4-1.el6, python-novaclient 1:2.13.0-1.el6"
    assert go(NEW, dry_run=True) == f"changed: would bring back {words}"
    assert go(NEW, task=downgrade.download, dry_run=True) == f"changed: would download {words}"
    assert go.sent == []


names = st.sampled_from([f"package{n}" for n in range(6)])
evrs = st.sampled_from(["1-1", "2-1", "1:1-1", "3-2.el6"])


@given(st.dictionaries(names, evrs), st.dictionaries(names, st.tuples(evrs, st.sampled_from("ab"))), st.sets(names))
def test_done_as_planned_there_is_nothing_left_to_do(everything, installed, release):
    """Whatever is installed: after the plan the release's packages are as before, and the next plan is empty."""
    rows = [(name, evr, tid) for name, (evr, tid) in installed.items()]
    before = {name: evr for name, evr in everything.items() if name in release}
    kept = {name: [evr] for name, evr in everything.items()}
    way = downgrade.way_back(rows, before, kept, sorted(release))
    after = {name: evr for name, evr, _ in rows if name not in way.new} | way.back | way.absent | way.along
    assert {name: after.get(name) for name in release} == {name: before.get(name) for name in release}
    assert not downgrade.way_back([(n, evr, "c") for n, evr in after.items()], before, kept, sorted(release))
    touched = {tid for name, _, tid in rows if name in way.back or name in way.new}
    assert all(installed[name][1] in touched for name in [*way.along, *way.new])


# Kernels

WAS, IS = "2.6.32-431.el6", "2.6.32-431.5.1.el6"
BOTH = f"1380000000 {WAS}\n1390000000 {IS}\n"
ONE = f"1380000000 {WAS}\n"


def kernel(*, runs, kernels, boot_ids=("b1\n", "b2\n"), running=f"{WAS}.x86_64", dry_run=False, timeout_s=30.0):
    node = Scripted(
        [
            ("%{INSTALLTIME}", kernels if isinstance(kernels, str) else list(kernels)),
            ("uname -r", [f"{name}.x86_64\n" for name in runs]),
            ("boot_id", list(boot_ids)),
            ("reboot", ""),
            ("rpm -e", ""),
        ]
    )
    try:
        task = task_on(node, dry_run=dry_run)
        return told(downgrade.kernel_to_before(task, running=running, kernels=[WAS], timeout_s=timeout_s))
    finally:
        kernel.sent = [line for line in node.sent if "rpm -e" in line or line.startswith("sync")]


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(reboot, "ASK_EVERY_S", 0.01)


def test_the_node_is_rebooted_into_the_kernel_that_it_had_and_the_new_one_is_removed():
    answer = kernel(runs=[IS, WAS], kernels=[BOTH, BOTH, ONE, ONE])
    assert answer == f"changed: rebooted into kernel {WAS}.x86_64, boot id b2"
    first, second = kernel.sent
    assert f"grubby --set-default=/boot/vmlinuz-{WAS}.x86_64; else rpm -e kernel-{IS}" in first
    assert second == "sync; reboot"


def test_where_the_boot_loader_was_told_the_new_kernel_goes_after_the_reboot():
    kernel(runs=[IS, WAS], kernels=[BOTH, BOTH, BOTH, ONE])
    assert kernel.sent[1:] == ["sync; reboot", f"rpm -e kernel-{IS}"]


def test_the_boot_loader_is_told_where_there_is_grubby(tmp_path):
    bash = Bash(tmp_path)
    bash.program("grubby", f'echo "$@" >> {tmp_path}/told')
    bash.program("rpm", f'[ "$1" = -e ] && touch {tmp_path}/removed; printf "{BOTH}"')
    downgrade._make_default(task_on(bash), f"{WAS}.x86_64", [IS])
    assert (tmp_path / "told").read_text() == f"--set-default=/boot/vmlinuz-{WAS}.x86_64\n"
    assert not (tmp_path / "removed").exists()


def test_a_kernel_that_never_ran_is_only_removed():
    assert kernel(runs=[WAS], kernels=[BOTH, ONE]) == f"changed: removed kernel {IS}, which did not run"
    assert kernel.sent == [f"rpm -e kernel-{IS}"]


def test_a_node_with_the_kernel_of_before_is_left_alone():
    assert kernel(runs=[WAS], kernels=ONE) == f"skipped: runs {WAS}.x86_64, as before"
    assert kernel(runs=[], kernels="", running=None).startswith("skipped: no kernel was saved")
    assert kernel.sent == []


def test_a_kernel_that_stays_is_refused():
    with pytest.raises(Refused, match=f"still installed: kernel {IS}"):
        kernel(runs=[WAS], kernels=BOTH)


def test_a_kernel_of_before_that_is_gone_is_told_before_the_reboot():
    with pytest.raises(Refused, match="which ran before, is not installed any more"):
        kernel(runs=[IS], kernels=f"1390000000 {IS}\n")
    assert kernel.sent == []


def test_a_node_that_comes_back_with_the_new_kernel_is_refused():
    with pytest.raises(Refused, match=rf"rebooted \(boot id b2\), but runs kernel {IS}.x86_64, not {WAS}"):
        kernel(runs=[IS, IS], kernels=BOTH)


def test_a_reboot_that_does_not_happen_is_refused_within_its_time():
    began = time.monotonic()
    with pytest.raises(Refused, match="not back 0 s after its reboot"):
        kernel(runs=[IS], kernels=BOTH, boot_ids=["b1\n"] * 1000, timeout_s=0.2)
    assert time.monotonic() - began < 5


def test_a_dry_run_reboots_nothing():
    assert kernel(runs=[IS], kernels=BOTH, dry_run=True) == f"changed: would reboot into kernel {WAS}.x86_64"
    assert kernel.sent == []
