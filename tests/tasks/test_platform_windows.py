"""Windows: what is sent, and answers in the forms that Microsoft documents. No Windows is asked."""

import json
import re

import pytest
import tree_sitter
import tree_sitter_powershell
from hypothesis import given
from hypothesis import strategies as st

from tasks import facts, jobs, packages, reboot, services, shell
from tasks.binding import Binding, bind
from tasks.errors import CommandFailed, Fenced, Refused
from tasks.platforms import WINDOWS, Lacking, windows
from tests.support.scripted import Scripted, said, task_on, told

GUID = "b637f346-6a0e-4dec-af52-bd70cb80a21d"
UUID = "8f5d9d7e-7b3a-4b0e-9d5e-0c0a8d1f2b3c"

# Win32_Service: State is one of Stopped, Start Pending, Stop Pending, Running, Continue Pending, Pause Pending, Paused,
# Unknown; StartMode one of Boot, System, Auto, Manual, Disabled.
SERVICES = [
    {"name": "nova-compute", "state": "Running", "start": "Auto"},
    {"name": "neutron-hyperv-agent", "state": "Stopped", "start": "Manual"},
    {"name": "slow", "state": "Start Pending", "start": "Disabled"},
    {"name": "paused", "state": "Paused", "start": "Auto"},
]
PIP = '[{"name": "python_novaclient", "version": "2.13.0"}, {"name": "pip", "version": "20.3.4"}]'
MSI = '[{"name":"msi:OpenStack Hyper-V Nova Compute","version":"1.0.0"}]'
LISTED = f"{PIP}\r\n{MSI}\r\n"
GUESTS = [
    {"id": GUID.upper(), "notes": "", "uptime": 100.5, "started": 1390500000.25, "now": 1390600000.0},
    {"id": GUID.replace("b6", "b7"), "notes": f"nova {UUID}", "uptime": 98.0, "started": None, "now": 1390600002.0},
]


def on(node, **more):
    task = task_on(node, **more)
    task.host.platform = "windows"
    return task


def bound(node, **more):
    task = on(node)
    bind(task, Binding(**{"run": "r1", "step": "Update", "token": 7} | more))
    return task


# ---- answers


def test_services_are_read_from_state_and_start_mode():
    assert windows.parse_states(json.dumps(SERVICES)) == {
        "nova-compute": {"actual": "running", "boot": "on"},
        "neutron-hyperv-agent": {"actual": "stopped", "boot": "off"},
        "slow": {"actual": "starting", "boot": "off"},
        "paused": {"actual": "starting", "boot": "on"},
    }


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", []),
        ("null", []),
        ("[]", []),
        ('{"name":"a"}', [{"name": "a"}]),
        ('[{"name":"a"}]', [{"name": "a"}]),
        ('{"value":[{"name":"a"}],"Count":1}', [{"name": "a"}]),
    ],
)
def test_one_object_or_a_wrapped_list_is_a_list(text, rows):
    """ConvertTo-Json writes one object without its list, and 5.1 may wrap a list."""
    assert windows.rows(text) == rows


anything = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "id", "value"]), inner),
)


@given(anything)
def test_any_json_is_read_or_is_a_value_error(value):
    for read in (
        windows.parse_states,
        lambda text: windows.parse(f"{text}\n[]"),
        lambda text: windows.parse_guests([text]),
    ):
        try:
            found = read(json.dumps(value))
        except ValueError:
            continue
        assert len(found) <= len(windows.rows(json.dumps(value)))


@given(st.integers(1, len(json.dumps(SERVICES)) - 1))
def test_an_answer_that_is_cut_off_is_never_read(length):
    with pytest.raises(ValueError, match=r"."):
        windows.parse_states(json.dumps(SERVICES)[:length])


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_quoted_string_of_powershell_ends_where_it_should(text):
    """Within single quotes, a single quote (plain or typographic) stands twice, and nothing else counts."""
    inner = windows.quoted(text)[1:-1]
    assert re.sub("([\u2018\u2019\u201a\u201b'])\\1", r"\1", inner) == text
    assert re.fullmatch("(?:[^\u2018\u2019\u201a\u201b']|([\u2018\u2019\u201a\u201b'])\\1)*", inner, re.DOTALL)


def test_packages_are_those_of_pip_and_of_the_windows_installer():
    assert windows.parse(LISTED) == {
        "python-novaclient": ["2.13.0"],
        "pip": ["20.3.4"],
        "msi:OpenStack Hyper-V Nova Compute": ["1.0.0"],
    }
    with pytest.raises(ValueError, match="ask again"):
        windows.parse(PIP)


def test_guests_are_known_by_the_uuid_in_their_notes_or_by_their_id():
    noted, own = windows.parse_guests([json.dumps(GUESTS)])
    assert (noted.uuid, noted.started) == (UUID, 1390599900)
    assert (own.uuid, own.started, own.start_ticks) == (GUID, 1390500000.25, 139050000025)


def test_a_node_tells_all_with_one_command():
    text = f"@boot_id\r\n2014-01-23T18:00:00Z\r\n6.3.9600\r\n@packages\r\n{LISTED}@services\r\n"
    text += f"{json.dumps(SERVICES)}\r\n@guests\r\n{json.dumps(GUESTS[0])}\r\n"
    node = Scripted([("@boot_id", text)])
    found = facts.ask_node(on(node), ["nova-compute"])
    assert len(node.sent) == 1
    assert (found.boot_id, found.kernel) == ("2014-01-23T18:00:00Z", "6.3.9600")
    assert found.packages["python-novaclient"] == ["2.13.0"]
    assert found.services["nova-compute"] == {"actual": "running", "boot": "on"}
    assert [guest.uuid for guest in found.guests] == [GUID]


# ---- what is sent


def test_a_running_automatic_service_is_made_manual_and_stopped_and_put_back():
    up = json.dumps(SERVICES[:1])
    down = json.dumps([{"name": "nova-compute", "state": "Stopped", "start": "Manual"}])
    node = Scripted([("Stop-Service", ""), ("Start-Service", ""), ("Win32_Service", [up, down, down, up])])
    assert told(services.stop(on(node), prior={}, services=["nova-compute"])) == "changed: stopped nova-compute"
    prior = windows.parse_states(up)
    assert told(services.restore(on(node), prior=prior, services=[])) == "changed: started nova-compute"
    (stop,), (start,) = node.sent_with("Stop-Service"), node.sent_with("Start-Service")
    assert "foreach ($name in @('nova-compute')) {" in stop
    assert "Set-Service -Name $name -StartupType Manual" in stop
    assert "Set-Service -Name $name -StartupType Automatic" in start


def test_pip_and_the_windows_installer_get_exact_versions():
    expected = {"python-novaclient": "1:2.15.0-1.el6", "msi:OpenStack Hyper-V Nova Compute": "2.0.0"}
    after = LISTED.replace("2.13.0", "2.15.0").replace("1.0.0", "2.0.0")
    ran = "cellstep-reboot-due 3010 C:\\x.msi\r\n"
    node = Scripted([("pip install", ran), ("pip list", [LISTED, after])])
    assert (
        told(packages.update(on(node), expected=expected, kernel=True))
        == "changed: updated 2 packages; a reboot is due"
    )
    (script,) = node.sent_with("pip install")
    assert (
        "& python -m pip install --find-links 'C:\\ProgramData\\cellstep\\packages' 'python-novaclient==2.15.0'"
        in script
    )
    assert "Invoke-Msi '/i' 'C:\\ProgramData\\cellstep\\packages\\OpenStack Hyper-V Nova Compute-2.0.0.msi'" in script
    assert "if (0,1641,3010 -notcontains $code) { throw" in script


def test_an_installation_that_fails_is_told_with_its_status():
    failed = said("", 1, "msiexec /i C:\\x.msi ended with 1603, see C:\\log\r\n")
    node = Scripted([("msiexec", failed), ("pip list", LISTED)])
    with pytest.raises(CommandFailed, match=r"pip and msiexec update: exit status 1: msiexec /i .* ended with 1603"):
        packages.update(on(node), expected={"msi:OpenStack Hyper-V Nova Compute": "2.0.0"})


def test_the_version_that_is_there_afterwards_is_the_proof():
    node = Scripted([("pip install", ""), ("pip list", LISTED)])
    with pytest.raises(Refused, match=r"pip and msiexec ended well, but python-novaclient is 2.13.0, not 2.15.0; does"):
        packages.update(on(node), expected={"python-novaclient": "2.15.0"})


def test_an_older_msi_goes_in_after_the_newer_one_went_out():
    back = WINDOWS.packages.back.script({"msi:Nova": "1.0", "x": "1"}, {}, {}, ["msi:New", "y"])
    assert "foreach ($name in @('New','Nova'))" in back
    assert back.index("Invoke-Msi '/x'") < back.index("Invoke-Msi '/i'")
    assert "uninstall -y 'y'" in back
    assert "'x==1'" in back


def test_a_reboot_is_proven_by_another_time_of_boot(monkeypatch):
    monkeypatch.setattr(reboot, "ASK_EVERY_S", 0.01)
    boots = ["2014-01-23T18:00:00Z\r\n", "2014-01-24T09:00:00Z\r\n"]
    rules = [("RebootPending", ["Windows Update\r\n", ""]), ("LastBootUpTime", boots), ("Restart-Computer -Force", "")]
    node = Scripted(rules)
    task = bound(node)
    assert told(reboot.where_due(task, timeout_s=5)) == "changed: rebooted, boot id 2014-01-24T09:00:00Z"
    (sent,) = node.sent_with("Restart-Computer")
    assert sent.startswith("$cellstepRoot='C:\\ProgramData\\cellstep'; $cellstepToken=[long]7\n")


# ---- the guard, and what takes the place of jobs


def test_a_change_of_a_run_is_guarded_with_the_operators_token():
    node = Scripted([("", "done\r\n")])
    task = bound(node)
    shell.change(task, "Stop-Thing", what="stopping")
    (sent,) = node.sent
    assert sent.index("Deny 210") < sent.index("$cellstepLock=Guard") < sent.index("Stop-Thing")
    assert sent.index("Lock 'busy' 20") < sent.index("ReleaseMutex()\n& {") < sent.index("Stop-Thing")


@pytest.mark.parametrize(("status", "kind"), [(210, Fenced), (211, Refused)])
def test_the_guards_refusals_are_told_from_a_scripts_failure(status, kind):
    words = "cellstep-guard: the operator with token 9 has taken over from the one with token 7"
    with pytest.raises(kind, match="c01-n01: the operator with token 9 has taken over"):
        shell.change(bound(Scripted([("", said("", status, f"noise\r\n{words}\r\n"))])), "Stop-Thing")
    with pytest.raises(CommandFailed):
        shell.change(bound(Scripted([("", said("", status, "something else"))])), "Stop-Thing")


def test_a_long_command_is_plain_there_and_waited_for_by_the_fence():
    node = Scripted([("", "")])
    jobs.detached(bound(node), "Install-Thing", name="update", timeout=1800)
    assert len(node.sent) == 1
    assert "Install-Thing" in node.sent[0]
    assert jobs.earlier(bound(node, again=True), "update", timeout=90) is None
    assert "Lock 'busy' 90" in node.sent[1]
    assert jobs.attach(bound(node), timeout=90) == []
    with pytest.raises(Lacking, match="c01-n01: no command that outlives its connection on Windows"):
        jobs.begin(bound(node), "x", name="x", timeout=1)


def test_every_script_is_sound_powershell():
    """By a grammar, not by PowerShell itself."""
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))
    mine, guard = WINDOWS.packages, WINDOWS.guard
    expected = {"a": "1", "msi:O'Brien's": "2"}
    scripts = [
        WINDOWS.services.states(["a", "o'b"]),
        WINDOWS.services.stop(["a"]),
        WINDOWS.services.start(["a"], ["a", "b"]),
        mine.update(expected, False),
        mine.download.script(expected, False),
        mine.back.script(expected, {}, expected, ["x", "msi:y"]),
        WINDOWS.system.facts(WINDOWS, ["a"]),
        WINDOWS.system.facts(WINDOWS, []),
        WINDOWS.system.pending,
        WINDOWS.system.reboot,
        f"{guard.before(guard.root, 7)}\n{guard.change('Stop-Service x')}",
        f"{guard.before(guard.root, 7)}\n{guard.fence(60)}",
    ]
    wrong = [script for script in scripts if parser.parse(script.encode()).root_node.has_error]
    assert wrong == []


def test_an_update_is_worked_out_beforehand():
    listing = '[{"name":"python-novaclient","version":"2.13.0"}]\n[{"name":"msi:Cloud Init","version":"0.8"}]\n'
    answer = "Would install python_novaclient-2.15.0 six-1.4.1\ncellstep-msi Cloud Init\t0.9\n"
    wanted = {"python-novaclient": "1:2.15.0-1.el6", "msi:Cloud Init": "0.9"}
    node = Scripted({"--dry-run": answer, "pip list": listing})
    noted = packages.resolve(on(node), expected=wanted, owners=dict.fromkeys(wanted, "clients")).result
    assert noted.data == {"python-novaclient": "clients", "six": "", "msi:Cloud Init": "clients"}
    asked = node.sent[-1]
    assert "'python-novaclient==2.15.0'" in asked
    assert "there is no '+'C:\\ProgramData\\cellstep\\packages\\Cloud Init-0.9.msi'" in asked


def test_what_an_old_pip_saved_is_what_would_come():
    text = "  Saved c:\\r\\python_novaclient-2.15.0-py2.py3-none-any.whl\r\n  Saved c:\\r\\simplejson-3.3.tar.gz\n"
    assert windows.transaction(text) == {"python-novaclient": "2.15.0", "simplejson": "3.3"}
    assert windows.transaction("Saved ./python-cinderclient-1.0.6.zip\n") == {"python-cinderclient": "1.0.6"}
