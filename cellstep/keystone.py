"""Keystone's database as the operator handles it: EC2 keys kept in step, expired tokens purged; under the lock."""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cellstep import runs
from cellstep.cloud.load import Cloud
from cellstep.cloud.places import Place, places
from cellstep.engine.dispatch import Dispatcher, Errand
from cellstep.engine.journal import DONE
from cellstep.errors import CellstepError, Locked, Stopped, TakenOver, UsageError
from cellstep.stages.arguments import Site
from cellstep.stages.identity import MAIN, Identity
from reports.writers import replacing
from tasks.binding import Binding
from tasks.holds import HostTask
from tasks.keystone import ec2, tokens
from tasks.keystone.probe import Matrix, crossed

_WITHOUT = "remove it knowingly: without it a deleted key cannot be told from a new one, and is copied back"


class NotDone(CellstepError):
    """The database was not reached, or refused: mend what the message names, then call again."""

    exit_code = 3


class Keystone:
    """Keystone's database, and its servers.

    Args:
        cloud: the cloud.
        dispatcher: to its nodes; its `stopping` ends what takes long.

    Attributes:
        place: where the main servers' is.
    """

    def __init__(self, cloud: Cloud, dispatcher: Dispatcher) -> None:
        self.cloud, self.dispatcher = cloud, dispatcher
        found = places(cloud, "keystone")
        self.place: Place = next((place for place in found if place.node.cell == "top"), found[0])
        name = quote(str(self.place), safe="")
        self.memory: Path = runs.journal_path(cloud).with_name(f"ec2-{name}.json")

    # EC2 keys

    def look(self) -> ec2.Standing:
        """Compare the two tables; writes nothing, and needs no lock."""
        standing: ec2.Standing = self._send(ec2.look, {"known": self._known()})
        return standing

    def bring_in_step(self, *, copy_back: Collection[str] = (), delete: Collection[str] = ()) -> ec2.Standing:
        """Copy to each table what it lacks, and remember what both have.

        Args:
            copy_back: access keys that were deleted from one table, and are copied to it again.
            delete: such ones that are deleted from the other, too.

        Raises:
            Locked: a run holds the cloud.
        """
        if both := sorted(set(copy_back) & set(delete)):
            raise UsageError(f"{', '.join(both)}: to be copied back and to be deleted; say one of them")
        with self._held("keystone sync-ec2") as (binding, event):
            arguments = {"known": self._known(), "copy_back": copy_back, "delete": delete}
            standing: ec2.Standing = self._send(ec2.bring_in_step, arguments, binding)
            if said := written(standing):
                event(f"EC2 keys of {self.place}: {said}")
            if not standing.over:
                self._remember(standing.remembered)
        return standing

    def watch(self, every_s: float, *, apply: bool, tell: Callable[[str, ec2.Standing | None], None]) -> ec2.Standing:
        """Keep the tables in step until the dispatcher's `stopping` is set, or Grizzly's table is gone.

        Args:
            every_s: seconds between two looks.
            apply: copy; else only look.
            tell: takes a line when something has changed: what stands in the way, else how the tables stand.

        Returns:
            How they stood when they were last seen.

        Raises:
            TakenOver: another operator has taken the cloud over.
        """
        last, said = ec2.Standing(), ""
        while True:
            try:
                standing = self.look()
                if apply and (any(standing.lacking.values()) or standing.remembered != self._known()):
                    standing = self.bring_in_step()
            except TakenOver:
                raise
            except (NotDone, Locked, Stopped) as error:
                if str(error) != said and not self.dispatcher.stopping.is_set():
                    said = str(error)
                    tell(said, None)
            else:
                shown = summary(standing)
                if shown != said or written(standing):
                    tell(shown, standing)
                last, said = standing, shown
                if standing.over:
                    return last
            if self.dispatcher.stopping.wait(every_s):
                return last

    def _known(self) -> frozenset[str]:
        try:
            known = json.loads(self.memory.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.memory} cannot be read ({error}); {_WITHOUT}") from error
        if not isinstance(known, list) or not all(isinstance(one, str) for one in known):
            raise UsageError(f"{self.memory} is no list of ids; {_WITHOUT}")
        return frozenset(known)

    def _remember(self, known: frozenset[str]) -> None:
        if known == self._known():
            return
        with replacing(self.memory) as scratch:
            descriptor = os.open(scratch, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(sorted(known), file, indent=0)

    # Servers

    def probe(self) -> tuple[dict[str, Matrix], dict[str, str]]:
        """Try the tokens of all servers at all servers of the same cell; each log-in makes a token.

        Returns:
            By cell what came of it; and of each cell that could not be asked the reason.
        """
        own = Identity(Site(self.cloud, "keystone"))
        first = {own.servers_of(cell)[0].name: cell for cell in (MAIN, *own.cells)}
        nodes = [node for node in self.cloud.nodes if node.name in first]
        arguments = {node.name: {**own.crossing(node), "timeout_s": 0.0} for node in nodes}
        answers, silent = self.dispatcher.ask(crossed, nodes, arguments)
        return (
            {first[name]: noted.data for name, noted in answers.items()},
            {first[name]: why for name, why in silent.items()},
        )

    # Tokens

    def count_tokens(self, tally: tokens.Tally, progress: Callable[[], None]) -> None:
        """Count all tokens and the expired ones into `tally`; writes nothing, and needs no lock."""
        self._send(tokens.count, {"tally": tally, "stopping": self.dispatcher.stopping, "progress": progress})

    def purge_tokens(self, tally: tokens.Tally, progress: Callable[[], None], *, batch: int, pause_s: float) -> None:
        """Delete the expired tokens, counting into `tally`, which says how far it came however it ends."""
        with self._held("keystone purge-tokens") as (binding, event):
            event(f"begins to delete the expired tokens of {self.place}, {batch:,} at a time")
            try:
                arguments = {
                    "tally": tally,
                    "stopping": self.dispatcher.stopping,
                    "progress": progress,
                    "batch": batch,
                    "pause_s": pause_s,
                }
                self._send(tokens.purge, arguments, binding)
            finally:
                event(f"deleted {tally.deleted:,} expired tokens of {self.place}{'' if tally.whole else ', not all'}")

    # Both

    @contextlib.contextmanager
    def _held(self, doing: str) -> Iterator[tuple[Binding, Callable[[str], None]]]:
        """Hold the cloud's lock: what binds the task to it, and what writes a line into the journal."""
        lock, journal = runs.lock_of(self.cloud), runs.open_journal(self.cloud)
        with contextlib.closing(journal), lock.held(journal, doing) as holder:
            binding = Binding("", "", token=holder.token, still_ours=lambda: lock.check(holder.token))
            yield binding, lambda what: journal.event("", what)

    def _send(self, task: HostTask, arguments: Mapping[str, Any], binding: Binding | None = None) -> Any:
        node = self.place.node
        errand = Errand(bindings={node.name: binding} if binding else None)
        arguments = {"database": self.place.database, **arguments}
        outcome = self.dispatcher.send(task, [node], {node.name: arguments}, errand).get(node.name)
        if outcome is None:
            raise NotDone(f"{node.name} was not asked: interrupted")
        if outcome.fenced:
            raise TakenOver(outcome.detail)
        if outcome.state not in DONE:
            raise NotDone(f"{node.name} {outcome.state}: {outcome.detail}")
        return outcome.result


def written(standing: ec2.Standing) -> str:
    """What was written, in words; "" where nothing was."""
    parts = [f"copied {len(keys):,} to {table}" for table, keys in standing.copied.items() if keys]
    return ", ".join([*parts, *([f"deleted {len(standing.removed):,}"] if standing.removed else [])])


def summary(standing: ec2.Standing) -> str:
    """How the tables stand, in one line."""
    if standing.over:
        return standing.over
    parts = [f"{standing.in_step:,} in step"]
    parts += [f"{len(keys):,} to be copied to {table}" for table, keys in standing.lacking.items() if keys]
    kinds = Counter(finding.kind for finding in standing.findings)
    return ", ".join([*parts, *(f"{kinds[kind]:,} {kind}" for kind in sorted(kinds))])
