"""The SSH connection plugin against a real OpenSSH sshd."""

import hashlib
import io
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import paramiko
import pytest
from nornir.core import Nornir
from nornir.core.inventory import ConnectionOptions, Defaults, Groups, Host, Hosts, Inventory
from nornir.core.plugins.connections import ConnectionPluginRegister
from nornir.core.task import Result, Task
from nornir.plugins.runners import SerialRunner

from plugins.connections import sshconfig
from plugins.connections.errors import (
    AuthenticationRefused,
    CommandTimeout,
    ConnectionLost,
    HostKeyRefused,
    TransportError,
    Unreachable,
)
from plugins.connections.ssh import Ssh, SshConnection
from tests.support import sshd

pytestmark = pytest.mark.sshd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Sshd]:
    try:
        with sshd.running(tmp_path_factory.mktemp("ssh")) as server:
            yield server
    except sshd.SshdMissingError as error:
        pytest.skip(str(error))


Connect = Callable[..., Ssh]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes an Ssh to a server; closes it at the end."""
    made: list[Ssh] = []

    def make(server: sshd.Sshd, **extras: Any) -> Ssh:
        ssh = Ssh(sshconfig.settings("127.0.0.1", server.user, None, server.port, server.extras(**extras)))
        made.append(ssh)
        return ssh

    yield make
    for ssh in made:
        ssh.close()


@pytest.fixture
def ssh(server: sshd.Sshd, connect: Connect) -> Ssh:
    return connect(server)


def test_a_command_gives_its_status_and_both_outputs(ssh: Ssh) -> None:
    result = ssh.run("echo out; echo 'it''s \"err\"' >&2; exit 3")
    assert (result.exit_status, result.stdout, result.stderr) == (3, "out\n", 'its "err"\n')
    assert 0 < result.seconds < 30


def test_a_command_runs_in_bash_whatever_it_holds(ssh: Ssh) -> None:
    script = "set -o pipefail\nx='a b'; [[ $x == 'a b' ]] && echo \"$x's ü\" `echo \\$HOME`; cat <<'E'\n$x\\\nE"
    assert ssh.run(script).stdout.splitlines()[1:] == ["$x\\"]
    assert ssh.run(script).stdout.startswith("a b's ü /")


def test_output_beyond_the_window_on_both_streams_does_not_block(ssh: Ssh) -> None:
    result = ssh.run("head -c 50000000 /dev/zero & head -c 50000000 /dev/zero >&2; wait", timeout=60)
    assert (len(result.stdout), len(result.stderr)) == (50_000_000, 50_000_000)


def test_stdin_beyond_the_window_is_fed_while_output_comes(ssh: Ssh) -> None:
    text = "ü23456789\n" * 1_500_000
    result = ssh.run("tee /dev/stderr", stdin=text, timeout=60)
    assert (result.stdout == text, result.stderr == text) == (True, True)


def test_stdin_ends_even_when_it_is_empty(ssh: Ssh) -> None:
    assert ssh.run("cat; echo end", timeout=10).stdout == "end\n"


def test_a_command_may_leave_its_stdin_unread(ssh: Ssh) -> None:
    result = ssh.run("exec <&-; exit 7", stdin="x" * 10_000_000, timeout=20)
    assert result.exit_status == 7


def test_stdout_goes_to_a_sink(ssh: Ssh) -> None:
    sink = io.BytesIO()
    result = ssh.run("head -c 5000000 /dev/zero; echo e >&2", sink=sink)
    assert (result.stdout, result.stderr) == ("", "e\n")
    assert hashlib.sha256(sink.getvalue()).digest() == hashlib.sha256(bytes(5_000_000)).digest()


def test_bytes_that_are_no_utf8_are_replaced(ssh: Ssh) -> None:
    assert ssh.run(r"printf 'a\377b'").stdout == "a�b"


@pytest.mark.parametrize(("name", "status"), [("KILL", 137), ("TERM", 143)])
def test_a_command_ended_by_a_signal_has_the_shells_status(ssh: Ssh, name: str, status: int) -> None:
    assert ssh.run(f"kill -{name} $$").exit_status == status


def test_a_shell_ended_by_a_signal_has_the_shells_status(tmp_path: Path, connect: Connect) -> None:
    """Here sshd itself reports the signal, as RFC 4254's exit-signal."""
    with sshd.running(tmp_path, "ForceCommand exec sh -c 'kill -KILL $$'") as server:
        assert connect(server).run("true").exit_status == 137


def test_what_a_command_leaves_running_does_not_hold_it(ssh: Ssh) -> None:
    started = time.monotonic()
    result = ssh.run("sleep 20 & echo $!", timeout=15)
    assert (result.exit_status, time.monotonic() - started < 10) == (0, True)
    os.kill(int(result.stdout), signal.SIGTERM)


def test_a_timeout_tells_and_the_host_ends_the_command(ssh: Ssh, tmp_path: Path) -> None:
    started = time.monotonic()
    pid = tmp_path / "pid"
    with pytest.raises(CommandTimeout, match=r"127\.0\.0\.1 port \d+: no end of `echo .*` within 1 s"):
        ssh.run(f"echo $$ > {pid}; sleep 60", timeout=1)
    assert time.monotonic() - started < 3
    assert ssh.run(f"tail --pid=$(cat {pid}) -f /dev/null", timeout=8).exit_status == 0, "it was ended"


def test_many_threads_share_one_connection(server: sshd.Sshd, connect: Connect) -> None:
    ssh = connect(server)
    before = server.log.count("Accepted publickey")
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda n: ssh.run(f"echo {n}").stdout, range(40)))
    assert results == [f"{n}\n" for n in range(40)]
    assert server.log.count("Accepted publickey") == before + 1


def test_an_sshd_that_allows_few_sessions_is_asked_again(tmp_path: Path, connect: Connect) -> None:
    with sshd.running(tmp_path, "MaxSessions 2") as server:
        ssh = connect(server)
        with ThreadPoolExecutor(6) as pool:
            assert [r.stdout for r in pool.map(lambda n: ssh.run(f"echo {n}"), range(12))] == [
                f"{n}\n" for n in range(12)
            ]


def test_a_refused_session_leaves_the_others_running(tmp_path: Path, connect: Connect) -> None:
    with sshd.running(tmp_path, "MaxSessions 1") as server:
        ssh = connect(server)
        ssh.open()
        os.mkfifo(tmp_path / "fifo")
        with ThreadPoolExecutor(1) as pool:
            long = pool.submit(ssh.run, f"echo > {tmp_path}/fifo; sleep 3; echo done")
            (tmp_path / "fifo").read_text()
            with pytest.raises(Unreachable, match="opens no channel for a command"):
                ssh.run("true")
            assert long.result().stdout == "done\n"


def test_a_tunnel_carries_bytes_both_ways(ssh: Ssh) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def upper() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(peer.recv(100).upper())

        thread = threading.Thread(target=upper)
        thread.start()
        channel = ssh.tunnel("127.0.0.1", listener.getsockname()[1])
        channel.sendall(b"hello")
        assert channel.recv(100) == b"HELLO"
        channel.close()
        thread.join(5)


def test_a_tunnel_to_nowhere_is_unreachable(ssh: Ssh) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(Unreachable, match=f"no channel to 127.0.0.1 port {port}: Connect"):
        ssh.tunnel("127.0.0.1", port)


# Dead connections


def test_a_dead_connection_is_opened_again(tmp_path: Path, connect: Connect) -> None:
    with sshd.running(tmp_path) as server:
        ssh = connect(server)
        ssh.run("true")
        server.restart()
        assert ssh.run("echo back").stdout == "back\n"
        ssh.close()
        assert not ssh.is_active()
        assert ssh.run("echo again").stdout == "again\n"
        assert ssh.is_active()


def test_a_connection_broken_in_mid_command_is_lost(tmp_path: Path, connect: Connect) -> None:
    with sshd.running(tmp_path) as server:
        ssh = connect(server)
        ssh.open()
        (child,) = server.children()
        timer = threading.Timer(0.5, os.kill, (child, signal.SIGKILL))
        timer.start()
        with pytest.raises(ConnectionLost, match=r"the connection broke in mid-command; .* unknown"):
            ssh.run("sleep 20", timeout=20)
        assert ssh.run("echo back").stdout == "back\n"


def test_a_peer_that_falls_silent_in_mid_command_is_noticed(tmp_path: Path, connect: Connect) -> None:
    """A stopped sshd still acknowledges TCP, as a frozen host does; only the missing answers tell."""
    with sshd.running(tmp_path) as server:
        ssh = connect(server, keepalive_interval=0.5)
        ssh.open()
        (child,) = server.children()
        started = time.monotonic()
        timer = threading.Timer(0.5, os.kill, (child, signal.SIGSTOP))
        timer.start()
        with pytest.raises(ConnectionLost, match=r"no sign of life for 1\.5 s in mid-command"):
            ssh.run("sleep 30", timeout=30)
        assert 1.5 < time.monotonic() - started < 6


def test_a_peer_that_fell_silent_before_a_command_is_replaced(tmp_path: Path, connect: Connect) -> None:
    with sshd.running(tmp_path) as server:
        ssh = connect(server, auth_timeout=2)
        ssh.open()
        (child,) = server.children()
        os.kill(child, signal.SIGSTOP)
        assert ssh.run("echo new").stdout == "new\n"


def test_a_long_silent_command_is_not_taken_for_dead(server: sshd.Sshd, connect: Connect) -> None:
    assert connect(server, keepalive_interval=0.2).run("sleep 3; echo done").stdout == "done\n"


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


def test_an_unknown_host_key_is_refused(server: sshd.Sshd, connect: Connect, tmp_path: Path) -> None:
    empty = tmp_path / "known_hosts"
    with pytest.raises(HostKeyRefused, match=r"ssh-ed25519 host key SHA256:\S+ is not in .*; compare it"):
        connect(server, known_hosts=str(empty)).open()
    assert not empty.exists()


def test_a_new_host_key_is_taken_up_once_and_only_on_purpose(
    server: sshd.Sshd, connect: Connect, tmp_path: Path
) -> None:
    file = tmp_path / "new" / "known_hosts"
    for _ in range(2):
        connect(server, known_hosts=str(file), host_keys="accept-new").open()
    assert file.read_text() == server.known_hosts.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    connect(server, known_hosts=str(file)).open()


def test_new_host_keys_are_appended_whole_and_once_by_several_processes(server: sshd.Sshd, tmp_path: Path) -> None:
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
    key = server.directory / "host_ed25519"
    command = [sys.executable, "-c", code, str(file), str(key)]
    several = [subprocess.Popen(command, cwd=root) for _ in range(3)]
    assert [process.wait(60) for process in several] == [0, 0, 0]
    lines = file.read_text().splitlines()
    assert sorted(line.split()[0] for line in lines[1:]) == sorted(f"h{n}" for n in range(60))
    assert all(len(line.split()) == 3 for line in lines[1:])


@pytest.mark.parametrize("mode", ["strict", "accept-new"])
def test_a_changed_host_key_is_always_refused(server: sshd.Sshd, connect: Connect, tmp_path: Path, mode: str) -> None:
    other = sshd.make_key(tmp_path / "other")
    file = tmp_path / "known_hosts"
    file.write_text(f"[127.0.0.1]:{server.port} {other}\n")
    before = file.read_text()
    with pytest.raises(HostKeyRefused, match=r"has CHANGED: .*known_hosts:1 has ssh-ed25519 SHA256:.*ssh-keygen -R"):
        connect(server, known_hosts=str(file), host_keys=mode).open()
    assert file.read_text() == before


def test_a_key_of_another_type_than_known_counts_as_changed(
    server: sshd.Sshd, connect: Connect, tmp_path: Path
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"[127.0.0.1]:{server.port} {sshd.make_key(tmp_path / 'other', 'ecdsa')}\n")
    with pytest.raises(HostKeyRefused, match="CHANGED"):
        connect(server, known_hosts=str(file), host_keys="accept-new").open()


@pytest.mark.parametrize("known", ["ed25519", "ecdsa", "rsa"])
def test_the_known_type_of_key_is_asked_for(tmp_path: Path, connect: Connect, known: str) -> None:
    with sshd.running(tmp_path, host_keys=("ed25519", "ecdsa", "rsa")) as server:
        kind = {"ed25519": "ssh-ed25519", "ecdsa": "ecdsa-sha2-nistp256", "rsa": "ssh-rsa"}[known]
        lines = [line for line in server.known_hosts.read_text().splitlines() if f" {kind} " in line]
        server.known_hosts.write_text("\n".join(lines) + "\n")
        assert connect(server).run("echo hi").stdout == "hi\n"


def test_a_hashed_known_hosts_is_understood(server: sshd.Sshd, connect: Connect, tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(server.known_hosts.read_text())
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    assert file.read_text().startswith("|1|")
    connect(server, known_hosts=str(file)).open()


# Who may log in


def test_a_key_that_is_not_let_in_is_told(server: sshd.Sshd, connect: Connect, tmp_path: Path) -> None:
    sshd.make_key(tmp_path / "stranger")
    with pytest.raises(AuthenticationRefused, match=r"refuses the login as \w+ with .*stranger"):
        connect(server, key_file=str(tmp_path / "stranger")).open()


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_other_types_of_key_log_in(tmp_path: Path, connect: Connect, kind: str) -> None:
    with sshd.running(tmp_path, key=kind) as server:
        assert connect(server).run("echo hi").stdout == "hi\n"


def test_a_key_file_with_a_passphrase_or_rubbish_or_none_is_told(
    server: sshd.Sshd, connect: Connect, tmp_path: Path
) -> None:
    locked, rubbish = tmp_path / "locked", tmp_path / "rubbish"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
    rubbish.write_text("rubbish")
    for name, message in [(locked, "passphrase"), (rubbish, "not a private key"), (tmp_path / "x", "cannot read")]:
        with pytest.raises(AuthenticationRefused, match=message):
            connect(server, key_file=str(name)).open()


def test_the_agents_keys_are_used(server: sshd.Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent_socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(agent_socket)], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 5
        while not agent_socket.exists() and time.monotonic() < deadline:
            assert agent.poll() is None
            threading.Event().wait(0.02)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent_socket))
        monkeypatch.setenv("HOME", str(tmp_path))
        subprocess.run(["ssh-add", "-q", str(server.key)], check=True)
        settings = sshconfig.settings(
            "127.0.0.1", server.user, None, server.port, {"known_hosts": str(server.known_hosts)}
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


def test_a_password_is_tried_and_never_shown(server: sshd.Sshd, tmp_path: Path) -> None:
    extras = {"known_hosts": str(server.known_hosts), "key_file": str(tmp_path / "no")}
    sshd.make_key(tmp_path / "no")
    settings = sshconfig.settings("127.0.0.1", server.user, "s3cret-word", server.port, extras)
    with pytest.raises(AuthenticationRefused, match="the password") as caught:
        Ssh(settings).open()
    shown = repr(settings) + repr(Ssh(settings)) + str(caught.value) + repr(caught.value.__cause__)
    assert "s3cret-word" not in shown


# ssh_config


def test_ssh_config_is_honoured(server: sshd.Sshd, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"Host node-*\n  HostName 127.0.0.1\n  Port {server.port}\n  User {server.user}\n"
        f"  IdentityFile {server.key}\n  UserKnownHostsFile {server.known_hosts}\n  IdentitiesOnly yes\n"
    )
    plugin = SshConnection()
    plugin.open("node-17", None, None, None, None, {"ssh_config": str(config)})
    assert plugin.connection.run("echo hi").stdout == "hi\n"
    assert plugin.connection.settings.where == f"node-17 (127.0.0.1 port {server.port})"
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


# sudo


FAKE_SUDO = """#!/bin/bash
# Stands for sudo: refuses, or drops its options and runs the rest.
if [ -e "$(dirname "$0")/refuse" ]; then echo "sudo: a password is required" >&2; exit 1; fi
[ "$1 $2 $3" = "-n -H --" ] || exit 99
shift 3
CALLED_BY_SUDO=yes exec "$@"
"""


@pytest.fixture
def sudo_server(tmp_path: Path) -> Iterator[tuple[sshd.Sshd, Path]]:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sudo").write_text(FAKE_SUDO)
    (folder / "sudo").chmod(0o755)
    with sshd.running(tmp_path, environment=f"PATH={folder}:/usr/bin:/bin") as server:
        yield server, folder


def test_sudo_is_put_before_the_command(sudo_server: tuple[sshd.Sshd, Path], connect: Connect) -> None:
    ssh = connect(sudo_server[0], sudo=True)
    assert ssh.run("echo $CALLED_BY_SUDO 'a b'").stdout == "yes a b\n"
    result = ssh.run("echo 'sudo: not ours' >&2; exit 1")
    assert (result.exit_status, result.stderr) == (1, "sudo: not ours\n")


def test_sudos_refusal_is_told(sudo_server: tuple[sshd.Sshd, Path], connect: Connect) -> None:
    ssh = connect(sudo_server[0], sudo=True)
    (sudo_server[1] / "refuse").touch()
    with pytest.raises(AuthenticationRefused, match=r"sudo refuses \w+ \(sudo: a password is required\); allow bash"):
        ssh.run("yum -y update")


def test_a_command_too_long_for_execve_is_refused_here(ssh: Ssh) -> None:
    with pytest.raises(ValueError, match="give it by stdin"):
        ssh.run("x" * 130_000)


# With Nornir


def test_nornir_opens_uses_and_closes_it(server: sshd.Sshd) -> None:
    if "cellstep_ssh" not in ConnectionPluginRegister.available:
        ConnectionPluginRegister.register("cellstep_ssh", SshConnection)
    options = {"cellstep_ssh": ConnectionOptions(extras=server.extras())}
    hosts = Hosts()
    for name in ("a", "b"):
        hosts[name] = Host(
            name, hostname="127.0.0.1", port=server.port, username=server.user, connection_options=dict(options)
        )
    hosts["off"] = Host("off", hostname="127.0.0.1", port=1, connection_options=dict(options))

    def greet(task: Task) -> Result:
        connection: Ssh = task.host.get_connection("cellstep_ssh", task.nornir.config)
        return Result(task.host, result=connection.run("echo hi").stdout)

    with Nornir(Inventory(hosts, Groups(), Defaults()), runner=SerialRunner()) as nornir:
        result = nornir.run(greet)
        assert {name: multi[0].result for name, multi in result.items() if not multi.failed} == {
            "a": "hi\n",
            "b": "hi\n",
        }
        assert isinstance(result["off"][0].exception, TransportError)
        connection = hosts["a"].get_connection("cellstep_ssh", nornir.config)
    assert not connection.is_active()
