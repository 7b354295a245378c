"""Runs on a host of a lab, under its python3 with nothing installed: prints what an upgrade leaves there, as JSON.

`tests/support/snapshot.py` sends it there; it is imported by nobody.
"""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

SERVICES = ("monit", "rabbitmq-server", "mariadb", "haproxy")
SCHEMATA = "select table_schema from information_schema.tables where table_name = 'migrate_version'"
HEAD = "select version from {}.migrate_version"
DISABLED = "select concat(host, ' ', `binary`) from nova.services where deleted = 0 and disabled = 1 order by 1"
ACTIVE = "select uuid from nova.instances where deleted = 0 and vm_state = 'active' order by 1"


def said(*command: str) -> list[str]:
    """The lines a command printed; none when it failed."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def sql(statement: str) -> list[str]:
    return said("mysql", "-B", "-N", "-e", statement)


def lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []


def services() -> dict[str, str]:
    """`running on`: what runs now, and what is started at boot (as the lab's chkconfig has it)."""
    units = sorted(Path("/usr/lib/systemd/system").glob("openstack-*.service"))
    names = [unit.stem for unit in units] + list(SERVICES)
    found = {}
    for line in said("systemctl", "show", "--property=ActiveState", "--value", *(f"{name}.service" for name in names)):
        if line:
            name = names[len(found)]
            on = Path(f"/etc/systemd/system/multi-user.target.wants/{name}.service").is_symlink()
            found[name] = f"{'running' if line == 'active' else line} {'on' if on else 'off'}"
    return found


def guests(boot: str) -> dict[str, str]:
    """UUID to what tells one process from another one of the same guest."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
            stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # it has ended
        if words[0] == "/usr/libexec/qemu-kvm":
            found[words[words.index("-uuid") + 1]] = f"{boot} {stat.rpartition(')')[2].split()[19]}"
    return found


def haproxy() -> dict[str, str]:
    found = {}
    try:
        with socket.create_connection(("127.0.0.1", 9999), timeout=5) as connection:
            connection.sendall(b"show stat\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    except OSError:
        return found
    for line in answer.splitlines():
        fields = line.split(",")
        if len(fields) > 17 and not line.startswith("#") and fields[1] not in ("FRONTEND", "BACKEND"):
            found[f"{fields[0]}/{fields[1]}"] = fields[17]
    return found


def counters(*, database: bool) -> dict[str, int]:
    found = {"boots": len(lines("/srv/lab/boots"))}
    for line in lines("/srv/lab/transactions"):
        _, state, command, *_ = line.split()
        name = f"yum {command}" if state == "done" else f"yum {command} begun"
        found[name] = found.get(name, 0) + 1
    if database:
        found["db syncs"] = int(sql("select count(*) from lab.db_sync_runs")[0])
    return found


def puppet() -> str:
    lock = Path("/var/lib/puppet/state/agent_disabled.lock")
    return f"disabled: {json.loads(lock.read_text()).get('disabled_message')}" if lock.exists() else "enabled"


def monitored() -> dict[str, str]:
    """What monit says of each service; `Not monitored` is a hold."""
    rows = (re.split(r"\s{2,}", line.strip()) for line in said("monit", "summary", "-B"))
    return {
        row[0]: "not monitored" if "Not monitored" in row[1] else "monitored" for row in rows if row[-1] == "Process"
    }


def main() -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    alive = guests(boot)
    found = {
        "nevras": sorted(said("rpm", "-qa", "--qf", "%{NAME}-%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}.%{ARCH}\n")),
        "kernel": " ".join(said("uname", "-r")),
        "services": services(),
        "monitored": monitored(),
        "puppet": puppet(),
        "updates": " ".join(line for line in lines("/etc/sysconfig/yum-autoupdate") if line.startswith("ENABLED")),
        "repositories": sorted(path.name for path in Path("/etc/yum.repos.d").glob("*.repo")),
        "alarms": "masked" if Path("/etc/alarms.masked").exists() else "not masked",
        "haproxy": haproxy(),
        "guests": sorted(alive),
        "processes": alive,
        "databases": {name: " ".join(sql(HEAD.format(name))) for name in sql(SCHEMATA)},
    }
    if found["databases"]:
        found["disabled services"] = sql(DISABLED)
        found["active instances"] = sql(ACTIVE)
    found["counters"] = counters(database=bool(found["databases"]))
    json.dump(found, sys.stdout)


main()
