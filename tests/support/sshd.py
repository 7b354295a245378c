"""A real OpenSSH sshd on loopback for tests: own keys and configuration under tmp_path, ended by pid."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plugins.connections.ssh import Ssh

Connect = Callable[..., Ssh]

START_TIMEOUT_S = 10.0
EVERYWHERE = "0.0.0.0"  # noqa: S104 - all of loopback has no other name; only our own key is let in
STOP_TIMEOUT_S = 10.0


class SshdMissingError(Exception):
    """OpenSSH's server is not installed, or may not be started here: skip the test."""


@dataclass
class Sshd:
    """A running sshd which lets one key in, as the user who runs the tests.

    Attributes:
        directory: holds its configuration, keys, known_hosts and log.
        key: the private key it lets in.
        known_hosts: has its host keys under `[127.0.0.1]:port`.
    """

    directory: Path
    port: int
    key: Path
    known_hosts: Path
    process: subprocess.Popen[bytes]

    @property
    def user(self) -> str:
        return getpass.getuser()

    @property
    def log(self) -> str:
        """What sshd has written."""
        return (self.directory / "sshd.log").read_text(errors="replace")

    def extras(self, **more: Any) -> dict[str, Any]:
        """The options of cellstep_ssh that log in here."""
        return {"key_file": str(self.key), "known_hosts": str(self.known_hosts)} | more

    def children(self) -> list[int]:
        """The pids of its processes for open connections."""
        found = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in found.stdout.split()]

    def stop(self) -> None:
        """End the server and what it serves, by their pids."""
        for pid in self.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_TIMEOUT_S)

    def restart(self) -> None:
        """As after a reboot: every connection is dead, the same keys and port."""
        self.stop()
        self.process = _launch(self.directory, self.port)


def make_key(path: Path, kind: str = "ed25519") -> str:
    """A new key without passphrase at `path`; its public half (`type base64`)."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", path.name, "-f", str(path)],
        check=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


def start(
    tmp_path: Path,
    *lines: str,
    host_keys: tuple[str, ...] = ("ed25519",),
    key: str = "ed25519",
    environment: str = "",
    listen: str = "127.0.0.1",
) -> Sshd:
    """Start an sshd and wait until it answers, at most 10 s; the caller calls `stop()`.

    Args:
        tmp_path: a directory of this test (or session) alone.
        lines: further lines of sshd_config, which go before the usual ones and so win.
        host_keys: types of its host keys.
        key: type of the key it lets in.
        environment: `NAME=value` words for its sessions. HOME is the server's directory, so that the shell
            start-up files of this account (which take longer than SSH itself) stay out of it.
        listen: the address; 127.0.0.0 stands for every one of loopback's.

    Raises:
        SshdMissingError: no sshd on this machine.
        RuntimeError: it did not start; the end of its log is in the message.
    """
    if shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        raise SshdMissingError("openssh-server is not installed: apt-get install openssh-server")
    directory = tmp_path / "sshd"
    directory.mkdir(mode=0o700)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    names = [directory / f"host_{kind}" for kind in host_keys]
    publics = [make_key(name, kind) for name, kind in zip(names, host_keys, strict=True)]
    client = directory / "client"
    (directory / "authorized_keys").write_text(make_key(client, key) + "\n")
    known_hosts = directory / "known_hosts"
    known_hosts.write_text("".join(f"[127.0.0.1]:{port} {public}\n" for public in publics))
    (directory / "sshd_config").write_text(
        "\n".join(
            [
                *lines,
                f"Port {port}",
                f"ListenAddress {EVERYWHERE if listen == '127.0.0.0' else listen}",
                *(f"HostKey {name}" for name in names),
                f"AuthorizedKeysFile {directory / 'authorized_keys'}",
                f"SetEnv HOME={directory} {environment}",
                f"PidFile {directory / 'sshd.pid'}",
                "PasswordAuthentication no",
                "PermitRootLogin yes",
                "StrictModes no",
                "UsePAM no",
                "PrintMotd no",
                "PermitUserEnvironment no",
                "MaxStartups 1000",
                "LogLevel VERBOSE",
                "",
            ]
        )
    )
    return Sshd(directory, port, client, known_hosts, _launch(directory, port))


def _launch(directory: Path, port: int) -> subprocess.Popen[bytes]:
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin") or "/usr/sbin/sshd"
    with (directory / "sshd.log").open("ab") as log:
        process = subprocess.Popen(
            [program, "-D", "-e", "-f", str(directory / "sshd_config")],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return process
        # Wait a moment on the process itself, so that its death is noticed at once.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
            break
    process.kill()
    process.wait(STOP_TIMEOUT_S)
    tail = (directory / "sshd.log").read_text(errors="replace")[-2000:]
    raise RuntimeError(f"sshd did not answer on port {port} within {START_TIMEOUT_S:g} s:\n{tail}")


@contextlib.contextmanager
def running(
    tmp_path: Path,
    *lines: str,
    host_keys: tuple[str, ...] = ("ed25519",),
    key: str = "ed25519",
    environment: str = "",
    listen: str = "127.0.0.1",
) -> Iterator[Sshd]:
    """`start()` for a with statement: stops the server at its end."""
    server = start(tmp_path, *lines, host_keys=host_keys, key=key, environment=environment, listen=listen)
    try:
        yield server
    finally:
        server.stop()
