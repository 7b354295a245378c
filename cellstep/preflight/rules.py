"""What the preflight makes of a node's answers: a finding for each thing that would stop the upgrade, or could."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from io import StringIO

from cellstep.preflight.case import NO_GO, WARNING, Case, Finding, Rule, without_name
from cellstep.preflight.update import update
from tasks.preflight import NodeFacts, privileges

ADMIN_REFUSED = "permission denied"
ROOT_NEEDS = {"SELECT", "INSERT", "CREATE", "DROP", "ALTER", "LOCK TABLES", "SHOW VIEW", "TRIGGER", "EVENT"}
"""What mysqldump needs with our options, and the restore of what it wrote."""
REPAIR_NEEDS = {"INSERT", "UPDATE"}
FEW_INODES = 1000


def judge(case: Case) -> dict[str, list[Finding]]:
    """The findings by check; a check that was made and found nothing has an empty list."""
    if case.facts.uid != 0:
        return {"root": [Finding("root", NO_GO, f"commands run as uid {case.facts.uid}, not as root: set ssh.sudo")]}
    return {"root": [], **{check: list(rule(case)) for check, (asked, rule) in RULES.items() if asked(case)}}


def _clock(case: Case) -> Iterator[Finding]:
    off, limit = case.facts.offset_s, case.limits.clock_s
    if abs(off) - case.facts.uncertainty_s > limit:
        which = "ahead of" if off > 0 else "behind"
        yield Finding("clock", NO_GO, f"the clock is more than {limit:g} s {which} this machine's", f"{abs(off):.1f} s")


def _space(case: Case) -> Iterator[Finding]:
    worst: dict[str, tuple[int, str, int]] = {}  # one line a file system: the largest need on it
    for space in case.facts.space:
        need = _needed(case, space.path)
        if space.free_mib < need and need > worst.get(space.mount, (0, "", 0))[0]:
            worst[space.mount] = need, space.path, space.free_mib
        if space.free_inodes is not None and space.free_inodes < FEW_INODES and space.mount not in worst:
            yield Finding("space", NO_GO, f"{space.mount} has hardly any inodes left", f"{space.free_inodes:,}")
    for mount, (need, path, free) in worst.items():
        on = "" if path == mount else f" (on {mount})"
        yield Finding("space", NO_GO, f"{path}{on} has less than {need:,} MiB free", f"{free:,} MiB")
    if (download := case.said("download")) and download.lines and (size := re.match(r"size (\d+)", download.lines[0])):
        caches = [space for space in case.facts.space if space.path == "/var"] or list(case.facts.space)
        mib = int(size[1]) // 2**20 + 1
        if caches and caches[0].free_mib < mib and caches[0].mount not in worst:
            yield Finding("space", NO_GO, f"the packages ({mib:,} MiB) do not fit on {caches[0].mount}")


def _needed(case: Case, path: str) -> int:
    need = case.limits.free_mib.get(path, 0)
    if path == case.cloud.config.backup_folder and case.questions.databases:
        need = max(need, dump_mib(case))
    return need


def sizes_of(facts: NodeFacts) -> dict[str, int]:
    """Bytes of data by schema, as the server's own tables tell."""
    said = facts.said.get("sizes")
    rows = (line.split("\t") for line in (said.lines if said and said.status == 0 else ()))
    return {row[0]: int(float(row[1])) for row in rows if len(row) == 2}


def dump_mib(case: Case) -> int:
    """Room for the dumps of the databases on this node, in MiB; the data's size is more than the compressed dump's."""
    sizes = sizes_of(case.facts)
    total = sum(sizes.get(name, 0) for name in case.questions.databases)
    return int(total * case.limits.dump_share) // 2**20 + 1


def _rpm(case: Case) -> Iterator[Finding]:
    facts = case.facts
    if facts.rpm_error:
        yield Finding("rpm", NO_GO, f"the RPM database is not sound: {facts.rpm_error}")
    for twice in facts.twice:
        yield Finding("rpm", NO_GO, f"installed twice, after a cut-off transaction: {twice}; mend with package-cleanup")
    if (left := case.said("unfinished")) and any(left.lines):
        names = ", ".join(line.rpartition("/")[2] for line in left.lines if line)
        words = "a yum transaction was left unfinished; mend with yum-complete-transaction"
        yield Finding("rpm", NO_GO, words, names)
    for holder in facts.holders:
        severity = NO_GO if holder.age_s > case.limits.lock_s else WARNING
        who = f"{holder.lock} is held by {holder.program}"
        yield Finding("rpm", severity, who, f"pid {holder.pid}, {holder.age_s:,} s old")
    if case.questions.packages and not facts.rpm_error and not facts.packages:
        yield Finding("rpm", NO_GO, "none of the release's packages is installed; is the node's role right?")


# Services, Puppet, load balancer, queue


def _services(case: Case) -> Iterator[Finding]:
    for name in case.questions.services:
        state = case.facts.services.get(name)
        if state is None:
            yield Finding("services", NO_GO, f"the service {name} is not there; is the node's role right?")
        elif state["actual"] != "running":
            yield Finding("services", WARNING, f"the service {name} does not run")


def _puppet(case: Case) -> Iterator[Finding]:
    said = case.said("puppet")
    if said is not None and said.status == 0:
        text = " ".join(said.lines)
        try:
            found = json.loads(text)
            text = str(found["disabled_message"]) if isinstance(found, dict) and "disabled_message" in found else text
        except ValueError:
            pass  # Puppet 2 and 3.0 write no JSON there: the text is the reason
        yield Finding(
            "puppet", WARNING, f"Puppet is disabled: “{text.strip() or 'no reason given'}”; it will be left so"
        )


def _balancer(case: Case) -> Iterator[Finding]:
    socket, said, admin = case.questions.socket, case.said("balancer"), case.said("admin")
    if said is None or said.status != 0:
        yield Finding(
            "balancer", NO_GO, f"HAProxy's admin socket {socket} does not answer: {said.last if said else ''}"
        )
        return
    rows = list(csv.DictReader(StringIO("\n".join(said.lines).lstrip("# "))))
    for backend in case.cloud.config.fence.backends.get(case.component, ()):
        servers = [r for r in rows if r.get("pxname") == backend and r["svname"] not in {"FRONTEND", "BACKEND"}]
        if not servers:
            yield Finding("balancer", NO_GO, f"HAProxy has no servers in a backend {backend}; see fence.backends")
        for row in servers:
            if row["status"].startswith(("MAINT", "DRAIN")):
                words = f"{backend}/{row['svname']} is in maintenance already ({row['status']}); it will be left so"
                yield Finding("balancer", WARNING, words)
    if admin is None or ADMIN_REFUSED in " ".join(admin.lines).lower():
        words = f"HAProxy's socket {socket} has not the level admin: add `level admin` to its line"
        yield Finding("balancer", NO_GO, words)
    elif "no such" not in " ".join(admin.lines).lower():
        yield Finding(
            "balancer", WARNING, f"whether HAProxy's socket {socket} has the admin level is unclear", admin.last
        )


def _queue(case: Case) -> Iterator[Finding]:
    said = case.said("queue")
    if said is None or said.status != 0:
        errors = [line.strip() for line in (said.lines if said else ()) if re.match(r"(?i)\s*error", line)]
        why = "no answer within 60 s" if said and said.status == 124 else (errors or [said.last if said else ""])[0]
        yield Finding("queue", NO_GO, "RabbitMQ does not answer rabbitmqctl", why)


# Databases


def _server(case: Case) -> Iterator[Finding]:
    """The server as its node's root reaches it: that is who dumps and restores."""
    mysql, tools, grants, sizes = (case.said(name) for name in ("mysql", "tools", "grants", "sizes"))
    for tool in tools.lines if tools else ():
        yield Finding("dump", NO_GO, f"{tool} is not installed: no dump can be made")
    if mysql is None or mysql.status != 0 or grants is None or sizes is None or sizes.status != 0:
        why = next((said.last for said in (mysql, sizes) if said and said.status != 0), "")
        yield Finding("dump", NO_GO, f"root's `mysql` on the node does not reach the database: {why}")
        return
    found = sizes_of(case.facts)
    for name in case.questions.databases:
        have = privileges(grants.lines, name)
        lacking = set() if "ALL PRIVILEGES" in have else ROOT_NEEDS - have
        if name not in found:
            if name == case.questions.databases[0]:
                yield Finding("dump", NO_GO, f"there is no database {name}")
        elif lacking:
            yield Finding(
                "dump", NO_GO, f"root's mysql user {mysql.last} lacks {_list(lacking)} on {name}, for the dump"
            )


def _list(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))


def _session(case: Case) -> Iterator[Finding]:
    """The server as cellstep's own user reaches it."""
    facts, user = case.facts.database, case.cloud.config.databases.username
    if facts is None:
        return
    if facts.error:
        yield Finding("database", NO_GO, f"no session as {user}: {without_name(case.cloud, case.node, facts.error)}")
        return
    present = sizes_of(case.facts)
    readable = [name for name in case.questions.databases if name in present or not present]
    have = {name: privileges(facts.grants, name) for name in readable}
    blind = [name for name in readable if not have[name] & {"ALL PRIVILEGES", "SELECT"}]
    if blind:
        words = f"the database user {user} may not read {', '.join(blind)}: grant it SELECT"
        yield Finding("database", NO_GO, words)
    main = case.cloud.database(case.component)
    lacking = REPAIR_NEEDS - have.get(main, REPAIR_NEEDS)
    if lacking and main not in blind and case.node.cell == "top" and "ALL PRIVILEGES" not in have[main]:
        words = f"the database user {user} lacks {_list(lacking)} on {main}: no --repair-quotas"
        yield Finding("database", WARNING, words)
    yield from _heads(case)


def _heads(case: Case) -> Iterator[Finding]:
    facts = case.facts.database
    if facts is None:
        return
    component = case.cloud.release.components[case.component]
    for schema in component.databases:
        database = case.cloud.database(case.component)
        if database in facts.head_errors:
            if "SELECT" in (have := privileges(facts.grants, database)) or "ALL PRIVILEGES" in have:
                words = f"the schema version of {database} cannot be read: {facts.head_errors[database]}"
                yield Finding("database", NO_GO, words)
            continue
        head = facts.heads.get(database)
        if head is None:
            yield Finding("database", NO_GO, f"{database} has no schema version ({schema.repository_id})")
        elif head not in {*schema.start, component.head(schema)}:
            known = " or ".join(map(str, schema.start))
            yield Finding("database", NO_GO, f"the schema of {database} is at version {head}, not at {known}")


def _replication(case: Case) -> Iterator[Finding]:
    facts = case.facts.database
    if facts is None or facts.error:
        return
    if facts.variables.get("log_bin", "").upper() in {"ON", "1"}:
        seconds = int(facts.variables.get("binlog_expire_logs_seconds") or 0)
        days = float(facts.variables.get("expire_logs_days") or 0) or seconds / 86400
        kept = f"kept for {days:g} days" if days else "kept for ever"
        yield Finding(
            "replication",
            WARNING,
            f"the binary log is on ({kept}): db sync and a restore go to it and to every replica",
        )
    if facts.replica_error:
        words = "the database user may not see the replication: grant it REPLICATION CLIENT"
        yield Finding("replication", WARNING, words)
    for row in facts.replica:
        threads = {
            "IO": row.get("Slave_IO_Running", row.get("Replica_IO_Running")),
            "SQL": row.get("Slave_SQL_Running", row.get("Replica_SQL_Running")),
        }
        stopped = [name for name, state in threads.items() if str(state) != "Yes"]
        lag = row.get("Seconds_Behind_Master", row.get("Seconds_Behind_Source"))
        if stopped:
            error = str(row.get("Last_SQL_Error") or row.get("Last_IO_Error") or "")
            yield Finding("replication", NO_GO, f"replication has stopped ({' and '.join(stopped)} thread)", error)
        elif lag is not None and float(lag) > case.limits.replica_lag_s:
            limit = case.limits.replica_lag_s
            yield Finding(
                "replication", WARNING, f"replication is more than {limit:g} s behind", f"{float(lag):,.0f} s"
            )
    if facts.replica and facts.variables.get("read_only", "").upper() in {"ON", "1"}:
        yield Finding("replication", NO_GO, "the database is a read-only replica: is its role right?")


def _always(_: Case) -> bool:
    return True


RULES: dict[str, tuple[Callable[[Case], bool], Rule]] = {
    "clock": (_always, _clock),
    "space": (_always, _space),
    "rpm": (_always, _rpm),
    "update": (lambda case: bool(case.questions.packages), update),
    "services": (lambda case: bool(case.questions.services), _services),
    "puppet": (_always, _puppet),
    "balancer": (lambda case: bool(case.questions.socket), _balancer),
    "queue": (lambda case: case.questions.queue, _queue),
    "dump": (lambda case: bool(case.questions.databases), _server),
    "database": (lambda case: bool(case.questions.databases), _session),
    "replication": (lambda case: bool(case.questions.databases), _replication),
}
"""The checks in their order: when each is made, and its rule."""
