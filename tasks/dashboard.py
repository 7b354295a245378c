"""The dashboard over HTTP: a log-in, the list of guests, one of them stopped and started; with curl on the node.

The names in its pages are Horizon's own: a form of Django with the field `csrfmiddlewaretoken`, a row of the table of
guests `instances__row__ID`, and its actions `instances__stop__ID` and `instances__start__ID`.
"""

import shlex
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

from nornir.core.task import Result, Task

from tasks.errors import Refused, TaskError
from tasks.holds import Noted, unchanged
from tasks.shell import change, sh

LOG_IN, GUESTS, LOG_OUT = "/auth/login/", "/project/instances/", "/auth/logout/"
PATIENCE_S = 30
ASK_EVERY_S = 1.0
TRIES = 3
RUNS, RESTS = "active", "shutoff"
"""A guest's status in the table of guests, in lower case."""
_AFTER = {"start": RUNS, "stop": RESTS}
KEPT = "/var/lib/cellstep/dashboard/guest"
"""On the node while a test is under way: the guest's id and how it was, for the next try if this one is cut off."""

# $dir has the cookies. Its last line: status, seconds, where it would send the browser, the token of the session.
_CURL = """cd {folder} || exit 1
said=$(curl -s -k -m {patience} -b jar -c jar -e {referer} -o body {data} \\
  -w '%{{http_code}} %{{time_total}} %{{redirect_url}}' -- {url}) || said="000 0 "
{show}
echo
echo "$said $(awk '$6 == "csrftoken" {{ print "token=" $7 }}' jar 2> /dev/null)"
"""


@dataclass(frozen=True)
class Page:
    """What came of a request: HTTP status (0: no answer), seconds, where it sends the browser, the session's token."""

    status: int
    seconds: float
    goes_to: str
    token: str
    text: str


@dataclass(frozen=True)
class Tried:
    """One thing that was tried: what, whether it went well, and how it was."""

    what: str
    well: bool
    said: str


class _Failed(TaskError):
    """Something in the dashboard does not work: the rest of the test needs it."""


class _Form(HTMLParser):
    """The hidden fields of the log-in form."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.asks = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        name = given.get("name", "")
        if tag == "input" and name == "password":
            self.asks = True
        elif tag == "input" and name and given.get("type", "").lower() == "hidden":
            self.fields[name] = given.get("value", "")


class _Table(HTMLParser):
    """The rows of the table of guests: id to the words in its cells."""

    _PREFIX = "instances__row__"

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, list[str]] = {}
        self._row: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            name = dict(attrs).get("id") or ""
            mine = name.startswith(self._PREFIX)
            self._row = self.rows.setdefault(name.removeprefix(self._PREFIX), []) if mine else None

    def handle_endtag(self, tag: str) -> None:
        if tag in {"tr", "table"}:
            self._row = None

    def handle_data(self, data: str) -> None:
        if self._row is not None and data.strip():
            self._row.append(" ".join(data.split()))


def form_of(text: str) -> dict[str, str] | None:
    """The hidden fields of a log-in page by name; None where it is none."""
    parser = _Form()
    parser.feed(text)
    return parser.fields if parser.asks else None


def guests_of(text: str) -> dict[str, list[str]]:
    """The guests in the page with the table of guests: id to the words in its row."""
    parser = _Table()
    parser.feed(text)
    return parser.rows


class Session:
    """One browser's session, by curl on the task's node.

    Args:
        task: the Nornir task.
        base: the dashboard's address without its last slash.
        folder: a folder of the session's own on the node.
    """

    def __init__(self, task: Task, base: str, folder: str) -> None:
        self.task, self.base, self.folder, self.token = task, base.rstrip("/"), folder, ""

    def get(self, path: str) -> Page:
        """Ask for a page."""
        return self._page(path, sh(self.task, self._script(path), what=f"asking for {path}").stdout)

    def post(self, path: str, fields: Mapping[str, str]) -> Page:
        """Send a form; the fields go by standard input, never on a command line. Its page is not looked at."""
        body = urlencode({**fields, "csrfmiddlewaretoken": self.token})
        script = self._script(path, data="--data @-", show="")
        return self._page(path, change(self.task, script, what=f"sending to {path}", stdin=body).stdout)

    def _script(self, path: str, data: str = "", show: str = "head -c 2000000 body 2> /dev/null") -> str:
        url = shlex.quote(self.base + path)
        words = {"patience": PATIENCE_S, "referer": url, "url": url, "data": data, "show": show}
        return _CURL.format(folder=shlex.quote(self.folder), **words)

    def _page(self, path: str, said: str) -> Page:
        text, _, last = said.rstrip("\n").rpartition("\n")
        words = last.split(" ")
        token = next((word.removeprefix("token=") for word in words if word.startswith("token=")), "")
        if token:
            self.token = token
        try:
            return Page(int(words[0]), float(words[1]), words[2], token, text)
        except (ValueError, IndexError):
            raise Refused(f"{self.base}{path}: curl's answer cannot be read: {last[:80]!r}") from None


def form_at(task: Task, base: str) -> dict[str, str]:
    """The hidden fields of the log-in page, but the session's token; none where it answers with errors of its own.

    Raises:
        Refused: there is another page in its place.
    """
    folder = _folder(task)
    try:
        session = Session(task, base, folder)
        for _ in range(TRIES):
            page = session.get(LOG_IN)
            fields = form_of(page.text) if page.status == 200 else None
            if fields is not None:
                return {name: value for name, value in fields.items() if name != "csrfmiddlewaretoken"}
    finally:
        _remove(task, folder)
    if page.status and page.status < 500:
        raise Refused(f"{base}{LOG_IN} has no log-in form ({_answer(page)}); see dashboard.url in cloud.yaml")
    return {}


def _folder(task: Task) -> str:
    return sh(task, "umask 077; mktemp -d /tmp/cellstep-dashboard.XXXXXX", what="making a folder").stdout.strip()


def _remove(task: Task, folder: str) -> None:
    sh(task, f"rm -rf -- {shlex.quote(folder)}", ok=None)


def _answer(page: Page) -> str:
    return f"HTTP {page.status}" if page.status else "no answer"


def test(
    task: Task,
    *,
    base: str,
    username: str,
    password: Callable[[], str],
    guest: str,
    timeout_s: float,
) -> Result:
    """Log in, list the guests, and stop and start one; it is in the end as it was.

    After a failure, too, if the dashboard lets it; else the next try puts it back.

    Args:
        task: the Nornir task.
        base: the dashboard's address, as the node reaches it.
        username: a user of the dashboard.
        password: reads the user's password.
        guest: the name of a guest of the user's.
        timeout_s: seconds to wait for the guest to stop, and to start.

    Returns:
        A `Noted` with a list of `Tried` as JSON values; the first that did not go well is the last.
    """
    if task.is_dry_run():
        return unchanged(task, Noted(f"would log in at {base}, list the guests, stop and start {guest}", []))
    tried: list[Tried] = []
    folder = _folder(task)
    try:
        for what, said in _try(Session(task, base, folder), username, password(), guest, timeout_s):
            tried.append(Tried(what, True, said))
    except _Failed as error:
        tried.append(Tried(f"test {len(tried) + 1}", False, str(error)))
    finally:
        _remove(task, folder)
    words = "; ".join(f"{each.what}: {each.said}" for each in tried)
    return unchanged(task, Noted(words, [asdict(each) for each in tried]))


def _try(session: Session, username: str, password: str, guest: str, timeout_s: float) -> Any:
    page = session.get(LOG_IN)
    fields = form_of(page.text)
    if page.status != 200 or fields is None:
        raise _Failed(f"no log-in page: {_answer(page)}")
    page = session.post(LOG_IN, {**fields, "username": username, "password": password})
    if page.status != 302 or LOG_IN in page.goes_to:
        raise _Failed(f"the log-in of {username} was refused: {_answer(page)}")
    yield "log in", f"{1000 * page.seconds:.0f} ms"
    page = session.get(GUESTS)
    if page.status != 200:
        raise _Failed(f"no list of guests: {_answer(page)}")
    rows = guests_of(page.text)
    yield "list", f"{len(rows)} guests in {1000 * page.seconds:.0f} ms"
    mine = [uuid for uuid, words in rows.items() if guest in words]
    if len(mine) != 1:
        raise _Failed(f"{len(mine) or 'no'} guests of the name {guest} in the list: see dashboard.guest in cloud.yaml")
    uuid = mine[0]
    now = _status(rows[uuid])
    if now not in {RUNS, RESTS}:
        raise _Failed(f"the guest {guest} is neither active nor shut off: {', '.join(rows[uuid])}")
    was = _kept(session.task, uuid) or now
    _keep(session.task, uuid, was)
    try:
        for action in _actions(now, was):
            yield action, f"{_act(session, uuid, guest, action, timeout_s):.0f} s"
    except _Failed as error:
        raise _Failed(f"{error}; {_put_back(session, uuid, guest, was, timeout_s)}") from None
    _forget(session.task)
    session.get(LOG_OUT)


def _actions(now: str, was: str) -> list[str]:
    """Both, in the order after which the guest is as it was."""
    both = ["stop", "start"] if now == RUNS else ["start", "stop"]
    return both if now == was else [*both, both[0]]


def _act(session: Session, uuid: str, guest: str, action: str, timeout_s: float) -> float:
    page = session.post(GUESTS, {"action": f"instances__{action}__{uuid}"})
    if page.status not in {200, 302} or LOG_IN in page.goes_to:
        raise _Failed(f"{action} {guest} was refused: {_answer(page)}")
    return _until(session, uuid, guest, _AFTER[action], timeout_s)


def _put_back(session: Session, uuid: str, guest: str, was: str, timeout_s: float) -> str:
    """Try once to have the guest as it was; what came of it, in words."""
    try:
        page = session.get(GUESTS)
        now = _status(guests_of(page.text).get(uuid, []))
        if now == was:
            return f"{guest} is {was}, as it was"  # and what is noted stays: what was asked for may come late
        _act(session, uuid, guest, "start" if was == RUNS else "stop", timeout_s)
    except _Failed:
        return f"{guest} was {was} and may not be so now: the next try puts it back"
    _forget(session.task)
    return f"{guest} is {was}, as it was"


def _kept(task: Task, uuid: str) -> str:
    """How the guest was before a try that did not come to its end; "" where there was none."""
    words = sh(task, f"cat {KEPT} 2> /dev/null", ok=None).stdout.split()
    return words[1] if len(words) == 2 and words[0] == uuid and words[1] in {RUNS, RESTS} else ""


def _keep(task: Task, uuid: str, was: str) -> None:
    folder = shlex.quote(KEPT.rpartition("/")[0])
    script = f"umask 077; mkdir -p {folder} && echo {shlex.quote(uuid)} {was} > {KEPT}"
    change(task, script, what=f"writing {KEPT}")


def _forget(task: Task) -> None:
    change(task, f"rm -f -- {KEPT}", what=f"removing {KEPT}")


def _status(words: list[str]) -> str:
    return next((word.lower() for word in words if word.lower() in {RUNS, RESTS}), "")


def _until(session: Session, uuid: str, guest: str, status: str, timeout_s: float) -> float:
    """Seconds until the list says so."""
    began, pause, said = time.monotonic(), threading.Event(), ""
    while time.monotonic() < began + timeout_s:
        page = session.get(GUESTS)
        words = guests_of(page.text).get(uuid, [])
        said = ", ".join(words) or _answer(page)
        if _status(words) == status:
            return time.monotonic() - began
        pause.wait(ASK_EVERY_S)
    raise _Failed(f"{guest} is not {status} after {timeout_s:.0f} s: {said}")
