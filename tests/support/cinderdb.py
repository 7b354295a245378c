"""Cinder's tables that count for quotas, as Grizzly and as Havana has them."""

from tests.support.novadb import STAMPS, TEXT

KEY = f"{STAMPS}, deleted tinyint(1), id int NOT NULL AUTO_INCREMENT PRIMARY KEY"
UUID = f"{STAMPS}, deleted tinyint(1), id varchar(36) NOT NULL PRIMARY KEY"
# `{more}` is Havana's.
SCHEMA = f"""
CREATE TABLE volume_types ({UUID}, name {TEXT});
CREATE TABLE volumes ({UUID}, project_id {TEXT}, size int, status {TEXT}, volume_type_id varchar(36));
CREATE TABLE snapshots ({UUID}, volume_id varchar(36) NOT NULL, project_id {TEXT}, status {TEXT}, volume_size int
  {{more}}, FOREIGN KEY (volume_id) REFERENCES volumes (id));
CREATE TABLE quota_usages ({KEY}, project_id {TEXT}, resource {TEXT}, in_use int NOT NULL, reserved int NOT NULL,
  until_refresh int, KEY ix_quota_usages_project_id (project_id), CHECK (deleted IN (0, 1)));
CREATE TABLE reservations ({KEY}, uuid varchar(36) NOT NULL, usage_id int NOT NULL, project_id {TEXT},
  resource {TEXT}, delta int NOT NULL, expire datetime, FOREIGN KEY (usage_id) REFERENCES quota_usages (id),
  CHECK (deleted IN (0, 1)));
"""
DATABASES = {"cinder_h": ", volume_type_id varchar(36)", "cinder_g": ""}
TABLES = ("reservations", "quota_usages", "snapshots", "volumes", "volume_types")


def make(server):
    """Both databases, empty."""
    for name, more in DATABASES.items():
        server.load(
            f"DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name} CHARACTER SET utf8 COLLATE utf8_general_ci;"
            f" USE {name};" + SCHEMA.format(more=more)
        )


def fill(task, database, content):
    """Empty the tables, then insert rows: a dict of table to a list of dicts."""
    with task.mysql.transaction(database) as cursor:
        for table in TABLES:
            cursor.execute(f"DELETE FROM {table}")  # noqa: S608 - names of this file
        for table in reversed(TABLES):
            for row in content.get(table, ()):
                marks, names = ", ".join(["%s"] * len(row)), ", ".join(row)
                sql = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 - names of this file
                cursor.execute(sql, tuple(row.values()))


def volume_type(name, deleted=0):
    return {"id": f"t-{name}", "name": name, "deleted": deleted}


def volume(number, project="p1", size=1, kind=None, deleted=0):
    return {
        "id": f"v-{number}",
        "project_id": project,
        "size": size,
        "volume_type_id": kind and f"t-{kind}",
        "deleted": deleted,
    }


def snapshot(number, of, project="p1", size=1, deleted=0):
    row = {"id": f"s-{number}", "volume_id": f"v-{of}", "project_id": project, "volume_size": size}
    return {**row, "deleted": deleted}


def usage(number, resource, in_use, project="p1", reserved=0, deleted=0, **more):
    row = {"id": number, "project_id": project, "resource": resource, "in_use": in_use, "reserved": reserved}
    return {**row, "deleted": deleted, **more}
