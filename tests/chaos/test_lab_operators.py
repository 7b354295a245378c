"""Two operators, a frozen one, a full disk, nodes that miss the upgrade, and what others had switched off before.

One lab, one upgrade, one story: each test goes on where the one before it stopped.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellstep.engine.store import now
from tasks.binding import Binding
from tasks.jobs import job_id
from tests.chaos.side_by_side import say
from tests.support.controllers import Books, controller
from tests.support.labs import TestLab, lab_up
from tests.support.secrecy import search_lab
from tests.support.snapshot import differences
from tests.support.undisturbed import NAME, at_rest, settle, slow, transactions

pytestmark = pytest.mark.lab

TOP, OTHER_TOP, DATABASE, CELL = "top-api01", "top-api02", "top-infra01", "c01-ctl01"
WITH_ALICE, OFF, OFF_AND_DISABLED = "c01-n01", "c01-n02", "c01-n03"
UNREACHABLE = {OFF, OFF_AND_DISABLED}
ALICE = "alice looks into a kernel panic"
HAVANA = "[havana]\nname=OpenStack havana\nbaseurl=http://127.0.0.1:8081/havana\nenabled=1\ngpgcheck=0\n"
DOWNLOAD = "Download the packages to every node beforehand"
UPDATE = "Update all the Nova RPMs and the kernel on top controllers"
COMPUTE_UPDATE = "Update the RPMs on the compute nodes"
DISABLE = "update nova.services set disabled=1 where host='c01-n03' and services.binary='nova-compute'"
SERVICES = "select host, disabled from nova.services where services.binary='nova-compute' and deleted=0 order by host"


@pytest.fixture(scope="module")
def lab() -> Iterator[TestLab]:
    with lab_up(NAME, 1, 3) as up:
        state = up.cloud / "state"
        state.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", state], check=True)
        try:
            switch_off_before(up)
            yield up
        finally:
            subprocess.run(["umount", "--lazy", state], check=True)


def switch_off_before(lab: TestLab) -> None:
    """What others did before us: it is to stay as it is."""
    lab.on(OTHER_TOP, "chkconfig openstack-nova-novncproxy off")
    lab.on(WITH_ALICE, f"printf '{HAVANA}' > /etc/yum.repos.d/havana.repo; puppet agent --disable '{ALICE}'")
    lab.on(DATABASE, maintain(OTHER_TOP))
    lab.sql(CELL, DISABLE)
    assert still_off(lab) == ["running off", f"disabled: {ALICE}", "MAINT"]


def maintain(server: str) -> str:
    return f"exec 3<>/dev/tcp/127.0.0.1/9999; echo 'set server nova-api/{server} state maint' >&3; cat <&3"


def still_off(lab: TestLab) -> list[str]:
    """How that stands now."""
    hosts = lab.snapshot(OTHER_TOP, WITH_ALICE, DATABASE)
    return [
        hosts[OTHER_TOP]["services"]["openstack-nova-novncproxy"],
        hosts[WITH_ALICE]["puppet"],
        hosts[DATABASE]["haproxy"][f"nova-api/{OTHER_TOP}"],
    ]


@pytest.fixture(scope="module")
def books(lab: TestLab) -> Books:
    return Books(lab)


def scheduled(lab: TestLab) -> dict[str, str]:
    """Per compute node whether its nova-compute is disabled."""
    return dict(line.split() for line in lab.sql(CELL, SERVICES).splitlines())


def test_a_second_operator_is_refused_and_a_full_disk_stops_the_first(lab: TestLab, books: Books) -> None:
    with controller(lab, "run", "nova", "--yes") as first:
        first.until(lambda: bool(books.nodes("Save a list of all guests")), "the first steps")
        for command in (("run", "nova", "--yes"), ("resume", "--yes")):
            said = lab.cellstep(*command, expect=5)
            assert f"in use: run nova by root on {Path('/etc/hostname').read_text().strip()}, pid {first.pid}" in said
        say(f"refused beside a run: {said.strip()}")
        first.until(lambda: bool(books.under_way(DOWNLOAD)), "the download")
        fill(lab.cloud / "state")
        first.wait(expect=4)
    assert re.search(r"journal .*cannot be used: .*(full|space|disk)", first.said), first.said[-2000:]
    say(f"disk full: {first.said.strip().splitlines()[-1]}")
    assert "is full" in lab.cellstep("resume", "--yes", expect=4)
    nothing_was_sent_unseen(lab, books)
    (lab.cloud / "state" / "filling").unlink()


def fill(folder: Path) -> None:
    """Write to a folder's disk until it is full."""
    with (folder / "filling").open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def nothing_was_sent_unseen(lab: TestLab, books: Books) -> None:
    """Every job on a host is one that the journal says was started there."""
    with books.open() as journal:
        run = journal.last_run()
        assert run is not None
        rows = [row for row in journal.hosts(run.id) if row["attempts"]]
    jobs = 0
    for host in lab.spec.hosts():
        binds = [Binding(run.id, row["step"], row["generation"]) for row in rows if row["host"] == host.name]
        known = {job_id(binding, "download") for binding in binds}
        there = lab.on(host.name, "cd /var/lib/cellstep/jobs && ls -d */ || :").replace("/", "").split()
        there = [name for name in there if ".download." in name]
        assert set(there) <= known, f"{host.name}: {there}"
        jobs += len(there)
    say(f"on the hosts: {jobs} job(s), each journalled as started")
    assert jobs


def test_a_frozen_operator_is_replaced_and_changes_nothing_when_it_wakes_up(lab: TestLab, books: Books) -> None:
    slow(lab, TOP, "yum", 15)
    with controller(lab, "resume", "--yes") as frozen:
        frozen.until(
            lambda: TOP in books.under_way(UPDATE) and transactions(lab, TOP)[-1] == "begun update", "yum update"
        )
        frozen.freeze()
        assert transactions(lab, TOP)[-1] == "begun update"
        slow(lab, TOP, "yum", 0)
        assert f"pid {frozen.pid}" in lab.cellstep("resume", "--yes", expect=5)
        assert "stopped by a signal" in lab.cellstep("lock", "show")
        say(lab.cellstep("lock", "take-over", "--reason", "its terminal is lost", "--yes").strip().splitlines()[-1])
        lose_two_nodes(lab, books)
        at_rest_where_up(lab)
        before = lab.snapshot()
        moment = now()
        frozen.thaw()
        frozen.wait(expect=5, timeout=120)
        assert "taken over" in frozen.said
        say(f"woken up, exit 5: {frozen.said.strip().splitlines()[-1]}")
    assert differences(before, lab.snapshot()) == []
    with books.open() as journal:
        run = journal.last_run()
        assert run is not None
        assert all((row["finished_at"] or "") < moment for row in journal.hosts(run.id))
        assert any("its terminal is lost" in event["what"] for event in journal.events())
    assert (
        transactions(lab, TOP).count("begun update") == transactions(lab, TOP).count("done update") == 2
    )  # and Puppet's
    assert lab.sql(DATABASE, "select count(*) from lab.db_sync_runs") == "1"


def at_rest_where_up(lab: TestLab) -> None:
    for host in UNREACHABLE:
        lab.clear(host)
    at_rest(lab)
    settle(lab)


def lose_two_nodes(lab: TestLab, books: Books) -> None:
    """Two compute nodes lose their power before their update: one too many for the budget, until it is raised."""
    for host in UNREACHABLE:
        lab.fault(host, "power-off")
    said = lab.cellstep("resume", "--yes", expect=4)
    assert "2 unreachable of 3 compute nodes in c01" in said.replace("cell01", "c01"), said[-2000:]
    assert "--budget" in said
    say(said.strip().splitlines()[-1])
    more = ("--budget", "unreachable=2", "--budget", "unreachable-per-cell=2")
    said = lab.cellstep("resume", "--yes", *more, expect=3)
    books.check(missed=tuple(UNREACHABLE))
    say(said.strip().splitlines()[-1])


def test_nodes_that_missed_the_upgrade_are_in_quarantine_and_get_no_guests(lab: TestLab) -> None:
    status = json.loads(lab.cellstep("status", "--json"))
    assert {row["host"] for row in status["quarantine"]} == UNREACHABLE
    assert "in quarantine since" in lab.cellstep("status")
    quarantine = lab.table("quarantine")
    assert set(quarantine["host"]) == UNREACHABLE
    assert scheduled(lab) == {WITH_ALICE: "0", OFF: "1", OFF_AND_DISABLED: "1"}
    older = {row["host"] for row in lab.verify(expect=3)["tables"]["rpms"] if row["status"] == "older"}
    assert older == UNREACHABLE
    say(f"in quarantine, disabled, and on old packages when they are back: {', '.join(sorted(older))}")


def test_a_catch_up_ends_the_quarantine_and_enables_only_what_we_disabled(lab: TestLab) -> None:
    with controller(lab, "run", "nova", "--catch-up", "--yes") as catch_up:
        catch_up.wait(expect=0)
    say(catch_up.said.strip().splitlines()[-1])
    assert json.loads(lab.cellstep("status", "--json"))["quarantine"] == []
    assert scheduled(lab) == {WITH_ALICE: "0", OFF: "0", OFF_AND_DISABLED: "1"}
    said = lab.cellstep("verify", "nova", "--json", "--table", "rpms")
    assert {row["status"] for row in json.loads(said)["tables"]["rpms"]} == {"ok"}
    for host in UNREACHABLE:
        assert lab.snapshot(host)[host]["services"]["openstack-nova-compute"] == "running on"


def test_what_was_switched_off_before_us_is_still_so_and_nothing_else_is(lab: TestLab) -> None:
    assert still_off(lab) == ["running off", f"disabled: {ALICE}", "MAINT"]
    assert json.loads(lab.cellstep("holds", "--json")) == []
    hosts = lab.snapshot()
    for name, found in hosts.items():
        assert found["puppet"] == ("enabled" if name != WITH_ALICE else f"disabled: {ALICE}"), name
        assert found["updates"] == 'ENABLED="true"', name
        assert found["alarms"] == "not masked", name
        assert "not monitored" not in found["monitored"].values(), name
    assert hosts[DATABASE]["haproxy"][f"nova-api/{TOP}"] == "UP"
    assert search_lab(lab).leaks == []


def test_the_word_of_a_command_that_fails_to_log_in_to_a_database_has_no_password(lab: TestLab) -> None:
    wrong = lab.cloud / "wrong"
    wrong.write_text("never-tell-anybody\n", encoding="utf-8")
    wrong.chmod(0o600)
    cloud = lab.cloud / "cloud.yaml"
    text = cloud.read_text(encoding="utf-8")
    cloud.write_text(re.sub(r"password_file: \S+", f"password_file: {wrong}", text), encoding="utf-8")
    try:
        with controller(lab, "quota", "check", "nova") as check:
            check.wait(expect=3)
    finally:
        cloud.write_text(text, encoding="utf-8")
        wrong.unlink()
    assert "never-tell-anybody" not in check.said
    said = " ".join(check.said.split())
    assert "refuses the login as cellstep (1045: Access denied" in said
    say(f"a wrong password: {said[:160]}")
