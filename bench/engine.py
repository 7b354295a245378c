"""The engine's own time and memory: 5,000 hosts through a hold, a change and a gate.

Everything is real but the connection, which answers at once: Engine, Journal (on disk, WAL, FULL), Dispatcher, Nornir
with BoundedRunner, the lock and its token, the tasks, the gate's tables. KINDS=5000 in the environment makes every node
another by its packages, where 20 kinds are likelier. Ends with 1 where a host and step takes 3 ms or more, or 400 MiB.
"""

import contextlib
import itertools
import os
import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from nornir.core.plugins.connections import ConnectionPluginRegister

from cellstep.cloud.load import Cloud, load_cloud
from cellstep.engine.context import Context, Options
from cellstep.engine.dispatch import Dispatcher, Outcome
from cellstep.engine.journal import Journal
from cellstep.engine.lock import Lock
from cellstep.engine.run import Engine
from cellstep.engine.steps import Finding, Runbook, Step, gate, hold, step
from cellstep.stages import gates
from cellstep.stages.arguments import Site
from cellstep.stages.choices import COMPUTE_NODES
from plugins.connections.ssh import CommandResult
from tasks import evidence, packages, puppet

CELLS, PER_CELL = 25, 200
OTHER_PACKAGES = 400  # of an EL6 hypervisor, besides those of the release
KINDS = int(os.environ.get("KINDS", "20"))  # of nodes, by their packages
MOST_MIB, MOST_MS = 400, 3.0

CLOUD = """\
name: bench
release: grizzly-havana
workers: 64
repository: {name: havana, promote: {on: top-ctl01, command: promote}}
databases: {password_file: secret}
"""


class Node:
    """One node's answers, and the little that it must remember."""

    def __init__(self, release: Mapping[str, tuple[str, str]], kind: int) -> None:
        self.release, self.kind = release, kind
        self.disabled = self.updated = False

    def run(
        self, command: str, *, stdin: str = "", timeout: float | None = None, sink: BinaryIO | None = None
    ) -> CommandResult:
        """Answer at once."""
        del timeout, sink
        if "puppet agent --disable" in command:
            self.disabled = True
        elif "agent_disabled.lock" in command:
            return CommandResult(0 if self.disabled else 1, "cellstep\n" if self.disabled else "", "", 0.0)
        elif "cellstep-job" in command:
            self.updated = self.updated or bool(stdin)
            header = f"cellstep-job ended 0 1390000000 1390000009 b b 9 {'0' * 64}"
            return CommandResult(0, f"{header}\nComplete!\n", "", 0.0)
        elif "@boot_id" in command:
            system = f"@boot_id\nb\n2.6.32-431.el6.x86_64\n@packages\n{self._installed()}"
            return CommandResult(0, f"{system}@services\n@guests\nbtime 1390000000\n", "", 0.0)
        elif "rpm -qa" in command:
            return CommandResult(0, self._installed(), "", 0.0)
        return CommandResult(0, "", "", 0.0)

    def _installed(self) -> str:
        lines = [f"{name} {versions[self.updated]}" for name, versions in self.release.items()]
        return "".join(f"{line}\n" for line in [*OTHERS, f"package-of-a-kind {self.kind}-1", *lines])


OTHERS = [f"package-{number} {number}.0-1.el6" for number in range(OTHER_PACKAGES)]


def register(cloud: Cloud) -> None:
    """Put nodes that answer at once in the place of SSH."""
    facts = cloud.release.components["nova"].packages
    release = {name: (fact.was or "0-1", fact.evr) for name, fact in facts.items() if "compute" in fact.tiers}

    numbers = itertools.count()

    class Connection:
        connection: Node

        def open(self, *_: Any, **__: Any) -> None:
            self.connection = Node(release, next(numbers) % KINDS)

        def close(self) -> None:
            """Nothing to close."""

    ConnectionPluginRegister.register("cellstep_ssh", Connection)


class Quiet:
    """A display that shows nothing."""

    def step_begins(self, number: int, total: int, step: Step, nodes: Any) -> None:
        """A step begins."""

    def node_ended(self, step: Step, node: str, outcome: Outcome) -> None:
        """A node's outcome came in."""

    def step_ended(self, step: Step, counts: Mapping[str, int], seconds: float, note: str) -> None:
        """One line with the accounting."""
        del note
        nodes = sum(counts.values())
        print(f"  {step.title}: {nodes} = {' + '.join(f'{n} {state}' for state, n in counts.items())}, {seconds:.1f} s")

    def found(self, finding: Finding) -> None:
        """A gate found something."""
        print(f"  {finding.text}")


def runbook(cloud: Cloud) -> Runbook:
    """A hold, a change, a gate, each on all the compute nodes."""
    site = Site(cloud, "nova")
    every, ask = {"on": COMPUTE_NODES}, site.asking("rpms")
    return Runbook(
        "nova",
        (
            hold("a hold: Puppet stopped", puppet.AGENT, **every, **site.puppet),
            step("a change: the RPMs updated", packages.update, **every, per_node=site.packages),
            gate("a gate: the RPMs read and judged", evidence.gather, **every, per_node=ask, judge=gates.upgraded),
        ),
        may_miss=lambda node: node.tier == "compute",
    )


@contextlib.contextmanager
def a_cloud(folder: Path) -> Iterator[Cloud]:
    """The cloud, read from its folder."""
    cells = "\n".join(
        f"  cell{c:02}: {{data_centre: geneva, roles: {{controller: c{c:02}-ctl01, database: c{c:02}-ctl01,"
        f' compute: "c{c:02}-n[001-{PER_CELL:03}]"}}}}'
        for c in range(1, CELLS + 1)
    )
    (folder / "cloud.yaml").write_text(CLOUD)
    (folder / "inventory.yaml").write_text(
        f"top:\n  data_centre: geneva\n  roles: {{controller: top-ctl01, database: top-ctl01}}\ncells:\n{cells}\n"
    )
    yield load_cloud(folder)


def main() -> None:
    """Run the three steps, and print what they took."""
    with tempfile.TemporaryDirectory() as name, a_cloud(Path(name)) as cloud:
        register(cloud)
        nodes = tuple(node for node in cloud.nodes if node.tier == "compute")
        book = runbook(cloud)
        journal = Journal(Path(name) / "state" / "journal.sqlite3")
        lock = Lock(Path(name) / "state" / "lock")
        writes = Counter[str]()
        count_writes(journal, writes)
        with contextlib.closing(journal), lock.held(journal, "bench") as holder:
            run = journal.begin_run("nova", cloud.release.name, book.digest(nodes), {})
            context = Context(cloud, journal, run, "nova", Path(name) / "out", nodes, Options())
            began, used = time.perf_counter(), time.process_time()
            with Dispatcher(cloud, stopping=threading.Event()) as dispatcher:
                still_ours = lambda: lock.check(holder.token)  # noqa: E731 - as runs.py has it
                engine = Engine(book, context, dispatcher, Quiet(), lambda _: True, still_ours, holder.token)
                engine.execute(book.steps)
            seconds, cpu = time.perf_counter() - began, time.process_time() - used
            exact(journal, run, book, nodes)
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    steps = len(nodes) * len(book.steps)
    print(f"accounting exact: {steps:,} rows, each with an end")
    wall, used = seconds / steps * 1000, cpu / steps * 1000
    print(f"engine: {wall:.2f} ms a host and step, {used:.2f} ms of it CPU; at most {MOST_MS}")
    print(f"journal: {writes['writes']:,} transactions, {writes['us'] / 1e6:.1f} s of {seconds:.1f} s in them")
    print(f"memory: {mib:.0f} MiB at most; at most {MOST_MIB}")
    sys.exit(0 if wall < MOST_MS and mib < MOST_MIB else 1)


def count_writes(journal: Journal, writes: Counter[str]) -> None:
    """Count the journal's transactions, and their time in microseconds."""
    original = journal._write  # noqa: SLF001 - the measurement is of just that

    @contextlib.contextmanager
    def counted() -> Iterator[Any]:
        began = time.perf_counter()
        with original() as database:
            yield database
        writes["writes"] += 1
        writes["us"] += int((time.perf_counter() - began) * 1e6)

    journal._write = counted  # type: ignore[method-assign] # noqa: SLF001 - the same


def exact(journal: Journal, run: str, book: Runbook, nodes: Any) -> None:
    """Each step has exactly the nodes, each with a good end."""
    rows = journal.hosts(run)
    for line in book.steps:
        ended = Counter(row["host"] for row in rows if row["step"] == line.title and row["state"] in {"ok", "changed"})
        if ended != Counter(node.name for node in nodes):
            sys.exit(f"“{line.title}”: the journal does not have exactly the {len(nodes)} nodes")


if __name__ == "__main__":
    main()
