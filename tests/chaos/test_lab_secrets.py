"""No password and no private key is seen in an upgrade: not in a process list, and not in anything it leaves."""

import gzip
import io
import sqlite3
import zipfile
from pathlib import Path

import pytest

from tests.chaos.side_by_side import say
from tests.support.secrecy import search
from tests.support.undisturbed import Undisturbed, undisturbed

SECRET = {"password": [b"never-tell-anybody"]}


@pytest.fixture(scope="module")
def reference() -> Undisturbed:
    return undisturbed()


@pytest.mark.lab
def test_no_process_here_or_on_a_host_has_a_secret_in_its_arguments_or_environment(reference: Undisturbed) -> None:
    seen = reference.sightings
    # What was looked at is what matters: the long commands of the upgrade, on the hosts, were seen.
    assert {"yum", "nova-manage", "bash"} <= set(seen.programs), seen.programs
    assert seen.leaks == set()
    most = ", ".join(f"{count} {name}" for name, count in seen.programs.most_common(12))
    say(f"{seen.environments} processes seen, none with a secret: {most}")


@pytest.mark.lab
def test_no_secret_is_in_a_log_a_journal_a_report_or_a_jobs_folder(reference: Undisturbed) -> None:
    found = reference.found
    assert found.leaks == []
    # The search finds them where they belong; otherwise it would find nothing anywhere.
    belongs = "\n".join(found.belongs)
    for place in ("etc/nova/nova.conf: password nova", "var/lib/mysql", "backups", "cloud/out"):
        assert place in belongs, f"{place} is not among\n{belongs}"
    say(f"{found.files} files searched; secrets only in {len(found.belongs)} that are settings, databases and dumps")


def test_the_search_finds_a_secret_also_in_what_is_packed(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"login with never-tell-anybody\n")
    (tmp_path / "dump.sql.gz").write_bytes(gzip.compress(b"INSERT never-tell-anybody"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("sheet.xml", "never-tell-anybody" * 9)
    (tmp_path / "report.xlsx").write_bytes(packed.getvalue())
    journal = sqlite3.connect(tmp_path / "journal.sqlite3")
    journal.execute("CREATE TABLE commands (tail TEXT)")
    # So long that the file has it in several pieces, with the secret across a border somewhere.
    journal.execute("INSERT INTO commands VALUES (?)", ("never-tell-anybody" * 5000,))
    journal.commit()
    journal.close()
    (tmp_path / "harmless").write_bytes(b"never tell anybody")
    found = search("here", tmp_path, SECRET, ["dump.sql.gz"])
    assert found.leaks == [f"here/{name}: password" for name in ("journal.sqlite3", "log", "report.xlsx")]
    assert found.belongs == ["here/dump.sql.gz: password"]
    assert found.files == 5
