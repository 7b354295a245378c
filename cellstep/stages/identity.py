"""Keystone's stage: its servers cell by cell, what is compared before and after, and what its gates judge."""

from collections.abc import Mapping, Sequence
from typing import Any

from cellstep.cloud.cloud import Cloud
from cellstep.cloud.nodes import Node
from cellstep.cloud.places import Place, places
from cellstep.engine.context import Context
from cellstep.engine.ledgers import Record
from cellstep.engine.steps import Finding, Nodes
from cellstep.errors import ConfigurationError
from cellstep.stages.arguments import Site
from cellstep.wayback import under_way
from tasks.holds import Noted
from tasks.keystone import probe
from tasks.keystone.directory import Directory
from tasks.keystone.keys import NEW
from tasks.keystone.probe import Matrix
from tasks.keystone.server import Settings

KEYSTONE, MAIN = "keystone", "top"

SETTINGS, SHAPE, KEYS, DIRECTORY, TOKENS = "settings", "token-shape", "ec2-keys", "directory", "tokens"
"""The kinds of the journal's records."""

SHOWN = 5
MIXED = "Grizzly's server fails so on a token of Havana's (`KeyError: 'token'`): upgrade all of them together"


class Identity:
    """The steps' view of keystone's servers and databases.

    Args:
        site: of the component keystone.
    """

    def __init__(self, site: Site) -> None:
        self.site, self.cloud = site, site.cloud
        self.servers = [node for node in site.cloud.nodes if site.cloud.runs(KEYSTONE, node)]
        self.stores: dict[str, Place] = {place.node.cell: place for place in places(site.cloud, KEYSTONE)}
        if not self.servers_of(MAIN):
            raise ConfigurationError(
                ["no top controller runs keystone: add one, or openstack-keystone to services.top"]
            )
        bare = {node.cell: node.name for node in reversed(self.servers) if node.cell not in self.stores}
        if bare:
            why = "and no node of the cell has the role `database`: add it, or leave keystone out of services.cell"
            raise ConfigurationError([f"{cell}: {name} runs keystone, {why}" for cell, name in bare.items()])

    # Where

    @property
    def cells(self) -> list[str]:
        """The child cells with a keystone of their own, in the inventory's order."""
        return [cell for cell in self.cloud.cells if self.servers_of(cell)]

    def servers_of(self, cell: str) -> list[Node]:
        """The servers of a cell."""
        return [node for node in self.servers if node.cell == cell]

    @property
    def everywhere(self) -> Nodes:
        """All servers."""
        return _among("keystone's servers", self.servers)

    @property
    def firsts(self) -> Nodes:
        """The first server of each cell, the main ones' first included."""
        return _among(
            "the first keystone server of each cell",
            [self.servers_of(cell)[0] for cell in (MAIN, *self.cells)],
        )

    def of(self, cell: str) -> Nodes:
        """The servers of a cell."""
        words = "the main keystone servers" if cell == MAIN else f"keystone's servers in {cell}"
        return _among(words, self.servers_of(cell))

    def first(self, cell: str) -> Nodes:
        """The first of them."""
        words = "the first main keystone server" if cell == MAIN else f"a keystone server in {cell}"
        return _among(words, self.servers_of(cell)[:1])

    def store(self, cell: str) -> Nodes:
        """The node of a cell's database."""
        return _among("the database node", [self.stores[cell].node])

    def with_store(self, cell: str) -> Nodes:
        """A cell's servers, and its database."""
        words = "the main servers and their database" if cell == MAIN else f"{cell}'s servers and database"
        mine = {node.name for node in (*self.servers_of(cell), self.stores[cell].node)}
        return _among(words, [node for node in self.cloud.nodes if node.name in mine])

    @property
    def all_stores(self) -> Nodes:
        """The nodes of all databases."""
        return _among("keystone's database nodes", [place.node for place in self.stores.values()])

    # Arguments

    def schema(self, cell: str) -> dict[str, Any]:
        """As `Site.schema`, of the database of one cell."""
        place = self.stores[cell]
        return {**self.site.schema, "told_by": (place.node.name, place.database, place.schema.repository_id)}

    def listening(self, _context: Context, _node: Node) -> Mapping[str, Any]:
        """How long a server may take until it answers."""
        return {"timeout_s": self.cloud.config.settle_s}

    @staticmethod
    def nothing(_context: Context, _node: Node) -> Mapping[str, Any]:
        """A task without arguments."""
        return {}

    def to_cross(self, _context: Context, node: Node) -> Mapping[str, Any]:
        """As `crossing`."""
        return self.crossing(node)

    def crossing(self, node: Node) -> dict[str, Any]:
        """The servers that share a database with a node's, and who logs in."""
        return {
            "servers": [each.name for each in self.servers_of(node.cell)],
            "environment": self.cloud.config.checkout.environment,
            "timeout_s": self.cloud.config.settle_s,
        }

    def keys(self, _context: Context, node: Node) -> Mapping[str, Any]:
        """The database that a node has of keystone's."""
        return {"database": self.stores[node.cell].database}

    @property
    def stores_to_purge(self) -> Nodes:
        """The nodes of all databases, where cloud.yaml asks for the purge of expired tokens."""
        asked = self.cloud.config.keystone.purge_tokens
        return self.all_stores if asked else _among("keystone's database nodes", [])

    def since(self, context: Context, node: Node) -> Mapping[str, Any]:
        """When the directory was last changed, as it was seen before."""
        record = self._before(context, DIRECTORY, node.name)
        return {"since": Directory.of(record.data).newest if record else ""}

    # What was before

    def _before(self, context: Context, kind: str, place: str) -> Record | None:
        """What this upgrade kept; what one before it has kept says nothing, since the cloud has lived on."""
        record = context.journal.records(kind, KEYSTONE).get(place)
        runs = {context.run, *(run.id for run in under_way(context.journal, context.stage))}
        return record if record and record.run in runs else None

    def _keep_first(self, context: Context, kind: str, place: str, data: Mapping[str, Any]) -> None:
        """Keep what was before; a step that is done again finds what has been changed meanwhile."""
        if not context.options.dry_run and self._before(context, kind, place) is None:
            context.journal.keep_record(kind, KEYSTONE, place, data, context.run)

    # Before

    def all_together(self, context: Context, results: Mapping[str, Settings]) -> list[Finding]:
        """A run that goes to some of the main servers alone would leave the others behind; keeps the settings."""
        for host, found in results.items():
            self._keep_first(context, SETTINGS, host, found.plain())
        here = {node.name for node in context.nodes}
        main = [node.name for node in self.servers_of(MAIN)]
        missing = [name for name in main if name not in here]
        if not missing or len(missing) == len(main):
            return []
        text = f"the run leaves out {self.cloud.fold(missing)}: the main servers change together, since a server of the"
        return [Finding(f"{text} old release fails on tokens of the new one", blocking=True)]

    def keep_shapes(self, context: Context, results: Mapping[str, Noted]) -> list[Finding]:
        """Keep how tokens look, and tell of servers that do not take each other's already: this run ends that."""
        found = []
        for host, matrix in _data(results):
            if shapes := _shapes(matrix):
                self._keep_first(context, SHAPE, host, {"shapes": shapes})
            found += [Finding(text, blocking=False) for text in _wrong(matrix)]
        return found

    def keep_directory(self, context: Context, results: Mapping[str, Noted]) -> list[Finding]:
        """Keep what the directory has."""
        for host, found in _data(results):
            self._keep_first(context, DIRECTORY, host, found.plain())
        return []

    def keep_keys(self, context: Context, results: Mapping[str, Mapping[str, Mapping[str, str]]]) -> list[Finding]:
        """Keep a digest of every EC2 key, of both tables."""
        for host, tables in results.items():
            both = {access: digest for keys in tables.values() for access, digest in keys.items()}
            self._keep_first(context, KEYS, host, both)
        return []

    # After

    def same_settings(self, context: Context, results: Mapping[str, Settings]) -> list[Finding]:
        """Token format, backends and API versions must be those of before: the same function first."""
        words = {
            "format": "the token format",
            "identity": "the identity backend",
            "tokens": "where tokens are kept",
            "versions": "the versions of the API",
        }
        found = []
        for host, now in results.items():
            record, after = self._before(context, SETTINGS, host), now.plain()
            before = record.data if record else after
            for name, what in words.items():
                was, is_ = _plain(before[name]), _plain(after[name])
                if was != is_:
                    found.append(Finding(f"{host}: {what} is {is_ or 'not set'}, and was {was or 'not set'}", True))
        return found

    def tokens_work(self, context: Context, results: Mapping[str, Noted]) -> list[Finding]:
        """Every server must give a token with a catalogue, and take each other's; they must look as before."""
        if context.options.dry_run:
            return []
        found = []
        for host, matrix in _data(results):
            context.journal.keep_record(TOKENS, KEYSTONE, host, matrix.plain(), context.run)
            found += [Finding(text, blocking=True) for text in _wrong(matrix)]
            bare = [each.server for each in matrix.issues if each.status == probe.OK and not each.services]
            found += [Finding(f"{server}: no service is in its catalogue", blocking=True) for server in bare]
            record, shapes = self._before(context, SHAPE, host), _shapes(matrix)
            if record and shapes and shapes != record.data["shapes"]:
                was, now = ", ".join(record.data["shapes"]), ", ".join(shapes)
                found.append(Finding(f"{host}: tokens are of the format {now}, and were of {was}", blocking=True))
        return found

    def keys_kept(self, context: Context, results: Mapping[str, Mapping[str, Mapping[str, str]]]) -> list[Finding]:
        """Every EC2 key of before must be in `credential`, with the same secret, user and project."""
        found = []
        for host, tables in results.items():
            record = self._before(context, KEYS, host)
            before: Mapping[str, str] = record.data if record else {}
            now = tables.get(NEW, {})
            lost = sorted(before.keys() - now.keys())
            other = sorted(access for access in before.keys() & now.keys() if before[access] != now[access])
            for keys, what in ((lost, f"is not in {NEW}"), (other, "has another secret, user or project than before")):
                found += [Finding(f"{host}: the EC2 key {access} {what}", blocking=True) for access in keys[:SHOWN]]
                if len(keys) > SHOWN:
                    found.append(Finding(f"{host}: and {len(keys) - SHOWN:,} more, each of which {what}", True))
        return found

    def directory_untouched(self, context: Context, results: Mapping[str, Noted]) -> list[Finding]:
        """The directory must be as before. What keystone's own account has written stops the run; others may write."""
        found = []
        for host, now in _data(results):
            record = self._before(context, DIRECTORY, host)
            was = Directory.of(record.data) if record else None
            if was is None or (was.digest, was.entries, was.url, was.base) == (
                now.digest,
                now.entries,
                now.url,
                now.base,
            ):
                continue
            ours = [name for who, name in now.changed if now.account and who.lower() == now.account.lower()]
            by = [f"{name} by {who or 'somebody'}" for who, name in now.changed[:SHOWN]]
            text = f"{host}: {now.url or 'the directory'} has {now.entries:,} entries below {now.base}, and had"
            text = f"{text} {was.entries:,}; changed: {', '.join(by) or 'it does not tell what'}"
            why = f"; {ours[0]} was changed as {now.account}, which is keystone" if ours else ""
            found.append(Finding(text + why, blocking=bool(ours)))
        return found


def _data(results: Mapping[str, Noted]) -> list[tuple[str, Any]]:
    return [(host, noted.data) for host, noted in results.items()]


def _among(words: str, chosen: Sequence[Node]) -> Nodes:
    names = {node.name for node in chosen}
    return Nodes(words, lambda nodes: [node for node in nodes if node.name in names])


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else ", ".join(map(str, value))


def _shapes(matrix: Matrix) -> list[str]:
    return sorted({issue.shape for issue in matrix.issues if issue.shape})


def _wrong(matrix: Matrix) -> list[str]:
    """What is wrong with the servers, in words: who gives no token, and who does not take whose."""
    found = [f"{each.server} gives no token to {matrix.user}: {each.answer}" for each in matrix.issues
             if each.status != probe.OK]  # fmt: skip
    mixed = False
    for each in matrix.crossings:
        if each.status != probe.OK:
            own = " its own token" if each.issuer == each.validator else f" a token of {each.issuer}"
            found.append(f"{each.validator} does not take{own}: {each.answer}")
            mixed = mixed or each.issuer != each.validator
    return [*found, *([MIXED] if any("'token'" in text for text in found) and mixed else [])]


def rows(cloud: Cloud, records: Mapping[str, Record]) -> list[dict[str, Any]]:
    """The rows of the table `tokens`, from the journal's records."""
    cells = {node.name: node.cell for node in cloud.nodes}
    return [
        {"cell": cells.get(row["issuer"], ""), **row}
        for record in records.values()
        for row in probe.as_rows(record.data)
    ]
