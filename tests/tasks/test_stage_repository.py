"""The release's repository for the time of one stage: placed with that stage's packages alone, and taken away again."""

import pytest

from tasks import repositories
from tasks.errors import Refused
from tests.support.scripted import Bash, reply, task_on

SITE = {
    "repository": "havana",
    "baseurl": "http://127.0.0.1:8081/havana",
    "packages": ("python-b", "a"),
    "gpgcheck": True,
}
YUM = """
case "$*" in
  *repolist*) cat {folder}/*.repo 2> /dev/null | sed -n 's/^\\[\\(.*\\)\\]$/\\1/p';;
esac"""


@pytest.fixture
def node(tmp_path, monkeypatch):
    monkeypatch.setattr(repositories, "_path", lambda _, repository: str(tmp_path / f"cellstep-{repository}.repo"))
    found = Bash(tmp_path / "bin")
    found.program("yum", YUM.format(folder=tmp_path))
    return found


def prior(node):
    return repositories.read(task_on(node), **SITE).result


def test_it_is_placed_with_the_stages_packages_alone_and_taken_away(node, tmp_path):
    before = prior(node)
    assert before == {"there": False}
    assert reply(node, repositories.place, prior=before, **SITE) == "changed: has the repository havana, for 2 packages"
    lines = (tmp_path / "cellstep-havana.repo").read_text().splitlines()
    assert {"[havana]", "baseurl=http://127.0.0.1:8081/havana", "gpgcheck=1", "includepkgs=a python-b"} <= set(lines)
    assert prior(node) == {"there": False}, "our own is none of the node's"
    assert reply(node, repositories.lift, prior=before, **SITE) == "changed: the repository havana is gone again"
    assert reply(node, repositories.lift, prior=before, **SITE) == "skipped: not there"


def test_one_that_the_node_has_by_itself_stays(node, tmp_path):
    (tmp_path / "havana.repo").write_text("[havana]\nenabled=1\n")
    before = prior(node)
    assert before == {"there": True}
    assert reply(node, repositories.place, prior=before, **SITE) == "skipped: has the repository havana by itself"
    assert reply(node, repositories.lift, prior=before, **SITE) == "skipped: not there"
    assert (tmp_path / "havana.repo").exists()


def test_a_file_of_ours_name_that_is_not_ours_is_never_removed(node, tmp_path):
    (tmp_path / "cellstep-havana.repo").write_text("[havana]\n")
    assert reply(node, repositories.lift, prior={"there": False}, **SITE) == "skipped: not there"
    assert (tmp_path / "cellstep-havana.repo").exists()


def test_one_that_yum_does_not_list_is_told(node):
    node.program("yum", "exit 0")
    with pytest.raises(Refused, match=r"`yum repolist` lists no havana, although .*cellstep-havana\.repo is there"):
        repositories.place(task_on(node), prior={"there": False}, **SITE)


def test_a_dry_run_places_nothing(node, tmp_path):
    task = task_on(node, dry_run=True)
    assert repositories.place(task, prior={"there": False}, **SITE).changed
    assert not (tmp_path / "cellstep-havana.repo").exists()
