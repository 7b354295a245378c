"""Audits on a schedule: units that systemd takes, and a line that cron takes."""

import shlex

import pytest

from cellstep.auditing import timers
from cellstep.cloud.load import load_cloud
from cellstep.errors import UsageError
from tests.support import clouds


@pytest.fixture
def cloud(tmp_path):
    folder = tmp_path / "100% of $HOME; a cloud"
    folder.mkdir()
    return load_cloud(clouds.write(folder))


def test_systemd_takes_the_units_whatever_the_folder_is_called(cloud, tmp_path):
    made = timers.units(cloud, "*-*-* 02:30", "root")
    timers.check(made, "*-*-* 02:30")
    paths = timers.write(made, tmp_path / "units")
    assert [path.name for path in paths] == ["cellstep-audit-test.service", "cellstep-audit-test.timer"]
    (line,) = [line for line in made.service.splitlines() if line.startswith("ExecStart=")]
    assert "100%% of $$HOME; a cloud" in line
    assert "SuccessExitStatus=3 5" in made.service


@pytest.mark.parametrize("calendar", ["nonsense", "25:00", "*-13-*"])
def test_a_calendar_that_systemd_does_not_know_is_refused(cloud, calendar):
    with pytest.raises(UsageError, match="--calendar"):
        timers.check(timers.units(cloud, calendar, "root"), calendar)


def test_a_line_for_a_crontab_is_what_its_shell_reads(cloud):
    line = timers.crontab(cloud, "30 2 * * *")
    assert line.startswith("30 2 * * * ")
    # cron makes \% a plain per cent sign before its shell reads the line.
    words = shlex.split(line.removeprefix("30 2 * * * ").replace("\\%", "%"))
    assert words == timers.command(cloud)
    assert timers.crontab(cloud, "@daily").startswith("@daily ")
    with pytest.raises(UsageError, match="five fields"):
        timers.crontab(cloud, "daily")
