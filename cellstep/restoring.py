"""Dumps put to the proof, and databases put back from them, on request and outside of any run.

A dump is found by its manifest, beside our copy of it in the folder of the run that made it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cellstep import runs
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.cloud.places import Place, places
from cellstep.engine.dispatch import Dispatcher, Errand, Outcome
from cellstep.engine.journal import Journal
from cellstep.errors import Stopped, TakenOver, UsageError
from cellstep.rehearsals import ago
from cellstep.stages.copies import PROOF, RESTORE
from tasks import manifest, restore, services, staging
from tasks.binding import Binding
from tasks.holds import HostTask
from tasks.manifest import Manifest
from tasks.staging import Dump, Proof

EVERYWHERE = "all"
WELL = frozenset({"ok", "changed", "skipped"})


@dataclass(frozen=True)
class Kept:
    """A dump that is kept.

    Attributes:
        place: the database that it is of.
        run: the run that made it.
        known: its manifest.
        here: our copy of it.
        folder: with it, on the node that the manifest names.
    """

    place: Place
    run: str
    known: Manifest
    here: Path
    folder: str

    def __str__(self) -> str:
        at = "" if self.known.head is None else f", version {self.known.head}"
        size = f"{len(self.known.tables)} tables, {self.known.size:,} bytes"
        return f"{self.place} of run {self.run}, dumped {ago(self.known.began)}{at}, {size}"


@dataclass(frozen=True)
class Verdict:
    """What came of putting a dump to the proof: the proof, or why there is none."""

    kept: Kept
    proof: Proof | None
    why: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is proven."""
        return self.proof is not None and self.proof.ok


@dataclass(frozen=True)
class Standing:
    """What stands in the way of putting a database back.

    Attributes:
        running: node to the services on it that work with the database.
        silent: node to the reason why it did not tell.
        unfinished: the runs that are not finished, in words.
    """

    running: Mapping[str, Sequence[str]] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)
    unfinished: tuple[str, ...] = ()


def find(
    cloud: Cloud, journal: Journal, component: str, node: str, run: str = "", *, before: bool = False
) -> list[Kept]:
    """The dumps of a component's databases, of each the newest.

    Args:
        cloud: the cloud.
        journal: its journal.
        component: whose databases.
        node: the database's node, or `all`.
        run: only of this run; "" for any.
        before: only those of a schema version that the release starts from; one that is named by its run will do, too.

    Raises:
        UsageError: there is no such node, no such run, or no dump.
        Refused: a manifest is there and cannot be read.
    """
    known = places(cloud, component)
    chosen = [place for place in known if node in {EVERYWHERE, place.node.name}]
    if not chosen:
        raise UsageError(
            f"{node} has no database of {component}; say {', '.join(place.node.name for place in known)}, or all"
        )
    records = [record for record in journal.runs() if run in {"", record.id}]
    if run and not records:
        raise UsageError(f"there is no run {run} in the journal")
    found, missing = [], []
    for place in chosen:
        kept = (_kept(cloud, place, record.id, Path(record.output)) for record in records if record.output)
        starts = place.schema.start if before and not run else None
        fits = (one for one in kept if one and (starts is None or one.known.head in starts))
        one = next(fits, None)
        if one is None:
            missing.append(str(place))
        else:
            found.append(one)
    if missing:
        which = f" in run {run}" if run else " of a version that the release starts from" if before else ""
        raise UsageError(f"there is no dump{which} of {', '.join(missing)}: `cellstep backup {component}` makes one")
    return found


def _kept(cloud: Cloud, place: Place, run: str, output: Path) -> Kept | None:
    """The dump of a database that a run made, on its own node or on its replica's."""
    replica = cloud.config.databases.replicas.get(place.node.name)
    for name in (place.node.name, replica):
        path = output / "backup" / name / manifest.name_of(place.database) if name else None
        if path and path.is_file():
            known = manifest.load(path)
            return Kept(place, run, known, path.with_name(known.file), f"{cloud.config.backup_folder}/{run}")
    return None


class Restorer:
    """Puts dumps to the proof and databases back, while it holds the cloud's lock.

    Args:
        cloud: the cloud.
        journal: its journal.
        dispatcher: sends to its nodes.
        token: of the lock's holder.
        tell: takes a line for the operator, of any thread.
    """

    def __init__(
        self, cloud: Cloud, journal: Journal, dispatcher: Dispatcher, token: int, tell: Callable[[str], None]
    ) -> None:
        self.cloud, self.journal, self.dispatcher = cloud, journal, dispatcher
        # Its jobs are nobody else's: what an earlier call began is not taken for what this one asks for.
        self.name = f"restore-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        self._token, self._lock, self._tell = token, runs.lock_of(cloud), tell

    def verify(self, component: str, found: Sequence[Kept]) -> list[Verdict]:
        """Restore dumps into scratch servers and compare them with their manifests; keeps the proofs."""
        on = self.cloud.config.staging.on
        groups: dict[str, list[Kept]] = {}
        for kept in found:
            groups.setdefault(on or kept.known.node, []).append(kept)
        home = f"{self.cloud.config.staging.folder}/{self.name}"
        arguments = {
            name: {"dumps": [_dump(kept) for kept in group], "home": home, "rehearse": False}
            for name, group in groups.items()
        }
        outcomes = self._send(staging.prove, list(groups), arguments, "verify")
        verdicts = []
        for name, group in groups.items():
            outcome = outcomes[name]
            proofs = [staged.proof for staged in outcome.result.data] if outcome.state in WELL else []
            for n, kept in enumerate(group):
                proof = proofs[n] if proofs else None
                if proof:
                    self.journal.keep_record(PROOF, component, str(kept.place), proof.plain(), kept.run)
                verdicts.append(Verdict(kept, proof, "" if proof else f"{name} {outcome.state}: {outcome.detail}"))
        return verdicts

    def standing(self, component: str, place: Place) -> Standing:
        """What stands in the way of putting a database back: services that run, and runs that are not finished."""
        wanted: dict[Node, list[str]] = {}
        for node in self.cloud.nodes:
            if node.tier and (not place.schema.per_cell or node.cell == place.node.cell):
                names = list(self.cloud.services_on(component, node.tier))
                if names:
                    wanted[node] = names
        questions = {node.name: {"services": names} for node, names in wanted.items()}
        answers, silent = self.dispatcher.ask(services.read, list(wanted), questions) if wanted else ({}, {})
        running = {
            name: [service for service, state in states.items() if state["actual"] == "running"]
            for name, states in answers.items()
        }
        unfinished = self.journal.unfinished_run()
        said = (
            (f"run {unfinished.id} of {unfinished.stage} is not finished ({unfinished.state})",) if unfinished else ()
        )
        return Standing({name: found for name, found in running.items() if found}, silent, said)

    def refuse(self, component: str, kept: Kept) -> Standing:
        """See that a database may be put back from a dump.

        Raises:
            Stopped: the dump is not proven, or services of the component still run there.
        """
        if not proven(self.journal, component, kept):
            raise Stopped(
                f"the dump of {kept} is not proven: "
                f"`cellstep restore {kept.place.node.name} --verify --from {kept.run}` does that"
            )
        standing = self.standing(component, kept.place)
        if standing.running:
            said = "; ".join(f"{name}: {', '.join(found)}" for name, found in standing.running.items())
            raise Stopped(f"services that work with {kept.place} run: {said}; stop them first")
        return standing

    def apply(self, component: str, kept: Kept) -> str:
        """Put a database back from a proven dump; returns what was done, in words.

        Raises:
            Stopped: as `refuse`; or it could not be done, and the message says why.
            TakenOver: another operator has taken the cloud over.
        """
        self.refuse(component, kept)
        name = kept.place.node.name
        self.journal.event("", f"begins to put {kept} back")
        self.journal.keep_record(RESTORE, component, str(kept.place), {"state": "begun"}, self.name)
        arguments = {"known": kept.known, "folder": kept.folder, "here": kept.here}
        outcome = self._send(restore.put_back, [name], {name: arguments}, "put back")[name]
        self.journal.keep_record(RESTORE, component, str(kept.place), {"state": outcome.state}, self.name)
        self.journal.event("", f"putting {kept.place} back: {outcome.state}: {outcome.detail}")
        if outcome.state not in WELL:
            raise Stopped(f"{kept.place} was not put back: {outcome.detail}")
        return outcome.detail

    def _send(
        self, task: HostTask, names: Sequence[str], arguments: Mapping[str, Mapping[str, object]], step: str
    ) -> dict[str, Outcome]:
        nodes = [node for node in self.cloud.nodes if node.name in names]
        bindings = {
            name: Binding(
                self.name, step, token=self._token, still_ours=lambda: self._lock.check(self._token), tell=self._tell
            )
            for name in names
        }
        outcomes = self.dispatcher.send(task, nodes, arguments, Errand(bindings=bindings))
        for outcome in outcomes.values():
            if outcome.fenced:
                raise TakenOver(outcome.detail)
        return {name: outcomes.get(name, Outcome("not_run", "interrupted")) for name in names}


def proven(journal: Journal, component: str, kept: Kept) -> bool:
    """Whether this very dump was restored, and found to be what its manifest says."""
    for run in (kept.run, None):
        record = journal.records(PROOF, component, run).get(str(kept.place))
        proof = Proof.of(record.data) if record else None
        if proof is not None and proof.ok and proof.manifest == kept.known.digest:
            return True
    return False


def _dump(kept: Kept) -> Dump:
    return Dump(str(kept.place), kept.known, f"{kept.folder}/{kept.known.file}", kept.here)
