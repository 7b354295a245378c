"""A keystone server as it is asked on its own node: its settings without secrets, and its API through curl.

What is asked for goes to curl by standard input, as a configuration: no token, password or header is ever an argument,
and no answer is kept but for what is read here.
"""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nornir.core.task import Result, Task

from plugins.connections.ssh import CommandResult
from tasks.errors import Refused
from tasks.holds import unchanged
from tasks.peers import connection
from tasks.shell import taken

FILES = ("/usr/share/keystone/keystone-dist.conf", "/etc/keystone/keystone.conf")
"""Havana's packages bring the first; what stands in the second goes before it."""

PUBLIC, ADMIN = "public", "admin"
PORTS = {PUBLIC: 5000, ADMIN: 35357}

# Nothing else of the files leaves the node: they hold passwords.
WANTED = (
    *("DEFAULT.bind_host", "DEFAULT.public_bind_host", "DEFAULT.admin_bind_host"),
    *("DEFAULT.public_port", "DEFAULT.admin_port", "ssl.enable"),
    *("identity.driver", "token.driver", "token.provider", "signing.token_format"),
)

_READ = r"""
keystone_settings() {
  for file in FILES; do
    [ ! -r "$file" ] || awk -v wanted=" $* " '
      /^[ \t]*[#;]/ { next }
      /^[ \t]*\[/ { section = $0; gsub(/[][ \t\r]/, "", section); next }
      /=/ {
        at = index($0, "="); key = substr($0, 1, at - 1); value = substr($0, at + 1)
        gsub(/[ \t]/, "", key); sub(/^[ \t]+/, "", value); sub(/[ \t\r]+$/, "", value)
        name = section "." key
        if (index(wanted, " " name " ")) print name "=" value
      }' "$file"
  done
}
"""

ANSWER_TIMEOUT_S = 20.0
ASK_EVERY_S = 0.5

# -q: whatever root's own .curlrc says.
_CURL = """
command -v curl > /dev/null || { echo "there is no curl on $(uname -n): install it" >&2; exit 127; }
exec curl -q -s -S -k -K -
"""


def reading() -> str:
    """A function for bash: `keystone_settings` prints SECTION.KEY=VALUE of its arguments, the one that holds last."""
    return _READ.replace("FILES", " ".join(FILES))


@dataclass(frozen=True)
class Answer:
    """What an API said.

    Attributes:
        status: of HTTP; 0 for no answer.
        body: as JSON; None where it is none.
        text: why there was no answer, "" else.
    """

    status: int
    body: Any = field(default=None, repr=False)
    text: str = ""

    @property
    def words(self) -> str:
        """The answer in words: no answer's reason, or the status with keystone's own message."""
        if not self.status:
            return f"no answer: {self.text or 'curl does not say why'}"
        error = self.body.get("error") if isinstance(self.body, dict) else None
        said = str(error.get("message", "")) if isinstance(error, dict) else ""
        return f"HTTP {self.status}{f': {said}' if said else ''}"


@dataclass(frozen=True)
class Settings:
    """What must be the same before and after the upgrade, and where the server listens.

    Attributes:
        format: of the tokens in keystone.conf: `uuid`, `pki`, another provider's name, "" for the release's own.
        identity: the driver of the identity backend, "" for the release's own.
        tokens: the driver that keeps tokens, the same.
        versions: the versions of the API that the server offers.
        urls: the public and the admin address, on the node itself.
    """

    format: str
    identity: str
    tokens: str
    versions: tuple[str, ...]
    urls: Mapping[str, str]

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def ask(task: Task, host: str, url: str, *, token: str = "", body: Mapping[str, Any] | None = None) -> Answer:
    """Ask the API of a server on its own node.

    Args:
        task: the Nornir task.
        host: the server.
        url: there.
        token: for X-Auth-Token.
        body: is sent, as JSON.

    Raises:
        CommandFailed: there is no curl on the node.
        plugins.connections.errors.TransportError: the node does not answer.
    """
    lines = {"url": url, "max-time": f"{ANSWER_TIMEOUT_S - 5:.0f}", "noproxy": "*", "write-out": "\n%{http_code}"}
    headers = ["Accept: application/json"]
    if token:
        headers.append(f"X-Auth-Token: {token}")
    if body is not None:
        headers.append("Content-Type: application/json")
        lines["data-binary"] = json.dumps(body)
    config = [*lines.items(), *(("header", header) for header in headers)]
    text = "".join(f"{name} = {_quoted(value)}\n" for name, value in config)
    result = connection(task, host).run(_CURL, stdin=text, timeout=ANSWER_TIMEOUT_S)
    taken(_without_answer(result), f"asking keystone on {host}", None if result.exit_status != 127 else (0,))
    return _answer(result)


def _quoted(value: str) -> str:
    """As curl's configuration has it."""
    for letter, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        value = value.replace(letter, escaped)
    return f'"{value}"'


def _without_answer(result: CommandResult) -> CommandResult:
    """What may stand in an error: not what the API said."""
    return CommandResult(result.exit_status, "", result.stderr, result.seconds)


def _answer(result: CommandResult) -> Answer:
    content, _, status = result.stdout.rpartition("\n")
    if result.exit_status != 0 or not status.isdecimal() or int(status) == 0:
        said = result.stderr.strip().splitlines()
        return Answer(0, text=said[-1] if said else "")
    try:
        return Answer(int(status), json.loads(content))
    except ValueError:
        return Answer(int(status))


def settings(task: Task, *, host: str = "", timeout_s: float = 0.0) -> Settings:
    """A server's settings, and the versions of the API that it offers.

    Args:
        task: the Nornir task.
        host: the server; the task's own node by default.
        timeout_s: seconds to wait until it answers: it may just have been started.

    Raises:
        Refused: its keystone.conf has a port that is none, or it does not answer.
        CommandFailed: there is no keystone.conf.
    """
    host = host or task.host.name
    missing = f'[ -r {FILES[-1]} ] || {{ echo "there is no {FILES[-1]}" >&2; exit 3; }}'
    script = f"{reading()}\n{missing}\nkeystone_settings {' '.join(WANTED)}"
    result = connection(task, host).run(script, timeout=ANSWER_TIMEOUT_S)
    lines = taken(result, f"reading keystone.conf on {host}", (0,)).stdout.splitlines()
    found = dict(line.split("=", 1) for line in lines)
    urls = {kind: _url(host, found, kind) for kind in PORTS}
    answer = _first_answer(task, host, urls[PUBLIC], timeout_s)
    versions = _versions(answer)
    if versions is None:
        raise Refused(f"{host}: {urls[PUBLIC]} does not list the versions of the API: {answer.words}")
    format_ = found.get("token.provider") or found.get("signing.token_format", "")
    return Settings(_format(format_), found.get("identity.driver", ""), found.get("token.driver", ""), versions, urls)


def look(task: Task, *, timeout_s: float = 0.0) -> Result:
    """The settings of the node's server; the result is `Settings`."""
    return unchanged(task, settings(task, timeout_s=timeout_s))


def _url(host: str, found: Mapping[str, str], kind: str) -> str:
    scheme = "https" if found.get("ssl.enable", "").lower() in {"true", "1", "yes", "on"} else "http"
    bound = found.get(f"DEFAULT.{kind}_bind_host") or found.get("DEFAULT.bind_host", "")
    address = "127.0.0.1" if bound in {"", "0.0.0.0", "::"} else bound  # noqa: S104 - compared, not bound
    port = found.get(f"DEFAULT.{kind}_port") or str(PORTS[kind])
    if not port.isdecimal():
        raise Refused(f"{host}: {kind}_port in keystone.conf is '{port}', which is no port")
    return f"{scheme}://{f'[{address}]' if ':' in address else address}:{port}/"


def _first_answer(task: Task, host: str, url: str, timeout_s: float) -> Answer:
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while True:
        answer = ask(task, host, url)
        if answer.status or time.monotonic() >= deadline:
            return answer
        pause.wait(ASK_EVERY_S)


def _versions(answer: Answer) -> tuple[str, ...] | None:
    """The ids in `{"versions": {"values": [{"id": "v2.0"}, ...]}}`; None where the answer is no such list."""
    try:
        return tuple(sorted(str(each["id"]) for each in answer.body["versions"]["values"]))
    except (KeyError, TypeError):
        return None


def _format(provider: str) -> str:
    """Grizzly's `UUID` and Havana's `keystone.token.providers.uuid.Provider` mean the same."""
    known = {"uuid": "uuid", "keystone.token.providers.uuid.provider": "uuid"}
    known |= {"pki": "pki", "keystone.token.providers.pki.provider": "pki"}
    return known.get(provider.lower(), provider)
