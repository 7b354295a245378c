"""Logging in to a real OpenSSH sshd: timeouts, host keys, keys, ssh_config, old sshds."""

import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import paramiko
import pytest

from plugins.connections import sshconfig
from plugins.connections.errors import (
    AuthenticationRefused,
    HostKeyRefused,
    Unreachable,
)
from plugins.connections.ssh import Ssh, SshConnection
from tests.support import sshd
from tests.support.sshd import Connect

pytestmark = pytest.mark.sshd


# Every phase has its timeout


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=5) as listener:
        yield listener


def settings_for(port: int, **extras: Any) -> sshconfig.Settings:
    return sshconfig.settings("127.0.0.1", "root", None, port, extras)


def test_a_host_that_is_off_fails_within_its_connect_timeout() -> None:
    """A listener whose backlog is full drops the first packets as a host without power does."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        held = []
        for _ in range(3):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            held.append(client)
        started = time.monotonic()
        with pytest.raises(Unreachable, match=r"no TCP connection within 0\.5 s; is it powered on"):
            Ssh(settings_for(port, connect_timeout=0.5)).open()
        assert time.monotonic() - started < 2
        for client in held:
            client.close()


def test_a_port_without_sshd_is_refused(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(Unreachable, match=f"127.0.0.1 port {port}: no TCP connection: Connection refused"):
        Ssh(settings_for(port)).open()


def test_a_name_that_is_not_known_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="name is not known here"):
        Ssh(sshconfig.settings("no-such-host.invalid")).open()


def test_a_listener_without_a_banner_times_out(listener: socket.socket) -> None:
    started = time.monotonic()
    with pytest.raises(Unreachable, match=r"no SSH banner within 0\.5 s"):
        Ssh(settings_for(listener.getsockname()[1], banner_timeout=0.5)).open()
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("banner", "message"),
    [(b"SSH-2.0-Fake\r\n", "no SSH key exchange within 0.5 s"), (b"HTTP/1.1 400 Bad Request\r\n", "SSH banner")],
    ids=["hangs", "http"],
)
def test_a_listener_that_speaks_no_ssh_times_out(listener: socket.socket, banner: bytes, message: str) -> None:
    held = []

    def serve() -> None:
        peer, _ = listener.accept()
        peer.sendall(banner)
        held.append(peer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    started = time.monotonic()
    with pytest.raises(Unreachable, match=message):
        Ssh(settings_for(listener.getsockname()[1], banner_timeout=0.5, auth_timeout=0.5)).open()
    assert time.monotonic() - started < 6
    thread.join(5)
    for peer in held:
        peer.close()


def test_a_closed_door_before_the_banner_is_told(listener: socket.socket) -> None:
    def shut() -> None:
        listener.accept()[0].close()

    thread = threading.Thread(target=shut, daemon=True)
    thread.start()
    with pytest.raises(Unreachable, match="closed before the SSH banner"):
        Ssh(settings_for(listener.getsockname()[1])).open()
    thread.join(5)


# Host keys


def test_an_unknown_host_key_is_refused(ssh_server: sshd.Sshd, connect: Connect, tmp_path: Path) -> None:
    empty = tmp_path / "known_hosts"
    with pytest.raises(HostKeyRefused, match=r"ssh-ed25519 host key SHA256:\S+ is not in .*; compare it"):
        connect(ssh_server, known_hosts=str(empty)).open()
    assert not empty.exists()


def test_a_new_host_key_is_taken_up_once_and_only_on_purpose(
    ssh_server: sshd.Sshd, connect: Connect, tmp_path: Path
) -> None:
    file = tmp_path / "new" / "known_hosts"
    for _ in range(2):
        connect(ssh_server, known_hosts=str(file), host_keys="accept-new").open()
    assert file.read_text() == ssh_server.known_hosts.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    connect(ssh_server, known_hosts=str(file)).open()


def test_new_host_keys_are_appended_whole_and_once_by_several_processes(ssh_server: sshd.Sshd, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("# a comment without a newline at its end")
    code = (
        "import sys, paramiko; from pathlib import Path\n"
        "from plugins.connections import hostkeys, sshconfig\n"
        "extras = {'known_hosts': sys.argv[1], 'host_keys': 'accept-new'}\n"
        "key = paramiko.PKey.from_path(sys.argv[2])\n"
        "for n in range(60): hostkeys.check(sshconfig.settings(f'h{n}', extras=extras), key)\n"
    )
    root = Path(__file__).parents[2]
    key = ssh_server.directory / "host_ed25519"
    command = [sys.executable, "-c", code, str(file), str(key)]
    several = [subprocess.Popen(command, cwd=root) for _ in range(3)]
    assert [process.wait(60) for process in several] == [0, 0, 0]
    lines = file.read_text().splitlines()
    assert sorted(line.split()[0] for line in lines[1:]) == sorted(f"h{n}" for n in range(60))
    assert all(len(line.split()) == 3 for line in lines[1:])


@pytest.mark.parametrize("mode", ["strict", "accept-new"])
def test_a_changed_host_key_is_refused(ssh_server: sshd.Sshd, connect: Connect, tmp_path: Path, mode: str) -> None:
    other = sshd.make_key(tmp_path / "other")
    file = tmp_path / "known_hosts"
    file.write_text(f"[127.0.0.1]:{ssh_server.port} {other}\n")
    before = file.read_text()
    with pytest.raises(HostKeyRefused, match=r"has CHANGED: .*known_hosts:1 has ssh-ed25519 SHA256:.*ssh-keygen -R"):
        connect(ssh_server, known_hosts=str(file), host_keys=mode).open()
    assert file.read_text() == before


def test_a_key_of_another_type_than_known_counts_as_changed(
    ssh_server: sshd.Sshd, connect: Connect, tmp_path: Path
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"[127.0.0.1]:{ssh_server.port} {sshd.make_key(tmp_path / 'other', 'ecdsa')}\n")
    with pytest.raises(HostKeyRefused, match="CHANGED"):
        connect(ssh_server, known_hosts=str(file), host_keys="accept-new").open()


@pytest.mark.parametrize("known", ["ed25519", "ecdsa", "rsa"])
def test_the_known_type_of_key_is_asked_for(tmp_path: Path, connect: Connect, known: str) -> None:
    with sshd.running(tmp_path, host_keys=("ed25519", "ecdsa", "rsa")) as server:
        kind = {"ed25519": "ssh-ed25519", "ecdsa": "ecdsa-sha2-nistp256", "rsa": "ssh-rsa"}[known]
        lines = [line for line in server.known_hosts.read_text().splitlines() if f" {kind} " in line]
        server.known_hosts.write_text("\n".join(lines) + "\n")
        assert connect(server).run("echo hi").stdout == "hi\n"


def test_a_hashed_known_hosts_is_understood(ssh_server: sshd.Sshd, connect: Connect, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(ssh_server.known_hosts.read_text())
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    assert file.read_text().startswith("|1|")
    connect(ssh_server, known_hosts=str(file)).open()


# Who may log in


def test_a_key_that_is_not_let_in_is_told(ssh_server: sshd.Sshd, connect: Connect, tmp_path: Path) -> None:
    sshd.make_key(tmp_path / "stranger")
    with pytest.raises(AuthenticationRefused, match=r"refuses the login as \w+ with .*stranger"):
        connect(ssh_server, key_file=str(tmp_path / "stranger")).open()


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_other_types_of_key_log_in(tmp_path: Path, connect: Connect, kind: str) -> None:
    with sshd.running(tmp_path, key=kind) as server:
        assert connect(server).run("echo hi").stdout == "hi\n"


def test_a_key_file_with_a_passphrase_or_rubbish_or_none_is_told(
    ssh_server: sshd.Sshd, connect: Connect, tmp_path: Path
) -> None:
    locked, rubbish = tmp_path / "locked", tmp_path / "rubbish"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
    rubbish.write_text("rubbish")
    for name, message in [(locked, "passphrase"), (rubbish, "not a private key"), (tmp_path / "x", "cannot read")]:
        with pytest.raises(AuthenticationRefused, match=message):
            connect(ssh_server, key_file=str(name)).open()


def test_the_agents_keys_are_used(ssh_server: sshd.Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent_socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(agent_socket)], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 5
        while not agent_socket.exists() and time.monotonic() < deadline:
            assert agent.poll() is None
            threading.Event().wait(0.02)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent_socket))
        monkeypatch.setenv("HOME", str(tmp_path))
        subprocess.run(["ssh-add", "-q", str(ssh_server.key)], check=True)
        settings = sshconfig.settings(
            "127.0.0.1", ssh_server.user, None, ssh_server.port, {"known_hosts": str(ssh_server.known_hosts)}
        )
        assert settings.key_files == ()
        with ThreadPoolExecutor(4) as pool:
            several = [Ssh(settings) for _ in range(4)]
            assert [r.stdout for r in pool.map(lambda ssh: ssh.run("echo hi"), several)] == ["hi\n"] * 4
        for ssh in several:
            ssh.close()
    finally:
        agent.terminate()
        agent.wait(5)


def test_a_password_is_tried_and_never_shown(ssh_server: sshd.Sshd, tmp_path: Path) -> None:
    extras = {"known_hosts": str(ssh_server.known_hosts), "key_file": str(tmp_path / "no")}
    sshd.make_key(tmp_path / "no")
    settings = sshconfig.settings("127.0.0.1", ssh_server.user, "s3cret-word", ssh_server.port, extras)
    with pytest.raises(AuthenticationRefused, match="the password") as caught:
        Ssh(settings).open()
    shown = repr(settings) + repr(Ssh(settings)) + str(caught.value) + repr(caught.value.__cause__)
    assert "s3cret-word" not in shown


# ssh_config


def test_ssh_config_is_honoured(ssh_server: sshd.Sshd, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"Host node-*\n  HostName 127.0.0.1\n  Port {ssh_server.port}\n  User {ssh_server.user}\n"
        f"  IdentityFile {ssh_server.key}\n  UserKnownHostsFile {ssh_server.known_hosts}\n  IdentitiesOnly yes\n"
    )
    plugin = SshConnection()
    plugin.open("node-17", None, None, None, None, {"ssh_config": str(config)})
    assert plugin.connection.run("echo hi").stdout == "hi\n"
    assert plugin.connection.settings.where == f"node-17 (127.0.0.1 port {ssh_server.port})"
    plugin.close()


def test_ssh_config_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n  User somebody\n  HostKeyAlias fleet\n")
    parsed: list[str] = []
    real = paramiko.SSHConfig.from_path

    def counted(path: str) -> paramiko.SSHConfig:
        parsed.append(path)
        return real(path)

    monkeypatch.setattr(paramiko.SSHConfig, "from_path", counted)
    made = [sshconfig.settings(f"n{number}", extras={"ssh_config": str(config)}) for number in range(50)]
    assert len(parsed) == 1
    assert {(one.username, one.host_key_name) for one in made} == {("somebody", "fleet")}


def test_the_inventory_goes_before_ssh_config(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n  User somebody\n  Port 99\n  IdentityFile /nowhere\n")
    key = tmp_path / "key"
    one = sshconfig.settings("n", "me", None, 22, {"ssh_config": str(config), "key_file": str(key)})
    assert (one.username, one.port, one.key_files) == ("me", 22, (key,))


@pytest.mark.parametrize(
    ("extras", "word"),
    [
        ({"host_keys": "no"}, "strict or accept-new"),
        ({"keyfile": "x"}, "no option keyfile"),
        ({"connect_timeout": 0}, "more than 0"),
        ({"ssh_config": "/nowhere/config"}, "cannot read ssh_config /nowhere/config"),
    ],
)
def test_options_that_cannot_be_are_refused(extras: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        sshconfig.settings("n", extras=extras)


# Old sshds


OLD = (
    "HostKeyAlgorithms ssh-rsa",
    "KexAlgorithms diffie-hellman-group14-sha1",
    "PubkeyAcceptedAlgorithms ssh-rsa",
    "Ciphers aes128-ctr",
    "MACs hmac-sha1",
)


def test_an_old_sshd_is_refused_unless_asked_for(tmp_path: Path, connect: Connect) -> None:
    with sshd.running(tmp_path, *OLD, host_keys=("rsa",), key="rsa") as server:
        with pytest.raises(Unreachable, match=r"no common SSH algorithms .*legacy_algorithms: true"):
            connect(server).open()
        old = connect(server, legacy_algorithms=True)
        if paramiko.__version__.startswith("4."):
            assert old.run("echo old").stdout == "old\n"
        else:
            with pytest.raises(Unreachable, match=r"legacy_algorithms needs paramiko 4.*install cellstep\[el6\]"):
                old.open()
