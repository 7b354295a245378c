"""cellstep as a process of its own on a lab: killed, frozen, waited for; and what its journal says meanwhile."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cellstep.cloud.load import load_cloud
from cellstep.cloud.select import with_databases
from cellstep.engine.journal import Journal
from cellstep.stages import runbook_of
from lab.commands import wait_until
from lab.state import LabFolder
from tests.support.labs import CELLSTEP, TestLab

ROOT = Path(__file__).parents[2]
KILLED = -signal.SIGKILL
PATIENCE_S = 400.0


class Controller:
    """A cellstep that is under way.

    Args:
        lab: whose cloud it works on.
        arguments: of the command.
        doomed: title of a step with holds, after whose journal entry it is killed; "" for none.
        struck: a `tests.chaos.strikes.Strike` as JSON; "" for none.
    """

    def __init__(self, lab: TestLab, *arguments: str, doomed: str = "", struck: str = "") -> None:
        self.lab, self.arguments = lab, arguments
        folder = LabFolder(lab.name).path / "controllers"
        folder.mkdir(exist_ok=True)
        self.output = folder / f"{len(list(folder.iterdir())) + 1:02}.out"
        command = [*CELLSTEP, *arguments]
        if doomed or struck:
            inside = ["ip", "netns", "exec", lab.spec.namespace, sys.executable]
            module = "tests.support.doomed" if doomed else "tests.chaos.struck"
            command = [*inside, "-m", module, doomed or struck, *arguments]
        with self.output.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={
                    "CELLSTEP_CLOUD": str(lab.cloud),
                    "CELLSTEP_TRACEBACK": "1",  # of a fault of cellstep itself
                    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                    "PYTHONPATH": os.environ.get("PYTHONPATH", ""),  # the tree that is tried
                },
            )

    @property
    def pid(self) -> int:
        """Its process id: `ip netns exec` keeps it."""
        return self._process.pid

    @property
    def said(self) -> str:
        """What it has printed so far."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def ended(self) -> bool:
        """Whether it has."""
        return self._process.poll() is not None

    def until(self, ready: Callable[[], bool], what: str, timeout: float = PATIENCE_S, every: float = 0.05) -> None:
        """Wait until something is so while it runs; fails when it ends before that."""

        def look() -> bool:
            if ready():
                return True
            assert not self.ended(), f"ended ({self._process.returncode}) before {what}:\n{self.said[-3000:]}"
            return False

        wait_until(look, timeout=timeout, what=f"{what}; it said:\n{self.said[-2000:]}", every=every)

    def kill(self) -> None:
        """SIGKILL; fails when it had ended by itself."""
        assert not self.ended(), f"it had ended by itself:\n{self.said[-3000:]}"
        self._process.kill()
        assert self._process.wait(20) == KILLED

    def freeze(self) -> None:
        """SIGSTOP, and wait until it stands still."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(lambda: self._state() == "T", timeout=20, what="the controller to stand still")

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def _state(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]

    def wait(self, expect: int | None = None, timeout: float = PATIENCE_S) -> int:
        """Wait for its end; its exit code."""
        code = self._process.wait(timeout)
        assert expect is None or code == expect, f"{self.arguments}: exit {code}, not {expect}:\n{self.said[-4000:]}"
        return code

    def end(self) -> None:
        """End it where a test failed and left it."""
        if not self.ended():
            self._process.kill()
            self._process.wait(20)


@contextmanager
def controller(lab: TestLab, *arguments: str, doomed: str = "") -> Iterator[Controller]:
    """Start one, which does not outlive the block."""
    started = Controller(lab, *arguments, doomed=doomed)
    try:
        yield started
    finally:
        started.end()


class Books:
    """What a lab's journal says, looked at from outside, also beside a run.

    Args:
        lab: the lab.
    """

    def __init__(self, lab: TestLab) -> None:
        self.lab = lab
        self.path = lab.cloud / "state" / "journal.sqlite3"

    @contextmanager
    def open(self) -> Iterator[Journal]:
        """The journal, to be read."""
        journal = Journal(self.path, read_only=True)
        try:
            yield journal
        finally:
            journal.close()

    def nodes(self, title: str) -> dict[str, str]:
        """The nodes of a step of the newest run, with their states; none before it began."""
        if not self.path.exists():
            return {}
        with self.open() as journal:
            run = journal.last_run()
            return {row["host"]: row["state"] for row in journal.hosts(run.id, title)} if run else {}

    def under_way(self, title: str) -> set[str]:
        """The nodes to which the step has been sent, and of which no end is known."""
        return {host for host, state in self.nodes(title).items() if state == "unknown"}

    def tries(self, title: str, host: str) -> int:
        """How often the step of the newest run has been sent to a node."""
        with self.open() as journal:
            run = journal.last_run()
            rows = journal.hosts(run.id, title) if run else []
        return sum(row["attempts"] for row in rows if row["host"] == host)

    def where(self) -> str:
        """The newest run's last step, and the nodes of which the end is not known."""
        with self.open() as journal:
            run = journal.last_run()
            assert run is not None
            steps = journal.steps(run.id)
            unknown = sorted({host for hosts in journal.unknown_hosts(run.id).values() for host in hosts})
        at = f"step {steps[-1]['number']}, “{steps[-1]['title']}” ({steps[-1]['state']})" if steps else "before step 1"
        return f"{at}, unknown: {', '.join(unknown) or 'none'}"

    def check(self, *, missed: tuple[str, ...] = (), stage: str | None = None) -> None:
        """The newest run (of a stage) is complete; each step has exactly its nodes, each with an end; none is held."""
        cloud = load_cloud(self.lab.cloud)
        with self.open() as journal:
            run = journal.last_run(stage)
            assert run is not None
            assert run.state == "complete", f"{run.state}: {run.message}"
            rows = journal.hosts(run.id)
            titles = [row["title"] for row in journal.steps(run.id)]
            held = journal.all_open_holds()
            unknown = journal.unknown_hosts(run.id)
        runbook = runbook_of(run.stage, cloud)
        assert titles == [step.title for step in runbook.steps]
        for step in runbook.steps:
            nodes = with_databases(cloud, cloud.nodes) if step.judge else cloud.nodes
            expected = sorted(node.name for node in step.on.choose(nodes))
            assert sorted(row["host"] for row in rows if row["step"] == step.title) == expected, step.title
        bad = [(row["step"], row["host"], row["state"]) for row in rows if row["state"] in {"failed", "not_run"}]
        assert not bad, bad
        assert {host for hosts in unknown.values() for host in hosts} <= set(missed), unknown
        assert {host for hosts in held.values() for host in hosts} <= set(missed), held


def within(seconds: float, began: float, what: str) -> float:
    """Seconds since a time of the monotonic clock; fails when it was longer than that."""
    took = time.monotonic() - began
    assert took <= seconds, f"{what} took {took:.0f} s, more than {seconds:.0f} s"
    return took
