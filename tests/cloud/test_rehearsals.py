"""What is told of rehearsals before a schema is changed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cellstep import rehearsals
from cellstep.cloud.load import load_cloud
from cellstep.engine.journal import Journal
from cellstep.engine.ledgers import Record
from tasks.rehearsal import Rehearsal, Step, Stop, advice, steps, why
from tests.support.folders import lab_folder

TRIED = Rehearsal(
    place="top-infra01/nova",
    manifest="ab" * 32,
    command="nova-manage --config-file {config} db sync",
    start=161,
    end=216,
    head=216,
    seconds=303.4,
    steps=(Step(162, 0.1, 0, 0, 0), Step(163, 40.0, 12_000, 3, 0), Step(164, 200.2, 0, 7, 1), Step(165, 1.5, 1, 0, 0),
           Step(166, 1.2, 0, 0, 0)),
    schema=("+ table pci_devices",),
    rows={"pci_devices": (None, 0)},
    error="",
    server="10.11.6-MariaDB",
    live="5.1.73-log",
    alone=True,
)  # fmt: skip


def record(tried, **before):
    return Record((datetime.now(UTC) - timedelta(**before)).isoformat(), "20140130-090000", tried.plain())


def test_a_rehearsal_is_told_with_its_age_and_what_took_longest():
    assert rehearsals.words(record(TRIED, days=2, hours=1)) == (
        "rehearsed 2 days ago: version 161 to 216 in 5 min 3 s (164: 3 min 20 s, 8 rows; 163: 40 s, 12,003 rows;"
        " 165: 1.5 s, 1 rows); on a server MariaDB 10.11, the database's own is MySQL 5.1"
    )


def test_one_that_failed_and_none_are_told():
    failed = replace(TRIED, end=187, error="it stopped at version 187 with exit status 1: (1060)")
    assert rehearsals.words(record(failed)) == f"rehearsed just now: failed: {failed.error}"
    assert rehearsals.words(None) == "its schema change was never rehearsed"


def test_every_database_of_the_component_has_its_line(tmp_path):
    cloud, journal = load_cloud(lab_folder(tmp_path / "cloud")), Journal(tmp_path / "journal.sqlite3")
    journal.keep_record("rehearsal", "nova", "c01-ctl01/nova", replace(TRIED, live=TRIED.server, steps=()).plain())
    never = "its schema change was never rehearsed"
    assert rehearsals.lines(cloud, journal, "nova") == [
        f"top-infra01/nova: {never}",
        "c01-ctl01/nova: rehearsed just now: version 161 to 216 in 5 min 3 s",
        f"c02-ctl01/nova: {never}",
    ]
    assert rehearsals.lines(cloud, journal, "clients") == []
    journal.close()


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (60, "1 min 0 s"), (7499, "2 h 4 min")]
)
def test_durations_are_told(seconds, told):
    assert rehearsals.took(seconds) == told


def test_where_a_change_may_stop_is_the_releases_own_knowledge(tmp_path):
    fact = load_cloud(lab_folder(tmp_path / "cloud")).release.components["nova"].databases[0]
    found = {stop.version: stop for stop in rehearsals.stops(fact)}
    assert set(found) == {187, 192, 202, 208}
    assert "services.disabled_reason" in found[187].cause
    assert advice(202, tuple(found.values())).startswith(
        "the likely cause: table project_user_quotas exists already (203 then drops that table with its data); restore"
    )


def test_another_error_at_the_same_version_has_another_cause():
    stops = (Stop(187, "1060", "a backport", "drop it"),)
    assert "a backport" in advice(187, stops, "(1060, 'Duplicate column')")
    assert "a backport" not in advice(187, stops, "(1205, 'Lock wait timeout')")
    assert "a backport" not in advice(None, stops)


def test_notes_become_steps():
    """What each note writes itself, and the change of the version's own row, are taken off."""
    notes = ["0 100.000000 1 0 0", "162 100.500000 2 1 0", "163 101.750000 5 2 4"]
    assert steps(notes) == (Step(162, 0.5, 0, 0, 0), Step(163, 1.25, 2, 0, 4))
    assert steps([]) == ()


@pytest.mark.parametrize(
    ("status", "at", "told"),
    [
        (0, 216, ""),
        (
            0,
            161,
            "it ended well and the copy is at version 161 still: does the command take its address from {config}?",
        ),
        (0, 200, "it ended well at version 200, not 216"),
        (1, 216, "it stopped at version 216 with exit status 1: b | c | d | e | f"),
    ],
)
def test_only_a_change_that_came_to_its_head_is_none_to_mind(status, at, told):
    assert why(status, ["a", "b", "", "c", " d", "e", "f", ""], at, 161, 216) == told
