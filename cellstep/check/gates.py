"""The checks of a component's databases as a runbook has them: before the schema change, and after it."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from cellstep.check.after import After, Before, Row
from cellstep.check.before import NO_GO, judge
from cellstep.check.survey import arguments_of, expected
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.cloud.places import Place, places
from cellstep.engine.context import Context
from cellstep.engine.journal import Journal
from cellstep.engine.steps import Finding, Nodes
from tasks.hazards import Seen

if TYPE_CHECKING:
    import pandas as pd

KIND = "schema"
"""Of the journal's records: a database as it was before its schema was changed."""


class Checks:
    """The steps' view of one component's databases; `tasks.hazards.look` is their task.

    Args:
        cloud: the cloud.
        component: the component.
    """

    def __init__(self, cloud: Cloud, component: str) -> None:
        self.cloud, self.component = cloud, component
        self.places: dict[str, Place] = {place.node.name: place for place in places(cloud, component)}

    @property
    def on(self) -> Nodes:
        """The nodes of the databases whose schema is changed."""
        words = "database nodes" if len(self.places) > 1 else "the database node"
        return Nodes(words, lambda nodes: [node for node in nodes if node.name in self.places])

    # Before

    def before(self, _context: Context, node: Node) -> Mapping[str, Any]:
        """What a database is asked right before: what would stop the change, and all that is compared afterwards."""
        place = self.places[node.name]
        asking = partial(After.questions_before, expected(self.cloud, place))  # travels to a worker, as a lambda cannot
        return {**arguments_of(self.cloud, place), "questions": asking}

    def judge_before(self, context: Context, results: Mapping[str, Seen]) -> list[Finding]:
        """Nothing may stand against the change; how the databases are is kept for the comparison afterwards."""
        found = []
        for name, seen in results.items():
            place = self.places[name]
            for each in judge(expected(self.cloud, place), seen):
                if each.status == NO_GO:
                    rows = f" ({each.rows:,} rows)" if each.rows else ""
                    remedy = f". {each.remedy[0].upper()}{each.remedy[1:]}" if each.remedy else ""
                    found.append(Finding(f"{place}: {each.what}{rows}{remedy}", blocking=True))
            # One that was changed already, when the step is done again, is no state of before.
            if seen.head in place.schema.start and not context.options.dry_run:
                context.journal.keep_record(KIND, self.component, str(place), Before.of(seen).data(), context.run)
        return found

    # After

    def after(self, context: Context, node: Node) -> Mapping[str, Any]:
        """What a database is asked right after, while nothing writes to it yet."""
        quiet = self._changed_here(context, self.places[node.name])
        return self.asking(node, records(context.journal, self.component), quiet=quiet)

    def _changed_here(self, context: Context, place: Place) -> bool:
        """Whether this very run saw it before the change: since an earlier one the cloud has lived on."""
        record = context.journal.records(KIND, self.component).get(str(place))
        return record is not None and record.run == context.run

    def asking(self, node: Node, known: Mapping[str, Mapping[str, Any]], *, quiet: bool) -> Mapping[str, Any]:
        """What a database is asked after the change.

        Args:
            node: the database's node.
            known: how the databases were before, as `records` gives it; not needed unless it is quiet.
            quiet: nothing has written to it since the change.
        """
        place = self.places[node.name]
        return {
            "database": place.database,
            "repository_id": place.schema.repository_id,
            "questions": self._comparison(known, place, quiet=quiet).questions,
        }

    def judge_after(self, context: Context, results: Mapping[str, Seen]) -> list[Finding]:
        """The schemas must be the release's, with what is the site's own, and no row may be gone."""
        from reports.tables import schemas  # noqa: PLC0415 - brings pandas, 0.6 s

        found = []
        known = records(context.journal, self.component)
        for name, seen in results.items():
            quiet = self._changed_here(context, self.places[name])
            for row in self._comparison(known, self.places[name], quiet=quiet).rows(seen):
                if row.status not in schemas.GOOD:
                    blocking = row.status not in schemas.WARN
                    found.append(Finding(f"{self.places[name]}: {_words(row)}", blocking=blocking))
        return found

    def table(
        self,
        known: Mapping[str, Mapping[str, Any]],
        results: Mapping[str, Seen],
        *,
        quiet: bool = False,
        back: bool = False,
    ) -> "pd.DataFrame":
        """The table `schemas`.

        Args:
            known: how the databases were before, as `records` gives it.
            results: by node name what they said.
            quiet: nothing has written to them since the change.
            back: the change was taken back: they should be as before.
        """
        from reports.tables import schemas  # noqa: PLC0415 - brings pandas, 0.6 s

        found = []
        for name, seen in results.items():
            place = self.places[name]
            here = {"cell": place.node.cell, "host": name, "database": place.database}
            comparison = self._comparison(known, place, quiet=quiet)
            rows = comparison.rows_back(seen) if back else comparison.rows(seen)
            found += [{**here, **vars(row)} for row in rows]
        return schemas.table(found)

    def _comparison(self, known: Mapping[str, Mapping[str, Any]], place: Place, *, quiet: bool) -> After:
        data = known.get(str(place))
        return After(expected(self.cloud, place), Before.of_data(data) if data else None, quiet=quiet)


def records(journal: Journal, component: str) -> dict[str, Mapping[str, Any]]:
    """How a component's databases were before their schema was changed, by place."""
    return {place: record.data for place, record in journal.records(KIND, component).items()}


def _words(row: Row) -> str:
    compared = " ".join(
        f"{word} {text}," for word, text in (("before", row.before), ("now", row.after)) if text
    ).rstrip(",")
    return f"{row.what}: {row.status}" + (f" ({compared})" if compared else "")
