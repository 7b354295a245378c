"""What stands beside a dump: whose it is, and what is in it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from tasks.contents import Contents, Table
from tasks.errors import Refused

FORMAT = 1
SETTINGS = ("character_set_server", "collation_server", "lower_case_table_names", "sql_mode")
"""The settings of a server that what is loaded into it may depend on."""
IDENTITY = ("server_uuid", "hostname", "datadir", "port", "version", "server_id")
VARIABLES = f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({', '.join(map(repr, IDENTITY + SETTINGS))})"
"""Asks a server which it is; it leaves out what it does not have."""

_STRICT = ConfigDict(extra="forbid", strict=True)

Count = Annotated[int, Field(ge=0)]
Digits = Annotated[str, Field(pattern=r"^[0-9]+$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[^/]+$")]
Moment = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]


@dataclass(frozen=True)
class Server:
    """Which MySQL server it is, by what it tells of itself.

    Attributes:
        uuid: `server_uuid`; "" where it has none (MySQL before 5.6, MariaDB).
        hostname: of the machine.
        datadir: the folder with its data.
        port: it listens on.
        version: of the server; an update does not make another one of it.
        server_id: its number among those that replicate from each other.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    uuid: str
    hostname: str
    datadir: str
    port: int
    version: str
    server_id: int

    @classmethod
    def of(cls, told: Mapping[str, str], where: str) -> "Server":
        """By what it answers to `VARIABLES`.

        Raises:
            Refused: it does not tell enough of itself; `where` is its name in the message.
        """
        if lacking := [name for name in IDENTITY if name not in told and name != "server_uuid"]:
            raise Refused(f"the server on {where} does not tell its {', '.join(lacking)}: which one is it?")
        return cls(
            told.get("server_uuid", ""),
            told["hostname"],
            told["datadir"],
            int(told["port"]),
            told["version"],
            int(told["server_id"]),
        )

    def is_same(self, other: "Server") -> bool:
        """Whether they are one server: by uuid where both have one, else by machine, folder and port."""
        if self.uuid and other.uuid:
            return self.uuid == other.uuid
        mine, theirs = self.datadir.rstrip("/"), other.datadir.rstrip("/")
        return (self.hostname, mine, self.port) == (other.hostname, theirs, other.port)

    def __str__(self) -> str:
        return f"{self.hostname}:{self.port} in {self.datadir}" + (f" ({self.uuid})" if self.uuid else "")


@dataclass(frozen=True)
class Entry:
    """A table when the dump began.

    Attributes:
        rows: how many.
        checksum: as `tasks.contents` makes it.
        steady: it had the same rows after the dump, so that these are in it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    rows: Count
    checksum: Digits
    steady: bool


@dataclass(frozen=True)
class Manifest:
    """A dump.

    Attributes:
        run: which made it, "" where there was none.
        node: on which it was made, and lies.
        database: what it is of.
        repository_id: the row of `migrate_version` that counts, "" where the database has none.
        head: the schema's version, None where it tells none.
        server: which gave it.
        replica_of: the node whose replica that server is, "" where it is the server itself.
        origin: the server on that node; the same as `server` where there is no replica.
        settings: of the server, by the names in `SETTINGS`.
        tables: by name.
        file: its name.
        size: bytes.
        sha256: of the file, hexadecimal.
        began: when, by the node's clock, as in 2014-01-30T09:00:00Z.
        ended: the same.
        format: of this description.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    run: str
    node: str
    database: str
    repository_id: str
    head: int | None
    server: Server
    replica_of: str
    origin: Server
    settings: Mapping[str, str]
    tables: Mapping[str, Entry]
    file: FileName
    size: Count
    sha256: Sha256
    began: Moment
    ended: Moment
    format: int = field(default=FORMAT)

    @property
    def contents(self) -> Contents:
        """The tables, to compare others with."""
        return {name: Table(entry.rows, entry.checksum) for name, entry in self.tables.items()}

    @property
    def unsteady(self) -> frozenset[str]:
        """The tables that were written to while the dump was made: what exactly is in it of them is not known."""
        return frozenset(name for name, entry in self.tables.items() if not entry.steady)

    @property
    def summary(self) -> dict[str, Any]:
        """All but the tables, which are counted, as plain JSON values; with the manifest's own digest."""
        told = {key: value for key, value in asdict(self).items() if key != "tables"}
        rows = sum(entry.rows for entry in self.tables.values())
        return {**told, "tables": len(self.tables), "rows": rows, "manifest": self.digest}

    @property
    def text(self) -> str:
        """As JSON, as it is kept."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @property
    def digest(self) -> str:
        """SHA-256 of `text`, hexadecimal: stands for the dump and all that is said of it."""
        return hashlib.sha256(self.text.encode()).hexdigest()


_READER = TypeAdapter(Manifest)


def name_of(database: str) -> str:
    """The name of a manifest's file, beside the dump."""
    return f"{database}.manifest.json"


def parse(text: str, where: str) -> Manifest:
    """Read a manifest.

    Args:
        text: JSON.
        where: it comes from, for messages.

    Raises:
        Refused: it is not one, or not whole.
    """
    try:
        found = _READER.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise Refused(f"{where} is no manifest of a dump: {place + ': ' if place else ''}{first['msg']}") from error
    if found.format != FORMAT:
        raise Refused(
            f"{where} is a manifest of format {found.format}, not {FORMAT}: read it with the cellstep that wrote it"
        )
    return found


def load(path: Path) -> Manifest:
    """Read a manifest on the operator's side.

    Raises:
        Refused: it is not there, or not one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is no UTF-8'}") from error
    return parse(text, str(path))
