"""A fleet of any size with planted deviations, for tests of reports."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pandas as pd

from plugins.inventory.ranges import fold
from reports.story import Bar, Change, Changes, Place, Story, Trend
from reports.tables import darktime, hosts, rpms, services
from tests.support.facts import have, package, service, state

PACKAGES = ("openstack-nova-common", "openstack-nova-compute", "python-nova", "python-novaclient")
NEW, OLD = "2013.2.1-1.el6", "2013.1.4-1.el6"
BEGAN = datetime(2026, 1, 31, 1, 0, tzinfo=UTC)


def places(number: int, per_cell: int = 100) -> tuple[Place, ...]:
    """So many compute nodes in cells, and two controllers on top."""
    top = tuple(Place(f"top-api{n:02d}", "top", "geneva") for n in (1, 2))
    nodes = tuple(
        Place(f"c{n // per_cell + 1:02d}-n{n % per_cell + 1:03d}", f"cell{n // per_cell + 1:02d}", "budapest")
        for n in range(number)
    )
    return top + nodes


def tables(nodes: tuple[Place, ...], old: set[str], stopped: set[str], silent: set[str]) -> dict[str, pd.DataFrame]:
    """The tables of an upgrade that left these nodes on old RPMs, with a stopped service, or gave no answer of them."""
    expected = [
        {**package(node.name), "cell": node.cell, "package": name, "expected": NEW}
        for node in nodes
        for name in PACKAGES
    ]
    installed = [
        {**have(node.name), "package": name, "installed": OLD if node.name in old else NEW}
        for node in nodes
        for name in PACKAGES
    ]
    wanted = [{**service(node.name), "cell": node.cell, "binary": ""} for node in nodes]
    actual = [{**state(node.name), "actual": "stopped" if node.name in stopped else "running"} for node in nodes]
    rows = [
        {
            "step": f"Step {step}",
            "cell": node.cell,
            "host": node.name,
            "state": "ok",
            "attempts": 1,
            "started_at": BEGAN.isoformat(),
            "finished_at": BEGAN.isoformat(),
            "detail": "",
        }
        for step in (1, 2)
        for node in nodes
    ]
    began = BEGAN.timestamp()
    dark = {"api": "nova", "url": "http://nova:8774/", "began": began, "ended": began + 900, "whole": True}
    return {
        "rpms": rpms.table(pd.DataFrame(expected), pd.DataFrame(installed), silent),
        "services": services.table(
            pd.DataFrame(wanted),
            pd.DataFrame(actual),
            pd.DataFrame(columns=["cell", "host", "binary", "age_s"]),
            silent,
            60,
        ),
        "hosts": hosts.table(rows),
        "darktime": darktime.table([{**dark, "spans": [{"began": began + 60, "ended": began + 360, "status": 503}]}]),
    }


def story(nodes: tuple[Place, ...], silent: Mapping[str, str]) -> Story:
    """A run of two steps, with something new since an audit, and audits before it."""
    steps = (
        Bar("Stop Puppet running on all nodes", _at(0), _at(300), "done"),
        Bar("Update the RPMs <on> all nodes", _at(300), _at(900), "done", "2 nodes left out"),
    )
    changes = Changes(
        "the audit of 2026-01-30", (Change("worse", "rpms", "c01-n001", "came back on old RPMs: python-nova 1", "bad"),)
    )
    trend = tuple(Trend(f"2026-01-{day:02d}T02:00:00Z", {"good": 90 - day, "bad": day}) for day in range(1, 30))
    facts = {"cloud": "lab", "run": "20260131-010000", "went on past": "=1+1"}
    return Story("Nova, Grizzly to Havana: lab", facts, nodes, dict(silent), steps, changes, trend, fold)


def _at(seconds: float) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat()
