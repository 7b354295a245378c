"""Glance end to end on a lab: a policy without the rule is found and mended, images are kept, the dark time is told.

One lab, one story, in order: each test goes on where the one before it stopped.
"""

import json
from collections.abc import Iterator

import pytest

from tests.support.labs import TestLab, lab_up
from tests.support.snapshot import differences

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

TOP = ("top-api01", "top-api02")
CELL, DATABASE = "c01-ctl01", "top-infra01"
CONTROLLERS = (*TOP, CELL)
POLICY = "/etc/glance/policy.json"
OWN_RULE = (
    """sed -i 's/"default": "",/"default": "",\\n    "publicize_image": "role:admin",/' /etc/glance/policy.json"""
)
WITHOUT = "sed -i /context_is_admin/d /etc/glance/policy.json"
WITH = """sed -i '1a\\    "context_is_admin": "role:admin",' /etc/glance/policy.json"""
HEAD = "select version from glance.migrate_version where repository_id='Glance Migrations'"
SYNCS = "select count(*) from lab.db_sync_runs where component='glance'"


@pytest.fixture(scope="module")
def lab() -> Iterator[TestLab]:
    with lab_up("glance", 1, 1, ("glance",)) as up:
        yield up


def answers(lab: TestLab, path: str) -> str:
    """The HTTP status that a user gets for a path, through the load balancer."""
    return lab.on(
        CELL, f"curl -s -o /dev/null -w '%{{http_code}}' -H 'X-Auth-Token: alice:atlas' http://{DATABASE}:{path}"
    ).strip()


def images(lab: TestLab, client: str) -> set[str]:
    """What an ordinary user sees, by names."""
    text = lab.on(TOP[0], f". /root/openrc-user && {client} image-list")
    return {line.split("|")[2].strip() for line in text.splitlines() if line.startswith("|")} - {"Name"}


MINE = {"cirros", "slc6-server", "atlas-analysis", "cms-shared"}
THEIRS = {"cms-reconstruction", "it-secrets", "upload-in-error"}


def test_before_it_all_an_ordinary_user_sees_what_is_its_own(lab: TestLab):
    assert images(lab, "nova") == images(lab, "glance") == MINE
    assert answers(lab, "8774/v2/atlas/images") == "200"


def test_a_dry_run_changes_nothing(lab: TestLab):
    before = lab.snapshot()
    said = lab.cellstep("run", "glance", "--dry-run")
    assert (
        "would run `/opt/havana/usr/bin/glance-manage --config-file /etc/glance-staging.conf db_sync`: 22 to 29" in said
    )
    assert differences(before, lab.snapshot()) == []
    assert not (lab.cloud / "state" / "journal.sqlite3").exists()


def test_a_missing_rule_is_found_and_added_and_a_service_that_does_not_start_keeps_all_closed(lab: TestLab):
    """The site's own policies stay in the update, and lack the rule; a third host gets the release's own with it."""
    for host in (TOP[0], CELL):
        lab.on(host, OWN_RULE)
    lab.on(CELL, "mv /var/log/glance/registry.log /var/log/glance/registry.old; mkdir /var/log/glance/registry.log")
    said = lab.cellstep("run", "glance", "--yes", expect=4)
    assert "“Re-enable Glance”: failed on c01-ctl01" in said
    findings = [each["text"] for each in json.loads(lab.cellstep("status", "--json"))["findings"]]
    assert sorted(text.split(": there is no context_is_admin")[0] for text in findings) == [
        f"{CELL}: {POLICY}",
        f"{TOP[0]}: {POLICY}",
    ]
    assert lab.sql(DATABASE, HEAD) == "29"
    assert {"fence", "fence-images", "dark-time"} <= json.loads(lab.cellstep("status", "--json"))["holds"].keys()
    assert answers(lab, "8774/v2/atlas/images") == answers(lab, "9292/") == "503"
    assert answers(lab, "8774/v2/atlas/servers") == "200", "the rest of Nova serves"


def test_what_was_added_has_a_backup_and_a_diff_and_all_else_is_as_it_was(lab: TestLab):
    diff = (lab.cloud / "out" / "latest" / "policies" / f"{TOP[0]}.diff").read_text(encoding="utf-8")
    changed = [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in {"+++", "---"}]
    assert changed == ['+    "context_is_admin": "role:admin",']
    for host in (TOP[0], CELL):
        known = lab.on(host, f"ls {POLICY}*; stat -c '%a %U %G' {POLICY} {POLICY}.cellstep-*").split()
        run = known[1].rpartition("-cellstep-")[2]
        assert known[0] == POLICY, run
        assert known[2] == f"{POLICY}.rpmnew"
        assert known[3:6] == known[6:9] == ["640", "root", "root"]
        assert lab.on(host, f"diff {POLICY}.cellstep-* {POLICY} | grep -c '^[<>]'", expect=0).strip() == "1"
        assert '"publicize_image": "role:admin"' in lab.on(host, f"cat {POLICY}")
    lab.on(TOP[1], f"! ls {POLICY}.cellstep-*")


def test_novas_image_api_stays_closed_while_it_shows_the_images_of_others(lab: TestLab):
    """Somebody brings the old policies back in the middle: what users would see is what counts."""
    for host in TOP:
        lab.on(host, WITHOUT)
    lab.on(CELL, "rmdir /var/log/glance/registry.log")
    said = lab.cellstep("resume", "--yes", expect=4)
    assert "`nova image-list` shows an ordinary user of project atlas image" in said
    for name in THEIRS:
        assert f"“{name}”" in said
    assert images(lab, "nova") == MINE | THEIRS, "the fault is real"
    assert not images(lab, "glance") & THEIRS
    assert answers(lab, "9292/") == "300"
    assert answers(lab, "8774/v2/atlas/images") == "503"
    holds = json.loads(lab.cellstep("status", "--json"))["holds"]
    assert "fence-images" in holds
    assert "fence" not in holds


def test_it_opens_when_the_list_is_right(lab: TestLab):
    for host in TOP:
        lab.on(host, WITH)
    said = lab.cellstep("resume", "--yes", expect=3)  # a rule had to be added
    assert answers(lab, "8774/v2/atlas/images") == "200"
    assert images(lab, "nova") == images(lab, "glance") == MINE
    assert json.loads(lab.cellstep("status", "--json"))["holds"] == {}
    assert "not as they should be" not in said
    assert set(lab.table("images", stage="glance")["status"]) == {"ok"}
    assert len(lab.table("images", stage="glance")) == len(MINE | THEIRS)
    policies = lab.table("policies", stage="glance")
    assert set(policies["status"]) == {"ok"}
    assert sorted(policies["host"]) == sorted(CONTROLLERS * 2), "Glance's and Nova's on each"
    dark = lab.table("darktime", stage="glance")
    assert list(dark["api"]) == ["glance"]
    assert list(dark["status"]) == ["dark"]
    assert 5 < float(dark["seconds"].iloc[0]) < 600
    assert set(lab.table("schemas", stage="glance")["status"]) <= {"ok", "kept"}
    assert lab.sql(DATABASE, SYNCS) == "1"
    for host in CONTROLLERS:
        assert lab.on(host, "rpm -q --qf '%{VERSION} ' python-glance openstack-glance python-nova").split() == [
            *("2013.2.1", "2013.2.1", "2013.1.4")
        ]


def test_a_second_run_changes_nothing(lab: TestLab):
    before, files = lab.snapshot(), [lab.on(host, f"md5sum {POLICY}* /etc/nova/*") for host in CONTROLLERS]
    said = lab.cellstep("run", "glance", "--yes")
    assert "done, and compliant" in said
    assert differences(before, lab.snapshot()) == []
    assert [lab.on(host, f"md5sum {POLICY}* /etc/nova/*") for host in CONTROLLERS] == files


def test_a_lost_image_and_one_that_its_user_deleted_are_told_apart(lab: TestLab):
    lab.sql(DATABASE, "set foreign_key_checks=0; delete from glance.images where name='it-secrets'")
    mine = lab.sql(DATABASE, "select id from glance.images where name='atlas-analysis'")
    lab.on(TOP[0], f". /root/openrc-user && glance image-delete {mine} && glance image-create --name new")
    found = lab.verify("--table", "images", expect=3, stage="glance")["tables"]["images"]
    assert {row["name"]: row["status"] for row in found if row["status"] != "ok"} == {
        "it-secrets": "missing",
        "atlas-analysis": "deleted by user",
        "new": "created by user",
    }


def test_a_policy_that_was_put_back_is_found_afterwards(lab: TestLab):
    lab.on(CELL, WITHOUT)
    lab.on(TOP[1], "echo '// ours' >> /etc/nova/policy.json")
    found = lab.verify("--table", "policies", expect=3, stage="glance")["tables"]["policies"]
    assert [(row["host"], row["file"], row["status"]) for row in found if row["status"] != "ok"] == [
        (TOP[1], "/etc/nova/policy.json", "unreadable"),
        (CELL, POLICY, "missing"),
    ]
