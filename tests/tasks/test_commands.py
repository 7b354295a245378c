"""A site's own commands: run once, skipped where done, and a hold that is put back as it was. In a real bash."""

import pytest

from tasks import commands
from tasks.errors import CommandFailed, Refused
from tests.support.scripted import Bash, reply, task_on


@pytest.fixture
def node(tmp_path):
    return Bash(tmp_path / "programs")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "job"


def carry_out(node, command, already=""):
    return reply(node, commands.carry_out, command=command, already=already, timeout_s=10.0)


def test_a_command_runs_and_is_skipped_where_it_is_done(node, file):
    command, already = f"echo once >> {file}", f"test -e {file}"
    assert carry_out(node, command, already) == f"changed: ran: {command}"
    assert carry_out(node, command, already) == "skipped: done already"
    assert file.read_text() == "once\n"


def test_a_command_that_fails_says_its_last_lines(node):
    with pytest.raises(CommandFailed, match="no such mirror"):
        carry_out(node, "echo no such mirror >&2; exit 3")


def test_one_that_ends_well_without_having_done_it_is_refused(node, file):
    with pytest.raises(Refused, match=rf"`true` ended well, but `test -e {file}` says that it is not done"):
        carry_out(node, "true", f"test -e {file}")


def test_nothing_is_run_in_a_dry_run(node, file):
    task = task_on(node, dry_run=True)
    result = commands.carry_out(task, command=f"touch {file}", already=f"test -e {file}", timeout_s=10.0)
    assert result.changed
    assert not file.exists()
    prior = {"state": "", "in place": False}
    for half in (commands.place, commands.put_back):
        assert half(task, prior=prior, **hold(file, already=False)).changed
    assert not file.exists()


def hold(file, already=True):
    return {
        "read": f"cat {file} 2>/dev/null || true",
        "place": f"grep -q me && rm {file}",
        "lift": f"cat > {file}",
        "already": f"test ! -e {file}" if already else "",
        "timeout_s": 10.0,
    }


@pytest.mark.parametrize("already", [True, False])
def test_a_hold_is_put_back_with_what_was_read_before(node, file, already):
    held = hold(file, already)
    text = "@daily 'me' $HOME `x` \\\nsecond line\n"
    file.write_text(text)
    prior = commands.read_state(task_on(node), **held).result
    assert prior == {"state": text.strip(), "in place": False}
    assert reply(node, commands.place, prior=prior, **held) == f"changed: ran: {held['place']}"
    assert not file.exists()
    assert reply(node, commands.put_back, prior=prior, **held) == f"changed: ran: {held['lift']}"
    assert file.read_text() == text


def test_what_somebody_else_holds_is_neither_placed_nor_lifted(node, file):
    held = hold(file)
    prior = commands.read_state(task_on(node), **held).result
    assert prior == {"state": "", "in place": True}
    assert reply(node, commands.place, prior=prior, **held) == "skipped: in place already"
    file.write_text("put there by them\n")
    assert reply(node, commands.put_back, prior=prior, **held) == "skipped: was in place before: left so"
    assert file.read_text() == "put there by them\n"


def test_what_is_placed_or_lifted_already_is_not_done_again(node, file):
    held, prior = hold(file), {"state": "me", "in place": False}
    assert reply(node, commands.place, prior=prior, **held) == "skipped: in place already"
    file.write_text("mended by hand\n")
    assert reply(node, commands.put_back, prior=prior, **held) == "skipped: is not in place any more"
    assert file.read_text() == "mended by hand\n"


def test_a_prior_state_that_the_journal_cannot_keep_is_refused(node):
    held = {**hold("nowhere"), "read": "head -c 70000 /dev/zero | tr '\\0' x"}
    with pytest.raises(Refused, match=r"printed 70,000 characters: no more than 65,536 can be kept"):
        commands.read_state(task_on(node), **held)
