"""Nova's tables that count for quotas, on a scratch MariaDB, and a task that reads them."""

import contextlib
from types import SimpleNamespace

import pandas as pd
import pymysql
import pytest

from plugins.connections.mysql import Mysql
from reports.tables import quotas
from tasks.quotas import read

STAMPS = "created_at datetime, updated_at datetime, deleted_at datetime"
KEY = f"{STAMPS}, id int NOT NULL AUTO_INCREMENT PRIMARY KEY, deleted int"
TEXT = "varchar(255)"
# What nova's tables have of the columns counted; `{user}` is Havana's.
SCHEMA = f"""
CREATE TABLE instances ({KEY}, user_id {TEXT}, project_id {TEXT}, vm_state {TEXT}, memory_mb int, vcpus int,
  uuid varchar(36) UNIQUE);
CREATE TABLE security_groups ({KEY}, name {TEXT}, user_id {TEXT}, project_id {TEXT});
CREATE TABLE floating_ips ({KEY}, address varchar(39), project_id {TEXT}, auto_assigned tinyint(1));
CREATE TABLE fixed_ips ({KEY}, address varchar(39), instance_uuid varchar(36),
  FOREIGN KEY (instance_uuid) REFERENCES instances (uuid));
CREATE TABLE quota_usages ({KEY}, project_id {TEXT}, resource {TEXT}, in_use int NOT NULL,
  reserved int NOT NULL, until_refresh int {{user}});
CREATE TABLE reservations ({KEY}, uuid varchar(36) NOT NULL, usage_id int NOT NULL, project_id {TEXT},
  resource {TEXT}, delta int NOT NULL, expire datetime {{user}},
  FOREIGN KEY (usage_id) REFERENCES quota_usages (id));
"""
TABLES = ("reservations", "quota_usages", "fixed_ips", "floating_ips", "security_groups", "instances")
DATABASES = {"havana": ", user_id varchar(255)", "grizzly": ""}
PER_USER = ("instances", "cores", "ram", "security_groups")
BY_PROJECT = ("floating_ips", "fixed_ips", "networks")


def make(server):
    """Both databases, empty."""
    for name, user in DATABASES.items():
        server.load(
            f"CREATE DATABASE {name} CHARACTER SET utf8 COLLATE utf8_general_ci; USE {name};" + SCHEMA.format(user=user)
        )


@contextlib.contextmanager
def task_on(server):
    """A task on a host whose connection is the scratch server.

    Without TLS, which the server does not have: PyMySQL reads all the certificates of the machine for each connection.
    """
    mysql = Mysql("scratch", "root", "", "127.0.0.1", server.port)
    host = SimpleNamespace(
        name="top-infra01",
        get_connection=lambda _plugin, _config: mysql,
        get_connection_parameters=lambda _plugin: SimpleNamespace(extras={"via": "direct"}),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pymysql.connections, "SSL_ENABLED", False)
        yield SimpleNamespace(host=host, nornir=SimpleNamespace(config=None), mysql=mysql)
    mysql.close()


def clean(task, database):
    with task.mysql.transaction(database) as cursor:
        for table in TABLES:
            cursor.execute(f"DELETE FROM {table}")  # noqa: S608 - names of this file


def fill(task, database, content):
    """Insert rows: a dict of table to a list of dicts."""
    with task.mysql.transaction(database) as cursor:
        for table, rows in content.items():
            userless = database == "grizzly" and table in ("quota_usages", "reservations")
            for row in rows:
                columns = [column for column in row if column != "user_id" or not userless]
                marks = ", ".join(["%s"] * len(columns))
                names = ", ".join(columns)
                sql = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 - names of this file
                cursor.execute(sql, tuple(row[column] for column in columns))


def everything(task, database):
    return {
        "quota_usages": task.mysql.query("SELECT * FROM quota_usages ORDER BY id", database=database),
        "reservations": task.mysql.query("SELECT * FROM reservations ORDER BY id", database=database),
    }


def undone(task, database, text):
    """Carry an undo script out, statement by statement: quicker than a client for each random database."""
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    with task.mysql.transaction(database) as transaction:
        for statement in "\n".join(lines).split(";\n"):
            if statement.startswith(("UPDATE", "DELETE")):
                assert transaction.execute(statement) > 0


def check(task, database, **how):
    """Facts, the table, and its rows as the repair wants them."""
    facts = read(task, database=database, **how).result
    frames = [pd.DataFrame(facts[name]) for name in ("usages", "actual", "reservations")]
    rules = quotas.Rules.of(facts)
    return (
        facts,
        quotas.of_facts(facts),
        quotas.records(*frames, per_user=facts["per_user"], rules=rules),
    )


def instance(number, user="u1", project="p1", vcpus=2, memory_mb=512, deleted=0, **more):
    return {
        "uuid": f"i-{number}",
        "user_id": user,
        "project_id": project,
        "vcpus": vcpus,
        "memory_mb": memory_mb,
        "deleted": deleted,
        **more,
    }


def usage(number, resource, in_use, user="u1", project="p1", reserved=0, deleted=0, **more):
    return {
        "id": number,
        "project_id": project,
        "user_id": user,
        "resource": resource,
        "in_use": in_use,
        "reserved": reserved,
        "deleted": deleted,
        **more,
    }


def reservation(number, usage_id, delta, deleted=0, **more):
    return {
        "id": number,
        "uuid": f"r-{number}",
        "usage_id": usage_id,
        "delta": delta,
        "deleted": deleted,
        **more,
    }
