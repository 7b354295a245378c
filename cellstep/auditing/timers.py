"""Audits on a schedule: a service and a timer of systemd, or a line for a crontab."""

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cellstep.cloud.load import Cloud
from cellstep.errors import UsageError

UNITS = Path("/etc/systemd/system")
LONGEST = "2h"
"""After which systemd ends an audit that hangs."""

_CRON = re.compile(r"\S+( \S+){4}|@(hourly|daily|weekly|monthly)")


@dataclass(frozen=True)
class Units:
    """A service and its timer.

    Attributes:
        name: of both, without what follows the dot.
        service: the text of the one.
        timer: the text of the other.
    """

    name: str
    service: str
    timer: str


def command(cloud: Cloud) -> list[str]:
    """The audit as a timer calls it."""
    return [sys.executable, "-P", "-m", "cellstep", "audit", "--cloud", str(cloud.directory), "--notify"]


def units(cloud: Cloud, calendar: str, user: str) -> Units:
    """The units for one cloud.

    Args:
        cloud: the cloud.
        calendar: when, as systemd.time(7) has it: `daily`, `*-*-* 02:30`.
        user: who runs it.
    """
    name = f"cellstep-audit-{re.sub(r'[^A-Za-z0-9_.-]', '-', cloud.config.name)}"
    # 3: something is not as it should be; 5: a run is under way. Both are told by the audit itself.
    service = f"""\
[Unit]
Description=cellstep audit of {_escaped(cloud.config.name)}
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
User={user}
ExecStart={" ".join(_quoted(word) for word in command(cloud))}
SuccessExitStatus=3 5
TimeoutStartSec={LONGEST}
Nice=10
IOSchedulingClass=idle
"""
    timer = f"""\
[Unit]
Description=cellstep audit of {_escaped(cloud.config.name)}, on a schedule

[Timer]
OnCalendar={calendar}
RandomizedDelaySec=60
Persistent=true

[Install]
WantedBy=timers.target
"""
    return Units(name, service, timer)


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """A word of ExecStart: systemd's own quoting, and its specifiers and variables kept from meaning anything."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if re.search(r"[\s\"'\\;]", word) else escaped


def check(found: Units, calendar: str) -> None:
    """Have systemd check both, before anything is written.

    Raises:
        UsageError: systemd does not take the calendar, or one of the units.
    """
    said = _said(["systemd-analyze", "calendar", calendar])
    if said is not None:
        raise UsageError(f"--calendar {calendar}: {said}; write for instance daily or '*-*-* 02:30'")
    with tempfile.TemporaryDirectory() as folder:
        paths = write(found, Path(folder))
        said = _said(["systemd-analyze", "verify", *map(str, paths)])
        if said is not None:
            raise UsageError(f"systemd does not take the units: {said}")


def _said(words: Sequence[str]) -> str | None:
    """What a command of systemd's complains of; None where it is content.

    Raises:
        UsageError: it is not there.
    """
    program = shutil.which(words[0])
    if program is None:
        raise UsageError(f"there is no {words[0]} here: use --crontab on a machine without systemd")
    done = subprocess.run([program, *words[1:]], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - systemd's own
    lines = (done.stderr or done.stdout).strip().splitlines()
    return None if done.returncode == 0 else (lines[0] if lines else f"exit status {done.returncode}")


def write(found: Units, folder: Path) -> list[Path]:
    """Write both files.

    Raises:
        OSError: one cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for ending, text in (("service", found.service), ("timer", found.timer)):
        path = folder / f"{found.name}.{ending}"
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def enable(found: Units) -> None:
    """Have systemd read the units, and begin with the timer.

    Raises:
        UsageError: systemd refuses, or does not run here.
    """
    for words in (["systemctl", "daemon-reload"], ["systemctl", "enable", "--now", f"{found.name}.timer"]):
        said = _said(words)
        if said is not None:
            raise UsageError(
                f"the units are written, but `{' '.join(words)}` says: {said}; call it once systemd runs here"
            )


def crontab(cloud: Cloud, when: str) -> str:
    """The line for a crontab.

    Raises:
        UsageError: `when` is no schedule of cron's.
    """
    if not _CRON.fullmatch(when):
        raise UsageError(f"--crontab {when}: cron wants five fields, for instance '30 2 * * *', or @daily")
    words = " ".join(_shell(word) for word in command(cloud))
    return f"{when} {words}"


def _shell(word: str) -> str:
    """A word for cron's shell; cron takes a bare % for a new line."""
    return shlex.quote(word).replace("%", "\\%")
