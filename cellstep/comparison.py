"""The tables of a verification: what the nodes and databases answered, compared with what should be."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cellstep import continuity
from cellstep.check.gates import Checks
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.cloud.policies import policies_of
from cellstep.verification import (
    BACKOUT,
    CLIENTS,
    TABLES,
    Answers,
    component_of,
    concerns,
    expected_services,
    guest_rows,
    packages_of,
)
from reports.reasons import Traces, by_key, short
from tasks import platforms
from tasks.evidence import Evidence

if TYPE_CHECKING:
    import pandas as pd

    from cellstep.baseline import Baseline


def tables_of(
    cloud: Cloud, component: str, nodes: Sequence[Node], answers: Answers, baseline: "Baseline", tables: Collection[str]
) -> "dict[str, pd.DataFrame]":
    """Make the tables from the answers.

    Args:
        cloud: the cloud.
        component: the stage's component.
        nodes: all nodes that the verification is about; those not in `answers.evidence` count as unreachable.
        answers: what they, and the databases of their cells, said.
        baseline: volumes and guests before; without one there is nothing to compare with, and what is there is `new`.
        tables: which of `TABLES` to make.

    Returns:
        The tables by name; one whose database did not answer is left out, because an empty one would look good.
    """
    made = _Tables(cloud, component, nodes, answers, baseline)
    read = answers.evidence.values()
    silent = {
        "volumes": not any(evidence.volumes is not None for evidence in read),
        "quotas": not any(evidence.quotas is not None for evidence in read),
        "schemas": not any(evidence.schema is not None for evidence in read),
        "images": not any(evidence.images is not None for evidence in read),
    }
    return {name: getattr(made, name)() for name in TABLES if name in tables and not silent.get(name)}


class _Tables:
    """One method a table: frames from the answers, handed to `reports.tables`."""

    def __init__(
        self, cloud: Cloud, component: str, nodes: Sequence[Node], answers: Answers, baseline: "Baseline"
    ) -> None:
        self.cloud, self.component, self.answers, self.baseline = cloud, component_of(component), answers, baseline
        self.back = component.endswith(BACKOUT)
        self.nodes = [node for node in nodes if concerns(cloud, self.component, node)]
        self.unreachable = {node.name for node in nodes if node.name not in answers.evidence}

    def _frame(self, rows: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
        import pandas as pd  # noqa: PLC0415 - 0.6 s, which only what makes a table should pay

        return pd.DataFrame(list(rows))

    def _evidence(self) -> Iterable[tuple[Node, Evidence]]:
        for node in self.cloud.nodes:
            if node.name in self.answers.evidence:
                yield node, self.answers.evidence[node.name]

    def rpms(self) -> "pd.DataFrame":
        from reports.tables import rpms  # noqa: PLC0415 - brings pandas

        before: dict[str, dict[str, str]] = {}
        for row in self.baseline.packages or ():
            before.setdefault(row["host"], {})[row["package"]] = row["installed"]
        expected: list[dict[str, str]] = [
            {"cell": node.cell, "host": node.name, "role": str(node.tier), "package": package, "expected": evr}
            for node in self.nodes
            for package, evr in (before.get(node.name, {}) if self.back else self._packages(node, before)).items()
        ]
        names = {row["package"] for row in expected}
        installed = [
            {"host": node.name, "package": package, "installed": evr}
            for node, evidence in self._evidence()
            if evidence.facts
            for package in names & evidence.facts.packages.keys()
            for evr in evidence.facts.packages[package]
        ]
        return rpms.table(self._frame(expected), self._frame(installed), self.unreachable)

    def _packages(self, node: Node, before: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        """What the stage leaves on the node, as its package manager writes versions; of clients those that it has."""
        known = packages_of(self.cloud, self.component, node)
        if self.component == CLIENTS:
            evidence = self.answers.evidence.get(node.name)
            now = evidence.facts.packages if evidence and evidence.facts else {}
            known = {name: evr for name, evr in known.items() if name in now or name in before.get(node.name, {})}
        version = platforms.named(node.platform).packages.version
        return {name: version(evr) for name, evr in known.items()}

    def services(self) -> "pd.DataFrame":
        from reports.tables import services  # noqa: PLC0415 - brings pandas

        read = {node.cell for node, evidence in self._evidence() if evidence.heartbeats is not None}
        expected = [
            {"cell": node.cell, "host": node.name, "service": service, "expected": "running", "binary": binary}
            for node in self.nodes
            for service, binary in expected_services(self.cloud, self.component, node).items()
        ]
        # Where the database did not answer, nothing is known of the heartbeats.
        deaf = {row["host"] for row in expected if row["binary"] and row["cell"] not in read}
        hosts = {row["host"] for row in expected}
        actual = [
            {"host": node.name, "service": service, **is_}
            for node, evidence in self._evidence()
            if node.name in hosts and evidence.facts
            for service, is_ in evidence.facts.services.items()
        ]
        heartbeats = [
            {"cell": node.cell, "host": row["host"], "binary": row["binary"], "age_s": row["age_s"]}
            for node, evidence in self._evidence()
            for row in evidence.heartbeats or ()
        ]
        return services.table(
            self._frame(expected),
            self._frame(actual),
            self._frame(heartbeats),
            self.unreachable | deaf,
            self.cloud.config.stale_after_s,
        )

    def schemas(self) -> "pd.DataFrame":
        seen = {node.name: evidence.schema for node, evidence in self._evidence() if evidence.schema is not None}
        return Checks(self.cloud, self.component).table(self.baseline.schemas, seen, back=self.back)

    def volumes(self) -> "pd.DataFrame":
        from reports.tables import volumes  # noqa: PLC0415 - brings pandas

        after = [row for _, evidence in self._evidence() for row in evidence.volumes or ()]
        traces = None if self.baseline.volumes is None else self._traces(())
        return volumes.table(self._frame(self.baseline.volumes or []), self._frame(after), traces)

    def quotas(self) -> "pd.DataFrame":
        read = next(evidence.quotas for _, evidence in self._evidence() if evidence.quotas is not None)
        rows = self._quotas(read)
        if self.back and self.baseline.quotas:
            # Odd as it was before the upgrade: the back-out has brought back exactly that.
            columns = [column for column in rows.columns if column != "status"]
            was = set(self._quotas(self.baseline.quotas[0])[columns].itertuples(index=False, name=None))
            same = rows.apply(lambda row: tuple(row[columns]) in was, axis=1)
            rows.loc[same & (rows["status"] != "ok"), "status"] = "as before"
        return rows

    def _quotas(self, read: Mapping[str, Any]) -> "pd.DataFrame":
        from reports.tables import quotas  # noqa: PLC0415 - brings pandas

        return quotas.of_facts(read)

    def guests(self) -> "pd.DataFrame":
        from reports.tables import guests  # noqa: PLC0415 - brings pandas

        after = guest_rows(self.nodes, self.answers)
        before = [*self._guests_before({row["uuid"] for row in after}), *self._guests_of_silent_nodes()]
        traces = None if self.baseline.guests is None else self._traces([*before, *after])
        return guests.table(self._frame(before), self._frame(after), self.unreachable, traces)

    def images(self) -> "pd.DataFrame":
        from reports.tables import images  # noqa: PLC0415 - brings pandas

        after = [row for _, evidence in self._evidence() for row in evidence.images or ()]
        traces = None if self.baseline.images is None else self._traces(())
        return images.table(self._frame(self.baseline.images or []), self._frame(after), traces)

    def policies(self) -> "pd.DataFrame":
        from reports.tables import policies  # noqa: PLC0415 - brings pandas

        places = [(node, {"cell": node.cell, "host": node.name}) for node in self.nodes]
        seen = [
            {**where, **row}
            for node, where in places
            if node.name in self.answers.evidence
            for row in self.answers.evidence[node.name].policies or ()
        ]
        silent = [
            where
            for node, where in places
            if node.name in self.unreachable and policies_of(self.cloud, self.component, node)
        ]
        return policies.table(seen, silent)

    def _traces(self, guests: Iterable[Mapping[str, Any]]) -> Traces:
        return continuity.traces(self.cloud, self.nodes, self.answers, self.baseline, guests)

    def _guests_before(self, now: Collection[str]) -> list[Mapping[str, Any]]:
        """Those of the nodes that this is about, and those that are on one of them now."""
        names = {node.name for node in self.nodes}
        return [row for row in self.baseline.guests or () if row["host"] in names or row["uuid"] in now]

    def _guests_of_silent_nodes(self) -> list[dict[str, Any]]:
        """Guests that the databases know on nodes that do not answer; a node without any gets a row all the same."""
        known = {row["host"] for row in self.baseline.guests or ()}
        placed = [
            row
            for node, evidence in self._evidence()
            if node.cell != "top"
            for row in evidence.instances or ()
            if row["vm_state"] == "active" and row["host"]
        ]
        silent = [
            node
            for node in self.nodes
            if node.tier == "compute" and node.name in self.unreachable and node.name not in known
        ]
        here = by_key(({**row, "host": short(row["host"])} for row in placed), "host")
        guests = {node.name: [row["uuid"] for row in here.get(short(node.name), ())] for node in silent}
        return [
            {"cell": n.cell, "host": n.name, "uuid": uuid, "boot_id": "", "start_ticks": "", "started_at": ""}
            for n in silent
            for uuid in guests[n.name] or [""]
        ]
