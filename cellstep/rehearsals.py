"""What is known of a component's schema changes before they are made: their rehearsals, and where they may stop."""

from datetime import UTC, datetime

from cellstep.cloud.load import Cloud
from cellstep.cloud.places import places
from cellstep.engine.journal import Journal
from cellstep.engine.ledgers import Record
from cellstep.releases.model import SchemaFact
from tasks.rehearsal import Rehearsal, Stop

KIND = "rehearsal"
"""Of the journal's records."""
SLOWEST = 3
"""How many of the slowest versions are named."""


def stops(schema: SchemaFact) -> tuple[Stop, ...]:
    """Where the release's schema change is known to stop part-way."""
    return tuple(
        Stop(each.stops_at, each.error, each.name, each.remedy, each.loses, each.rerun) for each in schema.hazards
    )


def lines(cloud: Cloud, journal: Journal, component: str) -> list[str]:
    """The newest rehearsal of each of a component's databases in words, a line a database; none where it has none."""
    if not cloud.release.components[component].databases:
        return []
    found = journal.records(KIND, component)
    return [f"{place}: {words(found.get(str(place)))}" for place in places(cloud, component)]


def words(record: Record | None) -> str:
    """A rehearsal: when, from which version to which, how long, what took longest; or why it failed."""
    if record is None:
        return "its schema change was never rehearsed"
    tried = Rehearsal.of(record.data)
    when = f"rehearsed {ago(record.at)}"
    if not tried.ok:
        return f"{when}: failed: {tried.error}"
    said = f"{when}: version {tried.start} to {tried.end} in {took(tried.seconds)}"
    if slow := slowest(tried):
        said += f" ({slow})"
    if _series(tried.server) != _series(tried.live):
        said += f"; on a server {_series(tried.server)}, the database's own is {_series(tried.live)}"
    return said


def slowest(tried: Rehearsal) -> str:
    """The versions that took longest, where they are worth a word: `189: 40 s, 12,000 rows`."""
    steps = sorted((step for step in tried.steps if step.seconds >= 1), key=lambda step: -step.seconds)[:SLOWEST]
    rows = {step.version: step.written + step.changed + step.deleted for step in steps}
    return "; ".join(f"{step.version}: {took(step.seconds)}, {rows[step.version]:,} rows" for step in steps)


def took(seconds: float) -> str:
    """A duration: `12 s`, `4 min 3 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def ago(at: str) -> str:
    """How long ago a time of the journal was: `5 minutes ago`, `yesterday`, `12 days ago`."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(at)).total_seconds()
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        count = int(seconds // size)
        if count:
            return f"{count} {unit}{'s' * (count != 1)} ago"
    return "just now"


def _series(version: str) -> str:
    """MariaDB's or MySQL's series: what decides how long a change takes."""
    numbers = version.removeprefix("5.5.5-").split("-")[0].split(".")[:2]
    return ("MariaDB " if "mariadb" in version.lower() else "MySQL ") + ".".join(numbers)
