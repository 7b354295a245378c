"""How long the tables take for 10,000 hosts with 20 packages each.

python bench/tables.py [HOSTS] [PACKAGES]
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pandas as pd

from reports.story import Place, Story
from reports.tables import hosts, rpms, services
from reports.writers import write_csv, write_html, write_xlsx

T = TypeVar("T")


def measured(what: str, work: Callable[[], T]) -> T:
    """Call work, and print how long it took."""
    start = time.perf_counter()
    result = work()
    print(f"{what:<42} {time.perf_counter() - start:6.2f} s")
    return result


def main(number: int, packages: int) -> None:
    """Make facts of a cloud with so many hosts, 200 in a cell, one in fifty on old packages."""
    names = [
        (f"cell{index // 200 + 1:02d}", f"c{index // 200 + 1:02d}-n{index % 200 + 1:03d}") for index in range(number)
    ]
    expected = pd.DataFrame(
        [
            (cell, host, "compute", f"openstack-part-{part:02d}", "2013.2.1-1.el6")
            for cell, host in names
            for part in range(packages)
        ],
        columns=["cell", "host", "role", "package", "expected"],
    )
    installed = expected[["host", "package"]].assign(installed="2013.2.1-1.el6")
    installed.loc[installed.index % 50 == 0, "installed"] = "2013.1.4-1.el6"
    wanted = pd.DataFrame(
        [(cell, host, "openstack-nova-compute", "running", "nova-compute") for cell, host in names],
        columns=["cell", "host", "service", "expected", "binary"],
    )
    actual = wanted[["host", "service"]].assign(actual="running", boot="on")
    beats = wanted[["cell", "host", "binary"]].assign(age_s=range(number))
    steps = [
        {"step": f"step {step}", "cell": cell, "host": host, "state": "ok", "attempts": 1, "started_at": 1391400000}
        for step in range(packages)
        for cell, host in names
    ]
    silent = {host for _, host in names[::100]}
    print(f"{number:,} hosts, {packages} packages and {packages} steps each")
    tables = {
        "rpms": measured("rpms", lambda: rpms.table(expected, installed, silent)),
        "services": measured("services", lambda: services.table(wanted, actual, beats, silent, 60)),
        "hosts": measured("hosts", lambda: hosts.table(steps)),
    }
    with tempfile.TemporaryDirectory() as directory:
        measured("CSV files", lambda: write_csv(tables, Path(directory)))
        told = Story("Bench", nodes=tuple(Place(host, cell, "") for cell, host in names))
        measured("page", lambda: write_html(tables, Path(directory) / "nova.html", told))
        measured("workbook", lambda: write_xlsx(tables, Path(directory) / "nova.xlsx", told))
    print(f"{'most memory':<42} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:6.0f} MiB")


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:3]]
    main(*(given + [10_000, 20][len(given) :]))
