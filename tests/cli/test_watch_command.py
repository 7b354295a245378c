"""`cellstep watch`, and the page that a run keeps up to date: of a journal in the middle of a run."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cellstep import runs, statuspage, watching
from cellstep.cli.main import app
from cellstep.cli.watch import draw, in_a_line
from cellstep.statuspage import NAME
from tests.support.midway import DENIED, UPDATE, at, fleet, halfway

NODE = (
    "INSERT INTO host_steps (run, title, cell, host, state, attempts, started_at, finished_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


@pytest.fixture(scope="module")
def middle(tmp_path_factory):
    cloud, journal, run = fleet(tmp_path_factory.mktemp("watch") / "cloud", 400)
    with contextlib.closing(journal), runs.lock_of(cloud).held(journal, "run nova"):
        yield cloud, journal, run


def drawn(cloud, picture, height=40) -> str:
    console = Console(width=110, height=height, force_terminal=False)
    with console.capture() as captured:
        console.print(draw(cloud, picture, height))
    return captured.get()


def test_a_picture_has_steps_cells_rate_forecast_and_troubles(middle):
    cloud, journal, _ = middle
    picture = watching.look(cloud, journal)
    assert picture is not None
    cells = {cell.name: (cell.nodes, cell.ended, cell.busy, cell.trouble) for cell in picture.cells}
    assert cells == {"cell01": (200, 200, 0, 4), "cell02": (200, 80, 40, 0)}
    # 276 nodes ended well in the last four minutes.
    assert picture.rate == pytest.approx(276 / 4, rel=0.1)
    assert picture.end == ""  # nothing is known of the steps after this one
    assert [(each.title, [group.nodes for group in each.groups]) for each in picture.troubles] == [
        (UPDATE, [("c01-n0003", "c01-n0004", "c01-n0005")])
    ]
    assert dict(picture.stages) == {
        **dict.fromkeys(("ceilometer", "glance", "keystone", "cinder", "clients", "horizon"), "to do"),
        "nova": "under way",
    }
    assert in_a_line(picture).startswith(f"nova: Step 38 of 61: {UPDATE}: 280 of 400 nodes; ")


def test_the_end_is_known_where_an_earlier_run_knows_the_rest(tmp_path):
    cloud, journal, first = fleet(tmp_path / "cloud", 20)
    with contextlib.closing(journal):
        rest = watching.picture(cloud, journal, next(journal.runs())).to_come
        with journal._write() as db:
            for number, title in enumerate(rest, 39):
                row = (first, number, title, "done", at(60), at(0))
                db.execute(
                    "INSERT INTO steps (run, number, title, state, started_at, finished_at) VALUES (?,?,?,?,?,?)", row
                )
                node = (first, title, "top", "top-api01", "changed", 1, at(60), at(0))
                db.execute(NODE, node)
        journal.end_run(first, "complete", 0)
        with runs.lock_of(cloud).held(journal, "run nova"):
            halfway(cloud, journal)
            picture = watching.look(cloud, journal)
    assert picture is not None
    assert picture.standing.left is not None
    assert picture.end == f"ends about {watching.later(picture.at, picture.standing.left.seconds)[11:16]} UTC"
    assert picture.standing.left.seconds > 60


def test_holds_on_the_same_nodes_are_one_line(tmp_path):
    cloud, journal, run = fleet(tmp_path / "cloud", 20)
    with contextlib.closing(journal):
        for name, nodes in {"puppet": ("c01-n0001", "c01-n0002"), "monitoring": ("c01-n0002", "c01-n0001")}.items():
            journal.place_holds(run, "nova", name, name, {node: {} for node in nodes})
        picture = watching.look(cloud, journal)
    assert re.search(r"held: (puppet, monitoring|monitoring, puppet) on c01-n\[0001-0002\]", drawn(cloud, picture))


def test_it_is_drawn_within_the_terminal(middle):
    cloud, journal, _ = middle
    picture = watching.look(cloud, journal)
    said = drawn(cloud, picture)
    for words in (
        "lab: nova, grizzly to havana",
        f"Step 38 of 61: {UPDATE}",
        "280 of 400 nodes, ",
        "cell01  200 of 200  4 in trouble",
        "cell02  80 of 200  40 under way",
        f"failed at “{UPDATE}”: c01-n[0003-0005]: {DENIED}",
        "in quarantine: c01-n0006",
    ):
        assert words in said
    assert len(said.splitlines()) < 20


def test_no_run_yet(tmp_path):
    cloud, journal, _ = fleet(tmp_path / "cloud", 20)
    journal.close()
    runs.journal_path(cloud).unlink()
    done = CliRunner().invoke(app, ["watch", "--until-end", "--cloud", str(cloud.directory)])
    assert (done.exit_code, done.output) == (0, "no run yet\n")


@pytest.mark.parametrize(("state", "code", "ended"), [("complete", 3, 3), ("stopped", 4, 4), ("interrupted", None, 4)])
def test_until_end_ends_with_the_runs_code(tmp_path, state, code, ended):
    cloud, journal, run = fleet(tmp_path / "cloud", 20)
    with contextlib.closing(journal):
        journal.end_run(run, state, code, "why")
    done = CliRunner().invoke(app, ["watch", "--until-end", "--cloud", str(cloud.directory)])
    assert done.exit_code == ended
    assert len(done.output.splitlines()) == 1


def test_a_crashed_run_is_told_from_one_that_goes_on(tmp_path):
    cloud, journal, _ = fleet(tmp_path / "cloud", 20)
    journal.close()
    done = CliRunner().invoke(app, ["watch", "--until-end", "--cloud", str(cloud.directory)])
    assert "The run's process is gone: `cellstep resume` goes on" in done.output


def test_ctrl_c_on_a_terminal_leaves_the_last_picture(middle):
    cloud, _, _ = middle
    control, terminal = pty.openpty()
    words = [sys.executable, "-m", "cellstep", "watch", "--every", "0.2", "--cloud", str(cloud.directory)]
    process = subprocess.Popen(
        words, stdin=terminal, stdout=terminal, stderr=terminal, env={**os.environ, "TERM": "xterm"}
    )
    os.close(terminal)
    seen = b""
    with contextlib.closing(os.fdopen(control, "rb", buffering=0)) as screen:
        while b"in trouble" not in seen:
            seen += screen.read(4096)
        process.send_signal(signal.SIGINT)
        rest = b""
        with contextlib.suppress(OSError):  # the terminal's other end is closed: EIO
            while more := screen.read(4096):
                rest += more
    assert process.wait(timeout=30) == 0
    assert b"Traceback" not in rest
    after = rest.partition(b"\x1b[?1049l")[2].decode()
    assert "40 under way" in re.sub(r"\x1b\[[0-9;]*m", "", after)


# The page


def test_the_page_is_written_at_once_and_at_the_end(tmp_path):
    cloud, journal, run = fleet(tmp_path / "cloud", 20)
    folder, told = tmp_path / "out", []
    with contextlib.closing(journal), runs.lock_of(cloud).held(journal, "run nova"):
        with statuspage.kept(lambda *words: told.append(words), cloud, run, folder):
            journal.end_run(run, "complete", 0)
        assert "Done" in (folder / NAME).read_text(encoding="utf-8")
    assert [path.name for path in folder.iterdir()] == [NAME]
    assert told == []


def test_a_page_that_cannot_be_written_is_said_once_and_stops_nothing(tmp_path, monkeypatch):
    cloud, journal, run = fleet(tmp_path / "cloud", 20)
    (tmp_path / "out").write_text("no folder")
    told: list[tuple[str, str]] = []
    tries, often, real = [], threading.Event(), statuspage.write

    def counted(*arguments) -> None:
        tries.append(1)
        if len(tries) == 3:
            often.set()
        real(*arguments)

    monkeypatch.setattr(statuspage, "EVERY_S", 0.0)
    monkeypatch.setattr(statuspage, "SHARE", 0)
    monkeypatch.setattr(statuspage, "write", counted)
    with contextlib.closing(journal), statuspage.kept(lambda *words: told.append(words), cloud, run, tmp_path / "out"):
        assert often.wait(60)
    assert len(told) == 1
    assert told[0][0] == NAME
    assert told[0][1].startswith("cannot be written, and is tried again: ")


def test_a_full_disk_leaves_the_page_before(tmp_path, monkeypatch):
    cloud, journal, run = fleet(tmp_path / "cloud", 20)
    path = tmp_path / "out" / NAME
    with contextlib.closing(journal):
        statuspage.write(cloud, run, path)
        before = path.read_text(encoding="utf-8")

        def full(self: Path, text: str, **_: str) -> int:
            with self.open("w") as file:
                file.write(text[:100])
            raise OSError(28, "No space left on device", str(self))

        monkeypatch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            statuspage.write(cloud, run, path)
    assert path.read_text(encoding="utf-8") == before
    assert [each.name for each in path.parent.iterdir()] == [NAME]
