"""The user-facing APIs, fenced at HAProxy through its admin socket."""

import csv
import shlex
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from nornir.core.task import Result, Task

from tasks.errors import Refused
from tasks.holds import Hold, changed, skipped, unchanged
from tasks.shell import change, sh

ANSWER_TIMEOUT_S = 20.0


def _script(socket: str, command: str) -> str:
    """A command for the admin socket: over loopback with bash alone, over a Unix socket with socat."""
    if socket.startswith("/"):
        return f"printf '%s\\n' {shlex.quote(command)} | socat -t 10 - UNIX-CONNECT:{shlex.quote(socket)}"
    host, _, port = socket.rpartition(":")
    return f"exec 3<>/dev/tcp/{host}/{int(port)} && printf '%s\\n' {shlex.quote(command)} >&3 && cat <&3"


def servers(task: Task, socket: str, backends: Sequence[str]) -> dict[str, str]:
    """The state of each `backend/server`, in the words of HAProxy's `show stat` (UP, DOWN, MAINT, DRAIN ...).

    Raises:
        Refused: a backend of cloud.yaml is not there.
    """
    text = sh(task, _script(socket, "show stat"), what="asking HAProxy", timeout=ANSWER_TIMEOUT_S).stdout
    rows = list(csv.DictReader(StringIO(text.lstrip("# "))))
    named = [row for row in rows if row["pxname"] in backends and row["svname"] not in {"FRONTEND", "BACKEND"}]
    missing = sorted(set(backends) - {row["pxname"] for row in named})
    if missing:
        raise Refused(f"HAProxy has no servers in a backend {', '.join(missing)}; see fence.backends in cloud.yaml")
    return {f"{row['pxname']}/{row['svname']}": row["status"] for row in named}


def _in_maintenance(status: str) -> bool:
    return status.startswith("MAINT")


def read(task: Task, *, socket: str, backends: Sequence[str]) -> Result:
    """Prior state: {servers: {backend/server: status}}."""
    return unchanged(task, {"servers": servers(task, socket, backends)})


def _tell(task: Task, socket: str, command: str) -> None:
    answer = change(task, _script(socket, command), what="asking HAProxy", timeout=ANSWER_TIMEOUT_S).stdout.strip()
    if answer:
        raise Refused(f"HAProxy answered to `{command}`: {answer}")


def fence(task: Task, *, prior: Mapping[str, Any], socket: str, backends: Sequence[str]) -> Result:
    """Put every server of the backends into maintenance: users get HTTP 503."""
    del prior
    todo = [name for name, status in servers(task, socket, backends).items() if not _in_maintenance(status)]
    if not todo:
        return skipped(task, "all in maintenance already")
    if not task.is_dry_run():
        for name in todo:
            _tell(task, socket, f"disable server {name}")  # the words of every version; `set server` came with 1.5
        open_still = [n for n, status in servers(task, socket, backends).items() if not _in_maintenance(status)]
        if open_still:
            raise Refused(f"still open after `disable server`: {', '.join(open_still)}")
    return changed(task, f"in maintenance: {', '.join(todo)}")


def open_(task: Task, *, prior: Mapping[str, Any], socket: str, backends: Sequence[str]) -> Result:
    """Open those servers that were open before; one that was in maintenance then stays so."""
    now = servers(task, socket, backends)
    todo = [n for n, was in prior["servers"].items() if not _in_maintenance(was) and _in_maintenance(now.get(n, ""))]
    if not todo:
        return skipped(task, "as before already")
    if not task.is_dry_run():
        for name in todo:
            # One that was draining is not opened in between, where a try that is cut off would leave it.
            draining = prior["servers"][name].startswith("DRAIN")
            _tell(task, socket, f"set server {name} state drain" if draining else f"enable server {name}")
    return changed(task, f"open: {', '.join(todo)}")


def still_fenced(task: Task, *, prior: Mapping[str, Any], socket: str, backends: Sequence[str]) -> Result:
    """See that what was fenced still is: HAProxy forgets maintenance when it is restarted, by Puppet for instance.

    Raises:
        Refused: a server that was open before the fence takes requests.
    """
    now = servers(task, socket, backends)
    was_open = [name for name, was in prior["servers"].items() if not _in_maintenance(was)]
    opened = [name for name in was_open if not _in_maintenance(now.get(name, ""))]
    if opened and not task.is_dry_run():
        raise Refused(f"open again: {', '.join(opened)}; `disable server` there, and find out who restarted HAProxy")
    return unchanged(task, "still in maintenance" if prior["servers"] and not opened else "not in maintenance")


FENCE = Hold("fence", read, fence, open_)
"""The user-facing APIs, closed at the load balancer."""

IMAGES_FENCE = Hold("fence-images", read, fence, open_)
"""Nova's image API, closed at the load balancer while the rest of Nova's serves."""
