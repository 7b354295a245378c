"""What a lab keeps on disk, the image cache, waiting, and what the machine is asked for."""

import fcntl
import json
import os
import stat
import threading
from types import ModuleType

import pytest

from lab import check, image, state, tree
from lab.commands import run, wait_until
from lab.control import _move_journal_aside
from lab.errors import LabError, MachineUnfit
from lab.faults.disk import merge
from lab.handle import LabHandle
from lab.progress import Progress
from lab.spec import LabSpec

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes device nodes")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(state, "LABS", tmp_path / "labs")
    monkeypatch.setattr(state, "RUN", tmp_path / "run")
    lab = state.LabFolder("unit")
    lab.path.mkdir(parents=True)
    return lab


def test_a_record_comes_back_as_it_was_written(folder):
    record = state.Record(
        LabSpec("unit", 3, 4, ("ceilometer", "cinder")), "complete", ("/a", "/b"), "/r", "digest", "/cloud"
    )
    folder.write(record)
    assert folder.read() == record
    assert folder.complete() == record


@pytest.mark.parametrize("text", ["", "{", "[]", '{"spec": {"name": "unit"}}', '{"spec": {"nome": 1}}'])
def test_a_broken_record_counts_as_none(folder, text):
    (folder.path / "lab.json").write_text(text, encoding="utf-8")
    assert folder.read() is None
    with pytest.raises(LabError, match="not up"):
        folder.complete()


def test_an_unfinished_lab_is_not_up(folder):
    folder.write(state.Record(LabSpec("unit"), "building", (), "", "", ""))
    with pytest.raises(LabError, match="not up"):
        folder.complete()


def test_two_builders_of_one_lab_exclude_each_other(folder):
    with folder.lock(), pytest.raises(LabError, match="another command"), folder.lock():
        pass
    with folder.lock():
        pass


def test_a_lock_that_a_program_of_a_killed_holder_has_for_a_moment_is_waited_for(folder):
    state.RUN.mkdir(parents=True)
    with (state.RUN / "unit.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        letting_go = threading.Timer(0.3, fcntl.flock, (held, fcntl.LOCK_UN))
        letting_go.start()
        with folder.lock():
            letting_go.join()


def test_secrets_differ_and_only_root_reads_them(folder):
    state.make_secrets(folder, ("mysql", "nova"))
    values = folder.secrets()
    assert set(values) == {"mysql", "nova"}
    assert values["mysql"] != values["nova"]
    assert len(values["mysql"]) >= 20
    for file in (folder.path / "secrets").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    handle = LabHandle(LabSpec("unit"), folder.path, values)
    assert values["mysql"] not in repr(handle)


def test_a_key_is_replaced_and_known_hosts_names_host_and_address(folder):
    public = state.make_key(folder.path / "key", "me")
    assert public.startswith("ssh-ed25519 ")
    assert state.make_key(folder.path / "key", "me") != public
    folder.ssh.mkdir()
    host = LabSpec("unit").hosts()[0]
    state.write_ssh_files(folder, {host: public})
    line = (folder.ssh / "known_hosts").read_text(encoding="utf-8").strip()
    assert line == f"top-api01,10.90.0.1 {' '.join(public.split()[:2])}"


def test_a_journal_is_moved_aside_once_and_kept(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/journal.sqlite").write_text("runs", encoding="utf-8")
    _move_journal_aside(tmp_path, Progress(quiet=True))
    _move_journal_aside(tmp_path, Progress(quiet=True))
    kept = [p for p in (tmp_path / "state").rglob("*") if p.is_file()]
    assert [p.read_text(encoding="utf-8") for p in kept] == ["runs"]
    assert kept[0].parent.name.startswith("before-")


def test_a_failing_command_says_what_it_was_for_and_what_it_said():
    with pytest.raises(LabError, match=r"the test: exit 3: oh"):
        run(["sh", "-c", "echo oh >&2; exit 3"], what="the test")
    with pytest.raises(LabError, match="not installed"):
        run(["no-such-program-here"])
    with pytest.raises(LabError, match="within 0 s"):
        run(["sleep", "10"], timeout=0.05)


def test_waiting_ends_with_what_was_waited_for():
    with pytest.raises(LabError, match="in vain for the moon"):
        wait_until(lambda: False, timeout=0.05, what="the moon", every=0.01)


def test_without_root_the_machine_is_unfit_and_says_so(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MachineUnfit, match="sudo"):
        check.require_machine()
    with pytest.raises(MachineUnfit, match="sudo"):
        check.require_root()


def test_missing_tools_are_named_by_their_debian_packages(monkeypatch):
    gone = {"mmdebstrap", "systemd-nspawn", "createrepo_c"}
    monkeypatch.setattr(check.shutil, "which", lambda tool: None if tool in gone else f"/usr/bin/{tool}")
    assert check.missing_packages() == ["createrepo-c", "mmdebstrap", "systemd-container"]


@pytest.fixture
def content(tmp_path):
    module = ModuleType("standin")
    (tmp_path / "standin.py").write_text("1", encoding="utf-8")
    module.__file__ = str(tmp_path / "standin.py")
    module.DEBIAN_PACKAGES = ("curl",)
    module.install_base = lambda root: (root / "installed").write_text("x", encoding="utf-8")
    module.build_repositories = lambda to: (to / "grizzly").mkdir()
    return module


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An image cache whose slow parts are replaced, with a count of how often each was built."""
    built = []

    def bootstrap(root, packages):
        built.append(("base", packages))
        (root / "etc").mkdir()

    def layer(base, new, install):
        built.append(("layer", base.name))
        install(new)

    monkeypatch.setattr(tree, "build", bootstrap)
    monkeypatch.setattr(image, "_layer", layer)
    monkeypatch.setattr(state, "LABS", tmp_path / "labs")
    return tmp_path / "cache", built


def test_an_image_is_built_once(content, cache):
    folder, built = cache
    first = image.prepare(content, Progress(quiet=True), folder)
    assert image.prepare(content, Progress(quiet=True), folder) == first
    assert [kind for kind, _ in built] == ["base", "layer"]
    assert (first.layers[0] / "installed").exists()
    assert (first.repositories / "grizzly").is_dir()


def test_other_content_makes_another_layer_on_the_same_base(content, cache, tmp_path):
    folder, built = cache
    first = image.prepare(content, Progress(quiet=True), folder)
    (tmp_path / "standin.py").write_text("2", encoding="utf-8")
    second = image.prepare(content, Progress(quiet=True), folder)
    assert first.layers[1] == second.layers[1]
    assert first.layers[0] != second.layers[0]
    assert [kind for kind, _ in built] == ["base", "layer", "layer"]


def test_a_failed_or_killed_build_leaves_nothing_that_counts(content, cache):
    folder, _ = cache

    def broken(to):
        (to / "half").mkdir()
        raise LabError("rpmbuild failed")

    whole, content.build_repositories = content.build_repositories, broken
    with pytest.raises(LabError, match="rpmbuild failed"):
        image.prepare(content, Progress(quiet=True), folder)
    assert not list(folder.glob("repositories-*"))
    (folder / "new-base-killed").mkdir()
    content.build_repositories = whole
    image.prepare(content, Progress(quiet=True), folder)
    assert not list(folder.glob("new-*"))


def test_an_old_image_goes_unless_a_lab_stands_on_it(content, cache):
    folder, _ = cache
    lab = state.LabFolder("unit")
    lab.path.mkdir(parents=True)
    for name in ("base-used", "base-unused", "base-recent"):
        (folder / name).mkdir(parents=True)
    for name in ("base-used", "base-unused"):
        os.utime(folder / name, (0, 0))
    lab.write(state.Record(LabSpec("unit"), "complete", (str(folder / "base-used"),), "", "", ""))
    image.prepare(content, Progress(quiet=True), folder)
    assert (folder / "base-used").exists()
    assert (folder / "base-recent").exists()
    assert not (folder / "base-unused").exists()


@needs_root
def test_an_overlays_changes_are_merged_into_what_it_lay_on(tmp_path):
    upper, target = tmp_path / "upper", tmp_path / "target"
    for folder in (upper, target, target / "emptied", upper / "emptied", target / "kept"):
        folder.mkdir()
    (target / "kept/file").write_text("old", encoding="utf-8")
    (target / "gone").write_text("old", encoding="utf-8")
    (target / "emptied/file").write_text("old", encoding="utf-8")
    (upper / "new").mkdir(mode=0o750)
    (upper / "new/file").write_text("new", encoding="utf-8")
    os.chown(upper / "new/file", 33, 33)
    (upper / "link").symlink_to("new")
    os.mknod(upper / "gone", stat.S_IFCHR, os.makedev(0, 0))
    os.mknod(upper / "emptied/file", stat.S_IFCHR, os.makedev(0, 0))
    merge(upper, target)
    found = {str(p.relative_to(target)) for p in target.rglob("*")}
    assert found == {"kept", "kept/file", "emptied", "new", "new/file", "link"}
    assert (target / "new/file").stat().st_uid == 33
    assert stat.S_IMODE((target / "new").stat().st_mode) == 0o750
    assert (target / "link").readlink().name == "new"


def test_lab_json_holds_no_secret(folder):
    state.make_secrets(folder, ("mysql",))
    folder.write(state.Record(LabSpec("unit"), "complete", (), "", "", ""))
    text = (folder.path / "lab.json").read_text(encoding="utf-8")
    assert folder.secrets()["mysql"] not in text
    assert json.loads(text)["phase"] == "complete"
