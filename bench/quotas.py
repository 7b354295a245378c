"""Quotas at scale on a scratch MariaDB: check, repair and undo after the loss of migration 216.

python bench/quotas.py [INSTANCES] [PROJECTS]      # 1,000,000 in 50,000, each with two users

The cache has lost all its rows by user, as the faulty migration leaves it; a second round repairs wrong values in a
tenth of the rows. Ends with 1 where a check takes 30 s or a repair 60 s, or anything is left to repair after one.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from plugins.connections.mysql import Mysql
from reports.tables import findings
from reports.tables import quotas as table
from tasks import quotas
from tests.support import mariadb, novadb

T = TypeVar("T")
CHECK_S, REPAIR_S = 30.0, 60.0
INSTANCES = """
INSERT INTO instances (created_at, user_id, project_id, vm_state, memory_mb, vcpus, uuid, deleted)
SELECT UTC_TIMESTAMP(), CONCAT('user-', MD5(seq % {projects}), IF(seq % 3, 'a', 'b')), MD5(seq % {projects}), 'active',
2048, 2, CONCAT(MD5(seq), seq % 10), IF(seq % 20, 0, seq) FROM seq_{first}_to_{last}"""
GROUPS = """
INSERT INTO security_groups (name, user_id, project_id, deleted)
SELECT 'default', CONCAT('user-', MD5(seq), 'a'), MD5(seq), 0 FROM seq_0_to_{last}"""
INDEXES = """
CREATE INDEX ix_quota_usages_project_id ON quota_usages (project_id);
CREATE INDEX ix_quota_usages_user_id_deleted ON quota_usages (user_id, deleted);
CREATE INDEX instances_project_id_deleted_idx ON instances (project_id, deleted);
"""


def measured(what: str, work: Callable[[], T]) -> tuple[T, float]:
    """Call work, print how long it took, and give that in seconds."""
    began = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - began
    print(f"  {what:<46} {seconds:6.1f} s", flush=True)
    return result, seconds


def fill(server: mariadb.Server, instances: int, projects: int) -> None:
    """Nova's tables at Havana's schema, the cache without a row."""
    server.load(
        "CREATE DATABASE nova CHARACTER SET utf8 COLLATE utf8_general_ci; USE nova;"
        + novadb.SCHEMA.format(user=novadb.DATABASES["havana"])
        + INDEXES
    )
    for first in range(0, instances, 100_000):
        last = min(first + 100_000, instances) - 1
        server.execute(INSTANCES.format(projects=projects, first=first, last=last), database="nova")
    server.execute(GROUPS.format(last=projects - 1), database="nova")


def round_trip(task: Any, folder: Path) -> bool:
    """Check, repair, check again; whether all was quick enough, and nothing is left."""
    facts, reading = measured("read and counted", lambda: quotas.read(task).result)
    frame, comparing = measured("compared: the table", lambda: table.of_facts(facts))
    print(f"    {len(frame):,} rows, {len(findings('quotas', frame)):,} not as they should be")
    repair, planning = measured("planned", lambda: quotas.plan_repair(table.odd_records(facts), facts))
    undo: list[str] = []
    done, writing = measured("written", lambda: quotas.apply(task, repair=repair, keep_undo=undo.append))
    print(f"    {done.result['executed']:,} rows; undo of {len(undo[0]) / 1e6:.1f} MB")
    after = quotas.read(task).result
    left = quotas.plan_repair(table.odd_records(after), after).changes
    (folder / "undo.sql").write_text(undo[0], encoding="utf-8")
    print(f"    {len(left)} left to repair")
    return reading + comparing < CHECK_S and reading + planning + writing < REPAIR_S and not left


def main(instances: int, projects: int) -> int:
    """Print what each took; the exit code."""
    with tempfile.TemporaryDirectory() as name, mariadb.running(Path(name), "--innodb-buffer-pool-size=512M") as server:
        print(f"{instances:,} instances in {projects:,} projects")
        measured("(the database filled)", lambda: fill(server, instances, projects))
        mysql = Mysql("scratch", "root", "", "127.0.0.1", server.port)
        host = SimpleNamespace(
            name="scratch",
            get_connection=lambda _plugin, _config: mysql,
            get_connection_parameters=lambda _plugin: SimpleNamespace(extras={"via": "direct"}),
        )
        task = SimpleNamespace(host=host, nornir=SimpleNamespace(config=None))
        print("after the loss")
        good = round_trip(task, Path(name))
        before = server.execute("CHECKSUM TABLE quota_usages", database="nova")[0]["Checksum"]
        server.execute("UPDATE quota_usages SET in_use = in_use + 1 WHERE id % 10 = 0", database="nova")
        wrong = server.execute("CHECKSUM TABLE quota_usages", database="nova")[0]["Checksum"]
        print("a tenth of the rows wrong")
        good = round_trip(task, Path(name)) and good
        measured("undone", lambda: server.load((Path(name) / "undo.sql").read_text(), database="nova"))
        now = server.execute("CHECKSUM TABLE quota_usages", database="nova")[0]["Checksum"]
        print(f"  undone it is exactly as it was: {'yes' if now == wrong != before else 'no'}")
        mysql.close()
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB at most")
    return 0 if good and now == wrong else 1


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:3]]
    sys.exit(main(*(given + [1_000_000, 50_000][len(given) :])))
