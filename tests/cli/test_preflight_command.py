"""`cellstep preflight`: what is judged of the nodes' answers, what is shown of it, and how it ends."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cellstep.cli import main
from cellstep.cloud.load import Cloud, load_cloud
from cellstep.engine.dispatch import Dispatcher, Outcome
from cellstep.preflight import survey as preflight
from cellstep.preflight.case import NO_GO, WARNING, Case, Finding
from cellstep.preflight.rules import judge
from cellstep.preflight.update import satisfied
from tasks.preflight import DatabaseFacts, Holder, NodeFacts, Requirement, Said, Space
from tasks.preflight_script import Questions
from tests.support.folders import lab_folder

ROOT = Path(__file__).parents[2]
ALL = "GRANT ALL PRIVILEGES ON *.* TO 'x'@'y'"
STAT = "# pxname,svname,status\nnova-api,FRONTEND,OPEN\nnova-api,top-api01,UP\nnova-api,BACKEND,UP"
STAT += "\nnova-images,top-api01,UP"
Change = Callable[[NodeFacts], NodeFacts]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The lab's cloud, without its network namespace."""
    return lab_folder(tmp_path / "cloud")


@pytest.fixture
def cloud(folder: Path) -> Cloud:
    return load_cloud(folder)


def questions_of(cloud: Cloud, name: str) -> Questions:
    return preflight.questions_for(cloud, "nova", next(node for node in cloud.nodes if node.name == name))


def healthy(questions: Questions) -> NodeFacts:
    """What a node answers on which everything is as it should be, before the upgrade."""
    pending = [f"{name}-{evr.rpartition(':')[2]}" for name, evr in questions.packages.items()]
    rows = [line for each in pending for line in (f" {each.rsplit('-', 2)[0]}", f"   noarch {_evr(each)} havana 6 k")]
    table = ("Dependencies resolved.", "====", "Upgrading:", *rows, "Transaction Summary", "Is this ok [y/N]: ")
    return NodeFacts(
        offset_s=0.01,
        uncertainty_s=0.02,
        boot_id="b",
        kernel="2.6.32",
        space=tuple(Space(path, "/", 50_000, None) for path in questions.paths),
        installed=500,
        packages={name: ["2013.1.4-1.el6"] for name in questions.packages},
        pending=tuple(pending),
        mode="baseurl",
        services={name: {"actual": "running", "boot": "on"} for name in questions.services},
        said={
            "puppet": Said(1),
            "unfinished": Said(0),
            "update": Said(1, table),
            "download": Said(0, ("size 68000",)),
            "balancer": Said(0, tuple(STAT.splitlines())),
            "admin": Said(0, ("No such backend.",)),
            "queue": Said(0, ("/",)),
            "mysql": Said(0, ("root@localhost",)),
            "grants": Said(0, (ALL,)),
            "sizes": Said(0, ("nova\t1000000", "cinder\t2000")),
            "tools": Said(0),
        },
        database=DatabaseFacts(version="5.1.73", grants=(ALL,), heads={"nova": 161}) if questions.databases else None,
    )


def _evr(nevra: str) -> str:
    return "1:" + "-".join(nevra.rsplit("-", 2)[1:]) if "client" in nevra else "-".join(nevra.rsplit("-", 2)[1:])


def found_on(cloud: Cloud, name: str, change: Change = lambda facts: facts) -> list[tuple[str, str]]:
    """Severity and words of what is found on a healthy node with one change."""
    node = next(node for node in cloud.nodes if node.name == name)
    questions = questions_of(cloud, name)
    found = judge(Case(cloud, "nova", node, questions, change(healthy(questions))))
    return [(each.severity, each.cause) for findings in found.values() for each in findings]


def saying(**said: Said) -> Change:
    return lambda facts: replace(facts, said={**facts.said, **said})


def database(**values: Any) -> Change:
    return lambda facts: replace(facts, database=replace(facts.database or DatabaseFacts(), **values))


@pytest.mark.parametrize("name", ["top-api01", "top-infra01", "c01-ctl01", "c01-n01"])
def test_nothing_is_found_on_a_healthy_node(cloud: Cloud, name: str):
    assert found_on(cloud, name) == []


ERROR = ("Error: ", " Problem: package site-agent-1 requires libfoo, but none can be installed")
EL6 = """Loaded plugins: fastestmirror
Resolving Dependencies
--> Finished Dependency Resolution
Error: Package: site-agent-1-1.noarch (installed)
           Requires: python-nova = 2013.1.4-1.el6
 You could try using --skip-broken to work around the problem"""


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("c01-n01", lambda f: replace(f, uid=1000), (NO_GO, "commands run as uid 1000, not as root: set ssh.sudo")),
        ("c01-n01", lambda f: replace(f, offset_s=-3.0), (NO_GO, "the clock is more than 2 s behind this machine's")),
        (
            "c01-n01",
            lambda f: replace(f, space=(Space("/var", "/", 10, None), Space("/", "/", 10, None))),
            (NO_GO, "/var (on /) has less than 1,024 MiB free"),
        ),
        (
            "c01-n01",
            lambda f: replace(f, space=(Space("/var", "/var", 10_000, 3),)),
            (NO_GO, "/var has hardly any inodes left"),
        ),
        ("c01-n01", lambda f: replace(f, rpm_error="gone"), (NO_GO, "the RPM database is not sound: gone")),
        (
            "c01-n01",
            lambda f: replace(f, twice=("a.noarch (1-1, 2-1)",)),
            (NO_GO, "installed twice, after a cut-off transaction: a.noarch (1-1, 2-1); mend with package-cleanup"),
        ),
        (
            "c01-n01",
            saying(unfinished=Said(0, ("/var/lib/yum/transaction-all.2014",))),
            (NO_GO, "a yum transaction was left unfinished; mend with yum-complete-transaction"),
        ),
        (
            "c01-n01",
            lambda f: replace(f, holders=(Holder("rpm's lock", 7, "yum", 301),)),
            (NO_GO, "rpm's lock is held by yum"),
        ),
        (
            "c01-n01",
            lambda f: replace(f, holders=(Holder("rpm's lock", 7, "yum", 30),)),
            (WARNING, "rpm's lock is held by yum"),
        ),
        (
            "c01-n01",
            lambda f: replace(f, mode="unpromoted"),
            (WARNING, "the repository havana is not promoted yet: cannot be asked"),
        ),
        (
            "c01-n01",
            saying(update=Said(1, ("Error: Cannot retrieve repository metadata (repomd.xml)",))),
            (NO_GO, "the repository havana cannot be read: Cannot retrieve repository metadata (repomd.xml)"),
        ),
        (
            "c01-n01",
            saying(download=Said(1, ("a.rpm: HTTP Error 404: Not Found",))),
            (NO_GO, "cannot be downloaded: a.rpm: HTTP Error 404: Not Found"),
        ),
        (
            "c01-n01",
            saying(update=Said(124)),
            (NO_GO, "whether the update can be done is not known: yum did not answer within 240 s"),
        ),
        (
            "c01-n01",
            lambda f: replace(f, locks=(("versionlock.list", "0:python-nova-2013.1.4-1.el6.*"),)),
            (NO_GO, "versionlock keeps python-nova back: 0:python-nova-2013.1.4-1.el6.* (versionlock.list)"),
        ),
        (
            "c01-n01",
            lambda f: replace(f, excludes=(("yum.conf [main]", "openstack-nova-c*"),)),
            (
                NO_GO,
                "yum excludes openstack-nova-common, openstack-nova-compute: openstack-nova-c* in yum.conf [main]",
            ),
        ),
        (
            "c01-n01",
            lambda f: replace(f, services={}),
            (NO_GO, "the service openstack-nova-compute is not there; is the node's role right?"),
        ),
        (
            "c01-n01",
            saying(puppet=Said(0, ('{"disabled_message": "ask Ann"}',))),
            (WARNING, "Puppet is disabled: “ask Ann”; it will be left so"),
        ),
        (
            "c01-n01",
            saying(puppet=Said(0, ("just words",))),
            (WARNING, "Puppet is disabled: “just words”; it will be left so"),
        ),
        (
            "top-infra01",
            saying(balancer=Said(127, ("bash: socat: command not found",))),
            (
                NO_GO,
                "HAProxy's admin socket 127.0.0.1:9999 does not answer: bash: socat: command not found",
            ),
        ),
        (
            "top-infra01",
            saying(admin=Said(0, ("Permission denied",))),
            (NO_GO, "HAProxy's socket 127.0.0.1:9999 has not the level admin: add `level admin` to its line"),
        ),
        (
            "top-infra01",
            saying(
                balancer=Said(0, tuple(STAT.replace("nova-api,top-api01,UP", "nova-api,top-api01,MAINT").splitlines()))
            ),
            (WARNING, "nova-api/top-api01 is in maintenance already (MAINT); it will be left so"),
        ),
        (
            "top-infra01",
            saying(balancer=Said(0, ("# pxname,svname,status", "nova-images,a,UP"))),
            (NO_GO, "HAProxy has no servers in a backend nova-api; see fence.backends"),
        ),
        ("top-infra01", saying(queue=Said(69)), (NO_GO, "RabbitMQ does not answer rabbitmqctl")),
        (
            "top-infra01",
            saying(tools=Said(0, ("mysqldump",))),
            (NO_GO, "mysqldump is not installed: no dump can be made"),
        ),
        (
            "top-infra01",
            saying(mysql=Said(1, ("ERROR 1045: Access denied",))),
            (NO_GO, "root's `mysql` on the node does not reach the database: ERROR 1045: Access denied"),
        ),
        (
            "top-infra01",
            saying(sizes=Said(0, (f"nova\t{200_000 * 2**20}",))),
            (NO_GO, "/var/lib/cellstep/backups (on /) has less than 200,001 MiB free"),
        ),
        ("top-infra01", saying(sizes=Said(0, ("cinder\t1",))), (NO_GO, "there is no database nova")),
        (
            "top-infra01",
            database(grants=("GRANT USAGE ON *.* TO 'x'@'y'",)),
            (NO_GO, "the database user cellstep may not read nova, cinder: grant it SELECT"),
        ),
        (
            "top-infra01",
            database(grants=("GRANT SELECT ON *.* TO 'x'@'y'",)),
            (WARNING, "the database user cellstep lacks INSERT, UPDATE on nova: no --repair-quotas"),
        ),
        (
            "top-infra01",
            database(error="top-infra01 (10.90.0.3 port 22): refuses the login"),
            (NO_GO, "no session as cellstep: refuses the login"),
        ),
        (
            "top-infra01",
            database(heads={"nova": 190}),
            (NO_GO, "the schema of nova is at version 190, not at 161 or 162"),
        ),
        ("top-infra01", database(heads={"nova": None}), (NO_GO, "nova has no schema version (nova)")),
        (
            "top-infra01",
            database(variables={"log_bin": "ON", "expire_logs_days": "0"}),
            (WARNING, "the binary log is on (kept for ever): db sync and a restore go to it and to every replica"),
        ),
        (
            "top-infra01",
            database(replica=({"Slave_IO_Running": "Yes", "Slave_SQL_Running": "No"},)),
            (NO_GO, "replication has stopped (SQL thread)"),
        ),
        (
            "top-infra01",
            database(replica=({"Slave_IO_Running": "Yes", "Slave_SQL_Running": "Yes", "Seconds_Behind_Master": 99},)),
            (WARNING, "replication is more than 60 s behind"),
        ),
    ],
)
def test_each_cause_is_named_and_nothing_beside_it(cloud: Cloud, name: str, change: Change, expected: tuple[str, str]):
    assert found_on(cloud, name, change) == [expected]


def test_a_clock_is_not_blamed_for_a_slow_link(cloud: Cloud):
    assert found_on(cloud, "c01-n01", lambda facts: replace(facts, offset_s=3.0, uncertainty_s=1.5)) == []


FOREIGN = Requirement("site-agent", "1-1", "Example Site", "python-nova", "=", "2013.1.4-1.el6")
BLOCKS = "site-agent-1-1 (Example Site) requires python-nova = 2013.1.4-1.el6: it blocks the update to 2013.2.1-1.el6"


def test_a_foreign_package_is_named_in_place_of_yums_long_words(cloud: Cloud):
    def change(facts: NodeFacts) -> NodeFacts:
        said = {**facts.said, "update": Said(1, tuple(EL6.splitlines()))}
        return replace(facts, requirements=(FOREIGN,), said=said)

    assert found_on(cloud, "c01-n01", change) == [(NO_GO, BLOCKS)]
    # Where the repository has another of it, yum takes that, and nothing is blocked.
    assert found_on(cloud, "c01-n01", lambda facts: replace(facts, requirements=(FOREIGN,))) == []
    found = found_on(cloud, "c01-n01", lambda facts: replace(facts, requirements=(FOREIGN,), mode="unpromoted"))
    assert found[1] == (WARNING, f"{BLOCKS}, unless havana brings another of it")


@pytest.mark.parametrize(("lines", "words"), [(ERROR, "requires libfoo"), (EL6.splitlines(), "Requires: python-nova")])
def test_yums_own_words_where_nothing_better_is_known(cloud: Cloud, lines: Iterable[str], words: str):
    ((severity, cause),) = found_on(cloud, "c01-n01", saying(update=Said(1, tuple(lines))))
    assert severity == NO_GO
    assert cause.startswith("yum would not update to ")
    assert words in cause
    assert "skip-broken" not in cause


def test_a_version_that_the_repository_does_not_have_is_named(cloud: Cloud):
    pending = healthy(questions_of(cloud, "c01-n01")).pending
    lines = [f"No match for argument: {each}" for each in pending]
    assert found_on(cloud, "c01-n01", saying(update=Said(1, tuple(lines)))) == [
        (NO_GO, f"not in the repository havana: {', '.join(pending)}")
    ]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.lists(st.integers(0, 30), min_size=1, max_size=4))
def test_requirements_are_met_as_numbers_say(one: list[int], other: list[int]):
    length = max(len(one), len(other))
    a, b = ([*numbers, *[0] * (length - len(numbers))] for numbers in (one, other))
    have, want = (".".join(map(str, numbers)) for numbers in (a, b))
    for flags, holds in {"=": a == b, ">=": a >= b, "<=": a <= b, ">": a > b, "<": a < b}.items():
        assert satisfied(have, Requirement("p", "1", "", "n", flags, want)) is holds


# The command


class Nodes(Dispatcher):
    """Stands for the dispatcher: each node is healthy but for what the test changes."""

    def __init__(self, cloud: Cloud, changes: Mapping[str, Change | Outcome | None]) -> None:
        self.cloud, self.changes = cloud, changes

    def __enter__(self) -> "Nodes":
        return self

    def __exit__(self, *_: object) -> None: ...

    def send(self, task: Any, nodes: Iterable[Any], arguments: Mapping[str, Any], *_: Any) -> dict[str, Outcome]:
        assert task is preflight.survey
        outcomes = {}
        for node in nodes:
            change = self.changes.get(node.name, lambda facts: facts)
            if isinstance(change, Outcome):
                outcomes[node.name] = change
            elif change is not None:
                outcomes[node.name] = Outcome("ok", "", change(healthy(arguments[node.name]["questions"])))
        return outcomes


@pytest.fixture
def command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Call the command on nodes with changes; its exit code and what it printed."""

    def call(changes: Mapping[str, Change | Outcome | None], *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(preflight, "Dispatcher", lambda cloud: Nodes(cloud, changes))
        done = CliRunner().invoke(main.app, ["preflight", "nova", "--cloud", str(folder), *arguments])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return call


def silent(name: str) -> Outcome:
    return Outcome("unreachable", f"{name} (10.0.0.1 port 22): no TCP connection within 5 s")


def test_a_healthy_cloud_is_a_go(command, folder: Path):
    code, said = command({})
    assert code == 0
    assert "GO   nova on lab: 9 nodes" in said
    assert "9 ok   0 warning   0 no-go   0 silent" in said
    where = folder / "out" / "latest" / "nova"
    rows = (where / "preflight.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "cell,host,check,status,cause,detail"
    assert sum(",reachable,ok," in row for row in rows) == 9
    assert (where / "nova.xlsx").exists()


def test_warnings_alone_are_a_go(command):
    code, said = command({"c01-n01": saying(puppet=Said(0, ("ask Ann",)))})
    assert code == 0
    assert "warning  c01-n01: Puppet is disabled: “ask Ann”" in said


def test_equal_causes_are_one_line_with_folded_nodes_and_no_go_comes_first(command):
    def full(mib: int) -> Change:
        return lambda facts: replace(facts, space=(Space("/var", "/var", mib, None),))

    changes = {
        "top-api01": saying(puppet=Said(0, ("ask Ann",))),
        "c01-n01": full(12),
        "c01-n02": full(0),
        "c02-n01": full(12),
        "c02-n02": full(12),
    }
    code, said = command(changes)
    assert code == 3
    assert "NO-GO" in said
    lines = [line for line in said.splitlines() if line.startswith(("  no-go", "  warning"))]
    assert [line.split(":")[0] for line in lines] == ["  no-go    c[01-02]-n[01-02]", "  warning  top-api01"]
    assert "c01-n01 12 MiB; c01-n02 0 MiB; c02-n01 12 MiB; and 1 more" in " ".join(said.split())
    assert "4 ok   1 warning   4 no-go   0 silent" in said


def test_silent_compute_nodes_within_the_budget_are_a_warning(command):
    code, said = command({"c01-n01": silent("c01-n01")})
    assert code == 0
    assert "warning  c01-n01: cannot be asked: no TCP connection within 5 s" in said
    assert "1 silent" in said


def test_silent_compute_nodes_past_the_budget_are_a_no_go(command):
    code, said = command({name: silent(name) for name in ("c01-n01", "c01-n02")})
    assert code == 3
    assert "no-go    c01-n[01-02]: cannot be asked: no TCP connection within 5 s" in said
    assert "2 unreachable of 4 compute nodes in all" in said


def test_a_silent_controller_is_a_no_go_and_one_that_was_not_asked_too(command):
    code, said = command({"c01-ctl01": silent("c01-ctl01"), "c02-ctl01": None}, "--json")
    assert code == 3
    found = json.loads(said)
    assert found["go"] is False
    assert found["nodes"]["silent"] == ["c01-ctl01", "c02-ctl01"]
    assert sum(map(len, found["nodes"].values())) == 9
    assert [(cause["severity"], cause["nodes"]) for cause in found["causes"]] == [
        ("no-go", ["c01-ctl01"]),
        ("no-go", ["c02-ctl01"]),
    ]


def test_only_some_nodes(command):
    code, said = command({"c01-ctl01": silent("c01-ctl01")}, "--limit", "c02-n[01-02]", "--json")
    assert code == 0
    assert json.loads(said)["nodes"]["ok"] == ["c02-n01", "c02-n02"]


def test_room_for_the_dumps_is_needed_here_too(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: SimpleNamespace(free=300 * 2**20))
    found = preflight.ask(Nodes(cloud, {}), cloud, "nova", cloud.nodes)
    preflight.judged(found, cloud, "nova", None, lambda _: True, whole=True)
    assert found.causes == []
    found = preflight.ask(
        Nodes(cloud, {"top-infra01": saying(sizes=Said(0, (f"nova\t{2**30}",)))}), cloud, "nova", cloud.nodes
    )
    preflight.judged(found, cloud, "nova", None, lambda _: True, whole=True)
    (cause,) = found.causes
    assert cause.nodes == (preflight.HERE,)
    assert "out has less than 1,283 MiB free" in cause.cause


def test_causes_are_sorted_by_severity_then_by_check():
    first, second = Finding("space", NO_GO, "a"), Finding("clock", NO_GO, "b")
    third = Finding("clock", WARNING, "c")
    found = preflight.causes(
        {"n1": {"clock": [third], "space": [first]}, "n2": {"clock": [second, third], "space": []}}
    )
    assert [(each.severity, each.cause, each.nodes) for each in found] == [
        (NO_GO, "b", ("n2",)),
        (NO_GO, "a", ("n1",)),
        (WARNING, "c", ("n1", "n2")),
    ]


def test_an_address_with_a_password_is_refused(folder: Path):
    path = folder / "cloud.yaml"
    text = path.read_text(encoding="utf-8").replace("http://127.0.0.1:8081/", "http://me:hunter2@127.0.0.1:8081/")
    path.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cellstep", "preflight", "nova"],
        env={**os.environ, "CELLSTEP_CLOUD": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "has a user or a password in it" in done.stderr
    assert "hunter2" not in done.stderr
