"""Schemas to compare: the references that ship, files, and live databases."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from nornir.core.task import Result, Task

from cellstep.cloud.load import Cloud
from cellstep.engine.dispatch import Dispatcher
from cellstep.errors import Stopped, UsageError
from plugins.inventory.validation import did_you_mean
from tasks import schemas
from tasks.holds import unchanged
from tasks.schemas import Schema, SchemaError

_HERE = Path(__file__).parent / "releases" / "schemas"
CLIENTS = ("mysql", "mariadb")
CLIENT_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Reference:
    """A component's schema as its release's own migrations leave it.

    Attributes:
        component: whose.
        version: the schema version that it is of.
        schema: the tables.
    """

    component: str
    version: int
    schema: Schema

    def __str__(self) -> str:
        return f"{self.component}-{self.version}"


def references() -> list[str]:
    """The names of the references that ship, such as nova-161: by component, then by version."""
    found = [path.stem.rsplit("-", 1) for path in _HERE.glob("*.txt")]
    return [f"{component}-{version}" for component, version in sorted(found, key=lambda name: (name[0], int(name[1])))]


def reference(component: str, version: int) -> Reference | None:
    """The reference of a version: of the nearest one before it, where none of its own ships.

    What lies between them is a site's own, or a stable release's. None where there is no reference up to that version.
    """
    known = [name.rsplit("-", 1) for name in references()]
    versions = [int(number) for name, number in known if name == component and int(number) <= version]
    if not versions:
        return None
    name = f"{component}-{max(versions)}"
    return Reference(component, max(versions), schemas.parse((_HERE / f"{name}.txt").read_text(encoding="utf-8")))


def read(task: Task, *, database: str) -> Result:
    """The task that describes a live database."""
    return unchanged(task, schemas.snapshot(task, database))


def of_place(cloud: Cloud, place: str) -> Schema:
    """The schema of a live database.

    Args:
        cloud: the cloud.
        place: NODE/DATABASE.

    Raises:
        UsageError: no such node, or it has no database.
        Stopped: the node or its database does not answer.
    """
    name, _, database = place.partition("/")
    servers = [node for node in cloud.nodes if node.roles & {"database", "replica"}]
    chosen = [node for node in servers if node.name == name]
    if not chosen or not database:
        hint = did_you_mean(name, [node.name for node in servers], "database nodes")
        raise UsageError(f"“{place}” is no NODE/DATABASE with a node that has a database{hint}")
    cloud.database_password()
    with Dispatcher(cloud) as dispatcher:
        found, silent = dispatcher.ask(read, chosen, {name: {"database": database}})
    if name in silent:
        raise Stopped(f"{place} cannot be read: {silent[name]}")
    schema: Schema = found[name]
    return schema


def of_socket(socket: Path, database: str) -> Schema:
    """The schema of a database of this machine's server, asked by the `mysql` client with its own option files.

    Raises:
        UsageError: there is no client here.
        Stopped: it fails, or says nothing in time.
    """
    client = next((found for name in CLIENTS if (found := shutil.which(name))), None)
    if client is None:
        raise UsageError("--socket needs the `mysql` client here: install it, or name a NODE/DATABASE of a cloud")
    command = [client, f"--socket={socket}", "--protocol=socket", "-N", "-B", "--", database]
    try:
        done = subprocess.run(  # noqa: S603 - the machine's own client; the name of the database follows `--`
            command, input=schemas.SNAPSHOT, capture_output=True, text=True, timeout=CLIENT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Stopped(f"`{client}` said nothing of {database} within {CLIENT_TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        raise Stopped(f"`{client}` cannot read {database}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    try:
        return schemas.parse_client(done.stdout)
    except SchemaError as error:
        raise Stopped(f"`{client}` cannot read {database}: {error}") from error


def of_file(path: Path) -> Schema:
    """The schema that a file describes.

    Raises:
        UsageError: it cannot be read, or is no description.
    """
    try:
        return schemas.parse(path.read_text(encoding="utf-8"))
    except SchemaError as error:
        raise UsageError(f"{path}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text: {getattr(error, 'strerror', None) or error}") from None


def is_reference(name: str) -> bool:
    """Whether a reference of that name ships."""
    return name in references()


def of_reference(name: str) -> Schema:
    """A reference that ships, by its name."""
    return of_file(_HERE / f"{name}.txt")
