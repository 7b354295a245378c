"""Dumps of a component's databases, their proof and the rehearsal on their copies: arguments, records, and the gate."""

from collections.abc import Mapping, Sequence
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
from cellstep.stages.choices import DATABASES
from tasks import manifest
from tasks.manifest import Manifest
from tasks.rehearsal import Rehearsal, Trial
from tasks.replicas import Replica
from tasks.staging import Dump, Proof, Staged

if TYPE_CHECKING:
    import pandas as pd

BACKUP, PROOF, REHEARSAL = "backup", "proof", rehearsals.KIND
"""The kinds of the journal's records."""
GATE = "Check that every dump is proven and rehearsed, and that nothing was written since"
"""The step without which no schema is changed."""


class Copies:
    """The steps' view of one component's databases.

    Args:
        cloud: the cloud.
        component: the component.
    """

    def __init__(self, cloud: Cloud, component: str) -> None:
        self.cloud, self.component = cloud, component
        self.database = cloud.database(component)
        self.schemas = {str(place): place for place in places(cloud, component)}

    # Where

    @property
    def sources(self) -> Nodes:
        """The nodes that are dumped: all database nodes for what every cell has, else the one that has it."""
        if any(place.schema.per_cell for place in self.schemas.values()):
            return DATABASES
        names = {place.node.name for place in self.schemas.values()}
        return Nodes("the database node", lambda nodes: [node for node in nodes if node.name in names])

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

    # Arguments

    def dumps(self, context: Context, node: Node) -> Mapping[str, Any]:
        """What to dump, and this run's folders for dumps: on the database node, and here."""
        names = self.cloud.config.databases.names
        whole = self.sources is DATABASES
        return {
            "database": self.database,
            "others": sorted(set(names.values()) - {self.database}) if whole else [],
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
        mine = {place: known for place, known in found.items() if elsewhere or known.node == node.name}
        return {
            "dumps": [self._dump(context, place, known) for place, known in mine.items()],
            "home": f"{self.cloud.config.staging.folder}/{context.run}",
            "rehearse": elsewhere,
        }

    def to_compare(self, context: Context, node: Node) -> Mapping[str, Any]:
        """The manifests of the run's dumps of a node."""
        return {"known": [known for known in self.manifests(context).values() if known.node == node.name]}

    def forecast(self, context: Context, node: Node) -> Mapping[str, Any]:
        """How long the schema change took that was rehearsed in this run for the node's cell, and when to mind.

        Raises:
            Stopped: the gate was left out, with --from or --step.
        """
        passed = {row["title"] for row in context.journal.steps(context.run) if row["state"] == "done"}
        if GATE not in passed and not context.options.dry_run:
            raise Stopped(f"no schema is changed before “{GATE}” has passed in the same run: begin at the dumps")
        staging = self.cloud.config.staging
        tried = context.journal.records(REHEARSAL, self.component)
        mine = [place for place, its in self.schemas.items() if its.node.cell == node.cell and place in tried]
        known = [Rehearsal.of(tried[place].data) for place in mine if tried[place].run == context.run]
        here = next(its for its in self.schemas.values() if its.node.cell == node.cell)
        return {
            "stops": rehearsals.stops(here.schema),
            "forecast_s": max((each.seconds for each in known if each.ok), default=None),
            "warn_factor": staging.warn_factor,
            "stop_factor": staging.stop_factor,
        }

    def manifests(self, context: Context) -> dict[str, Manifest]:
        """The run's dumps by place, by the manifests beside our copies; one that is gone, or another's, is left out."""
        found = {}
        for place, record in context.journal.records(BACKUP, self.component).items():
            path = self._here(context, record.data["node"]) / manifest.name_of(record.data["database"])
            if record.run == context.run and path.is_file():
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
        """Every dump must be proven, every schema change rehearsed on its copy, and nothing written since."""
        known = self.manifests(context)
        proofs = context.journal.records(PROOF, self.component)
        tried = context.journal.records(REHEARSAL, self.component)
        found = [text for place, its in known.items() for text in _unproven(place, its, proofs.get(place))]
        nodes = {node.name for node in self.sources.choose(context.nodes)}
        for place, its in self.schemas.items():
            if its.node.name not in nodes:
                continue
            if place not in known:
                found.append(f"{place}: this run has no dump of it with its manifest")
            else:
                found += self._unrehearsed(place, known[place], tried.get(place))
        for node, differences in results.items():
            for database, lines in differences.items():
                found += [f"{node}/{database} is not what was dumped: {line}" for line in lines]
        return [Finding(text, blocking=True) for text in found]

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
        records = context.journal.records(kind, self.component)
        return {place: record.data for place, record in records.items() if record.run == context.run}


def _unproven(place: str, known: Manifest, record: Record | None) -> list[str]:
    proof = Proof.of(record.data) if record else None
    if proof is None or proof.manifest != known.digest:
        return [f"{place}: its dump was not proven by restoring it"]
    written = [f"{place}: {table} was written to while it was dumped" for table in proof.unsteady]
    return [f"{place}: its dump is not proven: {line}" for line in proof.differences] + written
