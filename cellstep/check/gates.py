"""The checks of a component's databases as a runbook has them: before the schema change, and after it."""

from collections.abc import Mapping
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
        known = expected(self.cloud, place)
        return {
            **arguments_of(self.cloud, place),
            "questions": lambda live, version: After.questions_before(known, live, version),
        }

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
        return self.asking(context.journal, node, quiet=True)

    def asking(self, journal: Journal, node: Node, *, quiet: bool) -> Mapping[str, Any]:
        """What a database is asked after the change.

        Args:
            journal: knows how it was before.
            node: the database's node.
            quiet: nothing has written to it since.
        """
        place = self.places[node.name]
        return {
            "database": place.database,
            "repository_id": place.schema.repository_id,
            "questions": self._comparison(journal, place, quiet=quiet).questions,
        }

    def judge_after(self, context: Context, results: Mapping[str, Seen]) -> list[Finding]:
        """The schemas must be the release's, with what is the site's own, and no row may be gone."""
        from reports.tables import schemas  # noqa: PLC0415 - brings pandas, 0.6 s

        found = []
        for name, seen in results.items():
            for row in self.rows(context.journal, self.places[name], seen, quiet=True):
                if row.status not in schemas.GOOD:
                    blocking = row.status not in schemas.WARN
                    found.append(Finding(f"{self.places[name]}: {_words(row)}", blocking=blocking))
        return found

    def rows(self, journal: Journal, place: Place, seen: Seen, *, quiet: bool) -> list[Row]:
        """Everything that was compared in a database."""
        return self._comparison(journal, place, quiet=quiet).rows(seen)

    def table(self, journal: Journal, results: Mapping[str, Seen], *, quiet: bool = False) -> "pd.DataFrame":
        """The table `schemas`.

        Args:
            journal: knows how the databases were before.
            results: by node name what they said.
            quiet: nothing has written to them since the change.
        """
        from reports.tables import schemas  # noqa: PLC0415 - brings pandas, 0.6 s

        found = []
        for name, seen in results.items():
            place = self.places[name]
            here = {"cell": place.node.cell, "host": name, "database": place.database}
            found += [{**here, **vars(row)} for row in self.rows(journal, place, seen, quiet=quiet)]
        return schemas.table(found)

    def _comparison(self, journal: Journal, place: Place, *, quiet: bool) -> After:
        record = journal.records(KIND, self.component).get(str(place))
        before = Before.of_data(record.data) if record else None
        return After(expected(self.cloud, place), before, quiet=quiet)


def _words(row: Row) -> str:
    compared = " ".join(
        f"{word} {text}," for word, text in (("before", row.before), ("now", row.after)) if text
    ).rstrip(",")
    return f"{row.what}: {row.status}" + (f" ({compared})" if compared else "")
