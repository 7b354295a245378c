"""Whose tokens does which server take: each server gets a token, and each is asked what it says of the others'.

Tokens and passwords are never kept: they live in this task, and go to curl by standard input.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import quote

from nornir.core.task import Result, Task

from tasks.errors import Refused
from tasks.holds import Noted, unchanged
from tasks.keystone.server import ADMIN, PUBLIC, Answer, ask, settings
from tasks.peers import connection
from tasks.shell import taken

OK, REFUSED, ERROR, SILENT = "ok", "refused", "error", "silent"

LONGEST_SHOWN, LONGEST_ANSWER = 64, 300
_LONG = re.compile(r"[\w+/=-]{40,}")

LOG = "/var/log/keystone/keystone.log"

# The file is sourced as the operators do it; what it exports reaches no other program. One that is not there: nothing.
_CREDENTIALS = r"""
[ -e {file} ] || exit 0
. {file} > /dev/null 2>&1 < /dev/null
printf '%s\0' "${{OS_USERNAME-}}" "${{OS_PASSWORD-}}" "${{OS_TENANT_NAME:-${{OS_PROJECT_NAME-}}}}"
"""

# The last line of a traceback says what was wrong.
_LAST_ERROR = rf"""
tail -n 400 {LOG} 2> /dev/null | grep -oE '\b[A-Z][A-Za-z]*(Error|Exception)(: .*)?$' | tail -n 1 | cut -c -200
"""


@dataclass(frozen=True)
class Credentials:
    """A user that may validate tokens."""

    username: str
    password: str = field(repr=False)
    tenant: str


@dataclass(frozen=True)
class Issue:
    """A token that was asked for.

    Attributes:
        server: by whom.
        status: ok, refused, error or silent.
        answer: in words, "" where it is ok.
        shape: `uuid`, `pki` or `other`, as the token looks.
        services: how many services stand in the catalogue that came with it.
    """

    server: str
    status: str
    answer: str = ""
    shape: str = ""
    services: int = 0


@dataclass(frozen=True)
class Crossing:
    """A token of one server as another sees it: status and answer as of an `Issue`."""

    issuer: str
    validator: str
    status: str
    answer: str = ""


@dataclass(frozen=True)
class Matrix:
    """What came of all of them.

    Attributes:
        user: who asked.
        issues: one a server.
        crossings: one for each issuer and validator, itself too.
    """

    user: str = ""
    issues: tuple[Issue, ...] = ()
    crossings: tuple[Crossing, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def crossed(task: Task, *, servers: Sequence[str], environment: str, timeout_s: float = 0.0) -> Result:
    """Try the tokens of all servers at all servers; the result is a `Noted` with a `Matrix`.

    Args:
        task: on one of the servers; the others are asked through connections of their own.
        servers: those that share a database.
        environment: the file with the user's credentials, on each server, or on the task's own node.
        timeout_s: seconds to wait until a server answers: it may just have been started.

    Raises:
        Refused: there are no credentials; or a server does not answer at all.
    """
    if task.is_dry_run():
        return unchanged(task, Noted("not tried in a dry run: a token is a row in a table", Matrix()))
    here = _credentials(task, task.host.name, environment)
    users = {server: _credentials(task, server, environment) or here for server in servers}
    if lacking := [server for server, user in users.items() if user is None]:
        raise Refused(
            f"no OS_USERNAME, OS_PASSWORD and OS_TENANT_NAME in {environment or 'checkout.environment'} on"
            f" {', '.join(dict.fromkeys([task.host.name, *lacking]))}: nobody can log in to try keystone"
        )
    urls = {server: settings(task, host=server, timeout_s=timeout_s).urls for server in servers}
    issues, tokens = [], {}
    for server, user in users.items():
        if user is not None:
            issue, token = _issue(task, server, urls[server][PUBLIC], user)
            issues.append(issue)
            tokens[server] = token
    crossings = [
        _validate(task, (issuer, tokens[issuer]), (validator, tokens[validator]), urls[validator][ADMIN], user.username)
        for issuer, user in users.items()
        for validator in servers
        if user is not None and tokens[issuer]
    ]
    names = sorted({user.username for user in users.values() if user is not None})
    well = sum(each.status == OK for each in crossings)
    words = f"{well} of {len(servers) ** 2} pairs of servers take each other's tokens"
    return unchanged(task, Noted(words, Matrix(", ".join(names), tuple(issues), tuple(crossings))))


def _credentials(task: Task, server: str, environment: str) -> Credentials | None:
    if not environment:
        return None
    script = _CREDENTIALS.format(file=shlex.quote(environment))
    result = connection(task, server).run(script)
    words = result.stdout.split("\0")
    if result.exit_status != 0 or len(words) != 4 or not words[0] or not words[1]:
        return None
    return Credentials(*words[:3])


def _issue(task: Task, server: str, url: str, user: Credentials) -> tuple[Issue, str]:
    """Log in; the token is "" where there is none."""
    auth: dict[str, Any] = {"passwordCredentials": {"username": user.username, "password": user.password}}
    if user.tenant:
        auth["tenantName"] = user.tenant
    answer = ask(task, server, f"{url}v2.0/tokens", body={"auth": auth})
    if answer.status != 200:
        return Issue(server, *_judged(task, server, answer, user.password)), ""
    try:
        access = answer.body["access"]
        token, services = str(access["token"]["id"]), len(access["serviceCatalog"])
    except (KeyError, TypeError):
        return Issue(server, ERROR, "the answer has no token and no catalogue"), ""
    return Issue(server, OK, "", _shape(token), services), token


def _shape(token: str) -> str:
    if re.fullmatch(r"[0-9a-f]{32}", token):
        return "uuid"
    # A signed document in base64: its first bytes are an ASN.1 sequence with a length of two bytes or more.
    return "pki" if token.startswith("MII") else "other"


def _validate(task: Task, issued: tuple[str, str], asked: tuple[str, str], url: str, name: str) -> Crossing:
    """Ask a server what it says of a token; it knows who asks by a token of its own."""
    (issuer, token), (validator, own) = issued, asked
    if not own:
        return Crossing(issuer, validator, ERROR, "it gives no token of its own to ask with")
    answer = ask(task, validator, f"{url}v2.0/tokens/{quote(token, safe='')}", token=own)
    if answer.status != 200:
        return Crossing(issuer, validator, *_judged(task, validator, answer, token, own))
    try:
        said = str(answer.body["access"]["user"]["name"])
    except (KeyError, TypeError):
        return Crossing(issuer, validator, ERROR, "the answer has no user")
    if said != name:
        return Crossing(issuer, validator, ERROR, f"it says that the token is {said}'s, not {name}'s")
    return Crossing(issuer, validator, OK)


def _judged(task: Task, server: str, answer: Answer, *secrets: str) -> tuple[str, str]:
    """Status and words of an answer that is not the one that should be; keystone's own words may name a token."""
    words = _without(answer.words, secrets)
    if not answer.status:
        return SILENT, words
    if answer.status < 500:
        return REFUSED, words
    result = connection(task, server).run(_LAST_ERROR)
    said = _without(taken(result, "reading keystone's log", None).stdout.strip(), secrets)
    return ERROR, f"{words}{f'; its log: {said}' if said else ''}"


def _without(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        # A long one may have been cut off at the end of what was said.
        text = text.replace(secret, "(a token)") if len(secret) <= LONGEST_SHOWN else _LONG.sub("(a token)", text)
    return text[:LONGEST_ANSWER]


def as_rows(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """A `Matrix` as rows of the table `tokens`: issuer, validator, status, answer; from its JSON values.

    A server that gave no token is one row, without a validator.
    """
    rows = [
        {"issuer": each["server"], "validator": "", "status": each["status"], "answer": each["answer"]}
        for each in found["issues"]
        if each["status"] != OK
    ]
    return [*rows, *({name: each[name] for name in ("issuer", "validator", "status", "answer")}
                     for each in found["crossings"])]  # fmt: skip
