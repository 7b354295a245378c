"""How long a cloud of 10,000 hosts takes to load, Nornir's hosts and connection options included.

    python bench/inventory_load.py

Prints the best of five loads and ends with 1 if that is half a second or more. What is imported once for the whole
process (pydantic, Nornir, paramiko) is not counted.
"""

import sys
import tempfile
import time
from pathlib import Path

from nornir.plugins.runners import SerialRunner

from cellstep.cloud.load import load_cloud

HOSTS = 10_000
LIMIT_S = 0.5
CLOUD = """\
name: bench
release: grizzly-havana
repository: {name: havana, promote: {on: top-ctl01, command: "true"}}
"""


def write_cloud(directory: Path) -> None:
    """50 cells of 200 nodes each, less the few of the top cell, as ranges."""
    lines = ["top: {data_centre: geneva, roles: {controller: 'top-ctl[01-10]'}}", "cells:"]
    for cell in range(1, 51):
        computes = 198 if cell > 40 else 199
        lines.append(f"  cell{cell:02}:")
        lines.append(f"    data_centre: {'geneva' if cell % 2 else 'budapest'}")
        lines.append(f"    roles: {{controller: c{cell:02}-ctl01, compute: 'c{cell:02}-n[001-{computes:03}]'}}")
    (directory / "inventory.yaml").write_text("\n".join(lines), encoding="utf-8")
    (directory / "cloud.yaml").write_text(CLOUD, encoding="utf-8")


def measure(directory: Path) -> float:
    """Seconds for one load."""
    start = time.perf_counter()
    nornir = load_cloud(directory).nornir(SerialRunner())
    seconds = time.perf_counter() - start
    if len(nornir.inventory.hosts) != HOSTS:
        sys.exit(f"{len(nornir.inventory.hosts)} hosts in place of {HOSTS}")
    return seconds


def main() -> int:
    """Measure, print, and say by the exit code whether it was fast enough."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_cloud(directory)
        measure(directory)  # imports and caches
        times = [measure(directory) for _ in range(5)]
    best = min(times)
    print(
        f"inventory_load: {HOSTS:,} hosts in {best:.3f} s (limit {LIMIT_S} s; five loads, {max(times):.3f} s at most)"
    )
    return 0 if best < LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
