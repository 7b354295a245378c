"""Staging: dumps restored into scratch servers, to prove them and to try schema changes on the copies.

`staging.sh` does it, one job a dump; what it found comes back in a file. The server, and all that it was given, is gone
at the job's end, whatever comes of it.
"""

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nornir.core.task import Result, Task

from tasks import contents, differences, rehearsal, schemas
from tasks.binding import binding_of
from tasks.errors import CommandFailed, Refused
from tasks.holds import Noted, changed, unchanged
from tasks.jobs import detached, earlier
from tasks.manifest import Manifest
from tasks.rehearsal import Rehearsal, Trial
from tasks.shell import change, sh

SCRIPT = f"{contents.SCRIPT}\n{Path(__file__).with_name('staging.sh').read_text()}"
STAGING_TIMEOUT_S = 8 * 3600.0
UPLOAD_TIMEOUT_S = 4 * 3600.0
BAD_DUMP = 4  # what staging.sh ends with where it is the dump that will not do
# folder, file, digest. The file comes by standard input.
UPLOAD = r"""
set -e -o pipefail
umask 077
mkdir -p -- %s
cd -- "$_"
cat > %s.part
[ "$(sha256sum < %s.part)" = "%s  -" ] || { rm -f -- %s.part; echo "it did not arrive whole" >&2; exit 3; }
mv -f -- %s.part %s
"""


@dataclass(frozen=True)
class Dump:
    """A dump to be proven.

    Attributes:
        place: the database, `NODE/DATABASE`.
        manifest: what was dumped.
        path: of the dump on its own node.
        here: our copy of it.
        trial: the schema change to try on its copy; None: none.
    """

    place: str
    manifest: Manifest
    path: str
    here: Path
    trial: Trial | None = None


@dataclass(frozen=True)
class Proof:
    """What came of restoring a dump and comparing it with its manifest.

    Attributes:
        place: the database, `NODE/DATABASE`.
        manifest: its digest, which stands for the dump and all that was said of it.
        tables: how many were compared.
        rows: in all of them.
        unsteady: tables that were written to while the dump was made: there, and not compared.
        differences: from the manifest, in words; none where it is proven.
        seconds: that loading it took.
        server: the version of the server that it was restored into.
    """

    place: str
    manifest: str
    tables: int
    rows: int
    unsteady: tuple[str, ...]
    differences: tuple[str, ...]
    seconds: float
    server: str

    @property
    def ok(self) -> bool:
        """Whether the dump is proven."""
        return not self.differences

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Proof":
        """From JSON values."""
        lists = {key: tuple(data[key]) for key in ("unsteady", "differences")}
        return cls(**{**data, **lists})


@dataclass(frozen=True)
class Staged:
    """What was found out about one dump."""

    proof: Proof
    rehearsal: Rehearsal | None = None


def prove(task: Task, *, dumps: Sequence[Dump], home: str, rehearse: bool = True) -> Result:
    """Restore dumps into scratch servers on this node, compare them with their manifests, and try schema changes.

    A dump that is not what its manifest says is no failure of the task: its proof has the differences.

    Args:
        task: the Nornir task, on the staging node or on the dumps' own.
        dumps: one after the other.
        home: the run's folder for scratch servers on this node.
        rehearse: whether to try the schema changes as well.

    Returns:
        A `Noted` whose data is a list of `Staged`, a dump each.

    Raises:
        CommandFailed: the node cannot do it for one of them: no server's programs, no room; it did the others.
        tasks.jobs.CutOff: it was killed, or the node was restarted meanwhile; nothing is left of it.
    """
    if task.is_dry_run():
        return changed(task, f"would restore {', '.join(dump.place for dump in dumps)} below {home}, and compare")
    if not dumps:
        return unchanged(task, Noted("there is no dump to restore here", []))
    binding, staged = binding_of(task), []
    failed: CommandFailed | None = None
    for dump in dumps:
        try:
            staged.append(_stage(task, dump, home, dump.trial if rehearse else None))
        except CommandFailed as error:  # the others have their turn all the same: another try has theirs at once
            failed = failed or error
            said = f"{dump.place}: {error}"
        else:
            said = told(staged[-1])
        if binding:
            binding.tell(said)
    if failed:
        raise failed
    return unchanged(task, Noted("; ".join(map(told, staged)), staged))


def told(staged: Staged) -> str:
    """What was found out, in words."""
    proof, tried = staged.proof, staged.rehearsal
    if proof.ok:
        said = f"{proof.tables} tables with {proof.rows:,} rows as dumped"
        said = f"{proof.place}: restored in {proof.seconds:.0f} s, {said}"
    else:
        more = f" and {len(proof.differences) - 3} more differences" if len(proof.differences) > 3 else ""
        said = f"{proof.place}: not proven: {', '.join(proof.differences[:3])}{more}"
    if proof.unsteady:
        said += f" (written to meanwhile, not compared: {', '.join(proof.unsteady)})"
    if tried and tried.ok:
        said += f"; rehearsed: version {tried.start} to {tried.end} in {tried.seconds:.0f} s"
    elif tried:
        said += f"; the rehearsal failed: {tried.error}"
    return said


def _stage(task: Task, dump: Dump, home: str, trial: Trial | None) -> Staged:
    """One dump."""
    name, manifest = _name(dump.place), dump.manifest
    job = f"stage {dump.place}"
    before = earlier(task, job, timeout=STAGING_TIMEOUT_S)
    path = dump.path
    if task.host.name != manifest.node:
        path = f"{home}/{name}.sql.gz"
        if before is None:  # what has been started has its dump
            try:
                upload(task, manifest, dump.here, path)
            except Refused as error:  # it is our copy that will not do
                return _unproven(dump, str(error))
    script = f"{_arguments(dump, home, name, path, trial)}\n{SCRIPT}"
    what = f"restoring {dump.place} in {home}"
    try:
        detached(task, script, name=job, what=what, timeout=STAGING_TIMEOUT_S)
    except CommandFailed as error:
        if error.status != BAD_DUMP:
            raise
        return _unproven(dump, error.tail)
    said = sh(task, f"cat -- {shlex.quote(f'{home}/{name}.result')}", what="reading what was found").stdout
    return read(said, dump, trial)


def _unproven(dump: Dump, why: str) -> Staged:
    return Staged(Proof(dump.place, dump.manifest.digest, 0, 0, (), (why,), 0.0, ""))


def _name(place: str) -> str:
    """A short name for a place in file names, no other place's; the path of a socket has room for 107 bytes."""
    digest = hashlib.sha256(place.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{re.sub(r'[^a-z0-9]+', '-', place.lower()).strip('-')[:20]}.{digest}"


def upload(task: Task, known: Manifest, here: Path, path: str) -> None:
    """Stream our copy of a dump to a node.

    Raises:
        Refused: our copy is not there, or not what was dumped.
        CommandFailed: it did not arrive whole, or there is no room for it.
    """
    whose = f"{known.node}/{known.database}"
    if not here.is_file():
        raise Refused(f"there is no copy {here} of the dump of {whose}: bring it back, or back up again")
    folder, _, file = path.rpartition("/")
    name = shlex.quote(file)
    script = UPLOAD % (shlex.quote(folder), name, name, known.sha256, name, name, name)
    with here.open("rb") as source:
        if hashlib.file_digest(source, "sha256").hexdigest() != known.sha256:
            raise Refused(f"{here} is not the dump that was made of {whose}: its SHA-256 is another")
        source.seek(0)
        change(task, script, what=f"copying {here} to {path}", timeout=UPLOAD_TIMEOUT_S, source=source)


def _arguments(dump: Dump, home: str, name: str, path: str, trial: Trial | None) -> str:
    """What `staging.sh` is told."""
    manifest = dump.manifest
    folder = f"{home}/{name}"
    command = config = ""
    if trial:
        address = f"mysql://root@localhost/{quote(manifest.database, safe='')}?unix_socket={quote(f'{folder}/s')}"
        config = trial.config.replace("{url}", address)
        command = trial.command.format(config=shlex.quote(f"{folder}/copy.conf"))
    words = {
        "home": home,
        "name": name,
        "dump": path,
        "digest": manifest.sha256,
        "database": manifest.database,
        "repository": manifest.repository_id,
        "command": command,
        "config": config,
        "snapshot": schemas.SNAPSHOT if trial else "",
    }
    options = [f"--loose-{name.replace('_', '-')}={value}" for name, value in sorted(manifest.settings.items())]
    lines = [f"{key}={shlex.quote(value)}" for key, value in words.items()]
    return "\n".join([*lines, f"options=({' '.join(map(shlex.quote, options))})"])


def read(said: str, dump: Dump, trial: Trial | None) -> Staged:
    """Read what `staging.sh` found.

    Raises:
        Refused: it is cut off, or of another dump.
    """
    manifest = dump.manifest
    facts: dict[str, list[str]] = {}
    for line in said.split("\n"):
        kind, _, fact = line.partition("\t")
        facts.setdefault(kind, []).append(fact)
    if facts.get("whole") != [manifest.sha256]:
        raise Refused(f"what was found about {dump.place} is cut off, or of another dump: do it again")
    before = contents.parse(_text(facts, "contents before"))
    found = contents.differences(manifest.contents, before, unsteady=manifest.unsteady)
    at = _version(facts, "version before")
    if at != manifest.head:
        found = (*found, f"it is at version {at}, and {manifest.head} was dumped")
    began, ended = map(float, facts["load"][0].split())
    proof = Proof(
        dump.place,
        manifest.digest,
        len(before),
        sum(table.rows for table in before.values()),
        tuple(sorted(manifest.unsteady)),
        found,
        round(ended - began, 1),
        facts["server"][0],
    )
    if trial is None:
        return Staged(proof)
    status, started, stopped, alone = facts["ended"][0].split()
    end = _version(facts, "version after")
    return Staged(
        proof,
        Rehearsal(
            place=dump.place,
            manifest=manifest.digest,
            command=trial.command,
            start=at,
            end=end,
            head=trial.head,
            seconds=round(float(stopped) - float(started), 1),
            steps=rehearsal.steps(facts.get("step", [])),
            schema=tuple(map(str, differences.compare(*(_schema(facts, when) for when in ("before", "after"))))),
            rows=rehearsal.counted(before, contents.parse(_text(facts, "contents after"))),
            error=rehearsal.why(int(status), facts.get("said", []), end, at, trial.head),
            server=proof.server,
            live=manifest.server.version,
            alone=alone != "0",
        ),
    )


def _text(facts: Mapping[str, Sequence[str]], kind: str) -> str:
    return "".join(f"{line}\n" for line in facts.get(kind, ()))


def _version(facts: Mapping[str, Sequence[str]], kind: str) -> int | None:
    found = facts.get(kind)
    return int(found[0]) if found else None


def _schema(facts: Mapping[str, Sequence[str]], when: str) -> schemas.Schema:
    return schemas.parse_client(_text(facts, f"schema {when}"))
