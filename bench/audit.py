"""An audit beside others, on one machine that is fleet and auditor at once.

    python bench/audit.py [HOSTS] [ANSIBLE_HOSTS]      # 2000 and 100; needs openssh-server

One real sshd answers on HOSTS addresses of loopback, each with its own data. Side by side, in one session and with 50
at once: `cellstep audit` (parsing, tables, reports and all), a bare loop of paramiko with the same command (the floor),
and on fewer hosts, as they take so long, `clush`, and `ansible -m package_facts` with pipelining and ControlPersist.
Prints wall and CPU time, memory and ratios; ends with 1 where the audit did not find exactly what was planted.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.loopback_fleet import Fleet, fleet

WORKERS = 50
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Took:
    """What a program took for so many hosts: wall and CPU seconds (its children's too), and most memory in MiB."""

    hosts: int
    wall: float
    cpu: float
    mib: float
    said: str

    def per_host(self) -> str:
        """In words."""
        return f"{1000 * self.wall / self.hosts:8.2f} ms wall {1000 * self.cpu / self.hosts:8.2f} ms CPU a host"


def timed(
    name: str,
    words: Sequence[str],
    hosts: int,
    *,
    given: str = "",
    ok: Sequence[int] = (0,),
    more: Mapping[str, str] = {},
) -> Took:
    """Run a program to its end and print what it took."""
    with (
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
        tempfile.TemporaryFile("w+") as source,
    ):
        source.write(given)
        source.seek(0)
        began = time.perf_counter()
        process = subprocess.Popen(words, stdin=source, stdout=out, stderr=err, env={**os.environ, **more})
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode not in ok:
            raise SystemExit(f"{name} ended with {process.returncode}: {err.read()[-600:]}")
        took = Took(hosts, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, out.read())
    print(f"{name:<22} {hosts:6,} hosts {took.wall:7.1f} s  {took.per_host()} {took.mib:7.0f} MiB", flush=True)
    return took


def audit(up: Fleet) -> Took:
    """The product, as its users call it."""
    words = [sys.executable, "-P", "-m", "cellstep", "audit", "--cloud", str(up.cloud), "--json"]
    path = {"PYTHONPATH": str(HERE.parent)}
    return timed("cellstep audit", words, len(up.nodes), ok=(3,), more=path)


def bare(up: Fleet) -> Took:
    """The floor."""
    server = up.server
    words = [sys.executable, str(HERE / "_bare.py"), str(server.port), server.user, str(server.key)]
    words += [str(up.cloud.parent / "known_hosts"), str(WORKERS)]
    return timed("bare paramiko", words, len(up.nodes), given="\n".join(node.address for node in up.nodes))


def clush(up: Fleet, hosts: int) -> Took:
    """ClusterShell's own command, on so many of the hosts."""
    options = f"-o BatchMode=yes -o Port={up.server.port} -o UserKnownHostsFile={up.cloud.parent / 'known_hosts'}"
    options += f" -i {up.server.key} -l {up.server.user}"
    names = ",".join(node.address for node in up.nodes[:hosts])
    words = [sys.executable, "-c", "import sys; from ClusterShell.CLI.Clush import main; sys.exit(main())"]
    words += ["-f", str(WORKERS), "-o", options, "-w", names, "-N", "echo @boot_id"]
    return timed("clush", words, min(hosts, len(up.nodes)))


def ansible(up: Fleet, hosts: int) -> Took | None:
    """Ansible, where it is installed, on so many of the hosts."""
    program = Path(sys.executable).with_name("ansible")
    if not program.exists():
        print("ansible                is not installed here: pip install ansible-core")
        return None
    folder = up.cloud.parent
    known = folder / "known_hosts"
    options = f"-o UserKnownHostsFile={known} -o ControlMaster=auto -o ControlPersist=60s"
    (folder / "hosts").write_text(
        "".join(
            f"{node.address} ansible_port={up.server.port} ansible_user={up.server.user}"
            f" ansible_ssh_private_key_file={up.server.key} ansible_python_interpreter=/usr/bin/python3\n"
            for node in up.nodes[:hosts]
        )
    )
    (folder / "ansible.cfg").write_text(
        f"[defaults]\nforks={WORKERS}\ninventory={folder / 'hosts'}\n"
        f"[ssh_connection]\npipelining=True\nssh_args={options}\ncontrol_path_dir={folder / 'cp'}\n"
    )
    words = [str(program), "all", "-m", "package_facts"]
    more = {"ANSIBLE_CONFIG": str(folder / "ansible.cfg"), "HOME": str(folder), "PYTHONPATH": ""}
    return timed("ansible package_facts", words, min(hosts, len(up.nodes)), more=more)


def missed(up: Fleet, said: str) -> list[str]:
    """What was planted and not found, or found and not planted."""
    tables = json.loads(said)["tables"]
    found: dict[str, set[str]] = {}
    for name in ("rpms", "services", "condition"):
        for row in tables[name]:
            if row["status"] != "ok":
                found.setdefault(f"{name}: {row['status']}", set()).add(row["host"])
    names = sorted(found.keys() | up.planted.keys())
    return [
        f"{what}: planted on {sorted(up.planted.get(what, ()))}, found on {sorted(found.get(what, ()))}"
        for what in names
        if found.get(what, set()) != up.planted.get(what, set())
    ]


def main() -> int:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    fewer = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    with tempfile.TemporaryDirectory() as folder, fleet(Path(folder), count, workers=WORKERS, each=2) as up:
        ours, floor = audit(up), bare(up)
        # The second time each: the machine's caches are warm for both.
        ours, floor = audit(up), bare(up)
        if fewer:
            clush(up, fewer)
        other = ansible(up, fewer) if fewer else None
        wrong = missed(up, ours.said)
    print(f"wall, of the bare loop's: {ours.wall / floor.wall:.2f} (to reach: 1.15)")
    if other:
        ratio = (other.wall / other.hosts) / (ours.wall / ours.hosts)
        print(f"times faster than Ansible, a host: {ratio:.1f} (to reach: 12)")
    print(f"CPU of the auditor a host: {1000 * ours.cpu / count:.2f} ms (to reach: 6); memory {ours.mib:.0f} MiB")
    print("\n".join(wrong) or "exactly what was planted was found")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
