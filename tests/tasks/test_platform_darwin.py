"""Mac: launchctl by a stand-in, and the guard with perl in place of flock and dd."""

import dataclasses
import subprocess
import sys
import threading

import pytest

from tasks import packages, services, shell
from tasks.binding import Binding, bind
from tasks.errors import Fenced, Refused
from tasks.platforms import DARWIN, PLATFORMS, darwin
from tests.support.scripted import Bash, task_on, told

# `launchctl print` and `print-disabled` of macOS, in short; `print` of what is not loaded ends with 113.
LAUNCHCTL = r"""cd {folder}; verb=$1; label=${{2#system/}}
case $verb in
  print-disabled) printf 'disabled services = {{\n'
    for each in *.off; do [ -e "$each" ] && printf '\t"%s" => {word}\n' "${{each%.off}}"; done; printf '}}\n';;
  print) [ -e "$label.loaded" ] || exit 113
    printf 'system/%s = {{\n\tactive count = 1\n\ttype = LaunchDaemon\n\tstate = %s\n\n\tprogram = /x\n' "$label" \
      "$(cat "$label.loaded")"
    printf '\tendpoints = {{\n\t\t"x" = {{\n\t\t\tstate = running\n\t\t}}\n\t}}\n}}\n';;
  disable) touch "$label.off";;
  enable) rm -f "$label.off";;
  bootout) [ -e "$label.loaded" ] || exit 3; rm "$label.loaded";;
  bootstrap) label=${{3##*/}}; label=${{label%.plist}}
    [ ! -e "$label.off" ] || exit 5; echo waiting > "$label.loaded";;
  kickstart) [ -e "$label.loaded" ] || exit 113; echo running > "$label.loaded";;
esac"""


def on(node, **more):
    task = task_on(node, **more)
    task.host.platform = "darwin"
    return task


@pytest.fixture(params=["disabled", "true"])
def mac(tmp_path, request, monkeypatch):
    """A stand-in; older versions say `true` for a disabled service."""
    bash = Bash(tmp_path / "bin")
    state, daemons = tmp_path / "state", tmp_path / "LaunchDaemons"
    state.mkdir()
    daemons.mkdir()
    bash.program("launchctl", LAUNCHCTL.format(folder=state, word=request.param))

    def has(label, run="", off=False):
        (daemons / f"{label}.plist").write_text("")
        if run:
            (state / f"{label}.loaded").write_text(run)
        if off:
            (state / f"{label}.off").write_text("")

    bash.has = has
    monkeypatch.setattr(bash, "run", lambda command, run=bash.run, **m: run(moved(command, daemons), **m))
    return bash


def moved(command, daemons):
    return command.replace("/Library/LaunchDaemons", str(daemons))


UP, OFF = {"actual": "running", "boot": "on"}, {"actual": "stopped", "boot": "off"}


def test_daemons_are_stopped_and_put_back(mac):
    mac.has("org.api", "running")
    mac.has("org.byhand", "running", off=True)
    mac.has("org.waits", "waiting")
    mac.has("org.off", off=True)
    names = ["org.api", "org.byhand", "org.waits", "org.off", "org.missing"]
    task = on(mac)
    prior = services.read(task, services=names).result
    assert prior == {
        "org.api": UP,
        "org.byhand": {"actual": "running", "boot": "off"},
        "org.waits": {"actual": "stopped", "boot": "on"},
        "org.off": OFF,
    }
    assert told(services.stop(task, prior=prior, services=names)) == "changed: stopped org.api, org.byhand, org.waits"
    assert services.states(task, names) == dict.fromkeys(names[:4], OFF)
    services.restore(task, prior=prior, services=names)
    assert services.states(task, names) == {**prior, "org.waits": UP}


# ---- the guard, in a bash without flock and dd


@pytest.fixture
def guarded(tmp_path, monkeypatch):

    own = dataclasses.replace(DARWIN.guard, root=str(tmp_path / "jobs"))
    monkeypatch.setitem(PLATFORMS, "darwin", dataclasses.replace(DARWIN, guard=own))
    bash = Bash(tmp_path / "bin")
    for name in ("flock", "dd"):
        bash.program(name, "echo a Mac has none >&2; exit 99")
    return bash


def bound(node, token):
    task = on(node)
    bind(task, Binding("r1", "Step", token=token))
    return task


def test_a_change_is_sent_once_and_a_replaced_operators_is_not(guarded, tmp_path):
    assert shell.change(bound(guarded, 5), "echo done").stdout == "done\n"
    assert (tmp_path / "jobs" / "token").read_text() == "5\n"
    shell.fence(bound(guarded, 6))
    with pytest.raises(Fenced, match="the operator with token 6 has taken over from the one with token 5"):
        shell.change(bound(guarded, 5), f"touch {tmp_path}/late")
    assert not (tmp_path / "late").exists()


def test_the_fence_waits_for_a_change_that_is_under_way(guarded, tmp_path):
    (tmp_path / "gate").write_text("")
    subprocess.run(["mkfifo", tmp_path / "go", tmp_path / "began"], check=True)
    script = f"echo > {tmp_path}/began; read -r _ < {tmp_path}/go; touch {tmp_path}/ended"
    changing = threading.Thread(target=shell.change, args=(bound(guarded, 5), script))
    changing.start()
    (tmp_path / "began").read_text()
    with pytest.raises(Refused, match="still changes this node after 1 s"):
        shell.fence(bound(guarded, 5), timeout=1)
    releasing = threading.Timer(0.3, (tmp_path / "go").write_text, ("go\n",))
    releasing.start()
    shell.fence(bound(guarded, 5), timeout=15)
    assert (tmp_path / "ended").exists()
    changing.join(10)
    releasing.join(10)


def test_a_full_disk_is_told(guarded, tmp_path):
    (tmp_path / "jobs").write_text("a file in the way")
    with pytest.raises(Refused, match="the node cannot keep what was started in"):
        shell.change(bound(guarded, 5), "echo done")


# ---- pip


def test_the_first_python_with_pip_is_taken(tmp_path):
    bash = Bash(tmp_path / "bin")
    bash.program("python3", "exit 1")
    bash.program("python", f'exec {sys.executable} "$@"')
    assert "pip" in packages.versions(on(bash), ["pip"])
    for name in ("python", "python2"):
        bash.program(name, "exit 1")
    with pytest.raises(Exception, match="reading pip's list: exit status 127: no Python here has pip"):
        packages.versions(on(bash), ["pip"])


def test_a_state_is_two_words_and_a_label():
    assert darwin.parse_states("a running on\nb stopped off\n") == {"a": UP, "b": OFF}
