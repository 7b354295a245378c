"""Services: stopped and out of the boot sequence, and put back as they were."""

import re

import pytest

from tasks import services
from tasks.errors import Refused
from tasks.shell import change, has_changed
from tests.support.scripted import Bash, Scripted, reply, said, task_on, told

OFF = {"actual": "stopped", "boot": "off"}
UP = {"actual": "running", "boot": "on"}


class System(Bash):
    """A bash with stand-ins for `service` and `chkconfig`, which keep a file a service: `boot`, `run` or both."""

    def __init__(self, folder):
        super().__init__(folder / "bin")
        self.state = folder / "services"
        self.state.mkdir()
        self.program(
            "chkconfig",
            f"""cd {self.state}
if [ "$1" = --list ]; then
  [ -e "$2" ] || {{ echo "error reading information on service $2" >&2; exit 1; }}
  grep -q boot "$2" && on=on || on=off
  printf '%s\\t0:off\\t1:off\\t2:%s\\t3:%s\\t4:%s\\t5:%s\\t6:off\\n' "$2" $on $on $on $on
elif [ "$2" = on ]; then echo boot >> "$1"
else sed -i /boot/d "$1"; fi""",
        )
        self.program(
            "service",
            f"""cd {self.state}
case "$2" in
  status) grep -q run "$1" && exit 0; grep -q hung "$1" && exit 2; exit 3;;
  stop) sed -i /run/d "$1"; grep -q again "$1" && echo run >> "$1"; true;;
  start) grep -q broken "$1" || echo run >> "$1";;
esac""",
        )

    def has(self, **states):
        for name, state in states.items():
            (self.state / name).write_text(state.replace(" ", "\n") + "\n" if state else "")

    def now(self, *names):
        return services.states(task_on(self), names)


@pytest.fixture
def system(tmp_path):
    return System(tmp_path)


def test_state_and_boot_are_read_of_what_is_installed(system):
    system.has(api="boot run", cells="boot", certs="run", hanging="hung boot", off="")
    assert system.now("api", "cells", "certs", "hanging", "off", "missing") == {
        "api": UP,
        "cells": {"actual": "stopped", "boot": "on"},
        "certs": {"actual": "running", "boot": "off"},
        "hanging": {"actual": "stopped", "boot": "on"},
        "off": OFF,
    }


def test_no_services_ask_the_node_nothing():
    assert services.states(task_on(Scripted({})), []) == {}


def test_stop_takes_out_of_the_boot_sequence_and_stops(system):
    """Also one that is stopped already but would start at boot, and one that runs by hand alone."""
    system.has(api="boot run", cells="boot", certs="run", other="boot run", off="")
    names = ["api", "cells", "certs", "off", "missing"]
    assert reply(system, services.stop, prior={}, services=names) == "changed: stopped api, cells, certs"
    assert system.now("api", "cells", "certs", "off", "other") == {**dict.fromkeys(names[:4], OFF), "other": UP}
    assert reply(system, services.stop, prior={}, services=names) == "skipped: all stopped and off already"


def test_a_service_that_runs_again_after_it_was_stopped_is_refused(system):
    """Something restarts it: monit, or a cron job."""
    system.has(api="boot run", cells="boot run again")
    with pytest.raises(services.Refused, match=r"running again or on at boot: cells;"):
        reply(system, services.stop, prior={}, services=["api", "cells"])


def test_a_service_that_stays_in_the_boot_sequence_is_refused():
    states = ["api 0 on\n", "api 3 on\n"]
    node = Scripted([("chkconfig --list", states), ("chkconfig api off && service api stop", "")])
    with pytest.raises(services.Refused, match="api"):
        reply(node, services.stop, prior={}, services=["api"])


def test_stop_fails_when_the_command_does():
    node = Scripted(
        [("chkconfig --list", "api 0 on\n"), ("service api stop", said(status=1, stderr="Stopping: FAILED"))]
    )
    with pytest.raises(Exception, match="stopping api: exit status 1: Stopping: FAILED"):
        reply(node, services.stop, prior={}, services=["api"])


def test_where_nothing_is_installed_stop_is_skipped(system):
    assert reply(system, services.stop, prior={}, services=["api"]) == "skipped: none of the services is installed"


def test_restore_starts_what_ran_and_leaves_off_what_was_off(system):
    system.has(api="boot run", certs="run", off="")
    names = ["api", "certs", "off"]
    prior = services.read(task_on(system), services=names).result
    reply(system, services.stop, prior=prior, services=names)
    assert reply(system, services.restore, prior=prior, services=names) == "changed: started api, certs"
    assert system.now(*names) == prior
    assert reply(system, services.restore, prior=prior, services=names) == "skipped: as before already"


def test_restore_starts_what_was_in_the_boot_sequence_although_it_did_not_run(system):
    """A node that comes back late: its old service could not run on the new schema."""
    system.has(compute="")
    prior = {"compute": {"actual": "stopped", "boot": "on"}}
    assert reply(system, services.restore, prior=prior, services=["compute"]) == "changed: started compute"
    assert system.now("compute") == {"compute": UP}


def test_restore_switches_nothing_on_where_all_was_off(system):
    system.has(api="")
    assert reply(system, services.restore, prior={"api": OFF}, services=["api"]) == "skipped: was off before: left off"
    assert reply(system, services.restore, prior={}, services=["api"]) == "skipped: was off before: left off"
    assert system.now("api") == {"api": OFF}
    assert not system.sent_with("service api start")


def test_a_service_that_does_not_start_is_told(system):
    """Its init script ends with 0, and it does not run."""
    system.has(api="broken", cells="")
    with pytest.raises(services.Refused, match="not as before: api; read their logs"):
        reply(system, services.restore, prior={"api": UP, "cells": UP}, services=["api", "cells"])


@pytest.mark.parametrize("function", [services.stop, services.restore])
def test_a_dry_run_tells_and_sends_nothing_that_changes(system, function):
    before, prior = ("boot run", {}) if function is services.stop else ("", {"api": UP})
    system.has(api=before)
    result = function(task_on(system, dry_run=True), prior=prior, services=["api"])
    assert told(result).startswith("changed: st")
    assert not [command for command in system.sent if re.search(r"chkconfig api|service api", command)]


def test_in_a_dry_run_change_sends_nothing_whatever_its_caller_forgot():
    node = Scripted({})
    task = task_on(node, dry_run=True)
    with pytest.raises(Refused, match="not sent in a dry run: stopping api"):
        change(task, "service api stop", what="stopping api")
    assert (node.sent, has_changed(task)) == ([], False)


def test_a_task_has_changed_once_it_sent_a_change():
    task = task_on(Scripted([("chkconfig --list", "api 0 on\n"), ("service api stop", OSError("gone"))]))
    services.states(task, ["api"])
    assert not has_changed(task)
    with pytest.raises(OSError, match="gone"):
        services.stop(task, prior={}, services=["api"])
    assert has_changed(task)
