"""A lab for tests: brought up once a module, its cloud's folder, and cellstep as its users call it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lab import control
from lab.check import check_machine
from lab.faults import clear, place
from lab.handle import ssh_command
from lab.progress import Progress
from lab.spec import LabSpec
from lab.state import LabFolder
from tests.support.snapshot import Snapshot, take

CELLSTEP = [sys.executable, "-P", "-m", "cellstep"]


@dataclass(frozen=True)
class TestLab:
    """A lab that is up."""

    __test__ = False  # pytest: not a test class

    name: str
    cloud: Path

    def cellstep(self, *arguments: str, expect: int | None = 0, timeout: float = 600) -> str:
        """Call the command on this lab's cloud; fails unless it ends with the exit code. Returns all it printed."""
        done = subprocess.run(
            [*CELLSTEP, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={
                "CELLSTEP_CLOUD": str(self.cloud),
                "CELLSTEP_LAB": self.name,
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "PYTHONPATH": os.environ.get("PYTHONPATH", ""),  # the tree that is tried, where it is not installed
            },
            stdin=subprocess.DEVNULL,
        )
        said = done.stdout + done.stderr
        assert expect is None or done.returncode == expect, f"exit {done.returncode}, not {expect}:\n{said}"
        return said

    def on(self, host: str, script: str, expect: int | None = 0) -> str:
        """Run a script on a host of the lab, as `cellstep lab exec` does. Returns all it printed."""
        done = subprocess.run(
            [*ssh_command(self.spec, LabFolder(self.name).path), host, script],
            check=False,
            capture_output=True,
            text=True,
            timeout=600,
            stdin=subprocess.DEVNULL,
        )
        said = done.stdout + done.stderr
        assert expect is None or done.returncode == expect, f"{host}: exit {done.returncode}, not {expect}:\n{said}"
        return said

    @cached_property
    def spec(self) -> LabSpec:
        """Its hosts."""
        return LabFolder(self.name).complete().spec

    def fault(self, host: str, kind: str, amount: int | None = None) -> None:
        """Give a host a fault."""
        place(control.machine(self.name, host), kind, amount)

    def clear(self, host: str) -> None:
        """Undo every fault of a host; it is up afterwards."""
        clear(control.machine(self.name, host))

    def snapshot(self, *hosts: str) -> Snapshot:
        """What an upgrade leaves on these hosts, or on all: see `tests.support.snapshot.take` and `differences`."""
        return take(self.spec, hosts)

    def sql(self, host: str, statement: str) -> str:
        """Run SQL on a database host, as root by its socket."""
        return self.on(host, f"mysql -N -B -e {json.dumps(statement)}").strip()

    def table(self, name: str, folder: str = "latest", stage: str = "nova") -> pd.DataFrame:
        """A table as it was written."""
        return pd.read_csv(self.cloud / "out" / folder / stage / f"{name}.csv", keep_default_na=False)

    def verify(self, *arguments: str, expect: int, stage: str = "nova") -> dict[str, Any]:
        """`cellstep verify STAGE --json`."""
        said: dict[str, Any] = json.loads(self.cellstep("verify", stage, "--json", *arguments, expect=expect))
        return said


@contextmanager
def lab_up(name: str, cells: int, computes: int, components: tuple[str, ...] = ()) -> Iterator[TestLab]:
    """Bring a lab up for a module of tests, with these components beside nova, and take it down afterwards."""
    missing = check_machine()
    if missing:
        pytest.skip(f"no lab here: {missing[0]}")
    quiet = Progress(quiet=True)
    control.down(name, quiet)  # what a killed run of the tests left is not as new
    try:
        yield TestLab(name, control.up(LabSpec(name, cells, computes, components), None, quiet))
    finally:
        control.down(name, quiet)
