"""A control group of its own for every host: who belongs to it, freezing it, ending it.

Works on cgroup v1, on v2, and on both side by side. A host is in a group of the same name in each hierarchy
systemd cares about; which processes are the lab's is read from one of them.
"""

import os
import select
import signal
import time
from functools import cache
from pathlib import Path

from lab.commands import wait_until
from lab.errors import LabError

_V1_WANTED = {"name=systemd", "memory", "cpuacct", "pids", "freezer"}


@cache
def hierarchies() -> tuple[tuple[Path, ...], Path, bool]:
    """The mounted hierarchies.

    Returns:
        Mount points a host joins; the one whose membership counts; whether that one is cgroup v2.

    Raises:
        LabError: none is mounted.
    """
    v1: list[Path] = []
    freezer: Path | None = None
    v2: Path | None = None
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        mount_point = Path(before.split(" ")[4])
        controllers = set(options.split(","))
        if kind == "cgroup" and controllers & _V1_WANTED:
            v1.append(mount_point)
            if "freezer" in controllers:
                freezer = mount_point
        elif kind == "cgroup2":
            v2 = mount_point
    counts = freezer or v2
    if counts is None:
        raise LabError("no cgroup hierarchy that can freeze: mount cgroup2 on /sys/fs/cgroup")
    return (*v1, *((v2,) if v2 else ())), counts, counts == v2


class Group:
    """One control group, of the same name in every hierarchy.

    Args:
        name: path below the hierarchies' roots, `cellstep-NAME` or `cellstep-NAME/HOST`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        mounts, counts, self._v2 = hierarchies()
        self.paths = tuple(mount / name for mount in mounts)
        self._counts = counts / name

    def create(self) -> None:
        """Make it, and its parents, in every hierarchy."""
        for path in self.paths:
            path.mkdir(parents=True, exist_ok=True)

    def members(self) -> list[int]:
        """Process ids in it and below it; [] when it does not exist."""
        found: list[int] = []
        for folder, _, _ in os.walk(self._counts):
            found += _members_of(Path(folder))
        return found

    def freeze(self, frozen: bool) -> None:
        """Stop every process of it where it stands, or let them go on.

        Raises:
            LabError: the kernel did not do so within 10 seconds.
        """
        if not self._counts.exists():
            return
        if self._v2:
            (self._counts / "cgroup.freeze").write_text("1" if frozen else "0", encoding="ascii")
        else:
            (self._counts / "freezer.state").write_text("FROZEN" if frozen else "THAWED", encoding="ascii")
        wait_until(lambda: self.frozen() == frozen, timeout=10, what=f"cgroup {self.name} to freeze or thaw")

    def frozen(self) -> bool:
        """Whether it stands still."""
        try:
            if self._v2:
                return "frozen 1" in (self._counts / "cgroup.events").read_text(encoding="ascii")
            return (self._counts / "freezer.state").read_text(encoding="ascii").strip() == "FROZEN"
        except FileNotFoundError:
            return False

    def kill(self, timeout: float = 30) -> None:
        """SIGKILL every process of it, and wait until all are gone.

        Raises:
            LabError: some were still there after `timeout` seconds.
        """
        for folder, _, _ in os.walk(self._counts):
            _thaw(Path(folder), v2=self._v2)
        deadline = time.monotonic() + timeout
        while pids := self.members():
            left = deadline - time.monotonic()
            if left <= 0:
                raise LabError(f"processes of {self.name} outlive SIGKILL: {', '.join(map(str, pids[:10]))}")
            _kill_and_wait(pids, left)

    def remove(self) -> None:
        """Remove it from every hierarchy; it must be empty."""
        for path in self.paths:
            for folder, _, _ in os.walk(path, topdown=False):
                wait_until(lambda folder=folder: _rmdir(folder), timeout=10, what=f"cgroup {folder} to empty")  # type: ignore[misc]  # mypy cannot infer a lambda with a bound default


def end_process(pid: int, timeout: float = 10) -> None:
    """SIGKILL one process and wait until it is gone; nothing when it is gone already."""
    _kill_and_wait([pid], timeout)


def _kill_and_wait(pids: list[int], timeout: float) -> None:
    poll = select.poll()
    descriptors: set[int] = set()
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        descriptors.add(descriptor)
        poll.register(descriptor, select.POLLIN)
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it ended by itself meanwhile
    waiting = set(descriptors)
    deadline = time.monotonic() + timeout
    try:
        while waiting and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(left * 1000):
                poll.unregister(descriptor)
                waiting.discard(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _members_of(folder: Path) -> list[int]:
    try:
        return [int(pid) for pid in (folder / "cgroup.procs").read_text(encoding="ascii").split()]
    except (FileNotFoundError, OSError):
        return []  # it went away between listing and reading


def _thaw(folder: Path, *, v2: bool) -> None:
    file, text = ("cgroup.freeze", "0") if v2 else ("freezer.state", "THAWED")
    if (folder / file).exists():
        (folder / file).write_text(text, encoding="ascii")


def _rmdir(folder: str) -> bool:
    try:
        Path(folder).rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False  # a process is still on its way out
    return True
