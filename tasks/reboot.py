"""Rebooting a node, with proof: a new boot id, and the newest installed kernel running."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from nornir.core.task import Result, Task

from plugins.connections.errors import CommandTimeout, ConnectionLost, TransportError
from tasks import jobs
from tasks.binding import binding_of
from tasks.errors import Refused
from tasks.holds import changed, skipped
from tasks.packages import installed_kernels
from tasks.platforms import lacking, platform_of
from tasks.shell import change, sh

ASK_EVERY_S = 1.0
# For the command itself, which returns before the node goes down.
COMMAND_TIMEOUT_S = 60.0
T = TypeVar("T")


def boot_id(task: Task) -> str:
    """The boot id of the running system: another one after each boot."""
    return sh(task, platform_of(task).system.boot_id, timeout=15).stdout.strip()


def running_kernel(task: Task) -> str:
    """`uname -r`."""
    return sh(task, platform_of(task).system.kernel, timeout=15).stdout.strip()


def for_new_kernel(task: Task, *, timeout_s: float) -> Result:
    """Reboot a node whose newest kernel does not run yet, and wait until it does.

    The boot id from before the reboot is in the job's record on the node, so that a try that was cut short is taken up
    where it was, and one try of a step never reboots twice.

    Args:
        task: the Nornir task.
        timeout_s: seconds until the node must answer again.

    Raises:
        Refused: it did not come back, it came back without having booted, or on another kernel.
        tasks.errors.Fenced: another operator has taken the cloud over.
    """
    if not platform_of(task).packages.kernels:
        raise lacking(task, "kernel that is a package")
    until = time.monotonic() + timeout_s
    after = taken_up(task, until, timeout_s)
    kernels = installed_kernels(task)
    if not kernels:
        raise Refused("no package `kernel` is installed: which kernel should run?")
    newest = kernels[-1]
    if after is None:
        if _is(running_kernel(task), newest):
            return skipped(task, f"runs the newest kernel {newest} already")
        if task.is_dry_run():
            return changed(task, f"would reboot into kernel {newest}")
        after = restart(task, until, timeout_s)
    running = running_kernel(task)
    if not _is(running, newest):
        raise Refused(f"rebooted (boot id {after}), but runs kernel {running}, not {newest}; look at its boot loader")
    return changed(task, f"rebooted into kernel {newest}, boot id {after}")


def where_due(task: Task, *, timeout_s: float) -> Result:
    """Reboot a node that says a reboot is due (Windows after an installation, Debian), and wait until it is back.

    Args:
        task: the Nornir task.
        timeout_s: seconds until the node must answer again.

    Raises:
        Refused: it did not come back, or came back without having booted.
        tasks.platforms.Lacking: its platform tells no such thing.
        tasks.errors.Fenced: another operator has taken the cloud over.
    """
    script = platform_of(task).system.pending
    if not script:
        raise lacking(task, "way to tell that a reboot is due")
    until = time.monotonic() + timeout_s
    after = taken_up(task, until, timeout_s)
    why = "; ".join(line.strip() for line in sh(task, script).stdout.splitlines() if line.strip())
    if after is None:
        if not why:
            return skipped(task, "no reboot is due")
        if task.is_dry_run():
            return changed(task, f"would reboot: {why}")
        after = restart(task, until, timeout_s)
        why = "; ".join(line.strip() for line in sh(task, script).stdout.splitlines() if line.strip())
    return changed(task, f"rebooted, boot id {after}" + (f"; another one is due: {why}" if why else ""))


def _is(running: str, installed: str) -> bool:
    return running == installed or running.startswith(f"{installed}.")


def taken_up(task: Task, until: float, timeout_s: float) -> str | None:
    """Wait for the end of the reboot that the try before began; the new boot id, or None where it began none.

    Such a node may go down at any moment, between two questions too.
    """
    binding = binding_of(task)
    if binding is None or not binding.again:
        return None

    def ask() -> tuple[bool | None, str]:
        return jobs.earlier(task, "reboot", timeout=COMMAND_TIMEOUT_S) is not None, ""

    return restart(task, until, timeout_s) if wait_for_boot(task, until, timeout_s, ask) else None


def restart(task: Task, until: float, timeout_s: float) -> str:
    """Reboot the node where this try has not done so yet, and wait for it; the new boot id."""
    before: str | None = None

    def ask() -> tuple[str | None, str]:
        nonlocal before
        if before is None:  # the answer was lost, but not the job's record: it is not started twice
            before = _trigger(task)
        now = boot_id(task)
        return (now if now != before else None), f"it still has the boot id {before}: it did not restart"

    # The reboot may take the connection with it; what follows tells whether it happened.
    with contextlib.suppress(ConnectionLost, CommandTimeout):
        before = _trigger(task)
    task.host.close_connection("cellstep_ssh")
    return wait_for_boot(task, until, timeout_s, ask)


def _trigger(task: Task) -> str:
    """Send the reboot, once a try; the boot id from before it."""
    platform = platform_of(task)
    if binding_of(task) is not None and platform.jobs:
        return jobs.begin(task, platform.system.reboot, name="reboot", what="rebooting", timeout=COMMAND_TIMEOUT_S).boot
    before = boot_id(task)
    with contextlib.suppress(ConnectionLost, CommandTimeout):
        change(task, platform.system.reboot, timeout=15, ok=None)
    return before


def wait_for_boot(task: Task, until: float, timeout_s: float, ask: Callable[[], tuple[T | None, str]]) -> T:
    """Ask until there is an answer; a node has no way to tell us by itself that it is back.

    Args:
        task: the Nornir task.
        until: the monotonic clock's time at which it is given up.
        timeout_s: seconds that there were, for the message.
        ask: the answer, or None and the words for that.
    """
    pause = threading.Event()
    while True:
        try:
            answer, last = ask()
        except TransportError as error:
            answer, last = None, str(error)
        if answer is not None:
            return answer
        if time.monotonic() >= until:
            raise Refused(
                f"{task.host.name}: not back {timeout_s:.0f} s after its reboot ({last}); look at its console"
            )
        pause.wait(ASK_EVERY_S)
