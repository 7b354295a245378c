"""What a site has changed in the dashboard: found, and re-applied or refused; real packages in an rpm database."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import customisations
from tasks.customisations import Wish
from tasks.errors import Refused
from tasks.peers import PEERS
from tests.support.scripted import Bash, _Host, task_on, told

PACKAGE = "lab-dashboard"
SPEC = """Name: {name}
Version: {version}
Release: 1
Summary: A dashboard
License: none
BuildArch: noarch
%description
A dashboard.
%install
mkdir -p %{{buildroot}}{root}
printf 'one\\ntwo\\nthree\\n' > %{{buildroot}}{root}/same.html
printf 'release {version}\\n' > %{{buildroot}}{root}/moved.html
printf 'KEY = 1\\n' > %{{buildroot}}{root}/settings
%files
{root}/same.html
{root}/moved.html
%config(noreplace) {root}/settings
"""


class Machines:
    """The old machine and the new one: each a folder of this one, with an rpm database of its own.

    What a task names below `root` is the node's own; the programs and the shell are wrapped so that it is.
    """

    def __init__(self, folder: Path):
        self.folder, self.root = folder, folder / "srv"
        self.nodes = {}
        for name, version in (("old", "1"), ("new", "2")):
            spec = folder / f"{name}.spec"
            spec.write_text(SPEC.format(name=PACKAGE, version=version, root=self.root))
            define = [f"--define=_topdir {folder}/{name}.build", f"--dbpath={folder}/{name}.db"]
            subprocess.run(["rpmbuild", "-bb", "--quiet", define[0], str(spec)], check=True, capture_output=True)
            rpm = next((folder / f"{name}.build").rglob("*.noarch.rpm"))
            (folder / f"{name}.db").mkdir()
            install = ["rpm", "-i", "--nodeps", "--force", define[1], str(rpm)]
            subprocess.run(install, check=True, capture_output=True)
            self.root.rename(folder / name)
            node = self.nodes[name] = _Own(folder / f"{name}.bin", folder, name)
            node.program("rpm", f'exec /usr/bin/rpm {define[1]} "$@"')

    def path(self, node: str, name: str) -> Path:
        return self.folder / node / name

    def task(self, *, dry_run: bool = False):
        task = task_on(self.nodes["new"], dry_run=dry_run)
        given = {"cellstep_ssh": self.nodes["old"], "cellstep_mysql": None}
        task.host.data[PEERS] = {"old": _Host(name="old", hostname="old", data={"given": given})}
        return task

    def save(self, *wishes):
        found = customisations.save(task_on(self.nodes["old"]), packages=(PACKAGE,), wishes=wishes).result
        return customisations.faults(found.data, wishes)

    def reapply(self, *wishes, dry_run=False):
        return told(
            customisations.reapply(self.task(dry_run=dry_run), old="old", packages=(PACKAGE,), wishes=wishes)
        ).replace(f"{self.root}/", "")

    def wish(self, name, how, **more):
        return Wish(f"{self.root}/{name}", how, f"for {name}", **more)


class _Own(Bash):
    """A node whose folder stands at the common place while it is asked."""

    def __init__(self, programs, folder, name):
        super().__init__(programs)
        self.place, self.own = folder / "srv", folder / name

    def answer(self, command, stdin, timeout):
        self.own.rename(self.place)
        try:
            return super().answer(command, stdin, timeout)
        finally:
            self.place.rename(self.own)


@pytest.fixture
def machines(tmp_path):
    if not (shutil.which("rpmbuild") and shutil.which("patch")):
        pytest.skip("needs rpmbuild and patch")
    return Machines(tmp_path)


def test_what_is_changed_and_not_listed_is_told(machines):
    assert machines.save() == []
    machines.path("old", "same.html").write_text("one\nhelp\nthree\n")
    machines.path("old", "moved.html").unlink()
    words = [text.replace(f"{machines.root}/", "") for text in machines.save(machines.wish("gone.png", "copy"))]
    listed = "on the old machine, and not in dashboard.customisations: say there how the new one gets it"
    assert words == [
        f"moved.html is missing {listed} (command or leave)",
        f"same.html is changed {listed} (copy, replace, patch, command or leave)",
        "gone.png of dashboard.customisations is not there on the old machine",
    ]
    assert machines.save(machines.wish("same.html", "copy"), machines.wish("moved.html", "leave")) == []


def test_a_copy_keeps_content_and_mode_and_is_done_once(machines):
    machines.path("old", "same.html").write_text("help\n")
    machines.path("old", "help.png").write_bytes(bytes(range(256)))
    machines.path("old", "help.png").chmod(0o640)
    wishes = (machines.wish("same.html", "copy"), machines.wish("help.png", "copy"), machines.wish("x", "leave"))
    assert machines.reapply(*wishes, dry_run=True) == "changed: re-applied: same.html, help.png; 1 left"
    assert not machines.path("new", "help.png").exists()
    assert machines.reapply(*wishes) == "changed: re-applied: same.html, help.png; 1 left"
    assert machines.path("new", "same.html").read_text() == "help\n"
    assert machines.path("new", "help.png").read_bytes() == bytes(range(256))
    assert machines.path("new", "help.png").stat().st_mode & 0o777 == 0o640
    assert machines.reapply(*wishes) == "skipped: all there already, 1 left"


def test_a_copy_over_a_file_of_which_the_release_has_another_is_refused_and_nothing_is_done(machines):
    machines.path("old", "moved.html").write_text("mine\n")
    machines.path("old", "same.html").write_text("mine\n")
    wishes = (machines.wish("same.html", "copy"), machines.wish("moved.html", "copy"), machines.wish("no", "copy"))
    with pytest.raises(Refused) as caught:
        machines.reapply(*wishes)
    assert str(caught.value).replace(f"{machines.root}/", "") == (
        "moved.html (for moved.html): the release's own file is another than before, and a copy would lose what is new"
        " in it: merge it, and write how: patch, or how: replace; no (for no): it is not there on old"
    )
    assert machines.path("new", "same.html").read_text() == "one\ntwo\nthree\n"
    assert machines.reapply(machines.wish("moved.html", "replace")) == "changed: re-applied: moved.html"
    assert machines.path("new", "moved.html").read_text() == "mine\n"


def test_a_patch_is_applied_once_and_refused_where_it_does_not_fit(machines):
    patch = machines.folder / "help.patch"
    name = f"{machines.root}/same.html"
    patch.write_text(f"--- a{name}\n+++ b{name}\n@@ -1,3 +1,4 @@\n one\n+help\n two\n three\n")
    wish = machines.wish("same.html", "patch", patch=patch)
    assert machines.reapply(wish) == "changed: re-applied: same.html"
    assert machines.path("new", "same.html").read_text() == "one\nhelp\ntwo\nthree\n"
    assert machines.reapply(wish) == "skipped: all there already"
    machines.path("new", "same.html").write_text("all is new\n")
    with pytest.raises(Refused, match=r"same\.html \(for same\.html\): .*help\.patch does not fit the release's file"):
        machines.reapply(wish)
    assert [path.name for path in machines.path("new", "").iterdir() if "same" in path.name] == ["same.html"]
    with pytest.raises(Refused, match="cannot be read"):
        machines.reapply(machines.wish("same.html", "patch", patch=machines.folder / "no.patch"))


def test_a_command_is_run_until_it_is_done(machines):
    mark = f"{machines.root}/mark"
    wish = machines.wish("mark", "command", command=f"echo yes > {mark}", done=f"grep -q yes {mark}")
    assert machines.reapply(wish) == "changed: re-applied: mark"
    assert machines.reapply(wish) == "skipped: all there already"
    with pytest.raises(Refused, match="the command ended well, and `done` says that it is not done"):
        machines.reapply(machines.wish("mark", "command", command="true", done="false"))


def test_a_folder_is_no_file_to_copy(machines):
    machines.path("old", "folder").mkdir()
    with pytest.raises(Refused, match="it is no plain file: write how: command"):
        machines.reapply(machines.wish("folder", "copy"))


FLAGS = st.lists(st.sampled_from(".SM5DLUGTP?"), min_size=9, max_size=9).map("".join)


@given(FLAGS, st.sampled_from(["", "c ", "d "]), st.text("ab/ é", max_size=9).map(lambda name: f"/x{name}y"))
def test_only_another_content_is_a_customisation(flags, kind, path):
    found = customisations.parse_verify(f"{flags}  {kind}{path}\n")
    assert found == ({path: "changed"} if set(flags) & set("S5L?") else {})


def test_other_lines_of_rpm_are_no_files():
    said = "Unsatisfied dependencies for x:\n\tpython is needed by x\nmissing     /gone\nmissing   c /etc/gone\n"
    assert customisations.parse_verify(said) == {"/gone": "missing", "/etc/gone": "missing"}
