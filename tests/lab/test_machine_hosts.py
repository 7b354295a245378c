"""Real hosts: a small lab with stand-in content, its commands, its faults, and its end after kills."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cellstep.cli.lab import app
from lab import control, network
from lab.cgroups import Group
from lab.check import check_machine
from lab.errors import LabError, LabUsageError
from lab.faults import FAULTS, clear, place
from lab.progress import Progress
from lab.spec import LabSpec
from tests.support.bare import nothing_left, standin

NAME = "unittest"
SPEC = LabSpec(NAME, 1, 1)
HOST = "c01-n01"
QUIET = Progress(quiet=True)

# The first test may have to wait for the image to be built.
pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]


def run_on(host: str, script: str) -> str:
    return control.handle(NAME).run(host, script)


def boot_id(host: str) -> str:
    return run_on(host, "cat /proc/sys/kernel/random/boot_id").strip()


def row(host: str) -> dict:
    return next(r for r in control.status(NAME) if r["name"] == host)


@pytest.fixture(scope="module")
def lab():
    if faults := check_machine():
        pytest.skip("no lab can run here: " + "; ".join(faults))
    control.down(NAME, QUIET)
    control.up(SPEC, None, QUIET, standin(HOST))
    yield
    control.down(NAME, QUIET)
    assert nothing_left(NAME)


@pytest.fixture
def faulty(lab):  # noqa: ARG001  # a fixture that needs a fixture and not its value
    """A host that may be given faults; they are cleared, come what may."""
    machine = control.machine(NAME, HOST)
    yield machine
    clear(machine)
    assert machine.state() == "running"


@pytest.mark.usefixtures("lab")
class TestHosts:
    def test_every_host_runs_and_answers(self):
        rows = control.status(NAME)
        assert [r["name"] for r in rows] == [h.name for h in SPEC.hosts()]
        assert all(r["state"] == "running" and r["ssh"] and not r["faults"] for r in rows), rows

    def test_a_host_is_a_whole_machine(self):
        assert run_on(HOST, "hostname; whoami; cat /etc/lab-content").split() == [HOST, "root", "installed"]
        assert run_on(HOST, "systemctl is-system-running; systemctl --failed --plain --no-legend").split() == [
            "running"
        ]
        assert run_on(HOST, "cat '/root/a place/file'; stat -c %a '/root/a place/file'").split() == ["put", "640"]
        assert (
            run_on(HOST, "systemctl is-active mariadb rabbitmq-server haproxy monit || :").split() == ["inactive"] * 4
        )
        assert run_on(
            HOST, "ls /srv/repositories; touch /srv/repositories/x 2>/dev/null || echo read-only"
        ).split() == [
            "grizzly",
            "havana",
            "read-only",
        ]
        run_on("top-api01", "echo seen > /srv/shared/note")
        assert run_on(HOST, "cat /srv/shared/note; getent hosts top-infra01").split()[:2] == ["seen", "10.90.0.3"]

    def test_a_script_reads_its_stdin_and_fails_with_its_output(self):
        handle = control.handle(NAME)
        assert handle.run(HOST, "read -r a; echo got $a\n", stdin="ä secret\n") == "got ä secret\n"
        assert "secret" not in handle.run(HOST, "cat; ps axww >&2 | cat", stdin="x")
        with pytest.raises(LabError, match=r"exit 7:\nwhat went wrong"):
            handle.run(HOST, "echo what went wrong >&2; exit 7")
        with pytest.raises(LabError, match="within 0 s"):
            handle.run(HOST, "sleep 20", timeout=0.4)

    def test_each_reports_every_failure(self):
        handle = control.handle(NAME)
        with pytest.raises(LabError) as error:
            handle.each([HOST, "top-api01", "c01-ctl01"], lambda h: handle.run(h, f"test {h} = top-api01"))
        assert HOST in str(error.value)
        assert "c01-ctl01" in str(error.value)
        assert handle.each([HOST], lambda h: h.upper()) == {HOST: HOST.upper()}

    def test_a_reboot_is_a_reboot(self):
        before = boot_id(HOST)
        machine = control.machine(NAME, HOST)
        init = machine.init()
        run_on(HOST, "touch /root/kept; systemctl reboot")
        control.wait_until(lambda: machine.init() not in (None, init), timeout=30, what="a new init")
        machine.wait_booted()
        control.wait_ssh(SPEC, [machine.host])
        assert boot_id(HOST) != before
        assert run_on(HOST, "ls /root/kept").strip() == "/root/kept"

    def test_names_resolve_inside_the_namespace(self):
        command = ["ip", "netns", "exec", f"cellstep-{NAME}", "getent", "hosts", HOST]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [SPEC.host(HOST).address, HOST]

    def test_up_again_does_nothing_and_says_so(self, capsys):
        before = {h.name: control.machine(NAME, h.name).init() for h in SPEC.hosts()}
        cloud = control.up(SPEC, None, Progress(), standin(HOST))
        assert "already up" in capsys.readouterr().err
        assert cloud == Path(f"/var/lib/cellstep/labs/{NAME}/cloud")
        assert before == {h.name: control.machine(NAME, h.name).init() for h in SPEC.hosts()}


@pytest.mark.usefixtures("lab")
class TestCommands:
    def call(self, *arguments):
        return CliRunner().invoke(app, [*arguments, "--name", NAME] if "--" not in arguments else list(arguments))

    def test_status_is_a_table_and_json(self):
        assert HOST in self.call("status").stdout
        rows = json.loads(self.call("status", "--json").stdout)
        assert set(rows[0]) == {"name", "cell", "roles", "address", "state", "ssh", "faults", "pid"}

    def test_exec_passes_output_and_status_through(self):
        command = [sys.executable, "-c", "from cellstep.cli.lab import app; app()", "exec", "--name", NAME, HOST, "--"]
        done = subprocess.run(
            [*command, "sh", "-c", "echo $1; exit 7", "x", "two words"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (7, "two words\n", "")
        done = subprocess.run(
            [*command, "echo a | tr a b; cat"], input="in", check=False, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (0, "b\nin")

    @pytest.mark.parametrize(
        "arguments",
        [
            ("fault", "c09-n01", "hang"),
            ("fault", HOST, "meteor"),
            ("fault", HOST),
            ("fault", HOST, "hang", "--clear"),
            ("fault", HOST, "--clear", "--amount", "3"),
        ],
    )
    def test_wrong_usage_is_exit_2_and_one_line(self, arguments):
        result = self.call(*arguments)
        assert result.exit_code == 2
        assert len(result.stderr.strip().splitlines()) == 1

    def test_a_lab_that_is_not_there_is_exit_1(self):
        result = CliRunner().invoke(app, ["status", "--name", "nosuchlab"])
        assert result.exit_code == 1
        assert "cellstep lab up" in result.stderr


class TestFaults:
    def test_power_off_and_back(self, faulty):
        before = boot_id(HOST)
        run_on(HOST, "touch /root/before-power-off")
        assert place(faulty, "power-off")
        assert (row(HOST)["state"], row(HOST)["ssh"], row(HOST)["faults"]) == ("off", False, ["power-off"])
        assert not place(faulty, "power-off"), "it is in place already"
        assert clear(faulty) == ["power-off"]
        assert row(HOST)["state"] == "running"
        assert boot_id(HOST) != before
        run_on(HOST, "test -e /root/before-power-off")

    def test_power_cut_lets_an_open_connection_fall_silent(self, faulty):
        command = [*control.ssh_command(SPEC, faulty.folder.parents[1]), HOST, "echo open; sleep 60"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as open_one:
            assert open_one.stdout.readline() == "open\n"
            place(faulty, "power-cut")
            assert row(HOST)["state"] == "off"
            with pytest.raises(subprocess.TimeoutExpired):
                open_one.wait(2)
            open_one.kill()

    def test_hang_keeps_the_port_but_says_nothing(self, faulty):
        before = boot_id(HOST)
        place(faulty, "hang")
        assert (row(HOST)["state"], row(HOST)["ssh"]) == ("running", False)
        clear(faulty)
        assert boot_id(HOST) == before

    def test_refuse_ssh_resets_new_connections(self, faulty):
        place(faulty, "refuse-ssh")
        assert not row(HOST)["ssh"]
        with pytest.raises(LabError, match="Connection refused"):
            run_on(HOST, "true")

    def test_new_host_key_is_noticed_and_the_old_one_comes_back(self, faulty):
        place(faulty, "new-host-key")
        with pytest.raises(LabError, match="Host key verification failed"):
            run_on(HOST, "true")
        clear(faulty)
        run_on(HOST, "true")

    def test_new_host_key_is_undone_even_after_a_power_off(self, faulty):
        place(faulty, "new-host-key")
        place(faulty, "power-off")
        assert set(clear(faulty)) == {"new-host-key", "power-off"}
        run_on(HOST, "true")

    def test_no_repository_outlives_a_reboot(self, faulty):
        place(faulty, "no-repository")
        assert run_on(HOST, "ls /srv/repositories") == ""
        init = faulty.init()
        run_on(HOST, "systemctl reboot")
        control.wait_until(lambda: faulty.init() not in (None, init), timeout=30, what="a new init")
        faulty.wait_booted()
        control.wait_ssh(SPEC, [faulty.host])
        assert run_on(HOST, "ls /srv/repositories") == ""
        clear(faulty)
        assert run_on(HOST, "ls /srv/repositories").split() == ["grizzly", "havana"]

    def test_rpm_lock_stops_rpm(self, faulty):
        lock = "fcntl.lockf(open('/var/lib/rpm/.rpm.lock', 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        take = f'python3 -c "import fcntl; {lock}"'
        place(faulty, "rpm-lock")
        with pytest.raises(LabError, match="BlockingIOError"):
            run_on(HOST, take)
        clear(faulty)
        run_on(HOST, take)

    def test_full_var_takes_no_more_and_keeps_what_was_changed(self, faulty):
        run_on(HOST, "echo old > /var/lib/changed; echo old > /var/lib/removed")
        place(faulty, "full-var")
        with pytest.raises(LabError, match="No space left"):
            run_on(HOST, "head -c 100000 /dev/zero > /var/lib/more")
        run_on(HOST, "rm /var/lib/removed /var/.filled-by-the-lab; echo new > /var/lib/changed; touch /var/tmp/new")
        clear(faulty)
        assert run_on(HOST, "cat /var/lib/changed; ls /var/tmp/new; ls /var/lib/removed 2>&1 || :").split()[:2] == [
            "new",
            "/var/tmp/new",
        ]
        assert run_on(HOST, "ls /var/lib/removed 2>/dev/null || echo removed").strip() == "removed"
        assert "100%" not in run_on(HOST, "df /var")

    def test_full_var_leaves_the_servers_data_on_disks_of_their_own(self, faulty):
        run_on(HOST, "mkdir -p /var/lib/mysql; echo old > /var/lib/mysql/table")
        place(faulty, "full-var")
        run_on(HOST, "echo new > /var/lib/mysql/table")
        with pytest.raises(LabError, match="No space left"):
            run_on(HOST, "mkdir -p /var/lib/cellstep/jobs/x && echo 1 > /var/lib/cellstep/jobs/x/status")
        clear(faulty)
        assert run_on(HOST, "cat /var/lib/mysql/table; echo 1 > /var/lib/cellstep/jobs/x/status") == "new\n"
        assert run_on(HOST, "findmnt --raw --noheadings --output TARGET | grep ^/var || echo none") == "none\n"

    def test_packet_loss_is_of_the_share_that_was_said(self, faulty):
        place(faulty, "packet-loss", 50)
        command = ["ip", "netns", "exec", faulty.spec.host_namespace(HOST), "nft", "list", "table", "inet"]
        rules = subprocess.run([*command, "cellstep_loss"], capture_output=True, text=True, check=True).stdout
        assert "numgen random mod 100 < 50 drop" in rules
        clear(faulty)
        assert subprocess.run([*command, "cellstep_loss"], capture_output=True, check=False).returncode != 0

    def test_packet_loss_of_nearly_all_lets_nobody_in_even_after_a_reboot(self, faulty):
        place(faulty, "packet-loss", 99)
        assert not row(HOST)["ssh"]
        place(faulty, "power-off")
        assert clear(faulty) == ["packet-loss", "power-off"]
        run_on(HOST, "true")

    def test_a_slow_link_carries_no_more_than_was_said(self, faulty):
        place(faulty, "slow-link", 100)
        at = time.monotonic()
        assert len(run_on(HOST, "head -c 25000 /dev/zero")) == 25000
        assert time.monotonic() - at > 1, "25 kB are 2 s at 100 kbit/s"
        at = time.monotonic()
        assert control.handle(NAME).run(HOST, "wc -c", stdin="x" * 25000).strip() == "25000"
        assert time.monotonic() - at > 1
        clear(faulty)
        assert len(run_on(HOST, "head -c 2500000 /dev/zero")) == 2500000, "200 s at 100 kbit/s"

    def test_a_refused_key_is_refused_and_taken_again(self, faulty):
        place(faulty, "refused-key")
        with pytest.raises(LabError, match="Permission denied"):
            run_on(HOST, "true")
        place(faulty, "power-off")
        clear(faulty)
        run_on(HOST, "true")

    def test_a_broken_rpm_database_comes_back_as_it_was(self, faulty):
        query = "rpm --dbpath /var/lib/rpm -qa"
        run_on(HOST, "rpm --dbpath /var/lib/rpm --initdb")
        before = run_on(HOST, "sha256sum < /var/lib/rpm/rpmdb.sqlite")
        place(faulty, "broken-rpmdb")
        with pytest.raises(LabError, match="not a database"):
            run_on(HOST, query)
        clear(faulty)
        run_on(HOST, query)
        assert run_on(HOST, "sha256sum < /var/lib/rpm/rpmdb.sqlite") == before

    def test_no_reboot_says_yes_and_does_nothing(self, faulty):
        before = boot_id(HOST)
        links = run_on(HOST, "readlink /usr/sbin/reboot /usr/sbin/shutdown")
        place(faulty, "no-reboot")
        run_on(HOST, "reboot && shutdown -r now && sleep 2")
        assert boot_id(HOST) == before
        clear(faulty)
        assert run_on(HOST, "readlink /usr/sbin/reboot /usr/sbin/shutdown") == links

    def test_an_amount_is_checked(self, faulty):
        for kind, amount in (("packet-loss", 100), ("packet-loss", 0), ("slow-link", 1), ("hang", 3)):
            with pytest.raises(LabUsageError, match="--amount"):
                place(faulty, kind, amount)
        assert row(HOST)["faults"] == []

    def test_every_fault_can_be_undone_where_it_was_never_made(self, faulty):
        """As after a kill between the note and the deed; and every kind has its test above."""
        for kind in FAULTS:
            (faulty.folder / "faults" / kind).write_text("", encoding="utf-8")
        assert clear(faulty) == list(FAULTS)
        run_on(HOST, "rpm --version; readlink /usr/sbin/reboot")

    def test_a_host_that_is_off_takes_no_other_fault(self, faulty):
        place(faulty, "power-off")
        with pytest.raises(LabError, match="is off"):
            place(faulty, "full-var")


CHILD = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_machine_hosts as t
t.control.{{}}
"""


@pytest.mark.usefixtures("lab")
class TestKilled:
    """Last in this file: every test begins by taking the lab away from under the others."""

    @pytest.fixture(autouse=True)
    def _lab_again(self):
        yield
        control.up(SPEC, None, QUIET, standin(HOST))

    def killed(self, call: str, when) -> None:
        """Start a call of `control` in a child, and SIGKILL it as soon as `when()` holds."""
        with subprocess.Popen([sys.executable, "-c", CHILD.format(call)], cwd=Path(__file__).parents[2]) as child:
            control.wait_until(lambda: child.poll() is not None or when(), timeout=60, what=call, every=0.005)
            assert child.poll() is None, "it ended before it could be killed"
            child.send_signal(signal.SIGKILL)

    @pytest.mark.parametrize(
        "moment",
        [
            lambda: Path(f"/var/lib/cellstep/labs/{NAME}/ssh").exists(),
            lambda: network.exists(f"cellstep-{NAME}-top-infra01"),
            lambda: len(Group(f"cellstep-{NAME}").members()) > 8,
        ],
        ids=["making-keys", "making-networks", "booting"],
    )
    @pytest.mark.parametrize("then", ["up", "down"])
    def test_a_killed_up_is_cleared_away(self, moment, then):
        control.down(NAME, QUIET)
        self.killed("up(t.SPEC, None, t.QUIET, t.standin(t.HOST))", moment)
        if then == "down":
            control.down(NAME, QUIET)
            assert nothing_left(NAME)
        else:
            control.up(SPEC, None, QUIET, standin(HOST))
            assert all(r["ssh"] for r in control.status(NAME))

    def test_a_killed_down_is_finished_by_the_next(self):
        self.killed("down(t.NAME, t.QUIET)", lambda: not Group(f"cellstep-{NAME}").members())
        with pytest.raises(LabError, match="not up"):
            control.machine(NAME, HOST)
        control.down(NAME, QUIET)
        assert nothing_left(NAME)

    def test_another_size_replaces_the_lab(self):
        control.up(LabSpec(NAME, 1, 2), None, QUIET, standin(HOST))
        assert [r["name"] for r in control.status(NAME)][-1] == "c01-n02"
