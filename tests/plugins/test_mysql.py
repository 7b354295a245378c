"""The MySQL connection plugin against a real MariaDB, directly and through a real sshd."""

import pathlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pymysql
import pytest

from plugins.connections.errors import (
    AuthenticationRefused,
    CommandTimeout,
    ConnectionLost,
    DatabaseError,
    TransportError,
    Unreachable,
)
from plugins.connections.mysql import Mysql, MysqlConnection
from plugins.connections.ssh import SshConnection
from tests.support import mariadb, sshd

pytestmark = pytest.mark.mariadb

PASSWORD = "hunter2-and-%-some"  # noqa: S105 - of the scratch server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mariadb.Server]:
    try:
        with mariadb.running(tmp_path_factory.mktemp("mysql")) as server:
            server.load(
                "CREATE DATABASE nova; CREATE DATABASE cinder;"
                "CREATE TABLE nova.t (id INT AUTO_INCREMENT PRIMARY KEY, word VARCHAR(20)) CHARACTER SET utf8mb4;"
                f"CREATE USER cellstep@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO cellstep@'127.0.0.1'"
            )
            yield server
    except mariadb.MariadbMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["direct", "ssh"])
def plugin(request: pytest.FixtureRequest, server: mariadb.Server, ssh_server: sshd.Sshd) -> Iterator[MysqlConnection]:
    server.execute("TRUNCATE nova.t")
    plugin = MysqlConnection()
    ssh = ssh_server.extras(username=ssh_server.user, port=ssh_server.port)
    extras = {"via": request.param, "ssh": ssh, "connect_timeout": 5, "read_timeout": 20}
    plugin.open("127.0.0.1", "cellstep", PASSWORD, server.port, None, extras)
    yield plugin
    plugin.close()


@pytest.fixture
def mysql(plugin: MysqlConnection) -> Mysql:
    return plugin.connection


def test_rows_come_as_dicts(mysql: Mysql) -> None:
    assert mysql.query("SELECT 1 AS one, %s AS word", ("%ü😀",)) == [{"one": 1, "word": "%ü😀"}]
    assert mysql.query("SELECT 'a%' AS percent") == [{"percent": "a%"}]


def test_each_schema_is_chosen_by_the_call(mysql: Mysql) -> None:
    assert [mysql.query("SELECT DATABASE() AS d", database=d)[0]["d"] for d in ("nova", "cinder", "nova", None)] == [
        "nova",
        "cinder",
        "nova",
        None,
    ]


def test_a_transaction_commits(mysql: Mysql) -> None:
    with mysql.transaction("nova") as transaction:
        assert transaction.execute("INSERT INTO t (word) VALUES (%s), (%s)", ("a", "b")) == 2
        assert transaction.lastrowid == 1
        assert transaction.query("SELECT COUNT(*) AS n FROM t") == [{"n": 2}]
        assert mysql.query("SELECT COUNT(*) AS n FROM t", database="nova") == [{"n": 0}]
    assert mysql.query("SELECT COUNT(*) AS n FROM t", database="nova") == [{"n": 2}]


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt])
def test_a_transaction_rolls_back_on_any_exception(mysql: Mysql, fault: type[BaseException]) -> None:
    def failing() -> None:
        with mysql.transaction("nova") as transaction:
            transaction.execute("INSERT INTO t (word) VALUES ('a')")
            raise fault

    with pytest.raises(fault):
        failing()
    assert mysql.query("SELECT COUNT(*) AS n FROM t", database="nova") == [{"n": 0}]


def test_the_servers_own_error_keeps_its_number_and_host(mysql: Mysql) -> None:
    with pytest.raises(DatabaseError, match=r"127\.0\.0\.1: MySQL on port \d+: 1146: Table") as caught:
        mysql.query("SELECT * FROM missing", database="nova")
    assert caught.value.errno == 1146
    with pytest.raises(DatabaseError) as caught, mysql.transaction("nova") as transaction:
        transaction.execute("INSERT INTO t VALUES (1, 'x'), (1, 'y')")
    assert caught.value.errno == 1062


def test_an_unknown_schema_is_the_servers_error(mysql: Mysql) -> None:
    with pytest.raises(DatabaseError) as caught:
        mysql.query("SELECT 1", database="nowhere")
    assert caught.value.errno == 1049


def test_a_restarted_server_is_connected_to_again(mysql: Mysql, server: mariadb.Server) -> None:
    mysql.query("SELECT 1")
    server.restart()
    assert mysql.query("SELECT 2 AS two") == [{"two": 2}]


def test_a_killed_connection_is_lost_in_a_transaction(mysql: Mysql, server: mariadb.Server) -> None:
    def killed() -> None:
        with mysql.transaction("nova") as transaction:
            transaction.execute("INSERT INTO t (word) VALUES ('a')")
            (row,) = transaction.query("SELECT CONNECTION_ID() AS id")
            server.execute(f"KILL {row['id']}")
            transaction.execute("INSERT INTO t (word) VALUES ('b')")

    with pytest.raises(ConnectionLost, match="the connection broke"):
        killed()
    assert mysql.query("SELECT COUNT(*) AS n FROM t", database="nova") == [{"n": 0}]


def test_a_slow_answer_times_out_and_is_not_asked_for_again(mysql: Mysql) -> None:
    mysql.query("SELECT 1")
    mysql.close()
    mysql._read_timeout = 0.5
    started = time.monotonic()
    with pytest.raises(CommandTimeout, match=r"127\.0\.0\.1.*no answer in time"):
        mysql.query("SELECT SLEEP(5)")
    assert time.monotonic() - started < 3
    assert mysql.query("SELECT 1 AS one") == [{"one": 1}]


def test_threads_may_share_it(mysql: Mysql) -> None:
    def one(number: int) -> Any:
        with mysql.transaction("nova") as transaction:
            transaction.execute("INSERT INTO t (word) VALUES (%s)", (str(number),))
        return mysql.query("SELECT %s AS n", (number,), database="nova")[0]["n"]

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(one, range(40))) == list(range(40))
    assert mysql.query("SELECT COUNT(*) AS n FROM t", database="nova") == [{"n": 40}]


def test_large_results_arrive_whole(mysql: Mysql) -> None:
    (row,) = mysql.query("SELECT REPEAT('x', 12000000) AS big")
    assert len(row["big"]) == 12_000_000


def test_it_falls_back_to_utf8_for_a_server_without_utf8mb4(mysql: Mysql, monkeypatch: pytest.MonkeyPatch) -> None:
    """MySQL before 5.5.3 answers SET NAMES utf8mb4 with error 1115."""
    real = pymysql.Connection.set_character_set

    def old_server(self: Any, charset: str, collation: str | None = None) -> None:
        if charset == "utf8mb4":
            raise pymysql.err.OperationalError(1115, "Unknown character set: 'utf8mb4'")
        real(self, charset, collation)

    monkeypatch.setattr(pymysql.Connection, "set_character_set", old_server)
    assert mysql.query("SELECT @@character_set_client AS c")[0]["c"].startswith("utf8")
    assert mysql._charset == "utf8"


@pytest.mark.parametrize("via", ["direct", "ssh"])
def test_a_wrong_password_is_refused_without_showing_it(
    server: mariadb.Server, ssh_server: sshd.Sshd, via: str
) -> None:
    plugin = MysqlConnection()
    ssh = ssh_server.extras(username=ssh_server.user, port=ssh_server.port)
    plugin.open("127.0.0.1", "cellstep", "wrong-secret", server.port, None, {"via": via, "ssh": ssh})
    with pytest.raises(AuthenticationRefused, match="refuses the login as cellstep") as caught:
        plugin.connection.query("SELECT 1")
    plugin.close()
    shown: list[str] = [repr(plugin.connection), repr(plugin.__dict__)]
    error: BaseException | None = caught.value
    while error is not None:
        shown += [str(error), repr(error)]
        error = error.__cause__
    assert "wrong-secret" not in " ".join(shown)


@pytest.mark.parametrize("via", ["direct", "ssh"])
def test_a_server_that_is_down_is_unreachable(ssh_server: sshd.Sshd, via: str) -> None:
    plugin = MysqlConnection()
    ssh = ssh_server.extras(username=ssh_server.user, port=ssh_server.port)
    plugin.open("127.0.0.1", "cellstep", PASSWORD, mariadb.free_port(), None, {"via": via, "ssh": ssh})
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
        plugin.connection.query("SELECT 1")
    with pytest.raises(TransportError), plugin.connection.transaction("nova"):
        pytest.fail("a transaction began without a server")
    plugin.close()


def test_it_shares_the_hosts_open_ssh_connection(server: mariadb.Server, tmp_path: pathlib.Path) -> None:
    with sshd.running(tmp_path) as host:
        ssh, plugin = SshConnection(), MysqlConnection()
        ssh.open("127.0.0.1", host.user, None, host.port, None, host.extras())
        plugin.open("127.0.0.1", "cellstep", PASSWORD, server.port, None, {})
        assert plugin.connection.query("SELECT 1 AS one") == [{"one": 1}]
        assert host.log.count("Accepted publickey") == 1
        ssh.connection.close()  # as before a reboot
        assert plugin.connection.query("SELECT 2 AS two") == [{"two": 2}]
        assert host.log.count("Accepted publickey") == 2
        plugin.close()
        ssh.close()


@pytest.mark.parametrize(
    ("extras", "word"), [({"via": "telnet"}, "via"), ({"vai": "ssh"}, "vai")], ids=["value", "name"]
)
def test_options_that_cannot_be_are_refused(extras: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        MysqlConnection().open("h", None, None, None, None, extras)


def test_no_thread_is_left_waiting(mysql: Mysql) -> None:
    mysql.query("SELECT 1")
    mysql.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("cellstep-worker")]
