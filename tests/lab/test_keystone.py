"""Keystone end to end on a lab: the cells' servers, then the main ones together; what is planted is found by name.

One lab, one story, in order: each test goes on where the one before it stopped.
"""

import json
from collections.abc import Iterator

import pytest

from lab.state import LabFolder
from tests.support.labs import TestLab, lab_up
from tests.support.secrecy import search_lab, secrets_of, watching

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]

MAIN = ("top-api01", "top-api02")
SERVERS = (*MAIN, "c01-ctl01", "c02-ctl01")
DATABASES = ("top-infra01", "c01-ctl01", "c02-ctl01")
OLD, NEW = "2013.1.4-1.el6", "2013.2-1.el6"
TESTED = "main servers: functional test: each server gives a token with a catalogue, and each takes it"
MIXED = "Grizzly's server fails so on a token of Havana's (`KeyError: 'token'`): upgrade all of them together"
_LDAP = "-H ldapi://%2Frun%2Flab-directory%2Fldapi/"


@pytest.fixture(scope="module")
def lab() -> Iterator[TestLab]:
    with lab_up("keystone", 2, 1, ("keystone",)) as up:
        yield up


def versions(lab: TestLab) -> dict[str, str]:
    return {host: lab.on(host, "rpm -q --qf '%{VERSION}-%{RELEASE}' python-keystone").strip() for host in SERVERS}


def heads(lab: TestLab) -> list[str]:
    return [lab.sql(host, "select version from keystone.migrate_version") for host in DATABASES]


def keys(lab: TestLab, host: str) -> dict[str, str]:
    """Access key to secret, of Havana's table."""
    rows = lab.sql(host, "select kept.blob from keystone.credential as kept where type = 'ec2'")
    found = [json.loads(row) for row in rows.splitlines()]
    return {row["access"]: row["secret"] for row in found}


def directory(lab: TestLab) -> str:
    """All that the directory has, from the server itself."""
    script = "slapcat -f /etc/ldap/lab-directory.conf | grep -v '^#'"
    return lab.on("top-infra01", f"setpriv --reuid=openldap --regid=openldap --init-groups {script}")


def holds(lab: TestLab) -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(lab.cellstep("status", "--json"))["holds"]
    return found


def unbroken(said: str) -> str:
    """What was printed, wherever its lines were broken."""
    return "".join(said.split())


def probe(lab: TestLab, expect: int) -> dict[tuple[str, str], str]:
    said = json.loads(lab.cellstep("keystone", "probe", "--json", expect=expect))
    return {(row["issuer"], row["validator"]): row["status"] for rows in said["cells"].values() for row in rows}


@pytest.fixture(scope="module")
def before(lab: TestLab) -> dict[str, object]:
    """The directory and the EC2 keys as they were in the beginning."""
    rows = {host: lab.sql(host, "select access, secret from keystone.ec2_credential") for host in DATABASES}
    found = {host: dict(line.split("\t") for line in text.splitlines()) for host, text in rows.items()}
    assert all(len(each) == 5 for each in found.values())
    return {"directory": directory(lab), "keys": found}


def test_an_ec2_key_with_another_secret_is_found_by_name_before_anything_changes(lab: TestLab, before):
    access = next(iter(keys(lab, "c02-ctl01")))
    lab.sql("c02-ctl01", f"update keystone.ec2_credential set secret = 'another' where access = '{access}'")  # noqa: S608 - the lab's own
    said = lab.cellstep("run", "keystone", "--yes", expect=4)
    assert f"c02-ctl01/keystone: an EC2 access key exists in credential with another secret: {access}" in said
    assert heads(lab) == ["22"] * 3
    assert versions(lab) == dict.fromkeys(SERVERS, OLD)
    assert holds(lab) == {}
    secret = before["keys"]["c02-ctl01"][access]
    lab.sql("c02-ctl01", f"update keystone.ec2_credential set secret = '{secret}' where access = '{access}'")  # noqa: S608 - the lab's own
    lab.cellstep("abandon")


def test_a_run_that_leaves_out_a_main_server_is_stopped(lab: TestLab):
    said = lab.cellstep("run", "keystone", "--yes", "--limit", "top-api01", expect=4)
    assert "the run leaves out top-api02: the main servers change together" in said
    assert holds(lab) == {}


def test_a_main_server_that_cannot_start_stops_the_stage_with_the_api_closed(lab: TestLab):
    lab.on("top-api02", "cd /var/log/keystone && mv keystone.log keystone.old && mkdir keystone.log")
    secrets = secrets_of(lab)
    with watching(secrets) as seen:
        said = lab.cellstep("run", "keystone", "--yes", expect=4)
    assert "starting openstack-keystone" in said
    assert seen.leaks == set()
    assert seen.programs["curl"]
    assert heads(lab) == ["34"] * 3
    assert versions(lab) == dict.fromkeys(SERVERS, NEW), "the cells' first, then all of the main ones"
    assert {"fence", "daemons", "repository", "dark-time"} <= holds(lab).keys()
    backend = lab.on("top-infra01", "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:5000/")
    assert backend == "503"
    assert probe(lab, 3)[("c01-ctl01", "c01-ctl01")] == "ok", "the cells serve"


def test_resume_carries_it_through(lab: TestLab):
    lab.on("top-api02", "cd /var/log/keystone && rmdir keystone.log")
    said = lab.cellstep("resume", "--yes")
    assert "done, and compliant" in said
    assert holds(lab) == {}
    counts = [lab.sql(host, "select count(*) from lab.db_sync_runs where component='keystone'") for host in DATABASES]
    assert counts == ["1"] * 3
    for host in SERVERS:
        assert "cellstep-" not in lab.on(host, "ls /etc/yum.repos.d")
        lab.on(host, "! alarms masked && [ ! -e /var/lib/puppet/state/agent_disabled.lock ]")
        assert lab.on(host, "rpm -q --qf '%{VERSION}' python-nova") == "2013.1.4"


def test_every_server_takes_every_token_of_its_cell(lab: TestLab):
    table = lab.table("tokens", stage="keystone")
    assert set(table["status"]) == {"ok"}
    pairs = {(one, other) for one in MAIN for other in MAIN} | {(name, name) for name in SERVERS[2:]}
    assert set(zip(table["issuer"], table["validator"], strict=True)) == pairs
    assert probe(lab, 0) == dict.fromkeys(pairs, "ok")


def test_ec2_keys_are_there_with_their_secrets_and_expired_tokens_are_not(lab: TestLab, before):
    for host in DATABASES:
        assert keys(lab, host) == before["keys"][host]
        assert lab.sql(host, "select sum(expires < utc_timestamp()) from keystone.token") == "0"
        assert int(lab.sql(host, "select count(*) from keystone.token")) >= 20, "those that are valid"


def test_the_directory_is_as_it_was_and_the_dark_time_is_told(lab: TestLab, before):
    assert directory(lab) == before["directory"]
    assert "userPassword" in before["directory"]
    dark = lab.table("darktime", stage="keystone")
    assert list(dark["status"]) == ["dark"]


def test_no_password_and_no_token_is_left_anywhere(lab: TestLab):
    assert search_lab(lab).leaks == []
    tokens = lab.sql("top-infra01", "select id from keystone.token where user_id = 'operator'").splitlines()
    assert len(tokens) >= 4
    whole = [path.read_bytes() for path in lab.cloud.rglob("*") if path.is_file() and path.suffix != ".gz"]
    assert not [token for token in tokens if any(token.encode() in content for content in whole)]
    assert (LabFolder(lab.name).secrets()["keystone-operator"] in lab.on("c01-ctl01", "cat /root/openrc")) is True


def test_a_second_run_changes_nothing(lab: TestLab, before):
    was = {host: lab.snapshot(host)[host]["counters"] for host in SERVERS}
    said = lab.cellstep("run", "keystone", "--yes")
    assert "done, and compliant" in said
    assert {host: lab.snapshot(host)[host]["counters"] for host in SERVERS} == was
    assert [keys(lab, host) for host in DATABASES] == [before["keys"][host] for host in DATABASES]
    assert directory(lab) == before["directory"]


def test_a_mixed_fleet_is_seen_by_a_token_of_each_at_each_other(lab: TestLab):
    lab.on("top-api02", "yum -y -q downgrade openstack-keystone python-keystone && service openstack-keystone status")
    found = probe(lab, 3)
    assert found.pop(("top-api01", "top-api02")) == "error"
    assert set(found.values()) == {"ok"}
    said = lab.cellstep("run", "keystone", "--yes", "--step", TESTED, expect=4)
    assert "top-api02 does not take a token of top-api01: HTTP 500" in said
    assert "'token'" in said
    assert unbroken(MIXED) in unbroken(said)
    lab.on("top-api02", "grep -q \"^KeyError: 'token'\" /var/log/keystone/keystone.log")


def test_settings_that_change_with_the_upgrade_are_found(lab: TestLab):
    saved = "Save the settings that must stay, and check that the main servers change together"
    lab.cellstep("run", "keystone", "--yes", "--step", saved)
    lab.on("top-api01", "sed -i 's/^token_format = UUID/token_format = PKI/' /etc/keystone/keystone.conf")
    compared = "main servers: check that token format, API versions and backends are as before"
    said = lab.cellstep("run", "keystone", "--yes", "--step", compared, expect=4)
    assert "top-api01: the token format is pki, and was uuid" in said
    assert "top-api02" not in said.split("blocks:")[1].split("cellstep:")[0]


def test_a_lost_key_is_named(lab: TestLab):
    lab.cellstep("run", "keystone", "--yes", "--step", "cell01: save a digest of each EC2 key")
    access = next(iter(keys(lab, "c01-ctl01")))
    lab.sql("c01-ctl01", f"delete from keystone.credential where id = sha2('{access}', 256)")  # noqa: S608 - its own
    said = lab.cellstep(
        "run", "keystone", "--yes", "--step", "cell01: check that every EC2 key is there, with its secret", expect=4
    )
    assert f"c01-ctl01: the EC2 key {access} is not in credential" in said


def test_who_touched_the_directory_is_named(lab: TestLab):
    check = "Check that the directory is untouched"
    lab.cellstep("run", "keystone", "--yes", "--step", "Save a digest of the directory")
    change = "dn: uid=alice,ou=users,dc=example,dc=org\\nchangetype: modify\\nreplace: sn\\nsn: {}\\n"
    lab.on("top-infra01", f"printf '{change.format('Cooper')}' | ldapmodify -Q -Y EXTERNAL {_LDAP}")
    said = lab.cellstep("run", "keystone", "--yes", "--step", check, expect=3)
    assert "uid=alice,ou=users,dc=example,dc=orgbygidNumber=0+uidNumber=0,cn=peercred" in unbroken(said)
    password = LabFolder(lab.name).secrets()["keystone-directory"]
    account = "uid=keystone,ou=services,dc=example,dc=org"
    lab.on("top-infra01", f"printf '{change.format('Liddell')}' | ldapmodify -x -D {account} -w {password}")
    said = lab.cellstep("run", "keystone", "--yes", "--step", check, expect=4)
    assert unbroken(f"was changed as {account}, which is keystone") in unbroken(said)
