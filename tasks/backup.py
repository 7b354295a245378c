"""Backups: dumps, each with a manifest of whose it is and what is in it, on the database's node and on our side.

Before a dump is made there is room for it on both sides, and the node's client and cellstep reach one and the same
server. What is taken for a dump is what the job wrote, told by its SHA-256; what lay there before is replaced by a
whole one, or stays as it was.
"""

import hashlib
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedRandom
from pathlib import Path

from nornir.core.task import Result, Task

from tasks import contents, manifest, replicas
from tasks.binding import binding_of
from tasks.databases import DUMP_TIMEOUT_S, mysql
from tasks.errors import Refused
from tasks.holds import Noted, changed, unchanged
from tasks.jobs import detached, earlier
from tasks.manifest import SETTINGS, VARIABLES, Entry, Manifest, Server
from tasks.replicas import Replica
from tasks.shell import change, sh

MYSQLDUMP = "mysqldump --opt --single-transaction --routines --triggers --events --add-drop-database --databases"
SCRIPT = contents.SCRIPT + Path(__file__).with_name("backup.sh").read_text().replace(
    "__MYSQLDUMP__", MYSQLDUMP
).replace("__VARIABLES__", VARIABLES)
"""The functions that are called on the node."""

MIB = 2**20

# folder, file, SHA-256. By standard input.
PUT = r"""
set -e
umask 077
cd -- %s
name=%s digest=%s
rm -f -- "$name.part"
cat > "$name.part"
[ "$(sha256sum < "$name.part")" = "$digest  -" ] || { rm -f -- "$name.part"; echo "it did not arrive" >&2; exit 4; }
mv -f -- "$name.part" "$name"
"""


@dataclass(frozen=True)
class Facts:
    """What the node's side of a backup printed.

    Attributes:
        variables: the server's, by name.
        sizes: bytes of data by database, of those that are there.
        room_kib: free for the dumps.
        heads: schema version by repository.
        before: the contents when the dump began.
        after: when it had ended.
        told: what else stands alone on its line, by its kind: the dump's SHA-256 and size, when it began and ended.
    """

    variables: Mapping[str, str]
    sizes: Mapping[str, int]
    room_kib: int
    heads: Mapping[str, int]
    before: contents.Contents
    after: contents.Contents
    told: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, text: str) -> "Facts":
        """Read lines of `kind<TAB>...`.

        Raises:
            Refused: one is none of these.
        """
        rows: dict[str, list[str]] = {}
        for line in text.removesuffix("\n").split("\n") if text else ():
            kind, _, rest = line.partition("\t")
            rows.setdefault(kind, []).append(rest)

        def pairs(kind: str) -> dict[str, str]:
            found = (row.rpartition("\t") if kind != "server" else row.partition("\t") for row in rows.get(kind, ()))
            return {contents.unescaped(name): contents.unescaped(value) for name, _, value in found}

        try:
            return cls(
                variables=pairs("server"),
                sizes={name: int(float(size)) for name, size in pairs("database").items()},
                room_kib=int(rows.get("room", ["0"])[0]),
                heads={name: int(version) for name, version in pairs("head").items() if version != "NULL"},
                before=contents.parse("\n".join(rows.get("before", ()))),
                after=contents.parse("\n".join(rows.get("after", ()))),
                told={kind: rows[kind][0].split("\t") for kind in ("dump", "began", "ended") if kind in rows},
            )
        except ValueError as error:
            raise Refused(f"the node's answer about its databases makes no sense: {error}") from error


def back_up(
    task: Task,
    *,
    database: str,
    others: Sequence[str],
    folder: str,
    here: Path,
    repositories: Mapping[str, str] | None = None,
    dump_share: float = 1.0,
    replica: Replica | None = None,
) -> Result:
    """Dump databases into compressed files on their own node, as its root, and copy them to the operator's side.

    Each dump is consistent in itself, with routines, triggers and events, and is 0600 in both places; beside it stands
    its manifest. It has its name only when `-- Dump completed` was its last line, and the copy has the same SHA-256.

    Args:
        task: the Nornir task.
        database: must be there.
        others: dumped as well where they are on this server.
        folder: on the node.
        here: the operator's folder for this node.
        repositories: the database's row in its `migrate_version`, where it may have several.
        dump_share: room that a dump may take, as a share of its data's size.
        replica: the node is asked in place of another, whose server it replicates.

    Returns:
        A `Noted` whose data is the list of `Manifest`s.

    Raises:
        Refused: the database is not there; another server is reached than cellstep's own connection reaches; there is
            no room; the replica does not stand for its master; the copy differs from the dump.
        CommandFailed: a dump failed or is cut off.
        tasks.jobs.CutOff: the job was killed, or the node was restarted meanwhile.
    """
    if task.is_dry_run():
        return changed(task, f"would dump {database} into {folder}")
    binding, names = binding_of(task), list(dict.fromkeys([database, *others]))
    made = earlier(task, "dump", timeout=DUMP_TIMEOUT_S)
    seen, server = _survey(task, names, folder)
    present = [name for name in names if name in seen.sizes]
    if database not in present:
        raise Refused(f"{task.host.name} has no database {database}: the server is {server}")
    master, lag = replicas.origin(task, replica) if replica else (server, 0)
    if made is None:
        need = int(sum(seen.sizes[name] for name in present) * dump_share)
        _check_room(f"{folder} on {task.host.name}", seen.room_kib * 1024, need)
        _check_room(str(here), shutil.disk_usage(_existing(here)).free, need)
    script = f"{SCRIPT}\ndump_all {shlex.quote(folder)} {' '.join(map(shlex.quote, present))}"
    lines = detached(task, script, name="dump", what="mysqldump", timeout=DUMP_TIMEOUT_S).stdout.splitlines()
    found = []
    for digest, name in (line.split(" ", 1) for line in lines):
        known = _described(task, name, f"{folder}/{name}.facts", digest, (repositories or {}).get(name, ""))
        if not known.server.is_same(server):
            raise Refused(f"{name} was dumped from {known.server}, but {server} answers now")
        if replica:
            known = replace(known, replica_of=replica.of, origin=master)
        _keep(task, known, folder, here)
        found.append(known)
        if binding:
            binding.tell(_told(known))
    behind = f", from the replica of {replica.of}, {lag} s behind" if replica else ""
    words = f"dumped to {folder} and copied to {here}{behind}: {', '.join(map(_told, found))}"
    return changed(task, Noted(words, found))


def compare(task: Task, known: Manifest) -> tuple[str, ...]:
    """How the database on the task's node differs now from what a manifest says of it, in words.

    Reads every table. What was written to while the dump was made only has to be there.

    Args:
        task: the Nornir task, on the manifest's node, or on the one whose replica that is.
        known: the manifest.

    Raises:
        CommandFailed: the server does not answer.
    """
    name = shlex.quote(known.database)
    script = f"{SCRIPT}\nserver\nsizes {name}\nheads {name}\ncontents {name} | sed 's/^/before\\t/'"
    said = sh(task, script, what=f"comparing {known.database} with its dump", timeout=DUMP_TIMEOUT_S).stdout
    facts = Facts.read(said)
    return _differences(Server.of(facts.variables, task.host.name), facts, known, task.host.name)


def compare_all(task: Task, *, known: Sequence[Manifest]) -> Result:
    """As `compare`, of several databases of a node; the result is its words for each of them."""
    return unchanged(task, {each.database: compare(task, each) for each in known})


def _differences(server: Server, facts: Facts, known: Manifest, node: str) -> tuple[str, ...]:
    meant = known.server if node == known.node else known.origin
    said = []
    if not server.is_same(meant):
        said.append(f"another server answers: {server}, not {meant}")
    if known.database not in facts.sizes:
        return (*said, f"there is no database {known.database}")
    now = facts.heads.get(known.repository_id)
    if known.repository_id and now != known.head:
        said.append(f"the schema of {known.repository_id} is at version {now}, not {known.head}")
    return (*said, *contents.differences(known.contents, facts.before, unsteady=known.unsteady))


def _survey(task: Task, names: Sequence[str], folder: str) -> tuple[Facts, Server]:
    """What the node's client sees: its server, which is the one that cellstep reaches.

    Raises:
        Refused: they are two servers.
    """
    quoted = " ".join(map(shlex.quote, names))
    script = f"{SCRIPT}\nserver\nsizes {quoted}\nroom {shlex.quote(folder)} {quoted}"
    seen = Facts.read(sh(task, script, what="asking for the databases").stdout)
    server = Server.of(seen.variables, task.host.name)
    told = {str(row["Variable_name"]): str(row["Value"]) for row in mysql(task).query(VARIABLES)}
    reached = Server.of(told, task.host.name)
    if not server.is_same(reached):
        raise Refused(
            f"{task.host.name}: root's mysql reaches {server}, but cellstep reaches {reached}; "
            "mend root's .my.cnf there, or the address in cloud.yaml"
        )
    return seen, server


def _check_room(where: str, free: int, need: int) -> None:
    """Raises `Refused` where a folder has not so many bytes free."""
    if free < need:
        raise Refused(
            f"{where} has {free // MIB:,} MiB free, and the dumps may take {need // MIB + 1:,} MiB "
            "(preflight.dump_share of the data): make room"
        )


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _described(task: Task, database: str, path: str, digest: str, repository_id: str) -> Manifest:
    """The manifest of a dump, by the facts that its job left on the node; `digest` is theirs.

    Raises:
        Refused: they are not what the job wrote.
    """
    text = sh(task, f"cat -- {shlex.quote(path)}", timeout=DUMP_TIMEOUT_S).stdout
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise Refused(f"{path} on {task.host.name} is not what the dump's job wrote: dump again")
    facts = Facts.read(text)
    server = Server.of(facts.variables, task.host.name)
    if not repository_id and len(facts.heads) == 1:
        (repository_id,) = facts.heads
    binding = binding_of(task)
    sha256, size = facts.told["dump"]
    return Manifest(
        run=binding.run if binding else "",
        node=task.host.name,
        database=database,
        repository_id=repository_id,
        head=facts.heads.get(repository_id),
        server=server,
        replica_of="",
        origin=server,
        settings={name: facts.variables.get(name, "") for name in SETTINGS},
        tables={
            name: Entry(table.rows, table.checksum, table == facts.after.get(name))
            for name, table in facts.before.items()
        },
        file=f"{database}.sql.gz",
        size=int(size),
        sha256=sha256,
        began=facts.told["began"][0],
        ended=facts.told["ended"][0],
    )


def _keep(task: Task, known: Manifest, folder: str, here: Path) -> None:
    """Copy a dump, and put its manifest beside it in both places; ours comes last, and stands for all of it."""
    name = manifest.name_of(known.database)
    here.mkdir(parents=True, exist_ok=True, mode=0o700)
    (here / name).unlink(missing_ok=True)
    _fetch(task, f"{folder}/{known.file}", here / known.file, known.sha256)
    put = PUT % (shlex.quote(folder), shlex.quote(name), known.digest)
    change(task, put, what=f"writing {folder}/{name}", stdin=known.text)
    with _replacing(here / name) as sink:
        sink.write(known.text.encode())


def _fetch(task: Task, path: str, here: Path, digest: str) -> None:
    """Copy a file of the node; the digest is SHA-256 in hexadecimal."""
    with _replacing(here) as sink:
        sh(task, f"cat -- {shlex.quote(path)}", timeout=DUMP_TIMEOUT_S, sink=sink)
        sink.seek(0)
        if hashlib.file_digest(sink, "sha256").hexdigest() != digest:
            raise Refused(f"the copy of {path} differs from it: go on with `cellstep resume`, which copies it again")


@contextmanager
def _replacing(path: Path) -> Iterator[BufferedRandom]:
    """A file of its own, 0600, that gets the name when the block ends well and it is on disk; else it goes.

    Raises:
        Refused: it cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "w+b") as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        part.rename(path)
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def _told(known: Manifest) -> str:
    at = "" if known.head is None else f"version {known.head}, "
    meanwhile = f"; written to meanwhile: {', '.join(sorted(known.unsteady))}" if known.unsteady else ""
    return f"{known.file} ({known.size:,} bytes, {at}{len(known.tables)} tables{meanwhile})"
