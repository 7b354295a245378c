"""What an upgrade leaves on the hosts of a lab, and how two such states differ."""

import json
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab.handle import ssh_command
from lab.spec import LabSpec
from lab.state import LabFolder

Snapshot = dict[str, dict[str, Any]]
_PROBE = Path(__file__).with_name("probe.py")
_TIMEOUT_S = 60
_SSH_FAILED = 255


def take(spec: LabSpec, hosts: Iterable[str] = ()) -> Snapshot:
    """Ask all hosts of a lab at once, each with one command.

    Args:
        spec: the lab.
        hosts: those to ask; all when empty.

    Returns:
        Per host: nevras, kernel, services (`running on`: now and at boot), monitored (by monit), puppet, updates,
        repositories, alarms, haproxy (server to its state), guests (UUIDs), processes (UUID to boot id and start
        ticks), databases (name to schema version), on hosts with a database `disabled services` and `active
        instances`, and counters (boots, `yum COMMAND` that was done, `yum COMMAND begun`, db syncs). A host that does
        not answer has `unreachable` alone.

    Raises:
        AssertionError: the question failed on a host that answers.
    """
    wanted = list(hosts) or [host.name for host in spec.hosts()]
    probe = _PROBE.read_text(encoding="utf-8")
    with ThreadPoolExecutor(16) as pool:
        return dict(zip(wanted, pool.map(lambda host: _ask(spec, host, probe), wanted), strict=True))


def _ask(spec: LabSpec, host: str, probe: str) -> dict[str, Any]:
    command = [*ssh_command(spec, LabFolder(spec.name).path), host, "python3 -"]
    done = subprocess.run(command, input=probe, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode == _SSH_FAILED:
        return {"unreachable": done.stderr.strip()}
    assert done.returncode == 0, f"{host}: exit {done.returncode}: {done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def differences(before: Snapshot, after: Snapshot, *, ignore: Iterable[str] = ()) -> list[str]:
    """What is not the same in two snapshots, a line each: `c01-n01 services openstack-nova-api: running on, failed on`.

    Args:
        before: one.
        after: the other.
        ignore: what need not be the same: an entry of a host (`processes`, for two labs), or one within it
            (`counters yum update begun`).

    Returns:
        Lines by host, [] when all is the same. What stands in one only is `(none)` in the other.
    """
    left_out = set(ignore)
    one, other = dict(_flat(before, left_out)), dict(_flat(after, left_out))
    return [
        f"{name}: {one.get(name, '(none)')}, {other.get(name, '(none)')}"
        for name in sorted(one.keys() | other.keys())
        if one.get(name, "(none)") != other.get(name, "(none)")
    ]


def _flat(snapshot: Snapshot, ignore: set[str]) -> Iterable[tuple[str, str]]:
    for host, entries in snapshot.items():
        for entry, value in entries.items():
            if entry in ignore:
                continue
            # A list counts by its members, so that one more package is one line.
            inner = dict.fromkeys(value, "there") if isinstance(value, list) else value
            if not isinstance(inner, dict):
                yield f"{host} {entry}", str(inner)
                continue
            for name, content in inner.items():
                if f"{entry} {name}" not in ignore:
                    yield f"{host} {entry} {name}", str(content)
