"""A whole stage, and an audit, of a lab that the operator's machine does not reach: all of it through workers."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import reach
from tests.support.labs import TestLab, lab_up

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

CELLS = ("top", "cell01", "cell02")
OPERATOR = "cellstep-reach-op"
SCHEDULER, THERE = "10.99.7.1", "10.99.7.2"


def ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestLab]:
    """The lab, with the operator's own folder of its cloud: of the lab's hosts no address leads anywhere from there."""
    at = tmp_path_factory.mktemp("reach")
    tls = reach.authority(at / "tls", "operator", "worker")
    with lab_up("reach", 2, 1, ("ceilometer",)) as lab:
        there = f"cellstep-{lab.name}"
        ip("netns", "delete", OPERATOR, check=False)
        ip("netns", "add", OPERATOR)
        try:
            ip("-n", OPERATOR, "link", "set", "lo", "up")
            ip("-n", OPERATOR, "link", "add", "op", "type", "veth", "peer", "name", "reach", "netns", there)
            for name, device, address in ((OPERATOR, "op", SCHEDULER), (there, "reach", THERE)):
                ip("-n", name, "address", "add", f"{address}/30", "dev", device)
                ip("-n", name, "link", "set", device, "up")
            worker = folder(lab.cloud, at / "worker", tls)
            operator = folder(lab.cloud, at / "operator", tls, network_namespace=OPERATOR, key="/nowhere/key")
            with reach.site(at, {"": ("ip", "netns", "exec", OPERATOR)}) as site:
                site.scheduler(operator)
                for cell in CELLS:
                    site.worker(worker, cell)
                yield replace(lab, cloud=operator)
        finally:
            ip("netns", "delete", OPERATOR, check=False)


def folder(of: Path, at: Path, tls: Path, network_namespace: str = "", key: str = "") -> Path:
    """A copy of the cloud's folder, for the worker's machine or the operator's."""
    shutil.copytree(of, at, ignore=shutil.ignore_patterns("state", "out"))
    way = {"scheduler": f"{SCHEDULER}:8786", "cells": [*CELLS], "ca": f"{tls}/ca.pem", "lost_after_s": 20}
    way |= {part: f"{tls}/{at.name}.{end}" for part, end in (("certificate", "pem"), ("key", "key"))}
    said = {"reach": json.dumps(way), "samples_s": "25"}
    said |= {"network_namespace": network_namespace} if network_namespace else {}
    lines = []
    for line in (at / "cloud.yaml").read_text(encoding="utf-8").splitlines():
        name = line.strip().partition(":")[0]
        value = key if key and line.startswith("  key: ") else said.get(name)
        lines.append(line if value is None else f"{line[: len(line) - len(line.lstrip())]}{name}: {value}")
    (at / "cloud.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return at


def test_the_operator_reaches_no_host(behind: TestLab):
    address = behind.spec.host("c01-n01").address
    route = ["ip", "-n", OPERATOR, "route", "get", str(address)]
    done = subprocess.run(route, check=False, capture_output=True, text=True, timeout=30)
    assert "unreachable" in done.stderr


def test_a_stage_runs_through_workers(behind: TestLab):
    said = behind.cellstep("run", "ceilometer", "--yes")
    assert "done, and compliant" in said
    steps = behind.table("hosts", stage="ceilometer")
    assert set(steps["state"]) == {"ok", "changed"}
    assert set(steps["cell"]) == {*CELLS}


def test_an_audit_asks_nodes_and_databases_through_workers(behind: TestLab):
    behind.on("c01-n01", "touch /etc/ceilometer/ceilometer.conf.rpmsave")
    found = json.loads(behind.cellstep("audit", "--json", expect=None).partition("\ncellstep: ")[0])
    assert found["unreachable"] == {}
    aside = [row for row in found["tables"]["condition"] if row["status"] == "set aside" and row["host"] == "c01-n01"]
    assert "ceilometer.conf.rpmsave" in str(aside)
    assert {row["status"] for row in found["tables"]["schemas"]} == {"ok"}
    assert {row["status"] for row in found["tables"]["rpms"]} == {"ok"}
