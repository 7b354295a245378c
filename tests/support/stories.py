"""What the stories on a lab do again and again: several hosts at once, waiting, guests, reboots."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.labs import TestLab


def everywhere(lab: TestLab, nodes: tuple[str, ...], script: str) -> list[str]:
    """Run a script on several hosts at once."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda node: lab.on(node, script), nodes))


def eventually(lab: TestLab, host: str, condition: str, seconds: int = 30) -> None:
    """Wait until a bash condition holds on a host."""
    lab.on(
        host, f"for i in $(seq {seconds}); do {condition} && exit 0; sleep 1; done; echo 'never: {condition}'; exit 1"
    )


def guests(lab: TestLab, host: str) -> list[str]:
    """The guests' processes: pid, start time in ticks and UUID."""
    return lab.on(
        host,
        "for p in $(pgrep -x qemu-kvm); do"
        " echo $p $(cut -d' ' -f22 /proc/$p/stat) $(tr '\\0' ' ' < /proc/$p/cmdline | grep -o 'uuid [^ ]*'); done",
    ).splitlines()


def reboot(lab: TestLab, host: str) -> None:
    """Reboot a host and wait until its boot id is another one."""
    boot = lab.on(host, "cat /proc/sys/kernel/random/boot_id")
    lab.on(host, "reboot", expect=None)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        now = lab.on(host, "cat /proc/sys/kernel/random/boot_id", expect=None)
        if now != boot and "-" in now and " " not in now.strip():
            return
        time.sleep(0.5)  # nothing tells when a host is back
    pytest.fail(f"{host} did not come back within 60 s")
