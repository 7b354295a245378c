"""Rebooting into the newest kernel, and the proof that it happened."""

import dataclasses
import time

import pytest

from plugins.connections.errors import AuthenticationRefused, CommandTimeout, ConnectionLost, Unreachable
from tasks import jobs, reboot, shell
from tasks.binding import Binding, bind
from tasks.errors import Fenced, Refused
from tasks.platforms import PLATFORMS
from tasks.platforms.el6 import EL6
from tasks.shell import has_changed
from tests.support.scripted import Bash, Scripted, said, task_on, told

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
    """Nothing was sent: the node is unreachable, and not unknown."""
    with pytest.raises(Unreachable):
        go(node(rebooting=Unreachable("c01-n01: no answer")))
    assert not go.changed


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
    with pytest.raises(Refused, match=r"not back 0 s .* \(it still has the boot id b1: it did not restart\); look at"):
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


# As part of a run: the reboot is a job, and its record has the boot id from before


class Machine(Bash):
    """A node whose `reboot` gives it a new boot id and the newest kernel, and which can lose its connection."""

    def __init__(self, folder):
        super().__init__(folder / "bin")
        self.folder = folder
        self.fails = []
        self.put("boot_id", "b1\n")
        self.put("kernel", f"{OLD}.x86_64\n")
        self.program("rpm", f"printf '{KERNELS.strip()}\\n'")
        self.program("uname", f"cat {folder}/kernel")
        self.program("sync", "true")
        self.reboots_by(f"echo {NEW}.x86_64 > {folder}/kernel; echo b2 > {folder}/boot_id")

    def put(self, name, text):
        (self.folder / name).write_text(text)

    def reboots_by(self, script):
        self.program("reboot", f"echo x >> {self.folder}/reboots\n{script}")

    @property
    def reboots(self):
        counted = self.folder / "reboots"
        return len(counted.read_text().split()) if counted.exists() else 0

    def answer(self, command, stdin, timeout):
        """The next of `fails`, None for none, is raised: before the command where it says so, else after it."""
        error = self.fails.pop(0) if self.fails else None
        if isinstance(error, Unreachable):
            raise error
        result = super().answer(command, stdin, timeout)
        if error is not None:
            raise error
        return result


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(shell, "ROOT", str(tmp_path / "jobs"))
    monkeypatch.setattr(jobs, "BOOT_ID_FILE", str(tmp_path / "boot_id"))
    system = dataclasses.replace(EL6.system, boot_id=f"cat {tmp_path}/boot_id")
    monkeypatch.setitem(PLATFORMS, "el6", dataclasses.replace(EL6, system=system))
    monkeypatch.setattr(jobs, "ASK_EVERY_S", 0.01)
    return Machine(tmp_path)


def bound(machine, timeout_s=10.0, **more):
    task = task_on(machine)
    bind(task, Binding(**{"run": "r1", "step": "Reboot", "token": 1} | more))
    return told(reboot.for_new_kernel(task, timeout_s=timeout_s))


def ended(machine, generation):
    """Wait until a try's job has ended; how often the node was told to reboot by then."""
    task = task_on(machine)
    bind(task, Binding("r1", "Reboot", generation, token=1))
    assert [job.name for job in jobs.attach(task, timeout=15)] == ["reboot"]
    return machine.reboots


REBOOTED = f"changed: rebooted into kernel {NEW}, boot id b2"
GONE, LOST = Unreachable("c01-n01: no answer"), ConnectionLost("c01-n01: the connection broke")


@pytest.mark.parametrize("answer", [None, LOST, CommandTimeout("c01-n01: no end")])
def test_a_node_of_a_run_is_rebooted_once_whatever_becomes_of_the_answer(machine, answer):
    machine.fails = [None, None, answer, GONE, GONE, LOST]
    assert bound(machine) == REBOOTED
    assert machine.reboots == 1
    assert bound(machine) == f"skipped: runs the newest kernel {NEW} already"


def test_a_reboot_that_never_arrived_is_sent_again(machine):
    real, lost = machine.answer, iter([LOST])

    def answer(command, stdin, timeout):
        if stdin and (error := next(lost, None)):
            raise error
        return real(command, stdin, timeout)

    machine.answer = answer
    assert bound(machine) == REBOOTED
    assert machine.reboots == 1


def test_a_reboot_that_does_not_happen_is_refused_and_not_tried_twice(machine):
    machine.reboots_by("true")
    for again in (False, True):
        with pytest.raises(Refused, match=r"it still has the boot id b1: it did not restart\); look at its console"):
            bound(machine, 0.3, again=again)
    assert ended(machine, 1) == 1
    with pytest.raises(Refused):
        bound(machine, 0.3, generation=2)
    assert ended(machine, 2) == 2


@pytest.mark.parametrize(
    "fails", [[GONE, GONE, LOST], [LOST, GONE], [None, LOST, GONE], [None, None, LOST, GONE, GONE]]
)
def test_a_try_that_was_cut_short_is_taken_up_in_the_middle_of_the_reboot(machine, fails):
    """The controller died: the node goes down at some question, then is back, with the boot id and kernel of after."""
    machine.reboots_by("true")
    with pytest.raises(Refused):
        bound(machine, 0.1)
    assert ended(machine, 1) == 1
    machine.put("kernel", f"{NEW}.x86_64\n")
    machine.put("boot_id", "b2\n")
    machine.fails = fails
    assert bound(machine, again=True) == REBOOTED
    assert machine.reboots == 1


def test_a_try_that_was_cut_short_before_the_reboot_does_it(machine):
    assert bound(machine, again=True) == REBOOTED
    assert machine.reboots == 1


def test_a_node_that_stays_away_after_a_try_that_was_cut_short_is_given_up(machine):
    machine.fails = [GONE] * 1000
    with pytest.raises(Refused, match=r"not back 0 s after its reboot \(c01-n01: no answer\); look at its console"):
        bound(machine, 0.2, again=True)


def test_a_reboot_of_an_operator_who_was_replaced_is_not_sent(machine):
    bound(machine, token=5)
    machine.put("kernel", f"{OLD}.x86_64\n")
    with pytest.raises(Fenced):
        bound(machine, step="another", token=4)
    assert machine.reboots == 1
