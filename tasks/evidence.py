"""What the gates and the verification know of a node: one task that asks for just what is needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nornir.core.task import Result, Task

from plugins.errors import OperatorError
from tasks import databases, policies, quotas, traces
from tasks.errors import Refused
from tasks.facts import Facts, ask_node
from tasks.hazards import Seen, look
from tasks.holds import unchanged
from tasks.platforms.model import Care
from tasks.policies import Policy


@dataclass(frozen=True)
class Patience:
    """How long to wait for heartbeats.

    Attributes:
        expected: (host, binary) that should report to this database.
        fresh_s: younger than so many seconds counts.
        timeout_s: seconds to wait at most.
    """

    expected: tuple[tuple[str, str], ...]
    fresh_s: float
    timeout_s: float


@dataclass(frozen=True)
class Wanted:
    """What to ask of a node; nothing by default.

    Attributes:
        facts: ask the node itself, for these services among others.
        heartbeats: the database whose `services` rows are read.
        patience: wait for these heartbeats first.
        heads: (database, repository_id) whose schema versions are read.
        volumes: the database whose volumes are listed.
        quotas: the database whose quota usage is read.
        instances: the database whose live instances are listed.
        clock: tell the database server's time.
        since: a time by that clock, since which the changes are listed; "" for none of them.
        changes: of `tasks.traces.CHANGES`, with the database that each is in.
        schema: what `tasks.hazards.look` is asked of the component's database; None for nothing.
        images: the database whose live images are listed.
        policies: the rules that are looked for in policy files.
    """

    facts: tuple[str, ...] | None = None
    heartbeats: str = ""
    patience: Patience | None = None
    heads: tuple[tuple[str, str], ...] = ()
    volumes: str = ""
    quotas: str = ""
    instances: str = ""
    clock: bool = False
    since: str = ""
    changes: tuple[tuple[str, str], ...] = ()
    schema: Mapping[str, Any] | None = None
    images: str = ""
    policies: tuple[Policy, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is asked at all."""
        return self != Wanted()


@dataclass(frozen=True)
class Evidence:
    """What a node answered; None where it was not asked.

    Attributes:
        clock: its database server's time, "" where it was not asked.
        since: since when `changes` are listed.
        changes: what was touched, by the names in `tasks.traces.CHANGES`.
        schema: the component's database: its tables and what was counted.
        images: rows of `tasks.traces.images`.
        policies: rows of `tasks.policies.look`.
    """

    facts: Facts | None = None
    heartbeats: Sequence[Mapping[str, Any]] | None = None
    heads: Mapping[str, int | None] = field(default_factory=dict)
    volumes: Sequence[Mapping[str, Any]] | None = None
    quotas: Mapping[str, Any] | None = None
    instances: Sequence[Mapping[str, Any]] | None = None
    clock: str = ""
    since: str = ""
    changes: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    schema: Seen | None = None
    images: Sequence[Mapping[str, Any]] | None = None
    policies: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Inquiry:
    """All that an audit asks of a node: of the node itself, and of the databases on it.

    Attributes:
        services: those whose state is asked for.
        care: what else is asked of the node itself; None where the node itself is not asked.
        parts: component to what its tables need, without the facts of the node.
        alone: no other node's answer comes over this one's connection, which is ended with the answer.
    """

    services: tuple[str, ...] = ()
    care: Care | None = None
    parts: Mapping[str, Wanted] = field(default_factory=dict)
    alone: bool = False

    def __bool__(self) -> bool:
        """Whether anything is asked at all."""
        return self.care is not None or any(self.parts.values())


@dataclass(frozen=True)
class Told:
    """What a node answered to an inquiry.

    Attributes:
        facts: of the node itself; None where it was not asked.
        parts: component to what its databases answered.
        errors: component to why its databases did not.
    """

    facts: Facts | None
    parts: Mapping[str, Evidence]
    errors: Mapping[str, str]


def inquire(task: Task, *, inquiry: Inquiry) -> Result:
    """Ask a node everything over one connection, itself with one command; changes nothing. The result is `Told`.

    A database that does not answer takes nothing from what the node itself says.
    """
    try:
        return _inquire(task, inquiry)
    finally:
        if inquiry.alone:
            task.host.close_connections()  # thousands that stay open cost both sides more than the answers


def _inquire(task: Task, inquiry: Inquiry) -> Result:
    facts = ask_node(task, inquiry.services, inquiry.care) if inquiry.care is not None else None
    parts: dict[str, Evidence] = {}
    errors: dict[str, str] = {}
    for component, wanted in inquiry.parts.items():
        try:
            parts[component] = gather(task, wanted=wanted).result
        except OperatorError as error:
            errors[component] = str(error)
    if facts is None and errors and not parts:
        raise Refused("; ".join(dict.fromkeys(errors.values())))
    return unchanged(task, Told(facts, parts, errors))


def gather(task: Task, *, wanted: Wanted) -> Result:
    """Ask a node, and the databases on it; changes nothing. The result is `Evidence`."""
    facts = ask_node(task, wanted.facts) if wanted.facts is not None else None
    heartbeats = None
    if wanted.heartbeats:
        patience = wanted.patience or Patience((), 0, 0.0)
        heartbeats = databases.wait_for_heartbeats(
            task, wanted.heartbeats, patience.expected, patience.fresh_s, patience.timeout_s
        )
    heads = {database: databases.head(task, database, repository) for database, repository in wanted.heads}
    clock = traces.clock(task) if wanted.clock else ""
    volumes = traces.volumes(task, wanted.volumes) if wanted.volumes else None
    usage = quotas.read(task, database=wanted.quotas).result if wanted.quotas else None
    instances = traces.instances(task, wanted.instances) if wanted.instances else None
    images = traces.images(task, wanted.images) if wanted.images else None
    # After the lists: whatever is not in them any more has left its trace by now.
    changes = traces.changes(task, dict(wanted.changes), wanted.since) if wanted.since else {}
    schema = look(task, **wanted.schema).result if wanted.schema else None
    rules = policies.look(task, wanted.policies) if wanted.policies else None
    asked = (facts, heartbeats, heads, volumes, usage, instances, clock, wanted.since, changes, schema, images, rules)
    return unchanged(task, Evidence(*asked))
