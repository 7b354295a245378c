"""Everything that the preflight asks of a node and of the database on it, days ahead; changes nothing."""

import re
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nornir.core.task import Result, Task

from plugins.connections.errors import DatabaseError, TransportError
from tasks import clocks
from tasks.databases import mysql
from tasks.errors import Refused
from tasks.holds import unchanged
from tasks.platforms import lacking, platform_of
from tasks.platforms.el6 import parse_states
from tasks.preflight_script import Questions, script
from tasks.shell import sh

NODE_TIMEOUT_S = 900.0
"""For the whole script; each question in it has a limit of its own."""

SIDE_BY_SIDE = re.compile(r"kernel(-.*)?|gpg-pubkey")
"""Packages of which several versions are installed at once."""


@dataclass(frozen=True)
class Said:
    """What a command came to: its exit status, and the lines it printed."""

    status: int
    lines: tuple[str, ...] = ()

    @property
    def last(self) -> str:
        """Its last line that says something, for a message."""
        return next((line.strip() for line in reversed(self.lines) if line.strip()), f"exit status {self.status}")


@dataclass(frozen=True)
class Space:
    """A folder's file system: where it is mounted, free MiB, free inodes (None where it counts none)."""

    path: str
    mount: str
    free_mib: int
    free_inodes: int | None


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock: which, its pid and name, and for how many seconds it has been running."""

    lock: str
    pid: int
    program: str
    age_s: int


@dataclass(frozen=True)
class Requirement:
    """What an installed package requires of one of the release's: `flags` is `=`, `>=`, `<` and so on."""

    package: str
    evr: str
    vendor: str
    name: str
    flags: str
    version: str


@dataclass(frozen=True)
class DatabaseFacts:
    """What a database server said to cellstep's own user.

    Attributes:
        error: why it said nothing, "" where it did.
        version: the server's.
        variables: some of its global variables, by name.
        grants: its user's grants, without passwords.
        replica: the rows of SHOW SLAVE STATUS.
        replica_error: why there are none to see, "".
        heads: database to schema version, None where there is none.
        head_errors: database to why its version cannot be read.
    """

    error: str = ""
    version: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    grants: tuple[str, ...] = ()
    replica: tuple[Mapping[str, Any], ...] = ()
    replica_error: str = ""
    heads: Mapping[str, int | None] = field(default_factory=dict)
    head_errors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NodeFacts:
    """What a node said.

    Attributes:
        offset_s: its clock against this machine's, in seconds; positive is ahead.
        uncertainty_s: half of the round trip: the offset may be wrong by so much.
        uid: the user that commands run as; where it is not 0, nothing else was asked.
        boot_id: another one after each boot.
        kernel: the running one.
        space: of the folders asked for.
        rpm_error: why the RPM database could not be read, "".
        installed: how many packages are.
        packages: those of the release's that are installed: name to versions.
        twice: packages that are installed in more than one version, `name.arch (versions)`.
        requirements: what installed packages require of the release's.
        holders: of rpm's and yum's locks.
        repositories: the ids of those that are enabled.
        excludes: (where, pattern) that yum leaves out.
        locks: (file, pattern) of yum's plug-in versionlock, where it is enabled.
        pending: `name-version-release` that yum was asked for.
        mode: how the repository could be asked: promoted, baseurl, unpromoted.
        services: as in `tasks.facts`.
        said: the other answers, by name: unfinished, update, download, puppet, balancer, admin, queue, mysql, grants,
            sizes, tools.
        database: what the database said, None where none was asked.
    """

    offset_s: float = 0.0
    uncertainty_s: float = 0.0
    uid: int = 0
    boot_id: str = ""
    kernel: str = ""
    space: tuple[Space, ...] = ()
    rpm_error: str = ""
    installed: int = 0
    packages: Mapping[str, list[str]] = field(default_factory=dict)
    twice: tuple[str, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    holders: tuple[Holder, ...] = ()
    repositories: frozenset[str] = frozenset()
    excludes: tuple[tuple[str, str], ...] = ()
    locks: tuple[tuple[str, str], ...] = ()
    pending: tuple[str, ...] = ()
    mode: str = ""
    services: Mapping[str, dict[str, str]] = field(default_factory=dict)
    said: Mapping[str, Said] = field(default_factory=dict)
    database: DatabaseFacts | None = None


_READ = {"rpm", "requires", "configuration", "services"}
"""Answers of which `NodeFacts` keeps what counts: the lists themselves are long."""


def survey(task: Task, *, questions: Questions) -> Result:
    """Ask a node everything with one command, and its database in one session. The result is `NodeFacts`."""
    if not platform_of(task).preflight:
        raise lacking(task, "preflight")
    text = script(questions)
    task.host.get_connection("cellstep_ssh", task.nornir.config)  # the login is no part of the round trip
    sent = time.time()
    answer = sh(task, text, what="the preflight's questions", timeout=NODE_TIMEOUT_S)
    ended = time.time()
    database = _ask_database(task, questions) if questions.databases else None
    return unchanged(task, read(answer.stdout, sent, ended, questions.packages, database))


def read(
    text: str, sent: float, ended: float, names: Collection[str], database: DatabaseFacts | None = None
) -> NodeFacts:
    """Read what the script printed.

    Args:
        text: that.
        sent: when it was sent, by this machine's clock, in seconds since 1970.
        ended: when it had ended.
        names: the release's packages.
        database: what the database said.

    Raises:
        Refused: it is cut off.
    """
    sections = _sections(text)
    if "finish" not in sections:
        raise Refused("the node's answer is cut off; ask again")
    began, done = float(sections["start"][0]), float(sections["finish"][0])
    said = {name: Said(int(status), lines) for name, (status, lines) in sections.items() if status.isdecimal()}
    offset, uncertainty = clocks.offset(sent, began, done, ended)
    if said["uid"].status != 0:
        return NodeFacts(offset, uncertainty, said["uid"].status, database=database)
    boot_id, kernel = (*said["boot"].lines, "", "")[:2]
    packages, installed, twice = _packages(said["rpm"].lines, names)
    configuration = [line.split("\t") for line in said["configuration"].lines]
    return NodeFacts(
        offset_s=offset,
        uncertainty_s=uncertainty,
        boot_id=boot_id,
        kernel=kernel,
        space=tuple(_spaces(said["space"].lines)),
        rpm_error=_rpm_error(said["rpm"]),
        installed=installed,
        packages=packages,
        twice=twice,
        requirements=tuple(Requirement(*each) for each in _fields(said["requires"].lines, 6)),
        holders=tuple(Holder(what, int(pid), name, int(age)) for what, pid, name, age in _holders(said)),
        repositories=frozenset(each[1] for each in configuration if each[0] == "repo" and each[2:] == ["1"]),
        excludes=tuple((each[1], word) for each in configuration if each[0] == "exclude" for word in _words(each[2])),
        locks=tuple((each[1], each[2].strip()) for each in configuration if each[0] == "lock"),
        pending=tuple(line for line in said.get("pending", Said(0)).lines if line),
        mode=next(iter(said.get("mode", Said(0)).lines), ""),
        services=parse_states("\n".join(said["services"].lines)) if "services" in said else {},
        said={
            name: each for name, each in said.items() if name not in {"rpm", "requires", "configuration", "services"}
        },
        database=database,
    )


def _sections(text: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    found: dict[str, tuple[str, list[str]]] = {}
    for line in text.splitlines():
        if line.startswith("@"):
            name, _, status = line[1:].partition(" ")
            found[name] = status, []
        elif found:
            found[next(reversed(found))][1].append(line[1:])
    return {name: (status, tuple(lines)) for name, (status, lines) in found.items()}


def _fields(lines: Iterable[str], count: int) -> list[list[str]]:
    """Those of the lines that have so many fields; the others are a program's complaints."""
    return [words for line in lines if len(words := line.split("\t")) == count]


def _holders(said: Mapping[str, Said]) -> list[list[str]]:
    return _fields(said["holders"].lines, 4)


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", text) if word]


def _spaces(lines: Iterable[str]) -> Iterable[Space]:
    for path, mount, free, inodes in _fields(lines, 4):
        yield Space(path, mount, int(free) // 1024, int(inodes) if inodes.isdecimal() else None)


def _rpm_error(rpm: Said) -> str:
    if rpm.status == 124:
        return "does not answer within 60 s"
    complaints = [line.strip() for line in rpm.lines if line.count("\t") != 3 and line.strip()]
    if rpm.status or complaints:
        return "; ".join(complaints[:2]) or f"rpm -qa ends with {rpm.status}"
    return "" if rpm.lines else "has no package in it"


def _packages(lines: Iterable[str], names: Collection[str]) -> tuple[dict[str, list[str]], int, tuple[str, ...]]:
    packages: dict[str, list[str]] = {}
    by_arch: dict[str, list[str]] = defaultdict(list)
    rows = _fields(lines, 4)
    for name, arch, evr, _vendor in rows:
        if name in names:
            packages.setdefault(name, []).append(evr)
        if not SIDE_BY_SIDE.fullmatch(name):
            by_arch[f"{name}.{arch}"].append(evr)
    return packages, len(rows), tuple(f"{key} ({', '.join(evrs)})" for key, evrs in by_arch.items() if len(evrs) > 1)


# The database

SYNTAX_ERROR = 1064
_VARIABLES = ("log_bin", "expire_logs_days", "binlog_expire_logs_seconds", "read_only")


def _ask_database(task: Task, questions: Questions) -> DatabaseFacts:
    """One session, as cellstep's own user; a database that does not answer takes nothing from the node's answers."""
    try:
        server = mysql(task)
        version = str(server.query("SELECT VERSION() AS version")[0]["version"])
        names = ", ".join(f"'{name}'" for name in _VARIABLES)
        rows = server.query(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
        variables = {str(row["Variable_name"]): str(row["Value"]) for row in rows}
        grants = tuple(_without_password(str(next(iter(row.values())))) for row in server.query("SHOW GRANTS"))
    except TransportError as error:
        return DatabaseFacts(error=str(error))
    replica, replica_error = _replica(server)
    heads: dict[str, int | None] = {}
    errors: dict[str, str] = {}
    for database, repository in questions.heads:
        table = f"`{database.replace('`', '``')}`.migrate_version"
        try:
            found = server.query(f"SELECT version FROM {table} WHERE repository_id=%s", (repository,))  # noqa: S608 - a quoted identifier
            heads[database] = int(found[0]["version"]) if found else None
        except TransportError as error:
            errors[database] = error.reason if isinstance(error, DatabaseError) else str(error)
    return DatabaseFacts("", version, variables, grants, replica, replica_error, heads, errors)


def _replica(server: Any) -> tuple[tuple[Mapping[str, Any], ...], str]:
    try:
        return tuple(server.query("SHOW SLAVE STATUS")), ""
    except DatabaseError as error:
        if error.errno != SYNTAX_ERROR:
            return (), error.reason
    except TransportError as error:
        return (), str(error)
    try:
        return tuple(server.query("SHOW REPLICA STATUS")), ""  # MySQL 8.4 has no other
    except TransportError as error:
        return (), error.reason if isinstance(error, DatabaseError) else str(error)


def _without_password(grant: str) -> str:
    return grant.partition(" IDENTIFIED ")[0]


def privileges(grants: Sequence[str], database: str) -> set[str]:
    """The privileges that lines of SHOW GRANTS give on a whole database; `ALL PRIVILEGES` where that is said."""
    found: set[str] = set()
    for line in grants:
        match = re.match(r"GRANT (.+?) ON (?:TABLE )?(\S+)\.(\S+) TO ", line)
        if match and match[3] == "*" and _covers(match[2].replace("`", ""), database):
            found.update(word.strip().upper() for word in re.sub(r"\(.*?\)", "", match[1]).split(","))
    return found


def _covers(pattern: str, database: str) -> bool:
    """Whether a grant's database, in which % and _ stand for others unless escaped, is this one."""
    if pattern == "*":
        return True
    tokens = re.findall(r"\\.|.", pattern)
    regex = "".join({"%": ".*", "_": "."}.get(token) or re.escape(token[-1]) for token in tokens)
    return re.fullmatch(regex, database) is not None
