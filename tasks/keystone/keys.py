"""EC2 keys as two releases of keystone have them in two tables, and what those have in common.

Grizzly has them in `ec2_credential`, Havana in `credential`, as JSON and under the SHA-256 of the access key. Secrets
are in no repr.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

OLD, NEW = "ec2_credential", "credential"
CONFLICT, DELETED, UNUSABLE, REFUSED = "conflict", "deleted", "unusable", "refused"

# What Grizzly's columns hold unchanged on every server: MySQL without a strict mode cuts off what is longer.
_HELD = re.compile(r"[!-~]{1,64}")


@dataclass(frozen=True)
class Key:
    """An EC2 key as one table has it.

    Attributes:
        id: its id in `credential`: SHA-256 of the access key, hexadecimal.
        access: the access key.
        user: its user's id; None where it has none.
        project: its project's id; None where it has none.
        secret: the secret key; None where it has none.
        trust: the trust that it is bound to, "" where none.
        blob: as `credential` has it, "" from the other table.
    """

    id: str
    access: str
    user: str | None
    project: str | None
    secret: str | None = field(repr=False)
    trust: str = ""
    blob: str = field(default="", repr=False)


@dataclass(frozen=True)
class Finding:
    """A key that is not copied.

    Attributes:
        kind: `conflict` (both tables have it, and differ), `deleted` (both had it, one has it no more), `unusable`
            (the other table cannot hold it) or `refused` (the server did not take it).
        access: the access key; the id where there is none.
        user: its user's id, "" where not known.
        what: what is wrong, and what to do.
    """

    kind: str
    access: str
    user: str
    what: str


@dataclass(frozen=True)
class Comparison:
    """What two tables have in common, and not.

    Attributes:
        in_step: ids of the keys that both have alike.
        present: ids that any of the two has.
        lacking: table to the keys that it lacks, and gets.
        deleted: table to the keys that it had, and that the other still has.
        findings: what is not copied, and why; by access key.
    """

    in_step: frozenset[str]
    present: frozenset[str]
    lacking: Mapping[str, tuple[Key, ...]]
    deleted: Mapping[str, tuple[Key, ...]]
    findings: tuple[Finding, ...]


def key_id(access: str) -> str:
    """The id that `credential` has an access key under."""
    return hashlib.sha256(access.encode()).hexdigest()


def compare(
    old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]], known: Collection[str] = ()
) -> Comparison:
    """Compare the rows of the two tables.

    Args:
        old: rows of `ec2_credential`: access, secret, user_id, tenant_id.
        new: rows of `credential`: id, user_id, project_id, type, blob.
        known: ids of keys that both tables had.
    """
    olds = {key.id: key for key in map(_of_old, old)}
    news, findings, taken = _of_new(new)
    spellings: dict[str, set[str]] = defaultdict(set)
    for key in (*olds.values(), *news.values()):
        spellings[key.access.rstrip(" ").lower()].add(key.access)
    in_step: set[str] = set()
    lacking: dict[str, list[Key]] = {OLD: [], NEW: []}
    deleted: dict[str, list[Key]] = {OLD: [], NEW: []}
    for number in olds.keys() & news.keys():
        if differs := _difference(olds[number], news[number]):
            findings.append(_conflict(olds[number], differs))
        else:
            in_step.add(number)
    for table, here, there in ((NEW, olds, news), (OLD, news, olds)):
        for number in here.keys() - there.keys():
            key = here[number]
            if table == NEW and number in taken:
                findings.append(_conflict(key, taken[number]))
            elif number in known:
                deleted[table].append(key)
                findings.append(_deleted(key, table))
            elif why := _unfit_for_new(key) if table == NEW else _unfit_for_old(key, spellings):
                findings.append(Finding(UNUSABLE, key.access, key.user or "", f"not copied to {table}: {why}"))
            else:
                lacking[table].append(key)
    return Comparison(
        frozenset(in_step),
        frozenset({*olds, *news, *taken}),
        {table: _ordered(keys) for table, keys in lacking.items()},
        {table: _ordered(keys) for table, keys in deleted.items()},
        tuple(sorted(findings, key=lambda finding: (finding.kind, finding.access, finding.what))),
    )


def digests(table: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Access key to a digest of its secret, user and project, of the rows of a table; what is no key is left out."""
    keys = map(_of_old, rows) if table == OLD else _of_new(rows)[0].values()
    parts = {key.access: [key.access, key.secret, key.user, key.project] for key in keys}
    return {access: hashlib.sha256(json.dumps(each).encode()).hexdigest() for access, each in parts.items()}


def _ordered(keys: Iterable[Key]) -> tuple[Key, ...]:
    return tuple(sorted(keys, key=lambda key: key.access))


def _of_old(row: Mapping[str, Any]) -> Key:
    return Key(key_id(row["access"]), row["access"], row["user_id"], row["tenant_id"], row["secret"])


def _of_new(rows: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Key], list[Finding], dict[str, str]]:
    """The keys by id; rows that are none; and what is wrong with ids that are taken by such ones."""
    keys, findings, taken = {}, [], {}
    for row in rows:
        if row["blob"] is None:
            taken[row["id"]] = f"its id in {NEW} is that of a credential of the type {row['type']}"
            continue
        access, secret, trust = _parts(row["blob"])
        if access is None or secret is None:
            why = f"its blob in {NEW} has no access and secret key"
            taken[row["id"]] = why
            findings.append(Finding(UNUSABLE, row["id"], row["user_id"] or "", why))
        elif row["id"] != key_id(access):
            why = f"its id in {NEW}, {row['id']}, is not that of its access key"
            findings.append(Finding(UNUSABLE, access, row["user_id"] or "", why))
        else:
            keys[row["id"]] = Key(row["id"], access, row["user_id"], row["project_id"], secret, trust, row["blob"])
    return keys, findings, taken


def _parts(blob: str) -> tuple[str | None, str | None, str]:
    """Access key, secret key and trust of a blob; None for what it does not have."""
    try:
        parts = json.loads(blob)
    except (ValueError, RecursionError):
        return None, None, ""
    if not isinstance(parts, dict):
        return None, None, ""
    access, secret = (parts[name] if _is_text(parts.get(name)) else None for name in ("access", "secret"))
    return access, secret, str(parts.get("trust_id") or "")


def _is_text(value: Any) -> bool:
    r"""Whether it is a string that UTF-8 knows: JSON may have half of a pair (`\ud800`)."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _difference(one: Key, other: Key) -> str:
    """In what two keys of one name differ, in words; "" where they are alike."""
    pairs = {
        "secret": (one.secret, other.secret),
        "user": (one.user, other.user),
        "project": (one.project, other.project),
    }
    differs = [f"another {name}" for name, (here, there) in pairs.items() if here != there]
    return f"{NEW} has {', '.join(differs)} than {OLD}" if differs else ""


def _conflict(key: Key, why: str) -> Finding:
    return Finding(CONFLICT, key.access, key.user or "", f"{why}; delete the wrong one")


def _deleted(key: Key, table: str) -> Finding:
    other = OLD if table == NEW else NEW
    return Finding(
        DELETED, key.access, key.user or "", f"gone from {table}, still in {other}: --delete it there, or --copy-back"
    )


def _unfit_for_new(key: Key) -> str:
    if key.user is None or key.secret is None or not key.access:
        lacks = [name for name, has in (("user", key.user), ("secret", key.secret), ("name", key.access)) if not has]
        return f"it has no {' and no '.join(lacks)}"
    return ""


def _unfit_for_old(key: Key, spellings: Mapping[str, set[str]]) -> str:
    if key.trust:
        return f"it is bound to the trust {key.trust}, for which {OLD} has no column"
    if not _HELD.fullmatch(key.access) or not _HELD.fullmatch(key.secret or ""):
        return "access or secret key is not 1 to 64 plain characters"
    if len(spellings[key.access.lower()]) > 1:
        return f"another key differs from it in upper and lower case alone, which is the same to {OLD}"
    return ""
