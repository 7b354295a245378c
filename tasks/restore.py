"""The way back of databases: the dump that was taken before the schema was changed, checked, loaded and proven.

A restore that is cut off leaves a marker beside the dump and is done again whole: a database that is loaded half tells
the version of before, because its tables come in the order of their names.
"""

import hashlib
import re
import shlex
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nornir.core.task import Result, Task

from tasks import backup
from tasks.backup import MYSQLDUMP
from tasks.databases import DUMP_TIMEOUT_S
from tasks.errors import CommandFailed, Refused
from tasks.holds import changed, skipped, unchanged
from tasks.jobs import detached, earlier
from tasks.manifest import Manifest, Server
from tasks.shell import sh
from tasks.staging import upload

ASK_EVERY_S = 1.0
SERVER_TIMEOUT_S = 120.0
RESTORE_TIMEOUT_S = 2 * DUMP_TIMEOUT_S

# folder, file. Prints: sha256 DIGEST; table NAME; row TEXT (of migrate_version); last LINE.
INSPECT = r"""
set -e -o pipefail
export LC_ALL=C
cd -- %s
digest=$(sha256sum < %s)
echo "sha256 ${digest%%%% *}"
gzip -dc %s | awk '
  /^DELIMITER ;;/ { routine = 1 }
  /^DELIMITER ;$/ { routine = 0 }
  !routine && /^CREATE TABLE `/ { print "table " $3 }
  /^INSERT INTO `migrate_version`/ { inside = 1 }
  inside { print "row " $0 }
  inside && /;$/ { inside = 0 }
  { last = $0 }
  END { print "last " last }'
"""

# folder, database, repository. Prints: mark begun, or mark done and a digest; version NUMBER; table NAME.
STATE = r"""
set -e -o pipefail
cd -- %s
database=%s repository=%s
[ ! -e "$database.restored" ] || echo "mark done $(cat "$database.restored")"
[ ! -e "$database.restoring" ] || echo "mark begun"
ask() { mysql -N -B -e "$1"; }
tables=$(ask "SELECT CONCAT('table ', table_name) FROM information_schema.tables
  WHERE table_schema='$database' AND table_type='BASE TABLE'")
echo "$tables"
case "$tables" in *'table migrate_version'*)
  ask "SELECT CONCAT('version ', version) FROM \`$database\`.migrate_version WHERE repository_id='$repository'";;
esac
"""

# folder, database, digest. The marker is on disk before the first statement, and goes when the proof is there. What was
# restored is dumped again as the dump was made: it must be the same.
RESTORE = r"""
set -e -o pipefail
umask 077
export LC_ALL=C
cd -- %s
database=%s digest=%s
exec 9> "$database.lock"
flock -w 60 9 || { echo "another restore of $database runs" >&2; exit 6; }
[ "$(sha256sum < "$database.sql.gz")" = "$digest  -" ] || { echo "the dump has changed" >&2; exit 4; }
rm -f "$database.restored"
echo "$digest" > "$database.restoring"
sync
# What a dump holds in one statement may be longer than the server takes.
packet=$(mysql -N -B -e 'SELECT @@GLOBAL.max_allowed_packet')
trap 'mysql -e "SET GLOBAL max_allowed_packet=$packet"' EXIT
mysql -e 'SET GLOBAL max_allowed_packet=1073741824'
status=0
said=$(gzip -dc "$database.sql.gz" | mysql --max-allowed-packet=1G 2>&1 > /dev/null) || status=$?
if [ "$status" != 0 ]; then
  # The client tells the statement, too: rows, which are for nobody's eyes.
  said=$(sed -n '/^ERROR/ { s/ near .*//; p; }' <<< "$said")
  echo "${said:-mysql ended with status $status}" >&2
  exit 7
fi
meant=$(gzip -dc "$database.sql.gz" | grep -v '^--' | sha256sum)
found=$(__MYSQLDUMP__ "$database" | grep -v '^--' | sha256sum)
[ "$meant" = "$found" ] || { echo "$database, restored and dumped again, differs from its dump" >&2; exit 5; }
mv "$database.restoring" "$database.restored"
""".replace("__MYSQLDUMP__", MYSQLDUMP)

# folder, database, database. Who works with the database, beside this: user@host, connections.
USERS = r"""
set -e -o pipefail
lock=%s/%s.lock
if [ -e "$lock" ]; then
  exec 9< "$lock"
  flock -w 5 9 || { echo 'a restore that was begun before is still under way: ask again when it is over' >&2; exit 6; }
fi
ask <<< "SELECT CONCAT(user, '@', SUBSTRING_INDEX(host, ':', 1)), COUNT(*) FROM information_schema.processlist
  WHERE db = $(literal %s) AND id <> CONNECTION_ID() GROUP BY 1 ORDER BY 1"
"""


@dataclass(frozen=True)
class Dump:
    """What is in a dump: its SHA-256, the schema version of before, its tables."""

    digest: str
    version: int
    tables: frozenset[str]


@dataclass(frozen=True)
class State:
    """How a database is: its schema version (None: it tells none), its tables, how far a restore of it came.

    `restored` is the digest of the dump that a restore ended well with, "" where there was none; `begun` is a restore
    that did not end.
    """

    version: int | None
    tables: frozenset[str]
    restored: str
    begun: bool


def parse_dump(text: str, repository_id: str) -> tuple[Dump, str]:
    """Read what `INSPECT` printed: the dump, and its last line.

    Raises:
        Refused: it names no schema version.
    """
    words: dict[str, list[str]] = {"sha256": [], "table": [], "row": [], "last": []}
    for line in text.split("\n"):
        kind, _, rest = line.partition(" ")
        if kind in words:
            words[kind].append(rest)
    row = re.search(rf"\('{re.escape(repository_id)}','(?:[^'\\]|\\.|'')*',(\d+)\)", "\n".join(words["row"]))
    if row is None:
        raise Refused(f"the dump has no schema version of {repository_id}: is it the right database?")
    tables = frozenset(name.strip("`") for name in words["table"])
    return Dump(words["sha256"][0], int(row.group(1)), tables), words["last"][-1]


def inspect(task: Task, *, database: str, repository_id: str, start: Sequence[int], folder: str, here: Path) -> Dump:
    """Check a dump on its node: the same as our copy of it, whole, from before the schema was changed.

    Args:
        task: the Nornir task.
        database: its name.
        repository_id: its row in migrate_version.
        start: the schema versions that the release starts from.
        folder: on the node.
        here: our copy.

    Raises:
        CommandFailed: it is not there, or gzip finds it broken.
        Refused: it is not the same as our copy, cut off, or of another schema version.
    """
    name = shlex.quote(f"{database}.sql.gz")
    script = INSPECT % (shlex.quote(folder), name, name)
    path = f"{folder}/{database}.sql.gz"
    dump, last = parse_dump(sh(task, script, what=f"reading {path}", timeout=DUMP_TIMEOUT_S).stdout, repository_id)
    if not here.is_file():
        raise Refused(f"there is no copy {here} to compare {path} with: bring it back")
    with here.open("rb") as copy:
        if hashlib.file_digest(copy, "sha256").hexdigest() != dump.digest:
            raise Refused(f"{path} is not what was copied to {here}: put the one that is whole in both places")
    if not last.startswith("-- Dump completed"):
        raise Refused(f"{path} is cut off: its last line is “{last[:60]}”")
    if dump.version not in start:
        known = " or ".join(map(str, start))
        raise Refused(f"{path} is of schema version {dump.version}, not of {known}: it is no dump from before")
    return dump


def state(task: Task, *, database: str, repository_id: str, folder: str) -> State:
    """How the database is now; waits for a server that has just been booted.

    Raises:
        CommandFailed: the server does not answer.
    """
    script = STATE % (shlex.quote(folder), shlex.quote(database), shlex.quote(repository_id))
    deadline = time.monotonic() + (0 if task.is_dry_run() else SERVER_TIMEOUT_S)
    pause = threading.Event()
    while True:
        try:
            lines = sh(task, script, what=f"asking for the database {database}").stdout.splitlines()
            break
        except CommandFailed:
            if time.monotonic() >= deadline:
                raise
        pause.wait(ASK_EVERY_S)
    words = [line.split(" ") for line in lines]
    versions = [int(word[1]) for word in words if word[0] == "version"]
    return State(
        version=versions[0] if versions else None,
        tables=frozenset(word[1] for word in words if word[0] == "table"),
        restored=next((word[2] for word in words if word[:2] == ["mark", "done"]), ""),
        begun=["mark", "begun"] in words,
    )


def check(
    task: Task, *, database: str, repository_id: str, start: Sequence[int], folder: str, here: Path | None
) -> Result:
    """See that a database that must be restored has a dump that is whole, before anything is stopped."""
    if here is None:
        return skipped(task, f"the schema of {database} was not touched")
    dump = inspect(task, database=database, repository_id=repository_id, start=start, folder=folder, here=here)
    return unchanged(task, f"{folder}/{database}.sql.gz is whole: version {dump.version}, {len(dump.tables)} tables")


def restore(
    task: Task,
    *,
    database: str,
    repository_id: str,
    start: Sequence[int],
    folder: str,
    here: Path | None,
    afresh: bool = False,
) -> Result:
    """Bring a database back from its dump, and prove it: dumped again it is the same, line by line.

    Where a schema change was begun, the version alone does not say that nothing was changed: a migration that was cut
    off has changed tables and counts as not done. So it is restored unless a restore has ended well already.

    Args:
        task: the Nornir task.
        database: its name.
        repository_id: its row in migrate_version.
        start: the schema versions that the release starts from.
        folder: the folder on the node with the dump.
        here: our copy of the dump; None where no schema change was begun here.
        afresh: also where it was restored already: what was written since goes. Nothing then says that it was restored.

    Raises:
        CommandFailed: the load failed, or what was loaded differs from the dump; another try begins anew.
        tasks.jobs.CutOff: it was killed, or the node was restarted meanwhile; the same.
        Refused: the dump is not whole, or the database is not at its version afterwards.
    """
    if here is None:
        return skipped(task, f"the schema of {database} was not touched")
    earlier(task, "restore", timeout=RESTORE_TIMEOUT_S)  # one that is under way is waited for
    dump = inspect(task, database=database, repository_id=repository_id, start=start, folder=folder, here=here)
    was = state(task, database=database, repository_id=repository_id, folder=folder)
    at = "at no version" if was.version is None else f"at version {was.version}"
    if was.restored == dump.digest and was.version == dump.version and not was.begun and not afresh:
        return skipped(task, f"restored already, {at}")
    if task.is_dry_run():
        return changed(task, f"would restore {database}, {at}, from {folder}: version {dump.version}")
    script = RESTORE % (shlex.quote(folder), shlex.quote(database), dump.digest)
    if afresh:  # whoever restores by hand goes on, and a later back-out has to do it again
        script += 'rm -f -- "$database.restored"\n'
    detached(task, script, name="restore", what=f"restoring {database}", timeout=RESTORE_TIMEOUT_S)
    now = state(task, database=database, repository_id=repository_id, folder=folder)
    if now.version != dump.version or now.tables != dump.tables:
        odd = sorted(now.tables ^ dump.tables)[:5]
        raise Refused(f"restored, but at version {now.version} with other tables than the dump: {', '.join(odd)}")
    return changed(
        task,
        f"restored from {folder}: {at} before, at {now.version} now, {len(now.tables)} tables; dumped again, the same",
    )


def put_back(task: Task, *, known: Manifest, folder: str, here: Path) -> Result:
    """Bring a database back from a dump, on request: all that was written since is lost.

    Args:
        task: the Nornir task, on the database's node.
        known: the dump's manifest.
        folder: on the node; the dump is copied there where it is not.
        here: our copy of the dump.

    Raises:
        Refused: another server answers than was dumped; somebody works with the database; the dump is not whole; or
            what was restored is not what the manifest says.
        CommandFailed: as `restore`; another try begins anew.
        tasks.jobs.CutOff: the same.
    """
    told = sh(task, f"{backup.SCRIPT}\nserver", what="asking which server answers").stdout
    server = Server.of(backup.Facts.read(told).variables, task.host.name)
    meant = known.server if task.host.name == known.node else known.origin
    if not server.is_same(meant):
        raise Refused(f"another server answers: {server}; the dump is of {meant}: it is not put back there")
    database = shlex.quote(known.database)
    script = f"{backup.SCRIPT}\n{USERS % (shlex.quote(folder), database, database)}"
    users = sh(task, script, what=f"asking who works with {known.database}").stdout.split("\n")
    if found := [f"{user} ({count})" for user, _, count in (line.partition("\t") for line in users if line)]:
        raise Refused(f"somebody works with {known.database}: {', '.join(found)}; stop that first")
    path = f"{folder}/{known.file}"
    if not task.is_dry_run() and sh(task, f"test -e {shlex.quote(path)}", ok=None).exit_status:
        upload(task, known, here, path)
    said = restore(
        task,
        database=known.database,
        repository_id=known.repository_id,
        start=() if known.head is None else (known.head,),
        folder=folder,
        here=here,
        afresh=True,
    )
    if not task.is_dry_run() and (differences := backup.compare(task, known)):
        raise Refused(f"restored, but not as its manifest says: {'; '.join(differences[:5])}")
    return changed(task, f"{said.result}; its {len(known.tables)} tables are as the manifest says")
