"""Dumps of a component's databases, their proof and the rehearsal on their copies: arguments, records, and the gate."""

import contextlib
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellstep import rehearsals
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.cloud.places import Place, places
from cellstep.engine.context import Context
from cellstep.engine.ledgers import Record
from cellstep.engine.steps import Finding, Nodes
from cellstep.errors import ConfigurationError, Stopped
from cellstep.wayback import synced
from tasks import manifest
from tasks.errors import Refused
from tasks.manifest import Manifest
from tasks.rehearsal import Rehearsal, Trial
from tasks.replicas import Replica
from tasks.staging import Dump, Proof, Staged

if TYPE_CHECKING:
    import pandas as pd

BACKUP, PROOF, REHEARSAL, RESTORE = "backup", "proof", rehearsals.KIND, "restore"
"""The kinds of the journal's records."""
BACK_UP = "Back up all DBs and create a local dump of each in case we need a rapid restore"
PROVE = "Restore each dump beside the cloud, compare it, and rehearse the schema change on the copy"
GATE = "Check that every dump is proven and rehearsed, and that nothing was written since"
"""The step without which no schema is changed."""
EVERYTHING = "nova"
"""The component with which all databases of a server are dumped: when it is upgraded, all of the cloud is at rest."""
ANEW = "done again when the run goes on: the gate after it has found something"


def titles(cell: str) -> tuple[str, str, str]:
    """The titles of the dump, of its proof and of the gate: for all databases, or for that of one cell alone."""
    if not cell:
        return BACK_UP, PROVE, GATE
    each = ("dump the database", f"{PROVE[0].lower()}{PROVE[1:]}".replace("each dump", "the dump"),
            "check that the dump is proven and rehearsed, and that nothing was written since")  # fmt: skip
    prefix = "main servers" if cell == "top" else cell
    return f"{prefix}: {each[0]}", f"{prefix}: {each[1]}", f"{prefix}: {each[2]}"


def changed_cells(nodes: Sequence[Node]) -> set[str]:
    """The cells whose schema a run on these nodes changes: one of their controllers does it."""
    return {node.cell for node in nodes if node.tier in {"top", "cell"}}


class Copies:
    """The steps' view of one component's databases.

    Args:
        cloud: the cloud.
        component: the component.
        cell: only its database in this cell; "" for all.

    Attributes:
        back_up, prove, gate: the titles of the three steps.
    """

    def __init__(self, cloud: Cloud, component: str, cell: str = "") -> None:
        self.cloud, self.component = cloud, component
        self.database = cloud.database(component)
        mine = [place for place in places(cloud, component) if cell in {"", place.node.cell}]
        self.schemas = {str(place): place for place in mine}
        self.back_up, self.prove, self.gate = titles(cell)
        self.everything = component == EVERYTHING

    # Where

    @property
    def sources(self) -> Nodes:
        """The nodes that are dumped: those of a run, and where it goes to controllers also those of their cells."""
        mine = {its.node.name for its in self.schemas.values()}
        stores = [node for node in self.cloud.nodes if node.name in mine or self._of_all(node)]

        def choose(nodes: Sequence[Node]) -> Sequence[Node]:
            names, cells = {node.name for node in nodes}, changed_cells(nodes)
            return [node for node in stores if node.name in names or node.cell in cells]

        return Nodes("database nodes" if len(stores) > 1 else "the database node", choose)

    def _of_all(self, node: Node) -> bool:
        return self.everything and "database" in node.roles

    @property
    def replicas(self) -> Nodes:
        """The nodes that are asked in place of the databases' own.

        Raises:
            ConfigurationError: cloud.yaml names none for one of them.
        """
        named = self.cloud.config.databases.replicas
        lacking = [its.node.name for its in self.schemas.values() if its.node.name not in named]
        if lacking:
            words = f"cloud.yaml: databases.replicas has none for {', '.join(lacking)}"
            raise ConfigurationError([f"{words}; name the node, with the role `replica`"])
        chosen = {named[its.node.name] for its in self.schemas.values()}
        return Nodes("replicas", lambda nodes: [node for node in nodes if node.name in chosen])

    @property
    def provers(self) -> Nodes:
        """The nodes where dumps are restored: the staging node, or where there is none the dumps' own."""
        on = self.cloud.config.staging.on
        if on is None:
            return self.sources
        # Of a run on some nodes too: where databases are dumped, their dumps are proven.
        there = [node for node in self.cloud.nodes if node.name == on]
        return Nodes("the staging node", lambda nodes: there if self.sources.choose(nodes) else [])

    @property
    def stagers(self) -> Nodes:
        """The staging node, where the schema is changed from there: in runs that go to a controller of its cell.

        Raises:
            ConfigurationError: cloud.yaml names none.
        """
        on = self.cloud.config.staging.on
        if on is None:
            words = f"cloud.yaml: staging.on is not there: the schema of {self.component} is changed from there"
            raise ConfigurationError([f"{words}; name a node that has the new release's commands"])
        cells = {its.node.cell for its in self.schemas.values()}
        there = [node for node in self.cloud.nodes if node.name == on]
        return Nodes("the staging node", lambda nodes: there if cells & changed_cells(nodes) else [])

    @property
    def cell(self) -> str:
        """The cell of the component's only database."""
        return next(iter(self.schemas.values())).node.cell

    # Arguments

    def dumps(self, context: Context, node: Node) -> Mapping[str, Any]:
        """What to dump, and this run's folders for dumps: on the database node, and here."""
        names = self.cloud.config.databases.names
        return {
            "database": self.database,
            "others": sorted(set(names.values()) - {self.database}) if self.everything else [],
            "folder": self._folder(context.run),
            "here": self._here(context, node.name),
            "repositories": {place.database: place.schema.repository_id for place in self.schemas.values()},
            "dump_share": self.cloud.config.preflight.dump_share,
        }

    def dumps_of_replica(self, context: Context, node: Node) -> Mapping[str, Any]:
        """The same on a replica, which must be close enough behind its master."""
        config = self.cloud.config
        master = next(name for name, replica in config.databases.replicas.items() if replica == node.name)
        return {**self.dumps(context, node), "replica": Replica(master, config.preflight.replica_lag_s)}

    def to_prove(self, context: Context, node: Node) -> Mapping[str, Any]:
        """The run's dumps that are restored on a node, and the schema changes that are tried on the copies."""
        elsewhere = self.cloud.config.staging.on is not None
        found = self.manifests(context)
        done = {place for place, known in found.items() if self._is_known(context, place, known)}
        mine = {
            place: known
            for place, known in found.items()
            if place not in done and (elsewhere or known.node == node.name)
        }
        return {
            "dumps": [self._dump(context, place, known) for place, known in mine.items()],
            "home": f"{self.cloud.config.staging.folder}/{context.run}",
            "rehearse": elsewhere,
        }

    def to_compare(self, context: Context, node: Node) -> Mapping[str, Any]:
        """The manifests of the run's dumps of a node."""
        found = self.manifests(context)
        return {"known": [found[place] for place in self.schemas if place in found and found[place].node == node.name]}

    def forecast(self, context: Context, node: Node) -> Mapping[str, Any]:
        """How long the schema change took that was rehearsed in this run for the node's cell, and when to mind.

        Raises:
            Stopped: the gate was left out, with --from or --step.
        """
        return self._forecast(context, node.cell)

    def forecast_of_stager(self, context: Context, _node: Node) -> Mapping[str, Any]:
        """The same on the staging node, which may be in any cell."""
        return self._forecast(context, self.cell)

    def _forecast(self, context: Context, cell: str) -> Mapping[str, Any]:
        passed = {row["title"] for row in context.journal.steps(context.run) if row["state"] == "done"}
        if self.gate not in passed and not context.options.dry_run:
            raise Stopped(f"no schema is changed before “{self.gate}” has passed in the same run: begin at the dumps")
        staging = self.cloud.config.staging
        tried = context.journal.records(REHEARSAL, self.component, context.run)
        mine = [place for place, its in self.schemas.items() if its.node.cell == cell]
        if not mine:
            raise Stopped(f"cloud.yaml and the inventory name no database of {self.component} in {cell}")
        restored = context.journal.records(RESTORE, self.component)
        for place in mine:
            if place in restored and restored[place].data["state"] not in {"ok", "changed", "skipped"}:
                raise Stopped(
                    f"{place}: `cellstep restore --apply` was begun ({restored[place].at}) and has not ended well:"
                    " do it again, before its schema is changed"
                )
        known = [Rehearsal.of(tried[place].data) for place in mine if place in tried]
        return {
            "stops": rehearsals.stops(self.schemas[mine[0]].schema),
            "forecast_s": max((each.seconds for each in known if each.ok), default=None),
            "warn_factor": staging.warn_factor,
            "stop_factor": staging.stop_factor,
        }

    def manifests(self, context: Context) -> dict[str, Manifest]:
        """The run's dumps by place, by the manifests beside our copies; one that is gone, or another's, is left out."""
        found = {}
        for place, record in context.journal.records(BACKUP, self.component, context.run).items():
            path = self._here(context, record.data["node"]) / manifest.name_of(record.data["database"])
            with contextlib.suppress(Refused, OSError):  # one that cannot be read is none
                known = manifest.parse(path.read_text(encoding="utf-8"), str(path))
                if known.digest == record.data["manifest"]:
                    found[place] = known
        return found

    def _dump(self, context: Context, place: str, known: Manifest) -> Dump:
        path = f"{self._folder(context.run)}/{known.file}"
        return Dump(place, known, path, self._here(context, known.node) / known.file, self._trial(place))

    def _trial(self, place: str) -> Trial | None:
        found = self.schemas.get(place)
        if found is None:
            return None
        command = self.cloud.config.staging.commands.get(self.component, found.schema.rehearse)
        return Trial(command, found.schema.config, self._head(found)) if command else None

    def _head(self, place: Place) -> int:
        return self.cloud.release.components[self.component].head(place.schema)

    def _folder(self, run: str) -> str:
        return f"{self.cloud.config.backup_folder}/{run}"

    @staticmethod
    def _here(context: Context, node: str) -> Path:
        return context.output / "backup" / node

    # Records

    def keep_backups(self, context: Context, host: str, found: Sequence[Manifest]) -> None:
        """Keep the manifests of a node's dumps."""
        for known in found:
            context.journal.keep_record(BACKUP, self.component, f"{host}/{known.database}", known.summary, context.run)

    def keep_proofs(self, context: Context, _host: str, found: Sequence[Staged]) -> None:
        """Keep what came of restoring dumps, and of trying schema changes on the copies."""
        for staged in found:
            place = staged.proof.place
            context.journal.keep_record(PROOF, self.component, place, staged.proof.plain(), context.run)
            if staged.rehearsal:
                context.journal.keep_record(REHEARSAL, self.component, place, staged.rehearsal.plain(), context.run)

    # The gate

    def proven(self, context: Context, results: Mapping[str, Mapping[str, Sequence[str]]]) -> list[Finding]:
        """Every dump must be proven, every schema change rehearsed on its copy, and nothing written since.

        What is found wrong is dumped, restored and rehearsed again when the run goes on. What another component has on
        the same servers is dumped and proven as well, but not at rest, and blocks nothing.
        """
        known = self.manifests(context)
        proofs = context.journal.records(PROOF, self.component, context.run)
        tried = context.journal.records(REHEARSAL, self.component, context.run)
        cells, begun = changed_cells(context.nodes), self._begun(context)
        wrong: dict[str, list[str]] = {}
        for place, its in self.schemas.items():
            if its.node.cell in begun:  # looked at again with a new node, say: its dump is the one from before
                results = {node: said for node, said in results.items() if node != its.node.name}
            elif place in known:
                wrong[place] = [
                    *_unproven(place, known[place], proofs.get(place)),
                    *self._unrehearsed(place, known[place], tried.get(place)),
                ]
            elif its.node.cell in cells:
                wrong[place] = [f"{place}: this run has no dump of it with its manifest"]
        for node, differences in results.items():
            for database, lines in differences.items():
                place = f"{node}/{database}"
                wrong.setdefault(place, []).extend(f"{place} is not what was dumped: {line}" for line in lines)
        others = [
            text for place in known.keys() - wrong.keys() for text in _unproven(place, known[place], proofs.get(place))
        ]
        self._again(context, {place for place, texts in wrong.items() if texts})
        return [
            *(Finding(text, blocking=True) for texts in wrong.values() for text in texts),
            *(Finding(text, blocking=False) for text in sorted(others)),
        ]

    @staticmethod
    def _begun(context: Context) -> set[str]:
        """The cells whose schema this run has begun to change."""
        from cellstep.stages import runbook_of  # noqa: PLC0415 - the runbooks are made of this

        run = [run for run in context.journal.runs(context.stage) if run.id == context.run]
        return synced(context.journal, runbook_of(context.stage, context.cloud), run)

    def _again(self, context: Context, wrong: Set[str]) -> None:
        """Have the run dump and prove these databases again when it goes on."""
        if not wrong or context.options.dry_run:
            return
        hosts = {place.partition("/")[0] for place in wrong}
        provers = {node.name for node in self.provers.choose(context.nodes)}
        elsewhere = self.cloud.config.staging.on is not None
        for title, again in ((self.back_up, hosts), (self.prove, provers if elsewhere else hosts)):
            rows = [row["host"] for row in context.journal.hosts(context.run, title) if row["host"] in again]
            if rows:
                context.journal.end_hosts(context.run, title, [(host, "not_run", ANEW) for host in rows])

    def _is_known(self, context: Context, place: str, known: Manifest) -> bool:
        """Whether a dump is proven already, and its schema change rehearsed, where that is to be."""
        proof = context.journal.records(PROOF, self.component, context.run).get(place)
        tried = context.journal.records(REHEARSAL, self.component, context.run).get(place)
        rehearsed = self._trial(place) is None or self.cloud.config.staging.on is None
        return not _unproven(place, known, proof) and (rehearsed or not self._unrehearsed(place, known, tried))

    def _unrehearsed(self, place: str, known: Manifest, record: Record | None) -> list[str]:
        if self.cloud.config.staging.on is None:
            return [f"{place}: its schema change was not rehearsed: name a node in staging.on of cloud.yaml"]
        tried = Rehearsal.of(record.data) if record else None
        if tried is None or tried.manifest != known.digest:
            return [f"{place}: its schema change was not rehearsed on a copy of this dump"]
        return [] if tried.ok else [f"{place}: the rehearsal of its schema change failed: {tried.error}"]

    # The report

    def tables(self, context: Context) -> "dict[str, pd.DataFrame]":
        """The tables of a run that only prepares: its dumps with their proofs, and the rehearsals."""
        from reports.tables import backups  # noqa: PLC0415 - brings pandas, 0.6 s
        from reports.tables import rehearsals as rehearsals_table  # noqa: PLC0415 - the same

        cells = {node.name: node.cell for node in self.cloud.nodes}
        proofs = self._of_run(context, PROOF)
        dumps = [
            {"cell": cells[known.node], **known.summary, "proof": proofs.get(place)}
            for place, known in self.manifests(context).items()
        ]
        tried = self._of_run(context, REHEARSAL)
        made = {"backups": backups.table(dumps)}
        if tried:
            rows = [{"cell": cells[place.partition("/")[0]], **data} for place, data in tried.items()]
            made["rehearsals"] = rehearsals_table.table(rows)
        return made

    def _of_run(self, context: Context, kind: str) -> dict[str, Mapping[str, Any]]:
        return {place: r.data for place, r in context.journal.records(kind, self.component, context.run).items()}


def _unproven(place: str, known: Manifest, record: Record | None) -> list[str]:
    proof = Proof.of(record.data) if record else None
    if proof is None or proof.manifest != known.digest:
        return [f"{place}: its dump was not proven by restoring it"]
    written = [f"{place}: {table} was written to while it was dumped" for table in proof.unsteady]
    return [f"{place}: its dump is not proven: {line}" for line in proof.differences] + written
