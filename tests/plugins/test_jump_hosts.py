"""Going through jump hosts: real sshds before real sshds, shared connections, and what happens when one dies."""

import dataclasses
import io
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from plugins.connections import jumphosts, sshconfig
from plugins.connections.errors import AuthenticationRefused, ConnectionLost, HostKeyRefused, Unreachable
from plugins.connections.mysql import MysqlConnection
from plugins.connections.ssh import Ssh
from tests.support import sshd
from tests.support.bastion import Site, all_at_once, has_socket_to, logins, send_until_it_ends, wait_until
from tests.support.sshd import Sshd

pytestmark = pytest.mark.sshd


@pytest.fixture
def bastion(tmp_path: Path) -> Iterator[Sshd]:
    (tmp_path / "bastion").mkdir()
    with sshd.running(tmp_path / "bastion") as server:
        yield server


@pytest.fixture
def site(tmp_path: Path, ssh_server: Sshd, bastion: Sshd) -> Iterator[Site]:
    site = Site(tmp_path, ssh_server, bastion)
    yield site
    site.close()


# The way there


def test_a_node_is_reached_through_its_jump_host(site: Site) -> None:
    result = site.ssh().run("echo $SSH_CONNECTION; cat", stdin="x" * 3_000_000)
    assert result.stdout.endswith("x" * 3_000_000)
    port = result.stdout.split()[1]
    assert logins(site.bastion) == 1
    (child,) = site.bastion.children()
    assert f":{int(port):04X} " in Path(f"/proc/{child}/net/tcp").read_text()


def test_many_at_once_share_one_connection_to_the_jump_host(site: Site) -> None:
    said = all_at_once([lambda n=n: site.ssh(f"c01-n{n}").run(f"echo {n}").stdout for n in range(8)])  # type: ignore[misc] # a lambda's default
    assert said == [f"{n}\n" for n in range(8)]
    assert logins(site.bastion) == 1


def test_tunnels_through_the_node_work_as_before(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        channel = site.ssh().tunnel("127.0.0.1", listener.getsockname()[1])
        served, _ = listener.accept()
        with served:
            served.sendall(b"from the database")
            assert channel.recv(100) == b"from the database"
        channel.close()


def test_a_database_via_ssh_is_looked_for_through_the_jump_host(site: Site) -> None:
    plugin = MysqlConnection()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        extras = {"port": listener.getsockname()[1], "ssh": {"username": site.node.user, **site.extras()}}
        plugin.open("c01-n01", "u", "p", None, None, {**extras, "connect_timeout": 10})

        def refuse() -> None:
            served, _ = listener.accept()
            with served:
                served.sendall(b"\x17\x00\x00\x00\xff\x10\x04Too many connections")

        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(Unreachable, match="1040: Too many connections"):
            plugin.connection.query("SELECT 1")
        thread.join(10)
    plugin.close()
    assert logins(site.bastion) == 1


def test_a_chain_of_two(site: Site, tmp_path: Path) -> None:
    (tmp_path / "outer").mkdir()
    only = f"PermitOpen 127.0.0.1:{site.bastion.port}"
    with sshd.running(tmp_path / "outer", only) as outer:
        site.known_hosts.write_text(site.known_hosts.read_text() + outer.known_hosts.read_text())
        site.write(
            f"ProxyJump {outer.user}@outer:{outer.port},bastion-c01",
            more=f"Host outer\n HostName 127.0.0.1\n IdentityFile {outer.key}\n",
        )
        assert site.ssh().run("echo there").stdout == "there\n"
        assert (logins(outer), logins(site.bastion)) == (1, 1)
        # Not past the second: the first lets nobody go anywhere else.
        with pytest.raises(Unreachable, match=r"^c01-n02 \(.*\): not reached: its jump host outer .* forwards no"):
            site.ssh("c01-n02", jump=f"{outer.user}@outer:{outer.port}").open()
        outer.stop()
        with pytest.raises(
            Unreachable, match=r"its jump host bastion-c01 .*: not reached: its jump host outer .* does n"
        ):
            site.ssh("c01-n03").open()


@pytest.mark.parametrize("who_ends_it", ["this side", "the node"])
def test_nothing_follows_the_end_of_a_connection(site: Site, who_ends_it: str) -> None:
    """Upon data after a channel's close sshd breaks off the jump host's connection, and all nodes' with it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = sshconfig.settings("c01-n01", "root", None, listener.getsockname()[1], site.extras())
        assert settings.jump is not None
        host = jumphosts._jump_host(settings.jump)
        for _ in range(20):
            passage = host.passage(settings, site.ssh()._spare)
            passage.settimeout(0.1)
            served, _ = listener.accept()
            senders = [threading.Thread(target=send_until_it_ends, args=(passage,)) for _ in range(3)]
            for sender in senders:
                sender.start()
            served.recv(1)
            if who_ends_it == "this side":
                passage.close()
            served.close()
            for sender in senders:
                sender.join(10)
    assert site.ssh().run("echo still").stdout == "still\n"
    assert logins(site.bastion) == 1


# Its limit


def test_no_more_go_through_at_once_than_are_allowed(site: Site, tmp_path: Path) -> None:
    """Each counts those that run beside it."""
    (tmp_path / "now").mkdir()
    script = f"cd {tmp_path}/now && touch $$ && ls | wc -l && read -t 0.3 <> <(:); ls | wc -l; rm $$"
    said = all_at_once(
        [lambda n=n: site.ssh(f"c01-n{n}", jump_connections=3).run(script).stdout for n in range(9)]  # type: ignore[misc] # a lambda's default
    )
    counted = [int(number) for output in said for number in output.split()]
    assert (len(counted), max(counted)) == (18, 3)


def test_idle_connections_make_room_the_longest_idle_first(site: Site) -> None:
    several = [site.ssh(f"c01-n{n}", jump_connections=2, command_timeout=20) for n in range(4)]
    for _ in range(2):
        assert [ssh.run("echo x").stdout for ssh in several] == ["x\n"] * 4
        assert [ssh.is_active() for ssh in several] == [False, False, True, True]


def test_a_full_jump_host_is_told_in_bounded_time(site: Site) -> None:
    busy = site.ssh("c01-n01", jump_connections=1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        channel = busy.tunnel("127.0.0.1", listener.getsockname()[1])
        expected = (
            r"^c01-n02 .*: no free place within 0\.2 s among the 1 connections .* jump host bastion-c01 \(.*raise ssh"
        )
        with pytest.raises(Unreachable, match=expected):
            site.ssh("c01-n02", jump_connections=1, command_timeout=0.2).open()
        assert busy.is_active()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(site.ssh("c01-n03", jump_connections=1, command_timeout=20).run, "echo in")
            channel.close()
            assert waiting.result(20).stdout == "in\n"
    assert not busy.is_active()


def test_a_failed_login_frees_its_place(site: Site) -> None:
    for _ in range(3):
        with pytest.raises(AuthenticationRefused, match=r"^c01-n01 .*refuses the login as nobody-here"):
            Ssh(sshconfig.settings("c01-n01", "nobody-here", None, None, site.extras(jump_connections=1))).open()
    assert site.ssh(jump_connections=1, command_timeout=1).run("echo free", timeout=20).stdout == "free\n"


# When the jump host fails


def test_a_jump_host_that_is_off_is_named_and_asked_once_for_all(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        site.write("ProxyJump bastion-c01", bastion_port=listener.getsockname()[1])
        asked: list[socket.socket] = []

        def hang_up() -> None:
            while True:
                try:
                    asked.append(listener.accept()[0])
                except OSError:
                    return
                asked[-1].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        errors = all_at_once([site.ssh(f"c01-n{n}").open for n in range(10)])
        errors += all_at_once([site.ssh(f"c01-n{n}").open for n in range(10, 30)])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    assert len(asked) == 1
    assert [type(error) for error in errors] == [Unreachable] * 30
    assert all(
        str(error).startswith(f"c01-n{n} (127.0.0.1 port {site.node.port}): not reached: its jump host bastion-c01 ")
        for n, error in enumerate(errors)
    )


def test_a_refused_port_of_the_jump_host(site: Site) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        site.write("ProxyJump bastion-c01", bastion_port=port)
        said = rf"c01-n01 .*: not reached: its jump host bastion-c01 .* does not answer on port {port}: .* refused"
        with pytest.raises(Unreachable, match=said):
            site.ssh().open()


def test_a_jump_host_that_is_back_is_used_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = site.ssh()
    site.bastion.stop()
    with pytest.raises(Unreachable, match="its jump host bastion-c01"):
        ssh.open()
    site.bastion.restart()
    with pytest.raises(Unreachable, match="its jump host bastion-c01"):
        ssh.open()  # what was found a moment ago holds for all
    monkeypatch.setattr(jumphosts, "FAILURE_SHARED_S", 0.0)
    assert ssh.run("echo back").stdout == "back\n"


def test_a_node_that_does_not_answer_is_not_its_jump_hosts_fault(site: Site) -> None:
    with socket.socket() as unused, socket.socket() as full:
        extras = site.extras(connect_timeout=0.8)
        unused.bind(("127.0.0.1", 0))
        refused = Ssh(sshconfig.settings("c01-n01", "root", None, unused.getsockname()[1], extras))
        with pytest.raises(
            Unreachable, match=r"no TCP connection from its jump host bastion-c01 .*: Connection refused$"
        ):
            refused.open()
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        held = []
        for _ in range(3):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(full.getsockname())
            held.append(client)
        silent = Ssh(sshconfig.settings("c01-n01", "root", None, full.getsockname()[1], extras))
        with pytest.raises(
            Unreachable, match=r"no TCP connection from its jump host .* within 0\.8 s; is it powered on"
        ):
            silent.open()
        for client in held:
            client.close()
    assert logins(site.bastion) == 1


def test_each_waiting_thread_gets_its_own_nodes_reason(site: Site, tmp_path: Path) -> None:
    """Paramiko hands a refusal to whichever thread looks first."""
    (tmp_path / "strict").mkdir()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = unused.getsockname()[1]
        with sshd.running(tmp_path / "strict", f"PermitOpen 127.0.0.1:{closed}") as strict:
            site.known_hosts.write_text(strict.known_hosts.read_text())
            extras = site.extras(jump=f"{strict.user}@127.0.0.1:{strict.port}", key_file=str(strict.key))
            site.write("")
            ports = [closed, site.node.port] * 10
            errors = all_at_once(
                [Ssh(sshconfig.settings("127.0.0.1", "root", None, port, extras)).open for port in ports]
            )
    said = ["Connection refused" in str(error) for error in errors], ["PermitOpen" in str(error) for error in errors]
    assert said == ([True, False] * 10, [False, True] * 10)


def test_a_jump_host_with_another_host_key_is_refused(site: Site, tmp_path: Path) -> None:
    other = sshd.make_key(tmp_path / "other")
    site.known_hosts.write_text(f"{site.node.known_hosts.read_text()}[127.0.0.1]:{site.bastion.port} {other}\n")
    with pytest.raises(
        HostKeyRefused, match=r"^c01-n01 .*not reached: its jump host bastion-c01 .*host key has CHANGED"
    ):
        site.ssh().open()
    site.known_hosts.write_text(site.node.known_hosts.read_text())
    with pytest.raises(HostKeyRefused, match=r"its jump host bastion-c01 .* is not in .*known"):
        site.ssh("c01-n02", keepalive_interval=4).open()
    assert logins(site.bastion) == 0


def test_a_jump_host_that_lets_nobody_in(site: Site, tmp_path: Path) -> None:
    sshd.make_key(tmp_path / "wrong")
    site.config.write_text(site.config.read_text().replace(str(site.bastion.key), str(tmp_path / "wrong")))
    with pytest.raises(AuthenticationRefused, match=r"^c01-n01 .*its jump host bastion-c01 .*: refuses the login as"):
        site.ssh().open()


def test_a_jump_host_killed_in_mid_command_and_opened_again_by_the_next(site: Site) -> None:
    several = [site.ssh(f"c01-n{n}") for n in range(4)]
    for ssh in several:
        ssh.open()
    (child,) = site.bastion.children()
    timer = threading.Timer(0.3, os.kill, (child, signal.SIGKILL))
    timer.start()
    errors = all_at_once([lambda ssh=ssh: ssh.run("sleep 30", timeout=40) for ssh in several])  # type: ignore[misc] # a lambda's default
    assert [type(error) for error in errors] == [ConnectionLost] * 4
    assert all("connection to its jump host bastion-c01 " in str(error) for error in errors)
    assert all("broke in mid-command; what became of the command is unknown" in str(error) for error in errors)
    said = all_at_once([lambda ssh=ssh: ssh.run("echo again").stdout for ssh in several])  # type: ignore[misc] # a lambda's default
    assert said == ["again\n"] * 4
    assert logins(site.bastion) == 2


def test_a_jump_host_that_dies_during_a_login_is_not_the_nodes_refusal(site: Site) -> None:
    site.ssh().open()
    (child,) = site.bastion.children()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        mute = Ssh(sshconfig.settings("c01-n02", "root", None, listener.getsockname()[1], site.extras()))
        with ThreadPoolExecutor(1) as pool:
            login = pool.submit(mute.open)
            served, _ = listener.accept()
            assert served.recv(4) == b"SSH-"
            os.kill(child, signal.SIGKILL)
            with pytest.raises(Unreachable, match=r"^c01-n02 .*connection to its jump host .* broke during the login"):
                login.result(20)
            served.close()


def test_a_jump_host_that_falls_silent_in_mid_command(site: Site) -> None:
    ssh = site.ssh(keepalive_interval=0.3)
    ssh.open()
    (child,) = site.bastion.children()
    timer = threading.Timer(0.2, os.kill, (child, signal.SIGSTOP))
    timer.start()
    started = time.monotonic()
    with pytest.raises(ConnectionLost, match=r"no sign of life for 0\.9 s|connection to its jump host"):
        ssh.run("sleep 30", timeout=40)
    assert time.monotonic() - started < 10
    assert ssh.run("echo anew").stdout == "anew\n"


def test_stdin_that_a_silent_jump_host_takes_no_more(site: Site) -> None:
    ssh = site.ssh(keepalive_interval=0.3)
    ssh.open()
    (child,) = site.bastion.children()

    class Freezing(io.BytesIO):
        def write(self, data: Any, /) -> int:
            os.kill(child, signal.SIGSTOP)
            return super().write(data)

    with pytest.raises(ConnectionLost, match="in mid-command"):
        ssh.run("echo begun; cat >/dev/null", stdin="x" * 60_000_000, timeout=40, sink=Freezing())


def test_a_node_that_takes_nothing_more_is_given_up(site: Site) -> None:
    """What the kernel does for a TCP connection; here there is none from this side to the node."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        extras = site.extras(jump_connections=1)
        settings = sshconfig.settings("c01-n01", "root", None, listener.getsockname()[1], extras)
        settings = dataclasses.replace(settings, keepalive_interval=0.1)  # the jump host keeps its own
        assert settings.jump is not None
        host = jumphosts._jump_host(settings.jump)
        passage = host.passage(settings, site.ssh()._spare)
        passage.settimeout(0.05)
        wait_until("the passage gives up", lambda: _is_given_up(passage))
        # Its place is free again.
        host.passage(settings, site.ssh()._spare).close()


def _is_given_up(passage: jumphosts.Passage) -> bool:
    try:
        while True:
            passage.send(bytes(30_000))
    except TimeoutError:
        return False
    except ConnectionAbortedError:
        return True


def test_a_silent_jump_host_is_told_from_a_silent_node(site: Site) -> None:
    site.ssh(connect_timeout=0.8).open()
    (child,) = site.bastion.children()
    os.kill(child, signal.SIGSTOP)
    with pytest.raises(Unreachable, match=r"c01-n02 .*: its jump host bastion-c01 .* gives no answer within 0\.8 s"):
        site.ssh("c01-n02", connect_timeout=0.8).open()
    os.kill(child, signal.SIGCONT)
    # The connection goes on, and what the sleeper has opened after all is closed again.
    again = site.ssh("c01-n03", connect_timeout=0.8)
    assert again.run("echo on").stdout == "on\n"
    again.close()
    site.made[0].close()
    node = f":{site.node.port:04X} "
    wait_until("no connection from the jump host to the node", lambda: not has_socket_to(child, node))
    assert logins(site.bastion) == 1
