"""Glance's stage: its order, what it needs of cloud.yaml, its gates, on real databases with the releases' schemas."""

from dataclasses import replace
from pathlib import Path

import pymysql
import pytest
from ruamel.yaml import YAML

from cellstep import schemas
from cellstep.cloud.load import Cloud, load_cloud
from cellstep.engine.context import Context, Options
from cellstep.engine.journal import Journal
from cellstep.errors import ConfigurationError
from cellstep.stages import gates, runbook_of
from cellstep.stages.copies import Copies
from cellstep.stages.images import POLICY, ImagesSite
from cellstep.wayback import synced
from plugins.connections.mysql import Mysql
from tasks import checkout, databases, evidence, peers, policies
from tasks.checkout import Shown
from tasks.errors import Refused
from tasks.evidence import Evidence
from tasks.holds import Noted
from tasks.loadbalancer import FENCE, IMAGES_FENCE
from tasks.schemas import Schema
from tasks.services import DAEMONS
from tests.support import mariadb
from tests.support.ddl import ddl
from tests.support.folders import lab_folder
from tests.support.scripted import Scripted, task_on

TOP = "top-infra01"
REFERENCES = {"grizzly": "glance-22", "havana": "glance-29"}
MINE, OTHER = "atlas", "cms"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    try:
        with mariadb.running(tmp_path_factory.mktemp("glance"), "--innodb-flush-method=nosync") as running:
            for release, reference in REFERENCES.items():
                whole = schemas.of_reference(reference).tables
                some = Schema({name: whole[name] for name in ("images", "image_members")})
                running.load(f"CREATE DATABASE {release} CHARACTER SET utf8; USE {release}; {ddl(some)}")
            with pytest.MonkeyPatch.context() as patch:  # else PyMySQL reads all certificates for each connection
                patch.setattr(pymysql.connections, "SSL_ENABLED", False)
                yield running
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))


class Routed:
    """The server's database of one release, as the node's `glance`."""

    def __init__(self, server, release):
        self.mysql, self.release, self.opened = Mysql("scratch", "root", "", "127.0.0.1", server.port), release, 0

    def query(self, sql, args=(), *, database=None):
        return self.mysql.query(sql, args, database=self.release if database else None)

    def close(self):
        self.mysql.close()


class Place:
    """The lab's cloud, with a run under way and a database of images."""

    def __init__(self, server, cloud: Cloud, folder: Path) -> None:
        journal = Journal(folder / "state" / "journal.sqlite3")
        run = journal.begin_run("glance", "grizzly-havana", "digest", {})
        output = folder / "out" / run
        journal.set_output(run, str(output))
        self.context = Context(cloud, journal, run, "glance", output, cloud.nodes, Options())
        self.server, self.site, self.release = server, ImagesSite(cloud, "glance"), "grizzly"

    def sql(self, statement: str) -> None:
        self.server.execute(statement, database=self.release)

    def task(self, *rules):
        return task_on(Scripted(list(rules)), database=Routed(self.server, self.release))

    def answers(self) -> dict[str, Evidence]:
        found = {}
        for node in self.context.cloud.nodes:
            wanted = self.site.asking("images")(self.context, node)["wanted"]
            if wanted.images:
                task = self.task()
                found[node.name] = evidence.gather(task, wanted=wanted).result
                task.host.close_connections()
        assert list(found) == [TOP]
        return found

    def found(self) -> list[str]:
        findings = gates.images_kept(self.context, self.answers())
        assert all(finding.blocking for finding in findings)
        return [finding.text for finding in findings]

    def shown(self, listed: str, command: str = "nova image-list") -> Noted:
        arguments = self.site.images_through(command.partition(" ")[0])(self.context, self.context.nodes[0])
        assert arguments["place"] == (TOP, "glance")
        task = self.task((f". /root/openrc-user && {command}", listed))
        task.host.data[peers.PEERS] = {TOP: task.host}
        try:
            return checkout.images_shown(task, **arguments).result
        finally:
            task.host.close_connections()


IMAGE = (
    "INSERT INTO images (id, name, size, status, is_public, created_at, updated_at, deleted, owner, min_disk, min_ram,"
    " checksum, protected) VALUES ('{0}', '{1}', 10, 'active', {2}, {4}, {4}, 0, '{3}', 0, 0, 'c', 0)"
)


def image(number, name="cirros", public=0, owner=MINE, when="'2013-11-05'"):
    return IMAGE.format(number, name, public, owner, when)


@pytest.fixture(params=["grizzly", "havana"])
def place(request, server, cloud, tmp_path):
    """A public image, one of ours, and two of others, of which one is shared with us."""
    here = Place(server, cloud, tmp_path)
    for release in REFERENCES:
        here.release = release
        here.sql("DELETE FROM image_members")
        here.sql("DELETE FROM images")
        for each in (image("i1", public=1, owner=OTHER), image("i2", "ours"), image("i3", "theirs", owner=OTHER)):
            here.sql(each)
        here.sql(image("i4", "shared", owner=OTHER))
        here.sql(
            "INSERT INTO image_members (image_id, member, can_share, created_at, deleted)"
            " VALUES ('i4', 'atlas', 0, '2013-11-05', 0), ('i3', 'atlas', 0, '2013-11-05', 1)"
        )
    here.release = "grizzly"
    gates.save_images(here.context, here.answers())
    here.release = request.param
    return here


# --- the images ---


def test_images_as_before(place):
    assert place.found() == []


def test_what_users_did_since_does_not_block(place):
    place.sql(image("i5", when="UTC_TIMESTAMP()"))
    place.sql("UPDATE images SET deleted=1, deleted_at=UTC_TIMESTAMP(), status='deleted' WHERE id='i2'")
    place.sql("UPDATE images SET name='other', updated_at=UTC_TIMESTAMP() WHERE id='i3'")
    assert place.found() == []


def test_what_nobody_did_blocks(place):
    place.sql(image("i5", "old"))
    place.sql("UPDATE images SET deleted=1, deleted_at='2013-11-06', status='deleted' WHERE id='i2'")
    place.sql("UPDATE images SET is_public=1, checksum='d' WHERE id='i3'")
    place.sql("DELETE FROM image_members WHERE image_id='i4'")
    place.sql("DELETE FROM images WHERE id='i4'")
    assert place.found() == [
        "i2: image “ours” is missing: in the list before, not in the list now",
        "i3: image “theirs” is not as before: public 0 -> 1; checksum c -> d",
        "i4: image “shared” is missing: in the list before, not in the list now",
        "i5: image “old” is not known from before: not in the list before",
    ]


def test_without_a_list_from_before_it_says_so(place, tmp_path):
    place.context.journal.set_output(place.context.run, str(tmp_path / "elsewhere"))
    place.context.output = tmp_path / "elsewhere"
    findings = gates.images_kept(place.context, place.answers())
    assert [(f.text, f.blocking) for f in findings] == [
        ("no list of images was saved before: whether one is lost cannot be told", False)
    ]


# --- the lists of an ordinary user ---

HEAD = "+----+------+--------+--------+\n| ID | Name | Status | Server |\n+----+------+--------+--------+\n"


def listed(*ids: str) -> str:
    return HEAD + "".join(f"| {each} | x    | ACTIVE |        |\n" for each in ids) + "+----+------+\n"


def judged(place, noted: Noted) -> list[str]:
    findings = gates.nothing_shown_too_much(place.context, {"top-api01": noted})
    assert all(finding.blocking for finding in findings)
    return [finding.text for finding in findings]


def test_a_list_of_what_a_project_may_see(place):
    noted = place.shown(listed("i1", "i2", "i4"))
    assert noted.words == "3 images; 1 of others are not in it"
    assert judged(place, noted) == []
    assert judged(place, place.shown(listed("i1"), "glance image-list")) == []


def test_an_image_of_another_project_is_told(place):
    noted = place.shown(listed("i1", "i2", "i3"))
    assert noted.words == "1 too many of 3 images"
    (said,) = judged(place, noted)
    assert said.startswith("top-api01: `nova image-list` shows an ordinary user of project atlas image i3 “theirs” of")
    assert said.endswith("of project cms, which is not public")


def test_a_list_of_another_cloud_is_told(place):
    assert (
        "image i9, which top-infra01/glance does not know: whose list is that?"
        in judged(place, place.shown(listed("i9")))[0]
    )


@pytest.mark.parametrize("text", [listed(), "\n", ""])
def test_an_empty_list_hides_what_counts(place, text):
    (said,) = judged(place, place.shown(text))
    assert said.startswith(
        "top-api01: `nova image-list` shows an ordinary user none of the 3 images that project atlas"
    )


def test_a_list_that_is_none_is_refused(place):
    with pytest.raises(Refused, match=r"`nova image-list` printed no table with a column ID: | Name |"):
        place.shown("| Name |\n| i1 |")
    with pytest.raises(Refused, match="printed no table with a column ID: what"):
        place.shown("what")


def test_that_there_is_nothing_to_hide_is_told(place):
    place.sql("DELETE FROM image_members")
    place.sql("DELETE FROM images WHERE owner='cms' AND is_public=0")
    assert place.shown(listed("i1", "i2")).words == "2 images; there are none of others to hide"


def test_many_that_are_shown_are_counted(place):
    shown = Shown("nova image-list", MINE, 9, 3, 9, tuple(f"image {n}" for n in range(9)))
    assert judged(place, Noted("", shown))[5:] == ["top-api01: and 4 more"]


# --- the policies ---

FILE = "/etc/glance/policy.json"


def rule(**changes):
    known = {"file": FILE, "rule": "context_is_admin", "expected": '"role:admin"', "actual": '"role:admin"'}
    return {**known, "open": False, "fallback": '""', "error": "", **changes}


def test_a_missing_rule_is_found_by_name_and_host_and_the_next_step_mends_it(place):
    answers = {"top-api01": Evidence(policies=[rule(), rule(actual=None)]), "c01-ctl01": Evidence(policies=[rule()])}
    (found,) = gates.policies_found(place.context, answers)
    assert not found.blocking
    assert found.text == (
        'top-api01: /etc/glance/policy.json: there is no context_is_admin, so that default counts (""): whoever asks'
        " counts as one (whoever asks counts as an administrator, and sees the images of all projects); the next step"
        " adds it: give it to Puppet, too, or whatever else writes the file"
    )
    (blocks,) = gates.policies_right(place.context, answers)
    assert blocks.blocking
    assert blocks.text.startswith("top-api01: /etc/glance/policy.json: there is no context_is_admin")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"actual": '""', "open": True}, 'context_is_admin is "": whoever asks passes; write "role:admin"'),
        ({"actual": None, "error": "it is no JSON"}, "it is no JSON"),
    ],
)
def test_what_the_next_step_cannot_mend_blocks_at_once(place, changes, text):
    answers = {"top-api01": Evidence(policies=[rule(**changes)])}
    for judge in (gates.policies_found, gates.policies_right):
        assert [(f.text, f.blocking) for f in judge(place.context, answers)] == [(f"top-api01: {FILE}: {text}", True)]


def test_a_rule_of_the_sites_own_is_let_be(place):
    answers = {"top-api01": Evidence(policies=[rule(actual='"role:cloud"')])}
    assert gates.policies_found(place.context, answers) == gates.policies_right(place.context, answers) == []


def test_both_files_are_looked_at_on_every_controller(place):
    asked = {
        node.name: [(each.file, each.rule) for each in place.site.policies(place.context, node)["policies"]]
        for node in place.context.nodes
    }
    both = [(FILE, "context_is_admin"), ("/etc/nova/policy.json", "context_is_admin")]
    assert {name for name, files in asked.items() if files == both} == {
        node.name for node in place.context.nodes if node.tier in {"top", "cell"}
    }
    assert {name for name, files in asked.items() if files} == {name for name, files in asked.items() if files == both}


def test_what_was_added_is_kept_with_its_diff(place):
    mended = {"file": FILE, "rule": "context_is_admin", "backup": f"{FILE}.cellstep-1", "diff": "+ a rule\n"}
    place.site.keep_policies(place.context, "top-api01", [mended])
    assert place.context.journal.records(POLICY, "glance")[f"top-api01:{FILE}"].data == mended
    assert (place.context.output / "policies" / "top-api01.diff").read_text() == "+ a rule\n"
    place.site.keep_policies(place.context, "top-api02", [])
    dry = replace(place.context, options=Options(dry_run=True))
    place.site.keep_policies(dry, "c01-ctl01", [mended])
    assert len(place.context.journal.records(POLICY, "glance")) == 1
    assert len(list((place.context.output / "policies").iterdir())) == 1


# --- the runbook ---


def test_novas_image_api_is_closed_first_and_opens_last(cloud):
    steps = runbook_of("glance", cloud).steps

    def at(does, kind=None):
        return next(n for n, each in enumerate(steps) if each.does == does and kind in (None, each.kind))

    nova = next(n for n, each in enumerate(steps) if "nova image-list" in each.title)
    assert at(IMAGES_FENCE, "hold") < at(FENCE, "hold") < at(DAEMONS, "hold") < at(databases.sync)
    assert at(policies.fix) < at(DAEMONS, "lift") < at(FENCE, "lift") < nova < at(IMAGES_FENCE, "lift")
    assert steps[nova].judge == gates.nothing_shown_too_much
    judges = [each.judge for each in steps]
    assert judges.index(gates.policies_found) < at(policies.fix) < judges.index(gates.policies_right)
    assert judges.index(gates.images_kept) < at(FENCE, "lift")


def without(folder: Path, *path: str) -> Cloud:
    """The lab's cloud without a key of its cloud.yaml."""
    yaml, file = YAML(typ="safe"), lab_folder(folder / "cloud") / "cloud.yaml"
    values = yaml.load(file)
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    yaml.dump(values, file)
    return load_cloud(file.parent)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (
            ("staging", "live"),
            "staging.live has no command for glance: .* `glance: glance-manage --config-file /etc/FILE",
        ),
        (("checkout", "images"), "checkout.images is not there: .*environment: FILE, project: ID"),
        (("staging", "on"), "staging.on is not there: the schema of glance is changed"),
    ],
)
def test_what_the_stage_needs_of_cloud_yaml_is_told(tmp_path, path, told):
    with pytest.raises(ConfigurationError, match=told):
        runbook_of("glance", without(tmp_path, *path))


def test_without_a_back_end_of_novas_image_api_the_plan_says_so(tmp_path):
    cloud = without(tmp_path, "fence", "backends", "images")
    closed = [each for each in runbook_of("glance", cloud).steps if each.does == IMAGES_FENCE]
    words = "no back end “images” in fence.backends: Nova's image API is not blocked"
    assert [(each.kind, each.when_empty) for each in closed] == [("hold", words), ("lift", words)]
    assert [each.on.choose(cloud.nodes) for each in closed] == [[], []]


def test_the_schema_change_is_that_of_the_databases_cell_wherever_the_staging_node_is(cloud, tmp_path):
    """The journal has the staging node's cell; what is made of it is the database's."""
    book = runbook_of("glance", cloud)
    change = next(each for each in book.steps if each.does == databases.sync)
    assert [node.name for node in change.on.choose(cloud.nodes)] == ["top-infra01"]
    assert change.arguments["told_by"] == (TOP, "glance", "Glance Migrations")
    journal = Journal(tmp_path / "journal.sqlite3")
    run = journal.begin_run("glance", "grizzly-havana", "digest", {})
    journal.begin_step(run, 1, change.title, [("cell02", "c02-staging")])
    journal.start_hosts(run, change.title, {"c02-staging": 1})
    assert synced(journal, book, journal.runs("glance")) == {"top"}


def test_a_run_on_other_cells_changes_no_schema(cloud):
    stagers = Copies(cloud, "glance").stagers
    cells = [node for node in cloud.nodes if node.cell != "top"]
    assert list(stagers.choose(cells)) == []
    assert [node.name for node in stagers.choose([node for node in cloud.nodes if node.name == "top-api02"])] == [TOP]
