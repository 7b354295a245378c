"""Keystone's tables for EC2 keys and tokens, as Grizzly and its migrations leave them, on a scratch MariaDB."""

import hashlib
import json
import socket
from types import SimpleNamespace

from plugins.connections.mysql import Mysql
from tests.support import mariadb

# While both releases run: Grizzly's table is still there, `credential` has lost its foreign keys already.
SCHEMA = """
DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name} CHARACTER SET utf8 COLLATE utf8_general_ci; USE {name};
CREATE TABLE user (id varchar(64) NOT NULL PRIMARY KEY, name varchar(64) NOT NULL) ENGINE=InnoDB;
CREATE TABLE credential (id varchar(64) NOT NULL PRIMARY KEY, user_id varchar(64) NOT NULL,
  project_id varchar(64), `blob` text NOT NULL, `type` varchar(255) NOT NULL, extra text{constraint}) ENGINE=InnoDB;
CREATE TABLE ec2_credential (access varchar(64) NOT NULL PRIMARY KEY, secret varchar(64), user_id varchar(64),
  tenant_id varchar(64)) ENGINE=InnoDB;
CREATE TABLE token (id varchar(64) NOT NULL PRIMARY KEY, expires datetime, extra text, valid tinyint(1) NOT NULL,
  trust_id varchar(64), user_id varchar(64)) ENGINE=InnoDB;
"""
CONSTRAINT = ", KEY user_id (user_id), FOREIGN KEY (user_id) REFERENCES user (id)"
"""What `credential` has from Grizzly on, until a migration drops it."""


def make(server: mariadb.Server, name: str = "keystone", constraint: str = "") -> None:
    """Make the database anew."""
    server.load(SCHEMA.format(name=name, constraint=constraint))


def task(server: mariadb.Server) -> SimpleNamespace:
    """A task on a host whose connection is the scratch server."""
    # As through SSH: without a TLS context for each connection, which takes longer than all else.
    tunnel = SimpleNamespace(tunnel=lambda address, port: socket.create_connection((address, port)))
    mysql = Mysql("scratch", "root", "", "127.0.0.1", server.port, ssh=lambda: tunnel, read_timeout=20)
    host = SimpleNamespace(
        name="top-db01",
        get_connection=lambda _plugin, _config: mysql,
        get_connection_parameters=lambda _plugin: SimpleNamespace(extras={"via": "direct"}),
    )
    return Task(host=host, nornir=SimpleNamespace(config=None), mysql=mysql, is_dry_run=lambda: False)


class Task(SimpleNamespace):
    """Can be known by identity, as Nornir's own."""

    __hash__ = object.__hash__


def old(access, secret="s", user="u1", project="p1"):  # noqa: S107 - of a scratch server
    """A row of `ec2_credential`."""
    return {"access": access, "secret": secret, "user_id": user, "tenant_id": project}


def new(access, secret="s", user="u1", project="p1", **more):  # noqa: S107 - of a scratch server
    """A row of `credential`, as migration 33 makes it."""
    parts = {"access": access, "secret": secret, **more}
    return {
        "id": hashlib.sha256(access.encode()).hexdigest(),
        "user_id": user,
        "project_id": project,
        "blob": json.dumps(parts),
        "type": "ec2",
        "extra": "{}",
    }


def fill(mysql: Mysql, olds=(), news=(), database="keystone") -> None:
    """Make the two tables have these rows alone."""
    with mysql.transaction(database) as transaction:
        for table, rows in (("ec2_credential", olds), ("credential", news)):
            transaction.execute(f"DELETE FROM {table}")  # noqa: S608 - names of this file
            for row in rows:
                names, marks = ", ".join(f"`{name}`" for name in row), ", ".join(["%s"] * len(row))
                transaction.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))  # noqa: S608


def content(mysql: Mysql, database="keystone") -> tuple[list, list]:
    """All rows of the two tables."""
    return (
        mysql.query("SELECT * FROM ec2_credential ORDER BY BINARY access", database=database),
        mysql.query("SELECT * FROM credential ORDER BY BINARY id", database=database),
    )
