"""Keystone's database at scale, on a scratch MariaDB: a purge of tokens, and EC2 keys kept in step.

python bench/keystone.py [--tokens 300000] [--keys 20000]

While the purge runs, another session makes tokens and reads them, as keystone does: how long its slowest statement took
is what users would have noticed.
"""

import argparse
import contextlib
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tasks.keystone.ec2 import bring_in_step, look
from tasks.keystone.tokens import Tally, count, purge
from tests.support import keystonedb, mariadb

TOKENS = """
INSERT INTO token SELECT MD5(seq), IF(seq % 10, '2013-10-17', '2099-01-01'), REPEAT('x', 600), 1, NULL, MD5(seq % 999)
FROM seq_{}_to_{}"""
OLD = "INSERT INTO ec2_credential SELECT MD5(seq), MD5(seq + 1), MD5(seq % 99), 'p' FROM seq_0_to_{}_step_2"
NEW = """
INSERT INTO credential SELECT SHA2(MD5(seq), 256), MD5(seq % 99), 'p',
CONCAT('{{"access": "', MD5(seq), '", "secret": "', MD5(seq + 1), '"}}'), 'ec2', '{{}}' FROM seq_1_to_{}_step_2"""


def fill(server: mariadb.Server, tokens: int, keys: int) -> None:
    """Nine tokens of ten have expired; each table has every second key."""
    for first in range(0, tokens, 50_000):
        server.execute(TOKENS.format(first, min(first + 50_000, tokens) - 1), database="keystone")
    for sql in (OLD, NEW):
        server.execute(sql.format(keys), database="keystone")


def users(server: mariadb.Server, over: threading.Event, slowest: list[float]) -> None:
    """Make and read tokens until it is over."""
    n = 0
    with contextlib.closing(server.connect("keystone")) as connection, connection.cursor() as cursor:
        while not over.wait(0.01):
            began = time.monotonic()
            cursor.execute("INSERT INTO token VALUES (MD5(UUID()), '2099-01-01', '{}', 1, NULL, 'u')")
            cursor.execute("SELECT * FROM token WHERE id = MD5(%s)", (10 * n,))
            cursor.execute("UPDATE token SET valid = 0 WHERE id = MD5(%s)", (10 * n,))
            slowest.append(time.monotonic() - began)
            n += 1


def main() -> None:
    """Print what each took."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--tokens", type=int, default=300_000)
    arguments.add_argument("--keys", type=int, default=20_000)
    asked = arguments.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        mariadb.running(Path(folder), "--innodb-buffer-pool-size=128M") as server,
    ):
        keystonedb.make(server)
        fill(server, asked.tokens, asked.keys)
        task = keystonedb.task(server)
        never, tally = threading.Event(), Tally()

        def timed(what: str, call: object, **options: object) -> None:
            began = time.monotonic()
            call(task, database="keystone", **options)  # type: ignore[operator] # a task
            print(f"{what}: {time.monotonic() - began:.1f} s")

        timed(f"look at {asked.keys:,} EC2 keys", look)
        timed("copy all of them", bring_in_step)
        timed("look again", look)
        timed(f"count {asked.tokens:,} tokens", count, tally=tally, stopping=never)
        print(f"  {tally.expired:,} expired")
        over, slowest, done = threading.Event(), [0.0], Tally()
        beside = threading.Thread(target=users, args=(server, over, slowest))
        beside.start()
        timed("purge them, 1,000 at a time", purge, tally=done, stopping=never, pause_s=0)
        over.set()
        beside.join()
        print(
            f"  {done.deleted:,} deleted; beside it {len(slowest):,} tokens made, the slowest in {max(slowest):.2f} s"
        )
        task.mysql.close()


if __name__ == "__main__":
    main()
