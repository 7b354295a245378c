"""A scratch MariaDB with nova's quota tables, for the tests that ask for `server` or `task`."""

import pytest

from tests.support import mariadb, novadb


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A scratch MariaDB with nova's quota tables in the databases `grizzly` and `havana`."""
    try:
        with mariadb.running(tmp_path_factory.mktemp("quotas")) as found:
            novadb.make(found)
            yield found
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def task(server):
    """A task on a host whose connection is the scratch server."""
    with novadb.task_on(server) as found:
        yield found
