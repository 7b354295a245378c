"""The facts of one upgrade from a release to the next: packages, services, schema heads."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from cellstep.cloud.nodes import Tier
from reports.nevra import compare_evr

_EVR = re.compile(r"(?:[0-9]+:)?[A-Za-z0-9._+~^]+(?:-[A-Za-z0-9._+~^]+)?")


def _evr(text: str) -> str:
    if not _EVR.fullmatch(text):
        raise ValueError(f"'{text[:80]}' is not a version; write [epoch:]version[-release], such as 2013.2.1-1.el6")
    return text


Evr = Annotated[str, AfterValidator(_evr), Field(examples=["2013.2.1-1.el6"])]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PackageFact(_Strict):
    """One package: what it must be afterwards, what it was, and on which tiers it is.

    `evr` without a release part fits every release of that version, as in rpm's own dependencies.
    """

    evr: Evr
    was: Evr | None = None
    tiers: tuple[Tier, ...]


class ServiceFact(_Strict):
    """One service: its init script, the name in its heartbeat (None: it has none), and where it runs."""

    name: str
    binary: str | None = None
    tiers: tuple[Tier, ...]


class Hazard(_Strict):
    """What makes a schema change stop part-way where a database has it. One of the first four says what it is.

    Attributes:
        column: TABLE.COLUMN that is there already.
        table: a table that is there already.
        refers_to: a table that a foreign key of the site's own refers to.
        ec2: an EC2 key is in both of keystone's tables, and differs.
        name: it in the operators' words.
        error: what the database (its number) or the command then says.
        stops_at: the schema version that is left.
        loses: what is lost when it happens; "" for nothing.
        remedy: what to do before.
        rerun: after it happened, mending the cause and running the command again is enough; else the dump is restored.
    """

    column: Annotated[str, Field(pattern=r"^\w+\.\w+$")] = ""
    table: str = ""
    refers_to: str = ""
    ec2: bool = False
    name: str
    error: str
    stops_at: int
    loses: str = ""
    remedy: str
    rerun: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(map(bool, (self.column, self.table, self.refers_to, self.ec2))) != 1:
            raise ValueError("a hazard is a column, a table, a table that is referred to, or ec2; write one of them")
        return self


class Change(_Strict):
    """Rows that a schema change deletes or adds, and which no comparison of schemas shows.

    Attributes:
        table: theirs.
        at: the schema version that does it.
        where: which rows it deletes, as an SQL condition on the table as it was before; "" for all. None: it adds some.
        what: it in words.
    """

    table: str
    at: int
    where: str | None = None
    what: str


class SchemaFact(_Strict):
    """One database: its row in migrate_version, the versions an upgrade may start from, the version it ends at.

    Attributes:
        name: of the database, where the site gives it no other.
        repository_id: its row in `migrate_version`.
        start: the versions that an upgrade may start from.
        head: the version that the release's packages bring it to.
        heads: the version of the component's packages from which on the head is another, to that head.
        sync: the command that changes the schema.
        version: the command that prints its version, "" where the component has none.
        per_cell: every cell has one; else there is one, in the top cell.
        rehearse: the command that changes a copy of it, whose address is in the file {config}.
        config: the text of that file; {url} is the address, as SQLAlchemy takes it.
        hazards: what makes the change stop part-way.
        changes: rows that it deletes or adds.
        filled: TABLE.COLUMN that must not be empty afterwards in any live row.
    """

    name: str
    repository_id: str
    start: tuple[int, ...]
    head: int
    heads: dict[str, int] = Field(default_factory=dict)
    sync: str
    version: str
    per_cell: bool = False
    rehearse: str = ""
    config: str = ""
    hazards: tuple[Hazard, ...] = ()
    changes: tuple[Change, ...] = ()
    filled: tuple[Annotated[str, Field(pattern=r"^\w+\.\w+$")], ...] = ()

    def head_of(self, evrs: Iterable[str]) -> int:
        """The head that packages of these versions bring the schema to: that of the newest of them.

        Args:
            evrs: `[epoch:]version[-release]` of the component's packages; none where they are not known.
        """
        head = self.head
        for version, other in sorted(self.heads.items(), key=lambda item: item[1]):
            if any(compare_evr(_without_epoch(evr), version) >= 0 for evr in evrs):
                head = other
        return head


def _without_epoch(evr: str) -> str:
    return evr.rpartition(":")[2]


class PolicyFact(_Strict):
    """A rule that a policy file must have before the release's services run, where a node has the file.

    Attributes:
        file: its path, of this component or of another.
        rule: its name.
        value: what is written where there is none.
        tiers: the nodes that may have the file.
        why: what happens without it, in the operators' words.
    """

    file: Annotated[str, Field(pattern=r"^/[\w./-]+$")]
    rule: str
    value: str
    tiers: tuple[Tier, ...]
    why: str


class KnownError(_Strict):
    """How a call with the new release is known to fail: what it says, what is then wrong, what to do."""

    says: str
    cause: str
    remedy: str


class Component(_Strict):
    """What one component brings."""

    packages: dict[str, PackageFact] = Field(default_factory=dict)
    services: tuple[ServiceFact, ...] = ()
    databases: tuple[SchemaFact, ...] = ()
    policies: tuple[PolicyFact, ...] = ()
    errors: tuple[KnownError, ...] = ()

    def head(self, schema: SchemaFact) -> int:
        """The version that the exact packages bring one of its schemas to."""
        return schema.head_of([fact.evr for fact in self.packages.values()])


class Release(_Strict):
    """One pair of releases, read from a file such as grizzly-havana.yaml."""

    name: str
    source: str
    target: str
    components: dict[str, Component]

    def packages_on(self, tier: Tier) -> dict[str, str]:
        """Package name to `[epoch:]version[-release]` expected after the upgrade on nodes of a tier."""
        return {
            name: fact.evr
            for component in self.components.values()
            for name, fact in component.packages.items()
            if tier in fact.tiers
        }

    def with_overrides(
        self,
        packages: Mapping[str, str],
        services: Mapping[Tier, Sequence[str]],
        clients: Mapping[str, str] | None = None,
    ) -> Self:
        """The same release with what is a site's own.

        On a tier that has lost all services of a component there are none of its packages either; one that has got
        some has those that are named as they are, and those that are named as no service, which all of them need.

        Args:
            packages: versions of packages, in place of the release's.
            services: tier to the services on it, in place of the release's.
            clients: further packages of client machines, to their versions.
        """

        def service(fact: ServiceFact) -> ServiceFact:
            tiers = [tier for tier in fact.tiers if tier not in services]
            tiers += [tier for tier, names in services.items() if fact.name in names]
            return fact.model_copy(update={"tiers": tuple(tiers)})

        def changed(component: Component) -> Component:
            own = tuple(map(service, component.services))
            had = {tier for fact in component.services for tier in fact.tiers}
            now = {tier for fact in own for tier in fact.tiers}
            gone, come = had - now, sorted(now - had)
            tiers_of = {fact.name: fact.tiers for fact in own}

            def package(name: str, fact: PackageFact) -> PackageFact:
                tiers = tuple(tier for tier in fact.tiers if tier not in gone)
                tiers += tuple(tier for tier in come if tier in tiers_of.get(name, come) and tier not in tiers)
                return fact.model_copy(update={"evr": packages.get(name, fact.evr), "tiers": tiers})

            own_packages = {name: package(name, fact) for name, fact in component.packages.items()}
            return component.model_copy(update={"packages": own_packages, "services": own})

        components = {name: changed(component) for name, component in self.components.items()}
        if clients:
            further = {name: PackageFact(evr=evr, tiers=("client",)) for name, evr in clients.items()}
            known = components["clients"]
            components["clients"] = known.model_copy(update={"packages": {**known.packages, **further}})
        return self.model_copy(update={"components": components})
