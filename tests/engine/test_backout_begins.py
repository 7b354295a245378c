"""How a back-out begins: after all checks, and at once with its own run."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cellstep import backout, runs
from cellstep.cloud.load import Cloud, load_cloud
from cellstep.engine.context import Options
from cellstep.engine.journal import Journal
from cellstep.errors import CellstepError, Locked, Stopped, UsageError
from tests.engine.conftest import Recorder
from tests.engine.test_settling import Nobody
from tests.support.folders import lab_folder


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    """A cloud none of whose nodes answers, with an upgrade that has stopped."""
    found = load_cloud(lab_folder(tmp_path / "cloud"))
    journal = runs.open_journal(found)
    journal.end_run(journal.begin_run("nova", found.release.name, "digest", {}), "stopped", 4)
    return found


def begin(cloud: Cloud, **options: object) -> None:
    watch = runs.Watch(Recorder(), Nobody(), threading.Event())
    backout.start(cloud, runs.Request("nova-backout", options=Options(**options)), watch)


def states(cloud: Cloud) -> list[tuple[str, str]]:
    return [(run.stage, run.state) for run in runs.open_journal(cloud).runs()]


def wrong_budget(cloud: Cloud) -> None:
    begin(cloud, budgets=("faild=3",))


def locked(cloud: Cloud) -> None:
    with runs.lock_of(cloud).held(runs.open_journal(cloud), "somebody else"):
        begin(cloud)


def another_run(cloud: Cloud) -> None:
    """Of another stage, which is under way in another way."""
    journal = runs.open_journal(cloud)
    other = journal.begin_run("cinder", cloud.release.name, "digest", {})
    try:
        begin(cloud)
    finally:
        journal.end_run(other, "complete", 0)


def no_password(cloud: Cloud) -> None:
    (cloud.directory / "password").chmod(0o644)
    begin(cloud)


@pytest.mark.parametrize(
    ("ask", "refusal"),
    [(wrong_budget, UsageError), (locked, Locked), (another_run, UsageError), (no_password, CellstepError)],
)
def test_a_back_out_that_is_refused_leaves_the_upgrade_as_it_was(
    cloud: Cloud, ask: Callable[[Cloud], None], refusal: type[Exception]
):
    """So that `resume` still goes on with it."""
    with pytest.raises(refusal):
        ask(cloud)
    assert ("nova", "stopped") in states(cloud)
    unfinished = runs.open_journal(cloud).unfinished_run()
    assert unfinished is not None
    assert unfinished.stage == "nova"


def test_from_its_beginning_on_resume_goes_on_with_the_back_out(cloud: Cloud):
    with pytest.raises(Stopped, match="not reached, and needed"):
        begin(cloud)
    assert states(cloud) == [("nova-backout", "stopped"), ("nova", "backing-out")]
    with pytest.raises(UsageError, match="of nova-backout is not finished"):
        begin(cloud)
    with pytest.raises(Stopped, match="not reached, and needed"):
        runs.resume(cloud, runs.Watch(Recorder(), Nobody(), threading.Event()))
    assert states(cloud) == [("nova-backout", "stopped"), ("nova", "backing-out")]


def test_a_rehearsal_leaves_the_upgrade_as_it_was(cloud: Cloud):
    with pytest.raises(CellstepError):
        begin(cloud, dry_run=True)
    assert states(cloud) == [("nova", "stopped")]


def test_whoever_is_killed_right_before_its_run_is_written_can_begin_again(cloud: Cloud, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> str:
        raise Killed

    with monkeypatch.context() as until_killed:
        until_killed.setattr(Journal, "begin_run", killed)
        with pytest.raises(Killed):
            begin(cloud)
    with pytest.raises(Stopped, match="not reached, and needed"):
        begin(cloud)
    assert states(cloud) == [("nova-backout", "stopped"), ("nova", "backing-out")]
