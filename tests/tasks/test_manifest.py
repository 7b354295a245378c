"""Manifests: the same after they were written and read, and nothing else is taken for one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import manifest
from tasks.contents import Table
from tasks.errors import Refused
from tasks.manifest import Entry, Manifest, Server

SERVER = Server("", "top-db01.cern.ch", "/var/lib/mysql/", 3306, "5.1.73-log", 1)
KNOWN = Manifest(
    run="20140130-090000-nova",
    node="top-db01",
    database="nova",
    repository_id="nova",
    head=161,
    server=SERVER,
    replica_of="",
    origin=SERVER,
    settings={"sql_mode": ""},
    tables={"instances": Entry(2, "170", True), "services": Entry(1, "9", False)},
    file="nova.sql.gz",
    size=1234,
    sha256="0f" * 32,
    began="2014-01-30T09:00:00Z",
    ended="2014-01-30T09:04:10Z",
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
COUNT = st.integers(0, 2**70)
SERVERS = st.builds(Server, TEXT, TEXT, TEXT, COUNT, TEXT, COUNT)
ENTRIES = st.builds(Entry, COUNT, COUNT.map(str), st.booleans())
MANIFESTS = st.builds(
    Manifest,
    run=TEXT,
    node=TEXT,
    database=TEXT,
    repository_id=TEXT,
    head=st.none() | COUNT,
    server=SERVERS,
    replica_of=TEXT,
    origin=SERVERS,
    settings=st.dictionaries(TEXT, TEXT, max_size=3),
    tables=st.dictionaries(TEXT, ENTRIES, max_size=4),
    file=st.just("nova.sql.gz"),
    size=COUNT,
    sha256=st.just("0f" * 32),
    began=st.just("2014-01-30T09:00:00Z"),
    ended=st.just("2014-01-30T09:04:10Z"),
    format=st.just(manifest.FORMAT),
)


@given(MANIFESTS)
def test_a_manifest_is_read_as_it_was_written(known):
    assert manifest.parse(known.text, "here") == known


@given(st.integers(0, len(KNOWN.text) - 3))
def test_a_manifest_that_is_cut_off_is_refused(length):
    with pytest.raises(Refused, match=r"^/dumps/nova is no manifest of a dump: "):
        manifest.parse(KNOWN.text[:length], "/dumps/nova")


def change(**more):
    return json.dumps(json.loads(KNOWN.text) | more)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (change(size="1234"), "size: Input should be a valid integer"),
        (change(size=-1), "size: "),
        (change(sha256="0f"), "sha256: "),
        (change(file="../../etc/passwd"), "file: "),
        (change(began="30.1.2014"), "began: "),
        (change(extra=1), "extra: "),
        (change(tables={"t": {"rows": 1, "checksum": "5"}}), "tables.t.steady: Field required"),
        (change(tables={"t": {"rows": 1, "checksum": "unknown", "steady": True}}), "tables.t.checksum: "),
        (change(server={}), "server.uuid: Field required"),
        (change(format=2), "a manifest of format 2, not 1"),
        ("[]", ""),
        ("-- MySQL dump 10.13", "Invalid JSON"),
    ],
)
def test_what_is_no_manifest_is_refused_by_what_is_wrong(text, why):
    with pytest.raises(Refused, match=r"^here is ") as refused:
        manifest.parse(text, "here")
    assert why in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_manifest_that_is_not_there_is_told(tmp_path):
    with pytest.raises(Refused, match=r"nova\.manifest\.json cannot be read: No such file or directory"):
        manifest.load(tmp_path / manifest.name_of("nova"))
    (tmp_path / "latin").write_bytes(b"\xff")
    with pytest.raises(Refused, match="latin cannot be read: it is no UTF-8"):
        manifest.load(tmp_path / "latin")


def test_what_a_manifest_says_in_short():
    assert KNOWN.contents == {"instances": Table(2, "170"), "services": Table(1, "9")}
    assert KNOWN.unsteady == {"services"}
    said = KNOWN.summary
    assert (said["tables"], said["rows"], said["manifest"], said["head"]) == (2, 3, KNOWN.digest, 161)
    assert json.loads(json.dumps(said)) == said
    assert KNOWN.digest != manifest.parse(change(size=1235), "here").digest


def test_a_server_that_does_not_tell_enough_is_refused():
    told = {"hostname": "db1", "port": "3306", "version": "5.1.73", "server_id": "1"}
    with pytest.raises(Refused, match="the server on top-db01 does not tell its datadir: which one is it"):
        Server.of(told, "top-db01")
    assert Server.of({**told, "datadir": "/d"}, "top-db01") == Server("", "db1", "/d", 3306, "5.1.73", 1)
