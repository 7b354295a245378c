"""Cells behind workers, for tests: certificates made by openssl, a real scheduler, real workers, all ended by pid."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
START_S = 120.0
# sshd listens on 16 addresses at most, and 127.0.0.1 is one.
NAMES = (
    *("top-ctl01", "c01-ctl01", "c02-ctl01"),
    *(f"{cell}-n{number}" for cell in ("c01", "c02", "c03") for number in (1, 2, 3, 4)),
)

CLOUD = """\
name: test
release: grizzly-havana
repository: {{name: havana, promote: {{on: c01-ctl01, command: promote}}}}
databases: {{password_file: secret}}
ssh: {{username: {user}, key: {key}, known_hosts: {known_hosts}}}
workers: 8
reach:
  scheduler: {scheduler}
  cells: [c01, c02, c03]
  ca: {tls}/ca.pem
  certificate: {tls}/{name}.pem
  key: {tls}/{name}.key
  connect_timeout_s: 10
  lost_after_s: 5
"""
INVENTORY = """\
top:
  data_centre: geneva
  roles: {{controller: top-ctl01}}
cells:
  c01:
    data_centre: geneva
    roles: {{controller: c01-ctl01, database: c01-ctl01, compute: "c01-n[1-4]"}}
  c02:
    data_centre: geneva
    roles: {{controller: c02-ctl01, compute: "c02-n[1-4]"}}
  c03:
    data_centre: geneva
    roles: {{controller: c03-ctl01, compute: "c03-n[1-4]"}}
defaults: {{port: {port}}}
hosts:
{hosts}
"""


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def hosts(network: str) -> dict[str, str]:
    """Each node's address in a network such as 127.0.0."""
    return {name: f"{network}.{number}" for number, name in enumerate(NAMES, 11)}


def openssl(*arguments: str, folder: Path) -> None:
    """Call openssl."""
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


def authority(folder: Path, *names: str) -> Path:
    """An authority of its own, and a certificate for each name, as docs/reach.md says."""
    folder.mkdir(mode=0o700)
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    own = ("-x509", "-days", "3650", "-subj", "/CN=cellstep reach", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", *curve, *own, folder=folder)
    for name in names:
        openssl("req", *curve, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr", folder=folder)
        signed = ("-days", "825", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", f"{name}.pem")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, folder=folder)
    return folder


def folder(at: Path, values: dict[str, object]) -> Path:
    """A cloud's folder: the operator's or a worker's copy."""
    at.mkdir()
    (at / "cloud.yaml").write_text(CLOUD.format(**values))
    lines = [f"  {name}: {{address: {address}}}" for name, address in hosts(str(values["network"])).items()]
    (at / "inventory.yaml").write_text(INVENTORY.format(**values, hosts="\n".join(lines)))
    (at / "secret").write_text(f"of {at.name}\n")
    (at / "secret").chmod(0o600)
    return at


@dataclass
class Started:
    """A process of `cellstep`, and what it prints.

    Attributes:
        process: what was started: cellstep itself, or a program that became it.
        log: its output.
    """

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, words: str) -> "Started":
        """Until it has printed these words.

        Raises:
            RuntimeError: it ended, or 120 s have passed.
        """
        deadline = time.monotonic() + START_S
        while words not in self.said():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
                raise RuntimeError(f"it ended before it said “{words}”:\n{self.said()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"no “{words}” within {START_S:g} s:\n{self.said()}")
        return self

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20.0) -> int:
        """End it, and wait for its end."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(timeout)


@dataclass
class Site:
    """A place for a scheduler and workers.

    Attributes:
        at: a folder of the test's own.
        before: words before the command, such as `ip netns exec NAME`, by the cell; "" is the scheduler's.
    """

    at: Path
    before: dict[str, Sequence[str]] = field(default_factory=dict)
    started: list[Started] = field(default_factory=list)

    def start(self, name: str, *arguments: str, said: str, where: str = "", code: Path = ROOT) -> Started:
        """Start a command of cellstep, and wait for a word of it."""
        log = self.at / f"{name}-{len(self.started)}.log"
        environment = {**os.environ, "PYTHONPATH": str(code), "TMPDIR": str(self.at)}
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*self.before.get(where, ()), sys.executable, "-m", "cellstep", *arguments],
                *(-1, None, subprocess.DEVNULL, file, file),
                cwd=code,
                env=environment,
            )
        one = Started(process, log)
        self.started.append(one)
        return one.wait_for(said)

    def scheduler(self, cloud: Path) -> Started:
        return self.start("scheduler", "scheduler", "--cloud", str(cloud), said="scheduler on")

    def worker(self, cloud: Path, cell: str, code: Path = ROOT) -> Started:
        name, said = f"worker-{cell}", f"worker of {cell} at"
        return self.start(name, "worker", "--cloud", str(cloud), "--cell", cell, said=said, where=cell, code=code)

    def stop(self) -> None:
        for one in self.started:
            one.stop(signal.SIGKILL)


@contextlib.contextmanager
def site(at: Path, before: dict[str, Sequence[str]] | None = None) -> Iterator[Site]:
    """A place; what was started there is ended."""
    place = Site(at, before or {})
    try:
        yield place
    finally:
        place.stop()
