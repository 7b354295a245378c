"""What the preflight asks of a node, in a real bash with stand-ins for the node's programs, and how it is read."""

import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.connections.errors import DatabaseError, Unreachable
from tasks import clocks
from tasks.errors import Refused
from tasks.preflight import NodeFacts, privileges, read, survey
from tasks.preflight_script import DOWNLOAD, Questions
from tasks.shell import has_changed
from tests.support.scripted import Bash, Scripted, task_on

PACKAGES = {
    "python-nova": "2013.2.1-1.el6",
    "python-novaclient": "1:2.15.0",
    "openstack-nova-compute": "2013.2.1-1.el6",
}
INSTALLED = r"""python-nova\tnoarch\t2013.1.4-1.el6\tRed Hat
python-novaclient\tnoarch\t1:2.15.0-1.el6\tRed Hat
kernel\tx86_64\t2.6.32-431.el6\tRed Hat
kernel\tx86_64\t2.6.32-431.5.1.el6\tRed Hat
glibc\tx86_64\t2.12-1.132.el6\tRed Hat
glibc\ti686\t2.12-1.132.el6\tRed Hat"""
REQUIRES = r"""site-hooks\t1.4-2\tExample Site\tpython-nova\t=\t2013.1.4-1.el6
site-hooks\t1.4-2\tExample Site\tpython-nova\t\t
bash\t4.1-1\tRed Hat\tglibc\t>=\t2.12"""
RPM = f"""
case "$*" in
*REQUIRENAME*) printf '{REQUIRES}\\n';;
*-qa*) printf '{INSTALLED}\\n';;
*-E*) echo "$HERE/rpm.lock";;
esac"""
EVERYTHING = Questions(
    packages=PACKAGES,
    kernel=True,
    repository="havana",
    baseurl="http://127.0.0.1:9/havana",
    paths=("/", "/no/such/folder/yet"),
    services=("openstack-nova-compute",),
    puppet_lock="/no/lock",
    socket="/run/haproxy.sock",
    queue=True,
)


class Mysql:
    """Stands for the database: answers by the statement's beginning."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.asked = answers, []

    def close(self) -> None: ...

    def query(self, sql: str, args: Any = (), *, database: str | None = None) -> list[dict[str, Any]]:
        self.asked.append((sql, args, database))
        for name, answer in self.answers.items():
            if sql.startswith(name.replace("_", " ")):
                if isinstance(answer, Exception):
                    raise answer
                return answer
        return []


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bash:
    """A node as EL6 has it; what its yum does is told by the test."""
    monkeypatch.setenv("HERE", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "rpm.lock").touch()
    bash = Bash(tmp_path / "bin")
    bash.program("id", "echo 0")
    bash.program("rpm", RPM)
    bash.program("chkconfig", 'echo "$2 0:off 3:on"')
    bash.program("service", "exit 0")
    bash.program("socat", 'read -r line; echo "said: $line"')
    bash.program("rabbitmqctl", "echo /; echo 'Erlang cookie hash: abc'")
    bash.program("yum", 'echo "$*" >> "$HERE/yum"')
    return bash


def facts_of(node: Bash | Scripted, questions: Questions = EVERYTHING, database: Any = None) -> NodeFacts:
    task = task_on(node, database=database)
    result = survey(task, questions=questions)
    assert not result.changed
    assert not has_changed(task), "the preflight sends nothing that changes a node"
    return result.result


def test_one_command_brings_everything(node: Bash):
    facts = facts_of(node)
    assert len(node.sent) == 1
    assert facts.uid == 0
    assert facts.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert facts.packages["python-nova"] == ["2013.1.4-1.el6"]
    assert "openstack-nova-compute" not in facts.packages
    assert facts.installed == 6
    assert facts.twice == (), "kernels and two architectures are no packages that are there twice"
    assert [(each.package, each.flags, each.version) for each in facts.requirements] == [
        ("site-hooks", "=", "2013.1.4-1.el6")
    ]
    assert facts.services == {"openstack-nova-compute": {"actual": "running", "boot": "on"}}
    assert facts.said["puppet"].status == 1
    assert facts.said["balancer"].lines == ("said: show stat",)
    assert facts.said["admin"].lines == ("said: disable server cellstep-preflight/none",)
    assert facts.said["queue"].lines == ("/",), "what it says of its cookie stays there"
    assert {space.path for space in facts.space} == {"/", "/no/such/folder/yet"}
    assert len({space.mount for space in facts.space}) == 1
    assert abs(facts.offset_s) <= facts.uncertainty_s + 0.1


def test_a_node_as_it_was_after_being_asked(node: Bash, tmp_path: Path):
    """Everything below the test's folder but what the stand-ins themselves write is as before, also on a failure."""
    (tmp_path / "yum").touch()
    node.program("yum", 'echo "$*" >> "$HERE/yum"; [ ! -t 0 ] && exit 1')

    def seen() -> dict[str, tuple[int, float]]:
        return {
            str(path): (path.stat().st_size, path.stat().st_mtime)
            for path in tmp_path.rglob("*")
            if path.is_file() and path.name not in {"yum", "answer"}
        }

    before = seen()
    facts_of(node)
    assert seen() == before
    assert list((tmp_path / "tmp").iterdir()) == []


def test_yum_is_asked_with_a_configuration_of_our_own_and_told_no(node: Bash, tmp_path: Path):
    node.program(
        "yum",
        """
while [ $# -gt 0 ]; do case $1 in -c) cp "$2" "$HERE/yum.conf"; shift;; update) shift; echo "$*" > "$HERE/asked"
 cat > "$HERE/answer"; echo 'Is this ok [y/N]:';; esac; shift; done""",
    )
    facts = facts_of(node)
    assert facts.mode == "baseurl"
    assert facts.pending == ("python-nova-2013.2.1-1.el6",), "neither what is up to date nor what is not installed"
    assert (tmp_path / "asked").read_text().split() == ["python-nova-2013.2.1-1.el6", "kernel"]
    assert (tmp_path / "answer").read_text() == "N\n"
    assert facts.said["update"].lines == ("Is this ok [y/N]:",)
    lines = (tmp_path / "yum.conf").read_text().splitlines()
    assert lines.count("[main]") == 1
    settings = dict(line.split("=", 1) for line in lines if "=" in line)
    assert settings["assumeyes"] == "0"
    assert settings["baseurl"] == "http://127.0.0.1:9/havana"
    for folder in ("cachedir", "persistdir", "logdir", "logfile"):
        assert settings[folder].startswith(f"{tmp_path}/tmp/cellstep-preflight.")


def test_without_an_address_a_repository_that_is_not_promoted_is_not_asked(node: Bash, tmp_path: Path):
    facts = facts_of(node, Questions(packages=PACKAGES, repository="havana", puppet_lock="/no/lock"))
    assert facts.mode == "unpromoted"
    assert not (tmp_path / "yum").exists()
    assert "update" not in facts.said


def test_who_holds_rpms_lock_is_told_by_name(node: Bash, tmp_path: Path):
    code = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "rpm.lock")], stdin=-1, stdout=-1)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        held = facts_of(node).holders
    finally:
        holder.kill()
        holder.wait()
    assert [(each.lock, each.pid) for each in held] == [("rpm's lock", holder.pid)]
    assert held[0].program.startswith("python")
    assert 0 <= held[0].age_s < 60
    assert facts_of(node).holders == ()


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("echo 'error: rpmdb: BDB0113 Thread died' >&2; exit 1", "error: rpmdb: BDB0113 Thread died"),
        ("exit 0", "has no package in it"),
        (f"printf '{INSTALLED}\\n'; exit 3", "rpm -qa ends with 3"),
    ],
)
def test_an_rpm_database_that_cannot_be_read_is_not_taken_for_an_empty_one(node: Bash, program: str, error: str):
    node.program("rpm", program)
    assert facts_of(node).rpm_error == error


def test_a_package_twice_is_a_transaction_that_was_cut_off(node: Bash):
    node.program("rpm", RPM.replace(INSTALLED, INSTALLED + r"\npython-nova\tnoarch\t2013.2.1-1.el6\tRed Hat"))
    assert facts_of(node).twice == ("python-nova.noarch (2013.1.4-1.el6, 2013.2.1-1.el6)",)


def test_nothing_else_is_asked_where_we_are_not_root(node: Bash):
    node.program("id", "echo 1000")
    facts = facts_of(node)
    assert (facts.uid, facts.said) == (1000, {})


def test_passwords_in_addresses_stay_on_the_node(node: Bash):
    node.program("yum", "echo 'http://mirror:hunter2@repo.example.org/havana: 404'")
    said = facts_of(node).said["update"].lines
    assert said == ("http://repo.example.org/havana: 404",)


def test_an_answer_that_is_cut_off_is_no_answer():
    with pytest.raises(Refused, match="cut off"):
        read("@start 1.0\n@uid 0\n", 0, 1, ())


@given(
    offset=st.floats(-1e5, 1e5),
    there=st.floats(0, 30),
    back=st.floats(0, 30),
    work=st.floats(0, 500),
)
def test_the_clocks_true_offset_is_within_the_uncertainty(offset: float, there: float, back: float, work: float):
    sent = 1e6
    began = sent + there + offset
    done = began + work
    ended = sent + there + work + back
    told, uncertainty = clocks.offset(sent, began, done, ended)
    assert abs(told - offset) <= uncertainty + 1e-6


# The database


def test_a_database_is_asked_in_one_session_and_passwords_are_dropped(node: Bash):
    node.program(
        "mysql", """[[ "$*" != *GRANTS* ]] || echo "GRANT USAGE ON *.* TO root IDENTIFIED BY PASSWORD '*AB'" """
    )
    database = Mysql(
        SELECT_VERSION=[{"version": "5.1.73"}],
        SHOW_GLOBAL=[{"Variable_name": "log_bin", "Value": "ON"}],
        SHOW_GRANTS=[{"Grants": "GRANT SELECT ON `nova`.* TO 'cellstep'@'%' IDENTIFIED BY PASSWORD '*ABCDEF'"}],
        SHOW_SLAVE=DatabaseError("denied", 1227, "Access denied; you need SUPER,REPLICATION CLIENT"),
        SELECT_version_FROM=[{"version": 161}],
    )
    questions = Questions(puppet_lock="/no/lock", databases=("nova",), heads=(("nova", "nova"),))
    facts = facts_of(node, questions, database)
    assert facts.database is not None
    assert facts.database.heads == {"nova": 161}
    assert facts.database.variables == {"log_bin": "ON"}
    assert "REPLICATION CLIENT" in facts.database.replica_error
    assert "ABCDEF" not in str(facts)
    assert facts.said["grants"].lines == ("GRANT USAGE ON *.* TO root",)
    assert all(sql.split()[0] in {"SELECT", "SHOW"} for sql, _, _ in database.asked)
    assert {where for _, _, where in database.asked} == {None}, "one session"


def test_a_database_that_does_not_answer_takes_nothing_from_the_nodes_own_facts(node: Bash):
    database = Mysql(SELECT=Unreachable("c01-n01: MySQL on port 3306: no answer"))
    facts = facts_of(node, Questions(puppet_lock="/no/lock", databases=("nova",)), database)
    assert facts.database is not None
    assert facts.database.error.endswith("no answer")
    assert facts.installed == 6


@pytest.mark.parametrize(
    ("grant", "expected"),
    [
        ("GRANT ALL PRIVILEGES ON *.* TO 'a'@'b' WITH GRANT OPTION", {"ALL PRIVILEGES"}),
        ("GRANT SELECT, INSERT ON `nova`.* TO 'a'@'b'", {"SELECT", "INSERT"}),
        (r"GRANT SELECT ON `nova\_cell`.* TO 'a'@'b'", set()),
        ("GRANT SELECT ON `nov_`.* TO 'a'@'b'", {"SELECT"}),
        ("GRANT SELECT ON `n%`.* TO 'a'@'b'", {"SELECT"}),
        ("GRANT SELECT (id, name), UPDATE ON `nova`.`instances` TO 'a'@'b'", set()),
        ("GRANT USAGE ON *.* TO 'a'@'b'", {"USAGE"}),
        ("GRANT `operators` TO 'a'@'b'", set()),
    ],
)
def test_privileges_on_a_database(grant: str, expected: set[str]):
    assert privileges([grant], "nova") == expected


# Downloading


def repository(folder: Path, **files: bytes) -> str:
    """A repository with one package a file, as createrepo makes it for EL6."""
    (folder / "repodata").mkdir(parents=True)
    packages = ""
    for name, content in files.items():
        (folder / f"{name}.rpm").write_bytes(content)
        packages += (
            f'<package type="rpm"><name>{name}</name><arch>noarch</arch><version epoch="0" ver="2013.2.1" rel="1.el6"/>'
            f'<size package="1000"/>\n<location href="{name}.rpm"/></package>\n'
        )
    primary = f"<metadata>{packages}</metadata>".encode()
    (folder / "repodata" / "primary.xml.gz").write_bytes(gzip.compress(primary))
    index = '<repomd><data type="primary"><location href="repodata/primary.xml.gz"/></data></repomd>'
    (folder / "repodata" / "repomd.xml").write_text(index)
    return folder.as_uri()


def download(base: str, *wanted: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", DOWNLOAD, *wanted],
        env={**os.environ, "BASE": base},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return done.returncode, done.stdout.strip()


def test_the_beginning_of_each_wanted_package_is_read(tmp_path: Path):
    base = repository(tmp_path / "good", nova=b"\xed\xab\xee\xdb etc", other=b"\xed\xab\xee\xdb", unwanted=b"gone")
    assert download(base, "nova-2013.2.1-1.el6", "other-2013.2.1-*", "kernel") == (0, "size 2000")
    (tmp_path / "good" / "other.rpm").unlink()
    status, said = download(base, "nova-2013.2.1-1.el6", "other-2013.2.1-*")
    assert status == 1
    assert said.startswith("other.rpm: ")
    (tmp_path / "good" / "nova.rpm").write_text("<html>Please log in</html>")
    assert download(base, "nova-2013.2.1-1.el6") == (1, "nova.rpm: is no RPM")


def test_metadata_that_cannot_be_read_are_no_missing_package(tmp_path: Path):
    status, said = download((tmp_path / "nothing").as_uri(), "nova-2013.2.1-1.el6")
    assert status == 2
    assert said
