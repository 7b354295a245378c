"""The new dashboard's web server: running, and with what is installed and re-applied."""

import shlex
from collections.abc import Sequence

from nornir.core.task import Result, Task

from tasks.errors import Refused
from tasks.holds import changed, skipped
from tasks.platforms import platform_of
from tasks.services import START_TIMEOUT_S, states
from tasks.shell import change, sh

STAMP = "/var/lib/cellstep/dashboard/served"
UP = {"actual": "running", "boot": "on"}


def refresh(
    task: Task, *, services: Sequence[str], packages: Sequence[str], paths: Sequence[str], in_use: bool = False
) -> Result:
    """Start the services, or start them again where packages or files have changed since we last did.

    Args:
        task: the Nornir task.
        services: the web server.
        packages: what it serves.
        paths: further files of it.
        in_use: whether users come to it: then what runs is restarted gracefully, and no request is cut off.

    Raises:
        CommandFailed: the web server does not start.
        Refused: it has ended well, and does not run.
    """
    names = " ".join(map(shlex.quote, packages))
    files = " ".join(map(shlex.quote, paths)) or "/dev/null"
    script = f"{{ rpm -q {names}; sha256sum -- {files} 2>&1; }} | sha256sum | cut -d' ' -f1; cat {STAMP} 2> /dev/null"
    said = sh(task, script, what="looking at what is served", ok=None).stdout.split()
    fresh = len(said) == 2 and said[0] == said[1]
    now = states(task, services)
    missing = [name for name in services if name not in now]
    if missing and not task.is_dry_run():
        raise Refused(f"no service {', '.join(missing)} here: does a package bring it?")
    if fresh and all(now[name] == UP for name in services):
        return skipped(task, "serves what is installed already")
    table = platform_of(task).services
    gently = table.graceful if in_use and all(now.get(name) == UP for name in services) else None
    words = f"restarted {', '.join(services)}" + (" gracefully: users come to it" if gently else "")
    if not task.is_dry_run():
        # Stopping one that does not run may fail.
        restart = f"{{ {table.stop(services)}; }} || :\n{table.start(services, services)}"
        if gently:
            restart = gently(services)
        change(task, restart, what=f"restarting {', '.join(services)}", timeout=START_TIMEOUT_S)
        late = [name for name, is_ in states(task, services).items() if is_ != UP]
        if late:
            raise Refused(f"started, but not running: {', '.join(late)}; read its log on the node")
        stamp = f"umask 077; mkdir -p {shlex.quote(STAMP.rpartition('/')[0])} && echo {said[0]} > {STAMP}"
        change(task, stamp, what=f"writing {STAMP}")
    return changed(task, words)
