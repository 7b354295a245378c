"""Rebooting into the newest kernel, and the proof that it happened."""

import time

import pytest

from plugins.connections.errors import AuthenticationRefused, CommandTimeout, ConnectionLost, Unreachable
from tasks import reboot
from tasks.errors import Refused
from tasks.shell import has_changed
from tests.support.scripted import Scripted, said, task_on, told

OLD, NEW = "2.6.32-358.el6", "2.6.32-431.el6"
KERNELS = f"1380000000 {OLD}\n1390000000 {NEW}\n"
ARCH = ".x86_64\n"


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(reboot, "ASK_EVERY_S", 0.01)


def node(*, runs=(OLD + ARCH, NEW + ARCH), boot_ids=("b1\n", "b2\n"), rebooting="", kernels=KERNELS):
    return Scripted(
        [
            ("%{INSTALLTIME}", kernels),
            ("uname -r", list(runs)),
            ("boot_id", boot_ids if isinstance(boot_ids, str) else list(boot_ids)),
            ("reboot", rebooting),
        ]
    )


def go(node, timeout_s=30.0, dry_run=False):
    task = task_on(node, dry_run=dry_run)
    try:
        return told(reboot.for_new_kernel(task, timeout_s=timeout_s))
    finally:
        go.changed = has_changed(task)


def test_a_node_comes_back_with_the_newest_kernel():
    asked = node()
    assert go(asked) == f"changed: rebooted into kernel {NEW}, boot id b2"
    assert asked.sent_with("reboot") == ["sync; reboot"]
    assert (asked.opened, asked.closed) == (2, 1)  # nothing is asked over the connection of the old system


@pytest.mark.parametrize("running", [NEW + ARCH, NEW + "\n"])
def test_a_node_that_runs_the_newest_kernel_is_left_alone(running):
    asked = node(runs=[running])
    assert go(asked) == f"skipped: runs the newest kernel {NEW} already"
    assert not asked.sent_with("reboot")


def test_a_kernel_whose_name_only_begins_alike_is_another():
    """2.6.32-431.el6 is not 2.6.32-43, nor 2.6.32-431.el6_5."""
    kernels = f"1 {OLD}\n2 2.6.32-43\n"
    assert go(node(kernels=kernels, runs=[NEW + ARCH, "2.6.32-43.x86_64\n"])).startswith("changed: rebooted into")
    assert go(node(runs=["2.6.32-431.el6_5.x86_64\n", NEW + ARCH])).startswith("changed: rebooted into")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionLost("c01-n01: the connection broke"),
        CommandTimeout("c01-n01: no end of sync within 15 s"),
        said(status=1),
    ],
)
def test_the_reboot_may_take_the_connection_with_it(error):
    assert go(node(rebooting=error)).startswith("changed: rebooted into")


def test_a_node_that_is_gone_before_the_reboot_is_told_as_such():
    """What was sent may have arrived: the dispatcher makes `unknown` of it."""
    with pytest.raises(Unreachable):
        go(node(rebooting=Unreachable("c01-n01: no answer")))
    assert go.changed


def test_a_node_is_asked_while_it_boots():
    """It does not answer, then its sshd lets nobody in yet, then it is lost again, then it is back."""
    boot_ids = [
        "b1\n",
        "b1\n",
        Unreachable("c01-n01: no answer"),
        AuthenticationRefused("c01-n01: System is booting up"),
        ConnectionLost("c01-n01: lost"),
        "b2\n",
    ]
    asked = node(boot_ids=boot_ids)
    assert go(asked) == f"changed: rebooted into kernel {NEW}, boot id b2"


def test_the_same_boot_id_for_ever_is_refused_within_the_time():
    began = time.monotonic()
    with pytest.raises(Refused, match=r"not back 0 s after its reboot \(it still had the old boot id\); look at its"):
        go(node(boot_ids="b1\n"), timeout_s=0.2)
    assert 0.2 <= time.monotonic() - began < 5


@pytest.mark.parametrize("error", [Unreachable("c01-n01: no route to host"), CommandTimeout("c01-n01: no end")])
def test_a_node_that_stays_away_is_refused_with_the_last_reason(error):
    before = iter(["b1\n"])
    with pytest.raises(Refused, match=f"not back 0 s after its reboot .{error}"):
        go(
            Scripted(
                [
                    ("%{INSTALLTIME}", KERNELS),
                    ("uname -r", OLD),
                    ("boot_id", lambda _: next(before, error)),
                    ("reboot", ""),
                ]
            ),
            0.2,
        )


def test_a_node_that_comes_back_with_another_kernel_is_refused():
    expected = rf"rebooted \(boot id b2\), but runs kernel {OLD}.x86_64, not {NEW}; look at its boot loader"
    with pytest.raises(Refused, match=expected):
        go(node(runs=[OLD + ARCH, OLD + ARCH]))


def test_a_node_without_a_kernel_package_is_refused():
    with pytest.raises(Refused, match="no package `kernel` is installed"):
        go(node(kernels=said("package kernel is not installed\n", 1)))


def test_a_dry_run_reboots_nothing():
    asked = node()
    assert go(asked, dry_run=True) == f"changed: would reboot into kernel {NEW}"
    assert not asked.sent_with("reboot")
