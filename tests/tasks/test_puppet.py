"""Puppet: the agent, its automatic updating, and the release's repository."""

import subprocess
import threading

import pytest

from tasks import puppet
from tasks.errors import CommandFailed, Refused
from tests.support.scripted import Bash, Scripted, reply, said, task_on, told


@pytest.fixture
def bash(tmp_path):
    return Bash(tmp_path / "bin")


@pytest.fixture
def agent(bash, tmp_path):
    """A node with a stand-in for `puppet agent --disable|--enable`; and the path of its lock."""
    state = tmp_path / "state dir"
    state.mkdir()
    lock = state / "agent_disabled.lock"
    bash.program(
        "puppet",
        f"""[ "$1" = agent ] || exit 64
case "$2" in
  --disable) printf '{{"disabled_message":"%s"}}' "$3" > "{lock}";;
  --enable) rm -f "{lock}";;
esac""",
    )
    return bash, lock


def test_the_agent_is_disabled_and_enabled(agent):
    bash, lock = agent
    prior = puppet.read_agent(task_on(bash), lock=str(lock)).result
    assert prior == {"enabled": True, "reason": ""}
    assert reply(bash, puppet.disable_agent, prior=prior, lock=str(lock)) == "changed: Puppet stopped"
    assert lock.read_text() == f'{{"disabled_message":"{puppet.REASON}"}}'
    assert reply(bash, puppet.disable_agent, prior=prior, lock=str(lock)) == (
        f"skipped: disabled already: {puppet.REASON}"
    )
    assert reply(bash, puppet.enable_agent, prior=prior, lock=str(lock)) == "changed: Puppet enabled"
    assert not lock.exists()
    assert reply(bash, puppet.enable_agent, prior=prior, lock=str(lock)) == "skipped: enabled already"


def test_an_agent_that_somebody_else_disabled_is_left_disabled(agent):
    bash, lock = agent
    lock.write_text("disc is being swapped\n")
    prior = puppet.read_agent(task_on(bash), lock=str(lock)).result
    assert prior == {"enabled": False, "reason": "disc is being swapped"}
    assert reply(bash, puppet.disable_agent, prior=prior, lock=str(lock)) == (
        "skipped: disabled already: disc is being swapped"
    )
    assert reply(bash, puppet.enable_agent, prior=prior, lock=str(lock)) == (
        "skipped: was disabled before: left so (disc is being swapped)"
    )
    assert lock.read_text() == "disc is being swapped\n"
    assert not bash.sent_with("puppet agent")


def test_a_lock_elsewhere_is_told(agent, tmp_path):
    """cloud.yaml names another path than puppet.conf: it would be taken for enabled for ever."""
    bash, _ = agent
    elsewhere = str(tmp_path / "other.lock")
    with pytest.raises(Refused, match=r"wrote no .*other\.lock; is this its agent_disabled_lockfile"):
        reply(bash, puppet.disable_agent, prior={"enabled": True, "reason": ""}, lock=elsewhere)


@pytest.fixture
def under_way(agent):
    """A Puppet run that is under way, as a process and its lock."""
    _, lock = agent
    with subprocess.Popen(["sleep", "60"]) as run:
        lock.with_name("agent_catalog_run.lock").write_text(f"{run.pid}\n")
        yield run
        run.terminate()


def waits_for(run, function):
    """Whether the function goes on as long as the run does; and what it returned."""
    ended = []
    thread = threading.Thread(target=lambda: ended.append(function()))
    thread.start()
    thread.join(0.5)
    waited = thread.is_alive()
    run.terminate()
    run.wait(5)
    thread.join(10)
    return waited, ended


@pytest.mark.parametrize("by_us", [True, False])
def test_a_run_under_way_is_waited_for(agent, under_way, by_us):
    """Whether the agent was disabled now or before: a run that had begun goes on."""
    bash, lock = agent
    if not by_us:
        lock.write_text("by somebody")
    prior = {"enabled": by_us, "reason": "" if by_us else "by somebody"}
    waited, ended = waits_for(under_way, lambda: reply(bash, puppet.disable_agent, prior=prior, lock=str(lock)))
    assert waited
    assert ended == ["changed: Puppet stopped" if by_us else "skipped: disabled already: by somebody"]


@pytest.mark.parametrize("value", ["true", "false"])
def test_updating_is_off_once_a_run_under_way_has_ended(agent, under_way, tmp_path, value):
    """It read the switch before: it may still update."""
    bash, lock = agent
    file = tmp_path / "updates"
    file.write_text(f"ENABLED={value}\n")
    switch = switch_in(file) | {"lock": str(lock)}
    prior = puppet.read_updates(task_on(bash), **switch).result
    waited, ended = waits_for(under_way, lambda: reply(bash, puppet.disable_updates, prior=prior, **switch))
    assert waited
    assert "off" in ended[0]


@pytest.mark.parametrize("content", ["gone", "", "nonsense"])
def test_a_lock_that_a_crash_left_is_not_waited_for(agent, content):
    bash, lock = agent
    with subprocess.Popen(["true"]) as run:
        run.wait(5)
    lock.with_name("agent_catalog_run.lock").write_text(f"{run.pid}\n" if content == "gone" else content)
    prior = {"enabled": True, "reason": ""}
    assert reply(bash, puppet.disable_agent, prior=prior, lock=str(lock)) == "changed: Puppet stopped"


def test_a_run_that_does_not_end_is_named(agent, under_way, monkeypatch):
    assert under_way.poll() is None
    bash, lock = agent
    monkeypatch.setattr(puppet, "RUN_TIMEOUT_S", 1.0)
    with pytest.raises(CommandFailed, match=r"waiting for the Puppet run .*agent_catalog_run\.lock.*: exit status 1"):
        reply(bash, puppet.disable_agent, prior={"enabled": True, "reason": ""}, lock=str(lock))


def test_a_dry_run_waits_for_no_run(agent, under_way):
    bash, lock = agent
    prior = {"enabled": False, "reason": "x"}
    assert told(puppet.disable_agent(task_on(bash, dry_run=True), prior=prior, lock=str(lock))).startswith("skipped")
    assert under_way.poll() is None


def test_a_dry_run_leaves_the_agent(agent):
    bash, lock = agent
    prior = {"enabled": True, "reason": ""}
    assert told(puppet.disable_agent(task_on(bash, dry_run=True), prior=prior, lock=str(lock))).startswith("changed")
    assert not lock.exists()
    lock.write_text("ours")
    assert told(puppet.enable_agent(task_on(bash, dry_run=True), prior=prior, lock=str(lock))).startswith("changed")
    assert lock.exists()


# Automatic updating: a file that is sourced by a shell


LINES = [
    "ENABLED=true",
    'ENABLED="true"',
    "ENABLED='true'   # nightly, see ticket 12; don't touch",
    "  ENABLED=true",
    "\tENABLED=yes # with a tab",
    r"ENABLED=true # back\slash %s $HOME `id`",
    "ENABLED=",
]


def switch_in(file):
    return {"file": str(file), "key": "ENABLED", "off": "false", "lock": str(file.with_name("agent_disabled.lock"))}


def sourced(path, key="ENABLED"):
    return subprocess.run(
        ["bash", "-c", f'. "$1"; printf %s "${key}"', "-", path], capture_output=True, text=True, check=True, timeout=10
    ).stdout


@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("line", LINES)
def test_updating_is_switched_off_and_restored_letter_by_letter(bash, tmp_path, line, end):
    file = tmp_path / "yum auto'update"
    before = f"# ENABLED=false switches it off\nMAILTO=root\nREENABLED=1\n{line}{end}"
    file.write_text(before)
    file.chmod(0o640)
    switch = switch_in(file)
    prior = puppet.read_updates(task_on(bash), **switch).result
    assert prior == {"line": line}
    was = sourced(file)
    assert reply(bash, puppet.disable_updates, prior=prior, **switch) == (
        f"changed: automatic updating off (was {line.strip()})"
    )
    assert sourced(file) == "false"
    assert "MAILTO=root\nREENABLED=1\n" in file.read_text()
    assert reply(bash, puppet.disable_updates, prior=prior, **switch) == "skipped: automatic updating is off already"
    assert reply(bash, puppet.enable_updates, prior=prior, **switch) == (
        f"changed: automatic updating back to {line.strip()}"
    )
    assert file.read_text() == before.rstrip("\n") + "\n"
    assert (sourced(file), file.stat().st_mode & 0o777) == (was, 0o640)
    assert reply(bash, puppet.enable_updates, prior=prior, **switch) == "skipped: as before already"
    assert [path.name for path in tmp_path.iterdir() if path != bash.programs] == [file.name]


@pytest.mark.parametrize("line", ["ENABLED=false", "  ENABLED='false' # by hand", 'ENABLED="false"'])
def test_updating_that_was_off_stays_as_it_was(bash, tmp_path, line):
    file = tmp_path / "updates"
    file.write_text(f"{line}\nMAILTO=root\n")
    switch = switch_in(file)
    prior = puppet.read_updates(task_on(bash), **switch).result
    assert reply(bash, puppet.disable_updates, prior=prior, **switch) == "skipped: automatic updating is off already"
    assert reply(bash, puppet.enable_updates, prior=prior, **switch) == "skipped: as before already"
    assert file.read_text() == f"{line}\nMAILTO=root\n"


def test_of_several_lines_the_last_holds_as_in_a_shell(bash, tmp_path):
    file = tmp_path / "updates"
    file.write_text("ENABLED=false\nMAILTO=root\nENABLED=true\n")
    switch = switch_in(file)
    prior = puppet.read_updates(task_on(bash), **switch).result
    assert prior == {"line": "ENABLED=true"}
    reply(bash, puppet.disable_updates, prior=prior, **switch)
    assert sourced(file) == "false"
    reply(bash, puppet.enable_updates, prior=prior, **switch)
    assert sourced(file) == "true"


@pytest.mark.parametrize("text", ["", "MAILTO=root\n", "#ENABLED=true\nNOT_ENABLED=true\n", None])
def test_a_file_that_does_not_set_the_key_is_left_alone(bash, tmp_path, text):
    file = tmp_path / "updates"
    if text is not None:
        file.write_text(text)
    switch = switch_in(file)
    prior = puppet.read_updates(task_on(bash), **switch).result
    assert prior == {"line": ""}
    assert reply(bash, puppet.disable_updates, prior=prior, **switch) == (
        f"skipped: {file} does not set ENABLED: no automatic updating here"
    )
    assert reply(bash, puppet.enable_updates, prior=prior, **switch) == "skipped: as before already"
    assert (file.read_text() if file.exists() else None) == text


def test_a_dry_run_leaves_the_switch(bash, tmp_path):
    file = tmp_path / "updates"
    file.write_text("ENABLED=true\n")
    switch = switch_in(file)
    task = task_on(bash, dry_run=True)
    assert told(puppet.disable_updates(task, prior={"line": "ENABLED=true"}, **switch)).startswith("changed")
    assert told(puppet.enable_updates(task, prior={"line": "ENABLED=yes"}, **switch)).startswith("changed")
    assert file.read_text() == "ENABLED=true\n"


# The repository


WITHOUT = "grizzly            OpenStack Grizzly          42\n!base/6/x86_64 CentOS  6,367\n\n"
WITH = WITHOUT + "*havana/x86_64 OpenStack Havana 42\n"
BEFORE = {"python-nova": "2013.1.4-1.el6"}
OLD = "python-nova 2013.1.4-1.el6\n"


NO_RUN = AssertionError("no run was to be forced")


def receive(repolist, *, run=NO_RUN, rpms=OLD, before=BEFORE, dry_run=False):
    node = Scripted([("yum -q repolist enabled", repolist), ("puppet-run", run), ("rpm -qa", rpms)])
    task = task_on(node, dry_run=dry_run)
    return told(puppet.receive_repository(task, repository="havana", run="/sbin/puppet-run", before=before))


@pytest.mark.parametrize(
    "line", ["havana", "!havana/6/x86_64", "*havana/x86_64 mirrored", "havana OpenStack Havana 42"]
)
def test_a_node_that_has_the_repository_runs_nothing(line):
    assert receive(f"grizzly x 42\n{line}\n") == "ok: has the repository havana; nothing was upgraded"


@pytest.mark.parametrize("line", ["havana-testing x 42", "my-havana x 42", "grizzly havana 42"])
def test_another_repository_is_not_taken_for_it(line):
    with pytest.raises(Refused, match="lists no havana after a Puppet run; is this node in its group"):
        receive([f"{line}\n", f"{line}\n"], run="")


@pytest.mark.parametrize("status", [0, 1, 2, 4, 6])
def test_a_forced_run_that_brings_the_repository_is_taken_whatever_its_status(status):
    """Puppet's run may fail in parts that are no matter here."""
    assert receive([WITHOUT, WITH], run=said("", status)) == (
        "changed: got the repository havana by a forced Puppet run; nothing was upgraded"
    )


@pytest.mark.parametrize("status", [0, 2])
def test_a_run_that_went_well_without_the_repository_is_refused(status):
    with pytest.raises(Refused, match="lists no havana"):
        receive([WITHOUT, WITHOUT], run=said("", status))


@pytest.mark.parametrize("status", [1, 4, 6])
def test_a_run_that_failed_without_the_repository_is_told_with_its_words(status):
    error = said("", status, "err: Could not retrieve catalog from remote server")
    with pytest.raises(CommandFailed, match=f"forced Puppet run: exit status {status}: err: Could not retrieve"):
        receive([WITHOUT, WITHOUT], run=error)


@pytest.mark.parametrize(
    ("now", "told_of"),
    [
        ("python-nova 2013.2.1-1.el6\n", "python-nova 2013.1.4-1.el6 to 2013.2.1-1.el6"),
        ("bash 4.1-1\n", "python-nova 2013.1.4-1.el6 to nothing"),
    ],
)
@pytest.mark.parametrize("lists", [WITH, [WITHOUT, WITH]])
def test_a_package_that_changed_meanwhile_is_refused(now, told_of, lists):
    """Automatic updating was on after all; whether or not this run did it."""
    with pytest.raises(Refused) as refused:
        receive(lists, run="", rpms=now)
    assert str(refused.value).startswith(f"changed although automatic updating is off: {told_of};")


def test_without_saved_versions_it_says_so():
    assert receive(WITH, before={}) == "ok: has the repository havana; no versions were saved to compare with"


def test_a_dry_run_forces_no_run():
    assert receive(WITHOUT, dry_run=True) == "changed: has no repository havana yet: would run Puppet once"


def test_a_yum_that_fails_is_told():
    with pytest.raises(CommandFailed, match="repolist enabled: exit status 1"):
        receive(said("", 1, "Error: Cannot retrieve"))


def test_the_repository_is_promoted_once():
    node = Scripted([("is-promoted", [said(status=1), ""]), ("promote havana", "")])
    assert (
        reply(node, puppet.promote, command="promote havana", already="is-promoted") == "changed: ran: promote havana"
    )
    assert reply(node, puppet.promote, command="promote havana", already="is-promoted") == "skipped: promoted already"
    assert node.sent_with("promote havana") == ["promote havana"]
    task = task_on(node, dry_run=True)
    assert told(puppet.promote(task, command="other", already="")) == "changed: ran: other"
