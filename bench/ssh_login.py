"""What a login and one command cost this side, over real SSH to an sshd on loopback.

    python bench/ssh_login.py [HOSTS]        # needs openssh-server

Logs in to HOSTS (default 200) addresses with the bounded runner and 20 workers, runs `true` on each, and prints CPU of
this process and wall time per host; the sshd's own time is not counted. Ends with 1 above 8 ms of CPU a host.
"""

import sys
import tempfile
import time
from pathlib import Path

from nornir.core import Nornir
from nornir.core.inventory import ConnectionOptions, Defaults, Groups, Host, Hosts, Inventory
from nornir.core.plugins.connections import ConnectionPluginRegister
from nornir.core.task import Result, Task

from plugins.connections.ssh import SshConnection
from plugins.runners.bounded import BoundedRunner
from tests.support import sshd

LIMIT_MS = 8.0
WORKERS = 20


def ask(task: Task) -> Result:
    """Log in, run one command, close."""
    ssh = task.host.get_connection("cellstep_ssh", task.nornir.config)
    result = ssh.run("true")
    task.host.close_connections()
    return Result(task.host, result=result.exit_status)


def measure(server: sshd.Sshd, count: int) -> tuple[float, float]:
    """CPU and wall seconds of `count` hosts."""
    extras = server.extras()
    hosts = Hosts()
    for number in range(count):
        name = f"n{number:04}"
        options = {"cellstep_ssh": ConnectionOptions(extras=dict(extras))}
        hosts[name] = Host(
            name, hostname="127.0.0.1", port=server.port, username=server.user, connection_options=options
        )
    nornir = Nornir(Inventory(hosts, Groups(), Defaults()), runner=BoundedRunner(WORKERS))
    cpu, wall = time.process_time(), time.perf_counter()
    results = nornir.run(ask)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if len(results) != count or results.failed:
        failed = next(multi for multi in results.values() if multi.failed)
        raise SystemExit(f"{len(results.failed_hosts)} of {count} failed: {failed[0].exception}")
    return cpu, wall


def main() -> int:
    """Measure and print; 1 above the limit."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    ConnectionPluginRegister.register("cellstep_ssh", SshConnection)
    with tempfile.TemporaryDirectory() as folder, sshd.running(Path(folder)) as server:
        measure(server, 5)
        cpu, wall = measure(server, count)
    per_host = 1000 * cpu / count
    print(
        f"{count} logins with one command each, {WORKERS} at once: {per_host:.1f} ms of CPU a host (limit {LIMIT_MS:g})"
    )
    print(f"wall {wall:.1f} s, {1000 * wall / count:.1f} ms a host; the sshd runs on this machine too")
    return int(per_host > LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
