"""A node behind a jump host, both real sshds on loopback, and what tests look at there."""

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from plugins.connections import jumphosts, sshconfig
from plugins.connections.ssh import Ssh
from tests.support.sshd import Sshd


class Site:
    """A node behind a jump host, `c01-n01` behind `bastion-c01`, and all that logs in to them."""

    def __init__(self, folder: Path, node: Sshd, bastion: Sshd) -> None:
        self.folder, self.node, self.bastion = folder, node, bastion
        self.made: list[Ssh] = []
        self.config = folder / "config"
        self.known_hosts = folder / "known"
        self.known_hosts.write_text(node.known_hosts.read_text() + bastion.known_hosts.read_text())
        self.write("ProxyJump bastion-c01")

    def write(self, proxy: str, *, bastion_port: int | None = None, more: str = "") -> None:
        """The ssh_config: where the two are, and each one's own key."""
        self.config.write_text(
            f"Host c01-n*\n HostName 127.0.0.1\n Port {self.node.port}\n IdentityFile {self.node.key}\n {proxy}\n"
            f"Host bastion-c01\n HostName 127.0.0.1\n Port {bastion_port or self.bastion.port}\n"
            f" IdentityFile {self.bastion.key}\n User {self.bastion.user}\n IdentitiesOnly yes\n{more}"
        )
        sshconfig._configs.clear()

    def extras(self, **more: Any) -> dict[str, Any]:
        return {"ssh_config": str(self.config), "known_hosts": str(self.known_hosts)} | more

    def ssh(self, name: str = "c01-n01", **more: Any) -> Ssh:
        ssh = Ssh(sshconfig.settings(name, self.node.user, None, None, self.extras(**more)))
        self.made.append(ssh)
        return ssh

    def close(self) -> None:
        for ssh in self.made:
            ssh.close()
        jumphosts.close_all()


def logins(server: Sshd) -> int:
    return server.log.count("Accepted publickey")


def wait_until(what: str, true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        threading.Event().wait(0.02)


def all_at_once(tasks: list[Callable[[], Any]]) -> list[Any]:
    """Run each in a thread of its own; what each returned or raised."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        futures = [pool.submit(task) for task in tasks]
        return [future.exception() or future.result() for future in futures]


def has_socket_to(pid: int, address: str) -> bool:
    """Whether the process has a socket to that address."""
    sockets = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if f"{fields[2]} ".endswith(address) and f"socket:[{fields[9]}]" in sockets:
            return True
    return False


def send_until_it_ends(passage: jumphosts.Passage) -> None:
    """Send until either side ends it, then close it."""
    channel = passage._channel
    assert channel is not None
    with contextlib.suppress(OSError):
        while not channel.eof_received:
            passage.send(b"x")
    passage.close()
