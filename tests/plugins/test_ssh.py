"""Commands and tunnels over SSH, against a real OpenSSH sshd."""

import hashlib
import io
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from nornir.core import Nornir
from nornir.core.inventory import ConnectionOptions, Defaults, Groups, Host, Hosts, Inventory
from nornir.core.plugins.connections import ConnectionPluginRegister
from nornir.core.task import Result, Task
from nornir.plugins.runners import SerialRunner

from plugins.connections.errors import (
    AuthenticationRefused,
    CommandTimeout,
    ConnectionLost,
    TransportError,
    Unreachable,
)
from plugins.connections.ssh import Ssh, SshConnection
from tests.support import sshd
from tests.support.sshd import Connect

pytestmark = pytest.mark.sshd


@pytest.fixture
def ssh(ssh_server: sshd.Sshd, connect: Connect) -> Ssh:
    return connect(ssh_server)


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


def test_a_source_is_fed_after_stdin_whatever_its_bytes(ssh: Ssh) -> None:
    content = bytes(range(256)) * 40_000
    result = ssh.run(
        "read -r line; echo $line; sha256sum; echo end", stdin="first\n", source=io.BytesIO(content), timeout=60
    )
    assert result.stdout.split() == ["first", hashlib.sha256(content).hexdigest(), "-", "end"]
    assert ssh.run("wc -c", source=io.BytesIO(b"")).stdout == "0\n"


def test_a_source_may_be_left_unread(ssh: Ssh) -> None:
    assert ssh.run("exec <&-; exit 7", source=io.BytesIO(bytes(10_000_000)), timeout=20).exit_status == 7


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


def test_many_threads_share_one_connection(ssh_server: sshd.Sshd, connect: Connect) -> None:
    ssh = connect(ssh_server)
    before = ssh_server.log.count("Accepted publickey")
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda n: ssh.run(f"echo {n}").stdout, range(40)))
    assert results == [f"{n}\n" for n in range(40)]
    assert ssh_server.log.count("Accepted publickey") == before + 1


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


def test_a_long_silent_command_is_not_taken_for_dead(ssh_server: sshd.Sshd, connect: Connect) -> None:
    assert connect(ssh_server, keepalive_interval=0.2).run("sleep 3; echo done").stdout == "done\n"


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


def test_nornir_opens_uses_and_closes_it(ssh_server: sshd.Sshd) -> None:
    if "cellstep_ssh" not in ConnectionPluginRegister.available:
        ConnectionPluginRegister.register("cellstep_ssh", SshConnection)
    options = {"cellstep_ssh": ConnectionOptions(extras=ssh_server.extras())}
    hosts = Hosts()
    for name in ("a", "b"):
        hosts[name] = Host(
            name, hostname="127.0.0.1", port=ssh_server.port, username=ssh_server.user, connection_options=dict(options)
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
