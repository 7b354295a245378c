"""The components' `db sync` on a real MariaDB: version after version, and what a stop in the middle leaves."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.support import mariadb

LIBRARY = Path(__file__).parents[2] / "lab" / "files" / "root" / "usr" / "lib" / "lab"
pytestmark = pytest.mark.mariadb
HAVANA = SimpleNamespace(COMPONENT="shop", REPOSITORY="Shop", NAME="havana", VERSION="2", SCHEMAS=(4,), HEAD=4)
GRIZZLY = SimpleNamespace(COMPONENT="shop", REPOSITORY="Shop", NAME="grizzly", VERSION="1", SCHEMAS=(1,), HEAD=1)
CHANGES = SimpleNamespace(
    FIRST=1, STATEMENTS={2: ("ALTER TABLE goods ADD price int",), 4: ("ALTER TABLE goods ADD stock int",)}
)
BEFORE = """
DROP DATABASE IF EXISTS lab; DROP DATABASE IF EXISTS shop; CREATE DATABASE shop; USE shop;
CREATE TABLE migrate_version (repository_id varchar(250) PRIMARY KEY, repository_path text, version int);
INSERT INTO migrate_version VALUES ('Shop', '/', 1), ('other', '/', 1);
CREATE TABLE goods (id int PRIMARY KEY);
"""
RUNS = """
CREATE DATABASE lab; CREATE TABLE lab.db_sync_runs (id int AUTO_INCREMENT PRIMARY KEY, at datetime, host varchar(64),
 from_version int, to_version int, `release` varchar(32), component varchar(32) NOT NULL DEFAULT 'nova');
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mariadb.Server]:
    try:
        started = mariadb.start(tmp_path_factory.mktemp("mariadb"))
    except mariadb.MariadbMissingError as error:
        pytest.skip(str(error))
    yield started
    started.stop()


@pytest.fixture
def sync(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as the hosts have it."""
    monkeypatch.syspath_prepend(str(LIBRARY))
    return importlib.import_module("standin.sync")


@pytest.fixture
def config(server: mariadb.Server, tmp_path: Path, sync: ModuleType) -> Any:
    server.load(BEFORE)
    path = tmp_path / "shop.conf"
    address = f"mysql://root:@127.0.0.1:{server.port}/shop"
    path.write_text(f"[DEFAULT]\nsql_connection = {address}\n", encoding="utf-8")
    del sync  # it makes the library's modules known
    return importlib.import_module("standin.config").Config(HAVANA, str(path))


def state(server: mariadb.Server) -> tuple[int, list[str]]:
    """The schema's version, and the columns of the table."""
    (row,) = server.execute("SELECT version FROM migrate_version WHERE repository_id = 'Shop'", database="shop")
    columns = server.execute("SHOW COLUMNS FROM goods", database="shop")
    return row["version"], [column["Field"] for column in columns]


def test_each_version_is_noted_and_the_run_counted(sync: ModuleType, config: Any, server: mariadb.Server) -> None:
    server.load(RUNS)
    assert sync.ended("shop", sync.sync, config, HAVANA, CHANGES) == 0
    assert state(server) == (4, ["id", "price", "stock"])
    sync.sync(config, HAVANA, CHANGES)
    rows = server.execute("SELECT component, from_version, to_version, `release` FROM lab.db_sync_runs ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [("shop", 1, 4, "2"), ("shop", 4, 4, "2")]
    other = server.execute("SELECT version FROM migrate_version WHERE repository_id = 'other'", database="shop")
    assert other == [{"version": 1}], "another repository's row is not touched"


def test_a_conflict_stops_it_where_it_is_met_and_it_goes_on_from_there(
    sync: ModuleType, config: Any, server: mariadb.Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """A component's own code for a version runs before its DDL; a copy of the database has no counter beside it."""

    def refuses(cursor: Any) -> None:
        if cursor.execute("SELECT 1 FROM goods"):
            raise sync.Conflict("there are goods")

    server.execute("INSERT INTO goods (id) VALUES (7)", database="shop")
    assert sync.ended("shop", sync.sync, config, HAVANA, CHANGES, {4: refuses}) == 1
    assert "CRITICAL shop [-] (Conflict) ('there are goods',)" in capsys.readouterr().err
    assert state(server) == (3, ["id", "price"])
    server.execute("DELETE FROM goods", database="shop")
    assert sync.ended("shop", sync.sync, config, HAVANA, CHANGES, {4: refuses}) == 0
    assert state(server) == (4, ["id", "price", "stock"])


def test_mysqls_own_errors_are_the_errors(
    sync: ModuleType, config: Any, server: mariadb.Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.execute("ALTER TABLE goods ADD price int", database="shop")
    assert sync.ended("shop", sync.sync, config, HAVANA, CHANGES) == 1
    assert "(OperationalError) (1060, \"Duplicate column name 'price'\")" in capsys.readouterr().err
    assert state(server)[0] == 1


@pytest.mark.parametrize(
    ("release", "sql", "said"),
    [
        (GRIZZLY, "UPDATE migrate_version SET version = 4", "version 4 is not in this release's migrate repository"),
        (GRIZZLY, "UPDATE migrate_version SET version = 0", "version 0 is not in this release's migrate repository"),
        (HAVANA, "UPDATE migrate_version SET version = 0", "version 0 is not in this release's migrate repository"),
        (HAVANA, "DELETE FROM migrate_version", "not under version control"),
        (HAVANA, "DROP TABLE migrate_version", "not under version control"),
    ],
)
def test_a_version_that_it_does_not_know_is_refused(
    sync: ModuleType, config: Any, server: mariadb.Server, release: Any, sql: str, said: str
) -> None:
    server.execute(sql, database="shop")
    with pytest.raises(LookupError, match=said):
        sync.sync(config, release, CHANGES if release is HAVANA else None)


def test_settings_without_an_address_are_named(config: Any, tmp_path: Path) -> None:
    kind = type(config)
    path = tmp_path / "empty.conf"
    path.write_text("[database]\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"empty\.conf: no address of the database: set connection in \[database\]"):
        kind(HAVANA, str(path))
    with pytest.raises(SystemExit, match="No such file"):
        kind(HAVANA, str(tmp_path / "none.conf"))
    path.write_text(
        "[DEFAULT]\nsql_connection = mysql://a:p%40s@h/old\n[database]\nconnection = mysql://a:p%40s@h/new\n",
        encoding="utf-8",
    )
    assert kind(GRIZZLY, str(path)).database["database"] == "old"
    assert kind(HAVANA, str(path)).database == {
        "host": "h", "port": 3306, "user": "a", "password": "p@s", "database": "new"
    }  # fmt: skip
