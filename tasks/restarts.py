"""A regular graceful restart of the dashboard's web server, for some days: a cron file that removes itself.

Nobody is logged out by it where sessions are in memcached; elsewhere it is refused.
"""

import ast
import shlex
import time
from collections.abc import Mapping
from typing import Any

from nornir.core.task import Result, Task

from tasks.errors import Refused
from tasks.holds import Hold, changed, skipped, unchanged
from tasks.shell import change, sh

PATH = "/etc/cron.d/cellstep-dashboard"
FIRST_LINE = "# Placed by cellstep: restarts the dashboard's web server, and removes itself"
SESSIONS = {"django.contrib.sessions.backends.cache", "django.contrib.sessions.backends.cached_db"}
DAY_S = 86_400
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def text(*, until: int, every_min: int, command: str) -> str:
    """The file of cron: until then (seconds since 1970) it restarts, and afterwards it removes itself."""
    # A percent sign ends a command of cron.
    line = f'if [ "$(date +\\%s)" -lt {until} ]; then {command.replace("%", chr(92) + "%")}; else rm -f {PATH}; fi'
    day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(until))
    # cron's own PATH has no sbin, where `service` is.
    return f"{FIRST_LINE} after {day} ({until}).\n{_PATH}\n*/{every_min} * * * * root {line} > /dev/null 2>&1\n"


def until_of(said: str) -> int | None:
    """Of a file of ours: until when; None where it is not ours."""
    first = said.partition("\n")[0]
    if not first.startswith(FIRST_LINE):
        return None
    number = first.rpartition("(")[2].rstrip(").")
    return int(number) if number.isdecimal() else None


def memcached(settings: str) -> list[str]:
    """The memcached servers that keep the sessions, of a dashboard's settings, which are Python.

    Raises:
        ValueError: sessions are not in memcached, or that cannot be told.
    """
    try:
        module = ast.parse(settings)
    except (SyntaxError, ValueError):
        raise ValueError("it cannot be read as Python") from None
    found: dict[str, Any] = {}
    for each in module.body:
        if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name):
            try:
                found[each.targets[0].id] = ast.literal_eval(each.value)
            except (ValueError, TypeError):
                found.pop(each.targets[0].id, None)
    engine = found.get("SESSION_ENGINE")
    if engine not in SESSIONS:
        raise ValueError(f"SESSION_ENGINE is {engine!r}, not django.contrib.sessions.backends.cache")
    caches = found.get("CACHES")
    cache = caches.get(found.get("SESSION_CACHE_ALIAS", "default")) if isinstance(caches, dict) else None
    if not isinstance(cache, dict) or "memcached" not in str(cache.get("BACKEND", "")).lower():
        raise ValueError("CACHES has no memcached for the sessions")
    places = cache.get("LOCATION", [])
    servers = [str(each) for each in places] if isinstance(places, list | tuple) else str(places).split(";")
    servers = [each for each in servers if each]
    if not servers:
        raise ValueError("CACHES does not tell where memcached is (LOCATION)")
    return servers


def _refuse_without_memcached(task: Task, settings: str) -> None:
    said = sh(task, f"cat -- {shlex.quote(settings)}", what=f"reading {settings}").stdout
    try:
        servers = memcached(said)
    except ValueError as error:
        raise Refused(
            f"{settings}: {error}: a restart would log users out; keep sessions in memcached, or leave"
            " dashboard.restarts out"
        ) from None
    for server in servers:
        if server.startswith("unix:"):
            continue
        host, _, port = server.rpartition(":")
        address = f"/dev/tcp/{host or server}/{port if host else 11211}"
        script = (
            f"exec 3<> {shlex.quote(address)} && printf 'version\\r\\n' >&3 && read -r -t 5 said <&3 && echo \"$said\""
        )
        if not sh(task, script, ok=None, timeout=30).stdout.startswith("VERSION"):
            raise Refused(
                f"{settings}: no memcached answers at {server}: a restart would log users out; mend that first"
            )


def read(task: Task, *, every_min: int, days: int, command: str, settings: str) -> Result:
    """Prior state: {until: of a file of ours that is there, else None}."""
    del every_min, days, command, settings
    return unchanged(task, {"until": until_of(sh(task, f"cat {PATH} 2> /dev/null", ok=None).stdout)})


def place(task: Task, *, prior: Mapping[str, Any], every_min: int, days: int, command: str, settings: str) -> Result:
    """Begin the restarts; ones that were begun before go on, with the end that they have.

    Raises:
        Refused: sessions are not in memcached, or that does not answer.
    """
    del prior
    if not task.is_dry_run():  # then nothing is installed yet
        _refuse_without_memcached(task, settings)
    there = sh(task, f"cat {PATH} 2> /dev/null", ok=None).stdout
    old = until_of(there)
    if there and old is None:
        raise Refused(f"{PATH} is there, and not ours: look at it, and take it away")
    if old is not None and old <= time.time():
        # Its end is over, and cron has not called it since: it does nothing but remove itself.
        words = f"the restarts ended {_day(old)}; {PATH} removes itself when cron calls it"
        return skipped(task, f"{words}: take it away to have others")
    if old is not None and there == text(until=old, every_min=every_min, command=command):
        return skipped(task, f"restarts go on until {_day(old)}")
    until = old if old is not None else int(time.time()) + days * DAY_S
    if not task.is_dry_run():
        # No cron reads a file whose name begins with a dot (EL's reads those with one inside): never a half of it.
        folder, _, name = PATH.rpartition("/")
        script = f"set -e; umask 022; cat > {folder}/.{name}.new; mv {folder}/.{name}.new {PATH}"
        body = text(until=until, every_min=every_min, command=command)
        change(task, script, what=f"writing {PATH}", stdin=body)
    return changed(task, f"restarts gracefully every {every_min} min until {_day(until)}")


def lift(task: Task, *, prior: Mapping[str, Any], every_min: int, days: int, command: str, settings: str) -> Result:
    """End the restarts, unless they were there before."""
    del every_min, days, command, settings
    if prior["until"] is not None:
        return skipped(task, "restarts were there before")
    if until_of(sh(task, f"cat {PATH} 2> /dev/null", ok=None).stdout) is None:
        return skipped(task, "not there")
    if not task.is_dry_run():
        change(task, f"rm -f -- {PATH}", what=f"removing {PATH}")
    return changed(task, "no restarts any more")


def settle(task: Task, *, prior: Mapping[str, Any], every_min: int, days: int, command: str, settings: str) -> Result:
    """Let them go on after the run: they have an end of their own."""
    del prior, every_min, days, command, settings
    until = until_of(sh(task, f"cat {PATH} 2> /dev/null", ok=None).stdout)
    if until is None:
        return skipped(task, "not there")
    if until <= time.time():
        return unchanged(task, f"restarts ended {_day(until)}; {PATH} removes itself when cron calls it")
    return unchanged(task, f"restarts go on until {_day(until)}; {PATH} then removes itself")


def _day(until: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(until))


RESTARTS = Hold("dashboard-restarts", read, place, lift, settle)
"""The regular graceful restart."""
