"""Rebooting a node, with proof: a new boot id, and the newest installed kernel running."""

import contextlib
import threading
import time

from nornir.core.task import Result, Task

from plugins.connections.errors import CommandTimeout, ConnectionLost, TransportError
from tasks.errors import Refused
from tasks.holds import changed, skipped
from tasks.packages import installed_kernels
from tasks.shell import change, sh

BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
ASK_EVERY_S = 1.0


def boot_id(task: Task) -> str:
    """The boot id of the running system: another one after each boot."""
    return sh(task, BOOT_ID, timeout=15).stdout.strip()


def running_kernel(task: Task) -> str:
    """`uname -r` without the architecture."""
    return sh(task, "uname -r", timeout=15).stdout.strip()


def for_new_kernel(task: Task, *, timeout_s: float) -> Result:
    """Reboot a node whose newest kernel does not run yet, and wait until it does.

    Args:
        task: the Nornir task.
        timeout_s: seconds until the node must answer again.

    Raises:
        Refused: it did not come back, it came back without having booted, or on another kernel.
    """
    kernels = installed_kernels(task)
    if not kernels:
        raise Refused("no package `kernel` is installed: which kernel should run?")
    newest = kernels[-1]
    if _is(running_kernel(task), newest):
        return skipped(task, f"runs the newest kernel {newest} already")
    if task.is_dry_run():
        return changed(task, f"would reboot into kernel {newest}")
    before = boot_id(task)
    # The reboot may take the connection with it; what follows tells whether it happened.
    with contextlib.suppress(ConnectionLost, CommandTimeout):
        change(task, "sync; reboot", timeout=15, ok=None)
    task.host.close_connection("cellstep_ssh")
    after = _wait(task, before, timeout_s)
    running = running_kernel(task)
    if not _is(running, newest):
        raise Refused(f"rebooted (boot id {after}), but runs kernel {running}, not {newest}; look at its boot loader")
    return changed(task, f"rebooted into kernel {newest}, boot id {after}")


def _is(running: str, installed: str) -> bool:
    return running == installed or running.startswith(f"{installed}.")


def _wait(task: Task, before: str, timeout_s: float) -> str:
    """Ask until the node answers with a new boot id; a node has no way to tell us by itself that it is back."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    last = "it still had the old boot id"
    while time.monotonic() < deadline:
        try:
            now = boot_id(task)
        except TransportError as error:
            last = str(error)
        else:
            if now != before:
                return now
            last = "it still had the old boot id"
        pause.wait(ASK_EVERY_S)
    raise Refused(f"not back {timeout_s:.0f} s after its reboot ({last}); look at its console")
