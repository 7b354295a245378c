"""A scratch MariaDB with the releases' reference schemas, and a task that asks it."""

import pytest

from cellstep import schemas
from tests.support import mariadb
from tests.support.ddl import ddl
from tests.support.keystonedb import task as task_on


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A MariaDB of our own on loopback."""
    try:
        with mariadb.running(tmp_path_factory.mktemp("check"), "--innodb-flush-method=nosync") as running:
            yield running
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def task(server):
    """A task on a host whose connection is the scratch server."""
    made = task_on(server)
    yield made
    made.mysql.close()


@pytest.fixture
def made(server):
    """Makes a database `checked` of a reference, at its version."""

    def make(reference, repository=None, version=None):
        name, _, number = reference.rpartition("-")
        server.load("DROP DATABASE IF EXISTS elsewhere; DROP DATABASE IF EXISTS checked")
        server.load("CREATE DATABASE checked CHARACTER SET utf8")
        server.load(ddl(schemas.of_reference(reference)), database="checked")
        row = (repository or name, version or int(number))
        server.execute("INSERT INTO migrate_version (repository_id, version) VALUES (%s, %s)", row, database="checked")

    return make
