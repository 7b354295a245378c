"""A scripted cloud: hosts that are folders, the real cellstep on them, and what is compared afterwards."""

import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from cellstep.cloud.load import Cloud, load_cloud
from cellstep.cloud.select import with_databases
from cellstep.engine.journal import Journal
from cellstep.stages import runbook_of
from tests.chaos.building import build
from tests.chaos.strikes import Strike

ROOT = Path(__file__).parents[2]
PATIENCE_S = 240.0


def needs_namespaces() -> None:
    """Skip where hosts cannot be made."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("scripted hosts need root and util-linux: mount namespaces and chroot")


@dataclass(frozen=True)
class Ended:
    """How a controller ended: its exit code (-9: killed), what it printed, and how much of what it had counted."""

    code: int
    said: str
    counts: dict[str, int]


class ScriptedCloud:
    """One scripted cloud; `up` makes it.

    Attributes:
        folder: the cloud's folder, with cloud.yaml, `state`, `out`, and the hosts in `world`.
    """

    def __init__(self, folder: Path, keeper: "subprocess.Popen[bytes]") -> None:
        self.folder, self._keeper = folder, keeper
        self._ended: dict[int, int] = {}
        self._pending = b""
        self._started = 0
        self._outs: dict[int, Path] = {}
        self._answer("ready", 60)

    # Controllers

    def start(self, *arguments: str, strike: Strike | None = None) -> int:
        """Start a controller; its process id in the cloud's namespace."""
        self._started += 1
        out = self.folder / f"controller-{self._started}.out"
        out.touch()
        self._ask(do="start", arguments=arguments, out=str(out), strike=(strike or Strike()).as_json())
        pid: int = self._answer("started")["started"]
        self._outs[pid] = out
        return pid

    def wait(self, pid: int, timeout: float = PATIENCE_S) -> Ended:
        """Wait for a controller's end."""
        until = time.monotonic() + timeout
        while pid not in self._ended:
            self._read(until, f"the end of {self._outs[pid].name}: {self._outs[pid].read_text()[-2000:]}")
        counts = self._outs[pid].with_suffix(".counts")
        return Ended(
            self._ended[pid],
            self._outs[pid].read_text(errors="replace"),
            json.loads(counts.read_text()) if counts.exists() else {},
        )

    def cellstep(self, *arguments: str, strike: Strike | None = None, expect: int | None = None) -> Ended:
        """Call the command, and wait for its end.

        Args:
            arguments: of the command.
            strike: what happens to it.
            expect: the exit code that it must have, if any.
        """
        ended = self.wait(self.start(*arguments, strike=strike))
        assert expect is None or ended.code == expect, f"{arguments}: exit {ended.code}, not {expect}:\n{ended.said}"
        return ended

    def wait_until_frozen(self, pid: int, timeout: float = PATIENCE_S) -> None:
        """Wait until a controller stands still (state T)."""
        until = time.monotonic() + timeout
        stat = Path(f"/proc/{self._inner()}/root/proc/{pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < until, f"not frozen: {self.said(pid)[-1000:]}"
            assert pid not in self._ended
            threading.Event().wait(0.02)

    def signal(self, pid: int, number: int) -> None:
        """Send a controller a signal."""
        self._ask(do="signal", pid=pid, number=int(number))
        self._answer("signalled")

    def said(self, pid: int) -> str:
        """What a controller has printed so far."""
        return self._outs[pid].read_text(errors="replace")

    def rest(self) -> None:
        """Wait until nothing runs on any host any more."""
        self._ask(do="rest")
        self._answer("rests", 60)

    def small_disk(self, size: str) -> None:
        """Put the journal on a disk of its own, so small."""
        self._ask(do="disk", size=size)
        self._answer("mounted")

    def _ask(self, **request: Any) -> None:
        assert self._keeper.stdin is not None
        self._keeper.stdin.write((json.dumps(request) + "\n").encode())
        self._keeper.stdin.flush()

    def _answer(self, key: str, timeout: float = 60) -> dict[str, Any]:
        until = time.monotonic() + timeout
        while True:
            answer = self._read(until, f"the keeper's {key}")
            if answer and key in answer:
                return answer

    def _read(self, until: float, what: str) -> dict[str, Any] | None:
        assert self._keeper.stdout is not None
        while b"\n" not in self._pending:
            left = until - time.monotonic()
            assert left > 0, f"waited in vain for {what}"
            if not select.select([self._keeper.stdout], [], [], left)[0]:
                continue
            read = os.read(self._keeper.stdout.fileno(), 1 << 16)
            assert read, f"the keeper has ended: {self._log()}"
            self._pending += read
        line, _, self._pending = self._pending.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "ended" in answer:
            self._ended[answer["ended"]] = answer["code"]
        return answer

    def _log(self) -> str:
        return (self.folder / "keeper.log").read_text()[-3000:]

    def down(self) -> None:
        """End everything that runs in it."""
        self._keeper.kill()
        self._keeper.wait(20)
        for pipe in (self._keeper.stdin, self._keeper.stdout):
            if pipe is not None:
                pipe.close()

    # Its journal

    @cached_property
    def cloud(self) -> Cloud:
        """The cloud, as cellstep loads it."""
        return load_cloud(self.folder)

    @contextmanager
    def journal(self) -> Iterator[Journal]:
        """A copy of the journal, to be read; also of one on a disk that only the namespace sees."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            for name in ("journal.sqlite3", "journal.sqlite3-wal"):
                if (self.state / name).exists():
                    shutil.copy(self.state / name, folder)
            journal = Journal(Path(folder) / "journal.sqlite3")
            try:
                yield journal
            finally:
                journal.close()

    @property
    def state(self) -> Path:
        """The folder `state` as the controllers see it."""
        return Path(f"/proc/{self._inner()}/root{self.folder}/state")

    def _inner(self) -> int:
        """The keeper's own process: the child of `unshare`."""
        children = Path(f"/proc/{self._keeper.pid}/task/{self._keeper.pid}/children").read_text().split()
        return int(children[0])

    # What is compared

    def host(self, name: str) -> Path:
        """A host's root."""
        return self.folder / "world" / "hosts" / name

    def did(self, name: str) -> list[str]:
        """What was done to a host, in order."""
        log = self.host(name) / "var/log/node.log"
        return [line.partition(" ")[2] for line in log.read_text().splitlines()]

    def names(self) -> list[str]:
        """The hosts."""
        return sorted(path.name for path in (self.folder / "world" / "hosts").iterdir())

    def snapshot(self) -> dict[str, Any]:
        """All that a disturbed run must leave as an undisturbed one does."""
        shared = self.folder / "world"
        found: dict[str, Any] = {name: self._node(name) for name in self.names()}
        found["schemas"] = {
            path.name: (path / "schema").read_text().strip() for path in (shared / "databases").iterdir()
        }
        found["gets no guests"] = sorted(path.name for path in (shared / "databases").glob("*/disabled-*"))
        found["guests of the tests"] = sorted(path.name for path in (shared / "guests").iterdir())
        found["breaches"] = self.breaches()
        with self.journal() as journal:
            found["holds"] = journal.all_open_holds()
            found["quarantine"] = sorted(journal.quarantined())
        return found

    def breaches(self) -> str:
        """What was sent to hosts though the journal did not have it as begun."""
        file = self.folder / "world" / "breaches"
        return file.read_text() if file.exists() else ""

    def _node(self, name: str) -> dict[str, Any]:
        root = self.host(name)
        packages = [line.rpartition(" ")[0] for line in (root / "var/lib/rpm/packages").read_text().splitlines()]
        jobs = root / "var/lib/cellstep/jobs"
        lock = root / "var/lib/puppet/state/agent_disabled.lock"
        return {
            "packages": sorted(packages),
            "running": _names_in(root / "run/services"),
            "boot": _names_in(root / "etc/rc3.d"),
            "kernel": (root / "etc/kernel").read_text().strip(),
            "puppet": lock.read_text() if lock.exists() else "enabled",
            "updates": (root / "etc/sysconfig/yum-autoupdate").read_text(),
            "repositories": _names_in(root / "etc/yum.repos.d"),
            "alarms": "masked" if (root / "etc/alarms.masked").exists() else "on",
            "servers": {path.name: path.read_text().strip() for path in (root / "etc/haproxy/servers").iterdir()},
            "guests": sorted(
                (path / "cmdline").read_bytes().decode() + (path / "stat").read_text()
                for path in (root / "proc").iterdir()
                if path.name.isdigit()
            ),
            "counters": self.counters(name),
            "left of jobs": sorted(
                str(path.relative_to(jobs))
                for path in jobs.glob("*/*")
                # A reboot may end its own job before that has tidied up: those files go with their age.
                if path.name not in {"start", "out", "err", "status"} and ".reboot." not in path.parent.name
            ),
        }

    def counters(self, name: str) -> dict[str, int]:
        """How often each thing was done that must be done once."""
        once = re.compile(r"yum begins|yum transaction|reboot$|db sync|dump|CLASH|CRASH|yum download|promoted")
        words = (re.sub(r":.*", "", line) for line in self.did(name) if once.match(line))
        return dict(sorted(Counter(words).items()))

    def check_accounting(self) -> None:
        """The newest run is complete, and each step has exactly its nodes, each with an end."""
        with self.journal() as journal:
            run = journal.last_run()
            assert run is not None
            assert run.state == "complete", f"{run.state}: {run.message}"
            rows = journal.hosts(run.id)
            steps = {row["title"]: row["state"] for row in journal.steps(run.id)}
        runbook = runbook_of("nova", self.cloud)
        assert list(steps) == [step.title for step in runbook.steps]
        for step in runbook.steps:
            nodes = with_databases(self.cloud, self.cloud.nodes) if step.judge else self.cloud.nodes
            expected = sorted(node.name for node in step.on.choose(nodes))
            assert sorted(row["host"] for row in rows if row["step"] == step.title) == expected, step.title
        open_ = [(row["step"], row["host"], row["state"]) for row in rows if row["state"] in {"unknown", "not_run"}]
        assert not open_, open_


def _names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def up() -> Iterator[ScriptedCloud]:
    """A new scripted cloud; in memory where the machine has room for that, as a kill loses nothing of a disk's."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="cellstep-chaos-", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        build(folder)
        with (folder / "keeper.log").open("wb") as log:
            keeper = subprocess.Popen(
                [
                    *(
                        "unshare",
                        "--mount",
                        "--pid",
                        "--fork",
                        "--kill-child",
                        "--mount-proc",
                        "--propagation",
                        "private",
                    ),
                    *(sys.executable, "-m", "tests.chaos.keeper", str(folder)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], "HOME": "/root", "OPENBLAS_NUM_THREADS": "1"},
            )
        cloud = ScriptedCloud(folder, keeper)
        try:
            yield cloud
        finally:
            cloud.down()
    finally:
        shutil.rmtree(folder)
