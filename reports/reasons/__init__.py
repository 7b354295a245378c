"""Why a volume, a guest or an image is not as it was: who did that to it, by what the databases say.

A difference counts as a user's only where there is a trace of it that a user's request leaves: an action with a user, a
row that was deleted at a time since. An action without a user explains nothing: a service that finds a guest dead and
writes that down is not why it is dead.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Row = Mapping[str, Any]

USER, UPGRADE, UNEXPLAINED = "user", "upgrade", "unexplained"

ABSENT, DELETED = "", "deleted"
"""States of a guest in a database where it has no live row."""


@dataclass(frozen=True)
class Reason:
    """Who made a difference.

    Attributes:
        by: `user` or `upgrade`.
        action: what was asked for.
        who: the user (the run, where it was the upgrade); "" where no database says it.
        when: ISO 8601 UTC.
        words: what else is to be said.
    """

    by: str
    action: str
    who: str = ""
    when: str = ""
    words: str = ""


@dataclass(frozen=True)
class Standing:
    """A guest in one database: its vm_state, DELETED or ABSENT; None where that was not asked."""

    before: str | None = None
    after: str | None = None

    @property
    def differs(self) -> bool:
        """Whether it is another now. One that came and went meanwhile is not."""
        known = self.before is not None and self.after is not None
        return known and self.before != self.after and {self.before, self.after} != {ABSENT, DELETED}


UNKNOWN = Standing()


@dataclass(frozen=True)
class Ours:
    """What the upgrade itself did.

    Attributes:
        prefixes: how the names of the check-out tests' guests begin, with the run of each.
        reboots: node to its reboots by us: (begun, ended, run).
        quarantine: node to its quarantine: the reason, with its run and since when.
    """

    prefixes: Mapping[str, str] = field(default_factory=dict)
    reboots: Mapping[str, Sequence[tuple[str, str, str]]] = field(default_factory=dict)
    quarantine: Mapping[str, Reason] = field(default_factory=dict)

    def named(self, name: str) -> str:
        """The run that made a guest of this name for its check-out tests, or ""."""
        return next((run for prefix, run in self.prefixes.items() if name.startswith(prefix)), "")


@dataclass(frozen=True)
class Traces:
    """What was done to volumes, guests and images since the lists from before were saved.

    Attributes:
        slack_s: by how many seconds two clocks may differ.
        standings: uuid to the guest in the API's database and in its cell's.
        instances: rows of instances that were touched, each with its `source` (`api` or `cell`). These and those of
            attachments, volumes and images have `since`: when the lists were saved, by the clock of their database.
        actions: what users asked for.
        attachments: rows of block_device_mapping that were touched.
        volumes: rows of volumes that were touched.
        transfers: transfers that were accepted.
        images: rows of images that were touched.
        ours: what the upgrade did.
        answered: hypervisors that answered, by their short names.
        fresh: nodes whose guests are not compared: they were not saved before, or no database was asked.
    """

    slack_s: float = 0.0
    standings: Mapping[str, tuple[Standing, Standing]] = field(default_factory=dict)
    instances: Sequence[Row] = ()
    actions: Sequence[Row] = ()
    attachments: Sequence[Row] = ()
    volumes: Sequence[Row] = ()
    transfers: Sequence[Row] = ()
    images: Sequence[Row] = ()
    ours: Ours = field(default_factory=Ours)
    answered: frozenset[str] = frozenset()
    fresh: frozenset[str] = frozenset()


def by_key(rows: Iterable[Row], key: str) -> dict[str, list[Row]]:
    """The rows of each value of a column."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found


def first_time(row: Row, *columns: str) -> str:
    """The first of these times that the row has, or ""."""
    return next((row[column] for column in columns if row.get(column)), "")


def seconds_after(time: str, other: str) -> float:
    """By how many seconds a time is after another."""
    return (datetime.fromisoformat(time) - datetime.fromisoformat(other)).total_seconds()


def short(host: str) -> str:
    """A host's name without its domain: Nova may have the full one where the inventory has the short one."""
    return host.split(".", maxsplit=1)[0]


def joined(reasons: Sequence[Reason]) -> Reason:
    """One reason for all that differs: the upgrade's own where there is one, else the latest."""
    ours = [reason for reason in reasons if reason.by == UPGRADE]
    chosen = max(ours or reasons, key=lambda reason: (reason.when, reason.who))
    words = dict.fromkeys(reason.words for reason in reasons if reason.words)
    return Reason(chosen.by, chosen.action, chosen.who, chosen.when, "; ".join(words))
