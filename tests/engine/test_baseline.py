"""Which lists from before the upgrade a gate or a verification compares with."""

from pathlib import Path

import pytest

from cellstep import kept
from cellstep.baseline import Baseline
from cellstep.cloud.load import Cloud
from cellstep.engine.context import Context, Options
from cellstep.engine.journal import Journal
from cellstep.stages import gates
from tasks.evidence import Evidence
from tasks.facts import Facts, Guest


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "state" / "journal.sqlite3")


def run(journal: Journal, tmp_path: Path, state: str, volumes: str = "", **options: str) -> Path:
    """A run that saved a list of one volume, or none."""
    name = journal.begin_run("nova", "r", "d", options)
    folder = tmp_path / name
    journal.set_output(name, str(folder))
    if volumes:
        kept.save(folder, "volumes", [{"id": volumes}])
    if state != "running":
        journal.end_run(name, state, 0)
    return folder


def found(cloud: Cloud, journal: Journal, folder: Path) -> str | None:
    rows = Baseline.find(cloud, journal, "nova", folder).volumes
    return None if rows is None else str(rows[0]["id"])


def test_a_run_has_what_it_saved(cloud: Cloud, journal: Journal, tmp_path: Path):
    assert found(cloud, journal, run(journal, tmp_path, "running", "mine")) == "mine"


def test_without_any_there_is_nothing(cloud: Cloud, journal: Journal, tmp_path: Path):
    assert found(cloud, journal, run(journal, tmp_path, "running")) is None


def test_a_run_begun_afresh_compares_with_what_was_before_the_first(cloud: Cloud, journal: Journal, tmp_path: Path):
    run(journal, tmp_path, "complete", "long ago")
    run(journal, tmp_path, "superseded", "before")
    assert found(cloud, journal, run(journal, tmp_path, "running", "half upgraded")) == "before"


def test_a_single_step_or_a_few_nodes_do_not_replace_the_list(cloud: Cloud, journal: Journal, tmp_path: Path):
    run(journal, tmp_path, "complete", "before")
    run(journal, tmp_path, "complete", "of one step", step="1")
    run(journal, tmp_path, "complete", "of one node", limit="c01-n01")
    assert found(cloud, journal, tmp_path / "verify") == "before"


def test_a_limited_run_compares_with_its_own(cloud: Cloud, journal: Journal, tmp_path: Path):
    run(journal, tmp_path, "complete", "before")
    assert found(cloud, journal, run(journal, tmp_path, "running", "of one node", limit="c01-n01")) == "of one node"


def test_a_second_upgrade_compares_with_its_own(cloud: Cloud, journal: Journal, tmp_path: Path):
    run(journal, tmp_path, "complete", "first")
    run(journal, tmp_path, "complete", "second")
    assert found(cloud, journal, tmp_path / "verify") == "second"


UPDATE, SYNC = "Update all the Nova RPMs and the kernel on top controllers", "Update the top DB"


@pytest.mark.parametrize("options", [{}, {"limit": "c01-n01"}])
def test_an_abandoned_run_that_changed_nothing_is_not_what_a_newer_one_compares_with(
    cloud: Cloud, journal: Journal, tmp_path: Path, options
):
    """Weeks may lie between the two, in which users delete volumes and nodes get other packages."""
    abandoned = run(journal, tmp_path, "abandoned", "of weeks ago", **options)
    journal.begin_step(abandoned.name, 20, UPDATE, [("top", "top-api01")])
    kept.save(abandoned, "packages", [{"host": "top-api01", "package": "p", "installed": "old"}])
    assert found(cloud, journal, tmp_path / "verify") == (None if options else "of weeks ago")
    newer = run(journal, tmp_path, "running")
    assert Baseline.find(cloud, journal, "nova", newer) == Baseline()
    kept.save(newer, "volumes", [{"id": "of today"}])
    assert found(cloud, journal, newer) == "of today"


@pytest.mark.parametrize("title", [UPDATE, SYNC])
def test_an_abandoned_run_that_began_to_change_something_is(cloud: Cloud, journal: Journal, tmp_path: Path, title: str):
    abandoned = run(journal, tmp_path, "abandoned", "before")
    journal.begin_step(abandoned.name, 20, title, [("top", "top-api01")])
    journal.start_hosts(abandoned.name, title, {"top-api01": 1})
    assert found(cloud, journal, run(journal, tmp_path, "running", "half upgraded")) == "before"


def facts(kernel: str, *guests: str, **packages: str) -> Evidence:
    running = [Guest(uuid, 1, 1.0) for uuid in guests]
    return Evidence(Facts("boot", kernel, {name: [evr] for name, evr in packages.items()}, {}, running))


def test_saving_again_adds_the_nodes_that_are_new_and_leaves_what_is_from_before(cloud, journal, tmp_path: Path):
    """A node that joins in the middle brings the save steps back, on all nodes: they are half upgraded by then."""
    folder = run(journal, tmp_path, "running")
    context = Context(cloud, journal, folder.name, "nova", folder, cloud.nodes, Options())

    def save(version: str, nodes: dict[str, tuple[str, ...]], volume: str) -> None:
        answers = {host: facts(f"kernel {version}", *of, **{"python-nova": version}) for host, of in nodes.items()}
        gates.save_guests(context, answers)
        gates.save_packages(context, answers)
        gates.save_volumes(context, {"top-infra01": Evidence(volumes=[{"id": volume}], quotas={"of": volume})})

    save("2013.1.4", {"c01-n01": ("a",), "c01-n02": ()}, "before")
    save("2013.2.1", {"c01-n01": (), "c01-n02": ("b",), "c02-n01": ("c",)}, "after")
    found = Baseline.find(cloud, journal, "nova", folder)
    versions = {"c01-n01": "2013.1.4", "c01-n02": "2013.1.4", "c02-n01": "2013.2.1"}
    assert {row["host"]: row["installed"] for row in found.packages or ()} == versions
    assert {host: row["kernel"] for row in found.systems or () for host in row["hosts"]} == {
        host: f"kernel {version}" for host, version in versions.items()
    }
    assert [(row["host"], row["uuid"]) for row in found.guests or ()] == [("c01-n01", "a"), ("c02-n01", "c")]
    assert (found.volumes, found.quotas) == ([{"id": "before"}], [{"of": "before"}])


def test_a_list_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch):
    kept.save(tmp_path, "guests", [{"host": "a", "uuid": "1"}], ["a"])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        kept.save(tmp_path, "guests", [{"host": "b", "uuid": "2"}], ["b"])
    assert kept.load(tmp_path, "guests") == [{"host": "a", "uuid": "1"}]
    assert [each.name for each in (tmp_path / "before").iterdir()] == ["guests.json"]


def test_a_list_of_the_first_version_is_read_and_added_to(tmp_path: Path):
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "guests.json").write_text('[{"host": "a", "uuid": "1"}]')
    kept.save(tmp_path, "guests", [{"host": "a", "uuid": "9"}, {"host": "b", "uuid": "2"}], ["a", "b"])
    assert kept.load(tmp_path, "guests") == [{"host": "a", "uuid": "1"}, {"host": "b", "uuid": "2"}]


def test_a_catch_up_before_the_run_is_of_the_upgrade_before(cloud: Cloud, journal: Journal, tmp_path: Path):
    """What Puppet updated between the two is no fault of this run."""
    run(journal, tmp_path, "complete")
    caught_up = run(journal, tmp_path, "complete", limit="c01-n01", catch_up="yes")
    kept.save(caught_up, "packages", [{"host": "c01-ctl01", "package": "a", "installed": "1"}], ["c01-ctl01"])
    whole = run(journal, tmp_path, "running")
    kept.save(whole, "packages", [{"host": "c01-ctl01", "package": "a", "installed": "2"}], ["c01-ctl01"])
    assert [row["installed"] for row in Baseline.find(cloud, journal, "nova", whole).packages or ()] == ["2"]
