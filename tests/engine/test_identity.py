"""What keystone's gates judge, where its servers and databases are, and that its runbook goes cell after cell."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from cellstep.cloud.load import load_cloud
from cellstep.engine.context import Context, Options
from cellstep.engine.journal import Journal
from cellstep.errors import ConfigurationError
from cellstep.stages import identity, keystone, runbook_of
from cellstep.stages.arguments import Site
from cellstep.stages.copies import Copies, titles
from cellstep.stages.identity import MIXED, Identity
from tasks.holds import Noted
from tasks.keystone.directory import Directory
from tasks.keystone.probe import Crossing, Issue, Matrix
from tasks.keystone.server import Settings
from tests.support import clouds
from tests.support.folders import lab_folder

TOP_ONLY = "\nservices: {{cell: [openstack-nova-cells, openstack-nova-conductor, openstack-nova-scheduler]}}\n".format()
SETTINGS = Settings("uuid", "ldap", "sql", ("v2.0", "v3.0"), {"public": "http://127.0.0.1:5000/"})


def cloud_of(folder: Path, more: str = ""):
    lab_folder(folder)
    settings = folder / "cloud.yaml"
    text = settings.read_text()
    settings.write_text(text.replace("\nservices: {}", more, 1) if more else text)
    return load_cloud(folder)


@pytest.fixture
def cloud(tmp_path):
    return cloud_of(tmp_path / "cloud")


@pytest.fixture
def own(cloud):
    return Identity(Site(cloud, "keystone"))


@pytest.fixture
def context(cloud, tmp_path):
    with contextlib.closing(Journal(tmp_path / "journal")) as journal:
        run = journal.begin_run("keystone", "grizzly-havana", "digest", {})
        yield Context(cloud, journal, run, "keystone", tmp_path, cloud.nodes, Options())


def said(findings):
    return [(finding.text, finding.blocking) for finding in findings]


# Where


def test_each_cell_has_its_servers_and_its_database(own):
    assert own.cells == ["cell01", "cell02"]
    assert {cell: str(place) for cell, place in own.stores.items()} == {
        "top": "top-infra01/keystone",
        "cell01": "c01-ctl01/keystone",
        "cell02": "c02-ctl01/keystone",
    }
    assert [node.name for node in own.servers_of("top")] == ["top-api01", "top-api02"]
    assert own.schema("cell02")["told_by"] == ("c02-ctl01", "keystone", "keystone")


def test_a_site_whose_top_cell_alone_has_keystone_leaves_the_cells_out(tmp_path):
    cloud = cloud_of(tmp_path / "top", TOP_ONLY)
    own = Identity(Site(cloud, "keystone"))
    assert own.cells == []
    assert list(own.stores) == ["top"]
    lines = runbook_of("keystone", cloud).steps
    assert not [line.title for line in lines if "cell0" in line.title]
    nodes = {node.name for line in lines for node in line.on.choose(cloud.nodes)} - {cloud.config.apis.watch_from}
    assert nodes == {"top-api01", "top-api02", "top-infra01"}
    assert "openstack-keystone" not in cloud.release.packages_on("cell")
    assert "openstack-keystone" in cloud.release.packages_on("top")
    assert "openstack-nova-cells" in cloud.release.packages_on("cell")


def test_a_cell_with_a_server_and_no_database_is_refused(tmp_path):
    cloud = load_cloud(clouds.write(tmp_path, clouds.CLOUD.replace("promote: {", "baseurl: 'http://x/', promote: {")))
    with pytest.raises(ConfigurationError, match="cell02: c02-ctl01 runs keystone, and no node of the cell has the"):
        keystone.runbook(cloud)


def test_the_cells_are_done_one_after_the_other_and_then_all_main_servers_at_once(cloud):
    titles_of = [line.title for line in keystone.runbook(cloud).steps]
    first, second = titles_of.index("cell01: stop keystone"), titles_of.index("cell02: stop keystone")
    main = titles_of.index("Stop all main servers")
    tests = [number for number, title in enumerate(titles_of) if "functional test" in title]
    assert first < tests[0] < second < tests[1] < main < tests[2] < titles_of.index("Enable the user facing API")
    for cell in ("cell01", "cell02", "top"):
        dump, prove, gate = (titles_of.index(title) for title in titles(cell))
        name = "main servers" if cell == "top" else cell
        assert dump < prove < gate < titles_of.index(f"{name}: update the RPMs")
        assert titles_of.index(f"{name}: update the RPMs") < titles_of.index(
            f"{name}: update the DB: keystone-manage db_sync"
        )
    fenced = titles_of.index("Block requests to the main servers")
    assert fenced < main


def test_tokens_are_purged_where_the_site_asks_for_it(own, cloud, tmp_path):
    names = [node.name for node in own.stores_to_purge.choose(cloud.nodes)]
    assert names == ["top-infra01", "c01-ctl01", "c02-ctl01"]
    folder = lab_folder(tmp_path / "other")
    settings = folder / "cloud.yaml"
    settings.write_text(settings.read_text().replace("purge_tokens: true", "purge_tokens: false"))
    other = load_cloud(folder)
    assert Identity(Site(other, "keystone")).stores_to_purge.choose(other.nodes) == []


def test_copies_of_one_cell_are_those_of_its_database_alone(cloud):
    copies = Copies(cloud, "keystone", "cell02")
    assert list(copies.schemas) == ["c02-ctl01/keystone"]
    assert [node.name for node in copies.sources.choose(cloud.nodes)] == ["c02-ctl01"]
    assert copies.gate.startswith("cell02: ")
    assert [node.name for node in Copies(cloud, "keystone").sources.choose(cloud.nodes)] == [
        "top-infra01",
        "c01-ctl01",
        "c02-ctl01",
    ]


# Before and after


def test_a_run_on_some_main_servers_is_stopped_and_one_on_a_cell_is_not(own, context):
    results = {"top-api01": SETTINGS}
    assert own.all_together(context, results) == []
    some = replace(context, nodes=tuple(node for node in context.nodes if node.name != "top-api02"))
    ((text, blocking),) = said(own.all_together(some, results))
    assert text.startswith("the run leaves out top-api02: the main servers change together")
    assert blocking
    cell = replace(context, nodes=tuple(node for node in context.nodes if node.cell == "cell01"))
    assert own.all_together(cell, {"c01-ctl01": SETTINGS}) == []


def test_settings_of_before_must_be_those_of_after(own, context):
    assert own.same_settings(context, {"top-api01": SETTINGS}) == [], "nothing is known of before"
    own.all_together(context, {"top-api01": SETTINGS})
    assert own.same_settings(context, {"top-api01": replace(SETTINGS, urls={})}) == []
    own.all_together(context, {"top-api01": replace(SETTINGS, format="pki")})
    changed = replace(SETTINGS, format="pki", identity="", versions=("v2.0",))
    assert said(own.same_settings(context, {"top-api01": changed})) == [
        ("top-api01: the token format is pki, and was uuid", True),
        ("top-api01: the identity backend is not set, and was ldap", True),
        ("top-api01: the versions of the API is v2.0, and was v2.0, v3.0", True),
    ]


def matrix(*crossings, issues=(), shape="uuid", services=1):
    servers = dict.fromkeys(each.issuer for each in crossings)
    mine = issues or tuple(Issue(server, "ok", "", shape, services) for server in servers)
    return Noted("", Matrix("admin", mine, crossings))


FINE = Crossing("top-api01", "top-api01", "ok")
BAD = Crossing("top-api01", "top-api02", "error", "HTTP 500: An unexpected error 'token'")


def test_a_mixed_fleet_is_only_told_before_and_stops_the_run_after(own, context):
    before = said(own.keep_shapes(context, {"top-api01": matrix(FINE, BAD)}))
    words = f"top-api02 does not take a token of top-api01: {BAD.answer}"
    assert before == [(words, False), (MIXED, False)]
    after = said(own.tokens_work(context, {"top-api01": matrix(FINE, BAD)}))
    assert after == [(words, True), (MIXED, True)]
    records = context.journal.records(identity.TOKENS, "keystone", context.run)
    assert identity.rows(context.cloud, records)[1] == {"cell": "top", **vars(BAD)}


def test_another_token_format_and_an_empty_catalogue_stop_the_run(own, context):
    own.keep_shapes(context, {"top-api01": matrix(FINE)})
    assert own.tokens_work(context, {"top-api01": matrix(FINE)}) == []
    assert said(own.tokens_work(context, {"top-api01": matrix(FINE, shape="pki", services=0)})) == [
        ("top-api01: no service is in its catalogue", True),
        ("top-api01: tokens are of the format pki, and were of uuid", True),
    ]
    refused = (Issue("top-api01", "refused", "HTTP 401: no"),)
    assert said(own.tokens_work(context, {"top-api01": matrix(issues=refused)})) == [
        ("top-api01 gives no token to admin: HTTP 401: no", True)
    ]


def test_keys_that_are_lost_or_other_are_named(own, context):
    old = {f"key{number}": "same" for number in range(8)}
    own.keep_keys(context, {"c01-ctl01": {"ec2_credential": old, "credential": {"havana": "same"}}})
    own.keep_keys(context, {"c01-ctl01": {"credential": {}}})  # done again: what was first counts
    now = {**old, "havana": "same", "new": "another"}
    assert own.keys_kept(context, {"c01-ctl01": {"credential": now}}) == []
    found = said(own.keys_kept(context, {"c01-ctl01": {"credential": {"key0": "other"}}}))
    assert ("c01-ctl01: the EC2 key havana is not in credential", True) in found
    assert ("c01-ctl01: the EC2 key key0 has another secret, user or project than before", True) in found
    assert ("c01-ctl01: and 3 more, each of which is not in credential", True) in found
    assert len(found) == 7


def test_a_dry_run_keeps_nothing(own, context):
    dry = replace(context, options=Options(dry_run=True))
    own.keep_keys(dry, {"c01-ctl01": {"credential": {"a": "b"}}})
    own.all_together(dry, {"top-api01": SETTINGS})
    assert own.tokens_work(dry, {"top-api01": Noted("", Matrix())}) == []
    assert [context.journal.records(kind, "keystone") for kind in (identity.KEYS, identity.SETTINGS)] == [{}, {}]


def test_what_an_upgrade_before_has_kept_says_nothing_of_this_one(own, context):
    own.keep_keys(context, {"c01-ctl01": {"credential": {"a": "b"}}})
    context.journal.end_run(context.run, "complete", 0, "")
    later = context.journal.begin_run("keystone", "grizzly-havana", "digest", {})
    assert own.keys_kept(replace(context, run=later), {"c01-ctl01": {"credential": {}}}) == []


ALICE = "uid=alice,dc=example"


def test_who_wrote_to_the_directory_decides(own, context):
    was = Directory("ldap://x", "", "dc=example", "uid=keystone", "csn", 7, "digest", "20131101")
    own.keep_directory(context, {"top-api01": Noted("", was)})
    assert own.since(context, own.servers_of("top")[0]) == {"since": "20131101"}
    assert own.directory_untouched(context, {"top-api01": Noted("", replace(was, context="later"))}) == []
    other = replace(was, digest="other", entries=8, changed=(("uid=boss", ALICE),))
    assert said(own.directory_untouched(context, {"top-api01": Noted("", other)})) == [
        (f"top-api01: ldap://x has 8 entries below dc=example, and had 7; changed: {ALICE} by uid=boss", False)
    ]
    ours = replace(other, changed=(("uid=boss", "uid=bob"), ("UID=Keystone", ALICE)))
    ((text, blocking),) = said(own.directory_untouched(context, {"top-api01": Noted("", ours)}))
    assert text.endswith(f"; {ALICE} was changed as uid=keystone, which is keystone")
    assert blocking
    gone = replace(was, digest="other", entries=6)
    ((text, blocking),) = said(own.directory_untouched(context, {"top-api01": Noted("", gone)}))
    assert text.endswith("has 6 entries below dc=example, and had 7; changed: it does not tell what")
