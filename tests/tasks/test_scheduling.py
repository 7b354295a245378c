"""Quarantined compute nodes in the services table, against a real MariaDB with Grizzly's and Havana's table."""

import pytest

from plugins.connections.mysql import Mysql
from tasks import scheduling
from tasks.binding import Binding, bind
from tasks.errors import Fenced
from tests.support.scripted import Scripted, task_on, told

pytestmark = pytest.mark.mariadb

TABLE = """CREATE TABLE services (id int NOT NULL AUTO_INCREMENT PRIMARY KEY, host varchar(255), `binary` varchar(255),
  disabled tinyint(1), deleted int{reason})"""
REASON = {"grizzly": "", "havana": ", disabled_reason varchar(255)"}


class Server(Mysql):
    """The scratch server, as a node's connection."""

    opened = 0


@pytest.fixture(params=sorted(REASON))
def database(request, server):
    mysql = Server("scratch", "root", "", "127.0.0.1", server.port)
    with mysql.transaction(request.param) as transaction:
        transaction.execute("DROP TABLE IF EXISTS services")
        transaction.execute(TABLE.format(reason=REASON[request.param]))
        for host, binary, disabled, deleted in [
            ("c01-n01.example.org", "nova-compute", 0, 0),
            ("c01-n02", "nova-compute", 1, 0),
            ("c01-n03", "nova-compute", 0, 3),
            ("c01-n01", "nova-network", 0, 0),
        ]:
            columns = "INSERT INTO services (host, `binary`, disabled, deleted) VALUES (%s, %s, %s, %s)"
            transaction.execute(columns, (host, binary, disabled, deleted))
    yield request.param, mysql
    mysql.close()


def disabled(database) -> list[str]:
    name, mysql = database
    rows = mysql.query("SELECT * FROM services WHERE disabled ORDER BY id", database=name)
    return [f"{row['host']} {row['binary']}: {row.get('disabled_reason')}" for row in rows]


def call(database, task, **arguments):
    name, mysql = database
    return task(task_on(Scripted({}), database=mysql), database=name, **arguments)


def test_what_stands_in_the_table_is_told_of_live_rows_alone(database):
    hosts = ["c01-n01", "c01-n02", "c01-n03", "c01-n04"]
    assert call(database, scheduling.standing, hosts=hosts).result == {"c01-n01": False, "c01-n02": True}


def test_a_node_is_disabled_with_the_reason_where_there_is_a_column_and_enabled_again(database):
    why = {"c01-n01": "missed “Update”", "c01-n03": "gone"}
    assert told(call(database, scheduling.settle, disable=why, enable=[])) == "changed: disabled c01-n01"
    reason = "None" if database[0] == "grizzly" else 'cellstep: missed "Update"'
    assert disabled(database)[0] == f"c01-n01.example.org nova-compute: {reason}"
    assert told(call(database, scheduling.settle, disable=why, enable=[])).startswith("skipped")
    assert told(call(database, scheduling.settle, disable={}, enable=["c01-n01"])) == "changed: enabled c01-n01"
    assert disabled(database) == ["c01-n02 nova-compute: None"]


def test_a_dry_run_changes_nothing(database):
    name, mysql = database
    task = task_on(Scripted({}), dry_run=True, database=mysql)
    assert told(scheduling.settle(task, database=name, disable={"c01-n01": "why"}, enable=[])).startswith("changed")
    assert len(disabled(database)) == 1


def test_who_was_taken_over_from_commits_nothing(database):
    name, mysql = database
    task = task_on(Scripted({}), database=mysql)

    def fenced():
        raise Fenced("taken over")

    bind(task, Binding("run", "step", still_ours=fenced))
    with pytest.raises(Fenced):
        scheduling.settle(task, database=name, disable={"c01-n01": "why"}, enable=[])
    assert len(disabled(database)) == 1


def test_one_that_somebody_disabled_since_with_a_reason_stays_so(database):
    name, mysql = database
    if name == "grizzly":
        pytest.skip("there is no column for a reason: nobody can tell")
    with mysql.transaction(name) as transaction:
        transaction.execute("UPDATE services SET disabled=1, disabled_reason='bad disk' WHERE id=1")
    assert told(call(database, scheduling.settle, disable={}, enable=["c01-n01"])).startswith("skipped")
