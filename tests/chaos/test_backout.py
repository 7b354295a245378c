"""The way back from Nova, on a lab: from several places of the runbook to exactly what was before.

One lab, one story: each test upgrades to another place, goes back, and compares with the state at the beginning.
"""

import contextlib
import gzip
import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.labs import CELLSTEP, TestLab, lab_up

TOP, CELL = "top-infra01", "c01-ctl01"
DATABASES = (TOP, CELL)
CONTROLLERS = ("top-api01", "top-api02", CELL)
COMPUTES = ("c01-n01", "c01-n02")
HOSTS = (*CONTROLLERS, TOP, *COMPUTES)
FACTS = (
    "rpm -qa | grep -v gpg-pubkey | sort; uname -r; ls /etc/yum.repos.d; cat /etc/sysconfig/yum-autoupdate;"
    " chkconfig --list 2>/dev/null | grep -E 'nova|monit|rabbit|puppet' | sort;"
    " for s in $(ls /usr/lib/systemd/system | grep '^openstack-nova-') monit rabbitmq-server; do"
    ' service ${s%.service} status > /dev/null 2>&1; echo "$s $?"; done;'
    " ls /var/lib/puppet/state/agent_disabled.lock 2>/dev/null; alarms masked; echo alarms $?;"
    " for p in $(pgrep -x qemu-kvm); do cat /proc/$p/cmdline | tr '\\0' ' '; awk '{print $22}' /proc/$p/stat; done"
)
# What running services and the check-out tests write all the time.
LIVE = """
services compute_nodes compute_node_stats instances instance_info_caches instance_system_metadata instance_metadata
instance_actions instance_actions_events instance_faults instance_id_mappings block_device_mapping reservations
quota_usages task_log virtual_interfaces fixed_ips security_group_instance_association cells
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[TestLab]:
    with lab_up("backout", 1, 2) as up:
        yield up


@pytest.fixture(scope="module")
def before(lab: TestLab) -> dict[str, str]:
    return everything(lab)


def everything(lab: TestLab) -> dict[str, str]:
    """All that a back-out must bring back: by host what it has and runs, and the databases' tables and rows."""
    state = {host: lab.on(host, FACTS) for host in HOSTS}
    for host in DATABASES:
        state[f"schema of {host}"] = dumped(lab, host, "--no-data --skip-opt --databases nova")
        ignored = " ".join(f"--ignore-table=nova.{table}" for table in LIVE.split())
        state[f"rows of {host}"] = dumped(lab, host, f"{ignored} nova")
    state["fence"] = lab.on(TOP, "exec 3<>/dev/tcp/127.0.0.1/9999; echo 'show stat' >&3; cut -d, -f1,2,18 <&3")
    return state


def dumped(lab: TestLab, host: str, arguments: str) -> str:
    """What mysqldump says, without its comments and the counters of rows that are gone."""
    return lab.on(host, f"mysqldump {arguments} | grep -v '^--' | sed 's/ AUTO_INCREMENT=[0-9]*//'")


def differences(now: dict[str, str], then: dict[str, str]) -> dict[str, set[str]]:
    """What is not as it was, line by line."""
    odd = {key: set(now[key].splitlines()) ^ set(then[key].splitlines()) for key in then}
    return {key: lines for key, lines in odd.items() if lines}


def step_states(lab: TestLab) -> dict[str, str]:
    """The newest run's steps and their states, from the journal."""
    path = lab.cloud / "state" / "journal.sqlite3"
    if not path.exists():
        return {}
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as journal:
        if not journal.execute("SELECT 1 FROM sqlite_master WHERE name='findings'").fetchall():
            return {}  # it is being made
        (newest,) = journal.execute("SELECT id FROM runs ORDER BY started_at DESC, id DESC LIMIT 1").fetchone() or ("",)
        return dict(journal.execute("SELECT title, state FROM steps WHERE run=? ORDER BY number", (newest,)).fetchall())


def go_until(lab: TestLab, title: str, *command: str, kill_when: Callable[[], bool] | None = None) -> None:
    """Run cellstep until a step runs; interrupt it, so that it ends when that step has, or kill it when it is time."""
    environment = {"CELLSTEP_CLOUD": str(lab.cloud), "CELLSTEP_LAB": lab.name, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    with subprocess.Popen(
        [*CELLSTEP, *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as running:
        end = time.monotonic() + 420
        while step_states(lab).get(title) != "running":
            assert running.poll() is None, f"ended before “{title}”:\n{running.communicate()[0]}"
            assert time.monotonic() < end, f"never came to “{title}”: {step_states(lab)}"
            time.sleep(0.02)  # the journal tells nobody when a step begins
        if kill_when:
            while not kill_when():
                assert time.monotonic() < end
                time.sleep(0.1)  # nothing tells when it is so
            os.killpg(running.pid, signal.SIGKILL)
        else:
            running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=300)[0]
    assert list(step_states(lab))[-1] == title, said
    assert running.returncode == (-signal.SIGKILL if kill_when else 130), said


def versions(lab: TestLab) -> list[str]:
    return [lab.sql(host, "select version from nova.migrate_version where repository_id='nova'") for host in DATABASES]


def as_before(lab: TestLab, before: dict[str, str]) -> None:
    """After a back-out everything is as it was, and there is nothing left to resume or to go back from."""
    assert differences(everything(lab), before) == {}
    status = json.loads(lab.cellstep("status", "--json"))
    assert (status["run"]["stage"], status["run"]["state"], status["holds"]) == ("nova-backout", "complete", {})
    assert "nothing to resume" in lab.cellstep("resume", "--yes")
    assert "backed out already" in lab.cellstep("backout", "nova", "--yes", expect=2)


def test_without_an_upgrade_there_is_nothing_to_go_back_from(lab: TestLab, before: dict[str, str]):
    assert "no run of nova to go back from" in lab.cellstep("backout", "nova", "--yes", expect=2)
    assert set(before) > set(HOSTS)


def test_after_the_top_db_alone_was_updated(lab: TestLab, before: dict[str, str]):
    """The cells' databases are as they were: they are left alone."""
    go_until(lab, "Update the top DB", "run", "nova", "--yes")
    assert versions(lab) == ["216", "161"]
    rehearsed = lab.cellstep("backout", "nova", "--dry-run")
    assert "would restore nova, at version 216" in rehearsed
    assert versions(lab) == ["216", "161"]
    said = lab.cellstep("backout", "nova", "--yes")
    assert "done, and compliant" in said
    assert versions(lab) == ["161", "161"]
    hosts = lab.cloud / "out" / "latest" / "nova-backout" / "hosts.csv"
    assert "the schema of nova was not touched" in hosts.read_text()
    as_before(lab, before)


def test_a_db_sync_that_was_killed_half_way(lab: TestLab, before: dict[str, str]):
    """The schema is at neither end, cellstep was killed, and so was the command on the controller."""
    lab.on("top-api01", "echo 1 > /etc/lab/db-sync-pause")
    go_until(lab, "Update the top DB", "run", "nova", "--yes", kill_when=lambda: int(versions(lab)[0]) > 180)
    lab.on("top-api01", "pkill -KILL -f '[n]ova-manage db sync'; rm /etc/lab/db-sync-pause")
    at = int(versions(lab)[0])
    assert 161 < at < 216
    assert "done, and compliant" in lab.cellstep("backout", "nova", "--yes")
    as_before(lab, before)


def test_after_the_compute_nodes_were_updated_and_the_restore_was_cut_off(lab: TestLab, before: dict[str, str]):
    """The back-out itself is killed in the middle of its restore, and gone on with."""
    go_until(lab, "Update the RPMs on the compute nodes", "run", "nova", "--yes")
    assert versions(lab) == ["216", "216"]
    run = json.loads(lab.cellstep("status", "--json"))["run"]["id"]
    step = "Restore the DBs from the dumps, where their schema was touched"
    # The restore ends with a dump, in which it is killed; what it leaves is its marker, and here some of the tables.
    lab.on(CELL, "echo 30 > /etc/lab/mysqldump-pause")
    proving = f"test -e /var/lib/cellstep/backups/{run}/nova.restoring && pgrep -x mysqldump; true"
    go_until(lab, step, "backout", "nova", "--yes", kill_when=lambda: lab.on(CELL, proving).strip() != "")
    lab.on(
        CELL,
        "pkill -KILL -f '[c]ellstep/jobs/.*/script'; rm /etc/lab/mysqldump-pause; mysql -e 'drop table nova.services'",
    )
    assert versions(lab)[1] == "161"
    assert "restoring nova" in lab.cellstep("resume", "--yes", expect=4)
    assert "Table 'nova.services' doesn't exist" in lab.on(CELL, "mysql -e 'select 1 from nova.services' 2>&1; true")
    go_until(lab, "Check the RPMs, the kernels and the schema versions: all as before", "resume", "--yes")
    for host in DATABASES:
        copy = lab.cloud / "out" / run / "backup" / host / "nova.sql.gz"
        whole = "--opt --single-transaction --routines --triggers --events --add-drop-database --databases nova"
        dump = [line for line in gzip.decompress(copy.read_bytes()).decode().splitlines() if not line.startswith("--")]
        now = lab.on(host, f"mysqldump {whole} | grep -v '^--'").splitlines()
        assert now == dump, host
    assert "done, and compliant" in lab.cellstep("resume", "--yes")
    as_before(lab, before)


def test_from_the_check_out_with_everything_up(lab: TestLab, before: dict[str, str]):
    """Before the APIs open; the repository is moved back before Puppet may update anything again."""
    go_until(lab, "Check that no volume was lost", "run", "nova", "--yes")
    # Without a terminal nobody confirms.
    assert "not confirmed at “Check that no volume was lost”" in lab.cellstep("resume", expect=4)
    assert versions(lab) == ["216", "216"]
    assert "2013.2.1-1.el6" in lab.on("c01-n01", "service openstack-nova-compute status && rpm -q python-nova")
    configuration = lab.cloud / "cloud.yaml"
    whole = configuration.read_text()
    lines = [line for line in whole.splitlines(keepends=True) if not line.strip().startswith("undo:")]
    configuration.write_text("".join(lines))
    try:
        said = lab.cellstep("backout", "nova", "--yes", expect=4)
    finally:
        configuration.write_text(whole)
    assert "move it back by hand" in said
    assert 'ENABLED="false"' in lab.on("c01-n01", "cat /etc/sysconfig/yum-autoupdate")
    lab.on(TOP, "promote-repository --back havana")
    assert "done, and compliant" in lab.cellstep("resume", "--yes")
    as_before(lab, before)


def test_after_the_point_of_no_return_there_is_no_way_back(lab: TestLab):
    lab.cellstep("run", "nova", "--yes", expect=3)
    packages = lab.on("c01-n01", "rpm -qa | sort")
    assert "the point of no return was crossed" in lab.cellstep("backout", "nova", "--yes", expect=2)
    assert lab.on("c01-n01", "rpm -qa | sort") == packages
