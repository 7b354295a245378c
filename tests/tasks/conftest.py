"""A scratch MariaDB with nova's quota tables, for the tests that ask for `server` or `task`."""

from types import SimpleNamespace

import pymysql
import pytest

from plugins.connections.mysql import Mysql
from tests.support import mariadb, novadb


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A scratch MariaDB with nova's quota tables in the databases `grizzly` and `havana`."""
    try:
        found = mariadb.start(tmp_path_factory.mktemp("quotas"))
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))
    try:
        for name, user in novadb.DATABASES.items():
            found.load(
                f"CREATE DATABASE {name} CHARACTER SET utf8 COLLATE utf8_general_ci; USE {name};"
                + novadb.SCHEMA.format(user=user)
            )
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def task(server):
    """A task on a host whose connection is the scratch server.

    Without TLS, which the server does not have: PyMySQL reads all the certificates of the machine for each connection.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pymysql.connections, "SSL_ENABLED", False)
        yield from _task(server)


def _task(server):
    mysql = Mysql("scratch", "root", "", "127.0.0.1", server.port)
    host = SimpleNamespace(
        name="top-infra01",
        get_connection=lambda _plugin, _config: mysql,
        get_connection_parameters=lambda _plugin: SimpleNamespace(extras={"via": "direct"}),
    )
    yield SimpleNamespace(host=host, nornir=SimpleNamespace(config=None), mysql=mysql)
    mysql.close()
