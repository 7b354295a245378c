"""Automatic restarts and alarms, as one hold."""

import pytest

from tasks import monitoring
from tasks.errors import CommandFailed, Refused
from tests.support.scripted import Scripted, reply, said, task_on, told

SITE = {"service": "monit", "masked": "alarms masked", "mask": "alarms mask", "unmask": "alarms unmask"}
NONE = {"service": "", "masked": "", "mask": "", "unmask": ""}


class Node(Scripted):
    """A node with monit and the site's alarms."""

    def __init__(self, *, monit="0 on", masked=False, obeys=True):
        self.monit, self.masked, self.obeys = monit, masked, obeys
        super().__init__(
            [
                ("chkconfig --list", lambda _: f"monit {self.monit}\n" if self.monit else ""),
                ("chkconfig monit off && service monit stop", lambda _: self.becomes("3 off")),
                ("chkconfig monit on && service monit start", lambda _: self.becomes("0 on")),
                ("service monit start", lambda _: self.becomes("0 off")),
                ("alarms masked", lambda _: said(status=0 if self.masked else 1)),
                ("alarms mask", lambda _: self.masks(True)),
                ("alarms unmask", lambda _: self.masks(False)),
            ]
        )

    def becomes(self, monit):
        self.monit = monit if self.obeys else self.monit
        return ""

    def masks(self, masked):
        self.masked = masked
        return ""


def read(node, site=SITE):
    return monitoring.read(task_on(node), **site).result


def place(node, prior, site=SITE):
    return reply(node, monitoring.place, prior=prior, **site)


def lift(node, prior, site=SITE):
    return reply(node, monitoring.lift, prior=prior, **site)


def test_alarms_and_restarts_are_off_and_on_again():
    node = Node()
    prior = read(node)
    assert prior == {"services": {"monit": {"actual": "running", "boot": "on"}}, "alarms": "on"}
    assert place(node, prior) == "changed: alarms masked; stopped monit"
    assert (node.monit, node.masked) == ("3 off", True)
    assert node.sent.index("alarms mask") < node.sent.index("chkconfig monit off && service monit stop")
    assert place(node, prior) == "skipped: nothing to disable"
    assert lift(node, prior) == "changed: started monit; alarms unmasked"
    assert (node.monit, node.masked) == ("0 on", False)
    assert lift(node, prior) == "skipped: as before already"


@pytest.mark.parametrize(
    ("monit", "masked", "placed", "lifted"),
    [
        ("3 off", True, "skipped: nothing to disable", "skipped: as before already"),
        ("0 on", True, "changed: stopped monit", "changed: started monit"),
        ("3 off", False, "changed: alarms masked", "changed: alarms unmasked"),
        ("", False, "changed: alarms masked", "changed: alarms unmasked"),
        ("0 off", True, "changed: stopped monit", "changed: started monit"),
    ],
)
def test_what_was_off_before_stays_off(monit, masked, placed, lifted):
    node = Node(monit=monit, masked=masked)
    prior = read(node)
    assert place(node, prior) == placed
    assert (node.monit, node.masked) == ("3 off" if monit else "", True)
    assert lift(node, prior) == lifted
    assert (node.monit, node.masked) == (monit, masked)


def test_a_site_without_monitoring_is_asked_nothing():
    node = Scripted({})
    prior = read(node, NONE)
    assert prior == {"services": {}, "alarms": ""}
    assert place(node, prior, NONE) == "skipped: nothing to disable"
    assert lift(node, prior, NONE) == "skipped: as before already"


def test_alarms_that_cannot_be_asked_for_are_a_failure():
    """Any other status than yes or no: the command is not there, say."""
    node = Scripted([("alarms masked", said("", 127, "alarms: command not found"))])
    with pytest.raises(CommandFailed, match="asking whether alarms are masked: exit status 127"):
        read(node)


def test_a_monitoring_daemon_that_does_not_stop_is_refused():
    node = Node(obeys=False)
    with pytest.raises(Refused, match="monit"):
        place(node, read(node))


def test_a_dry_run_sends_nothing_that_changes():
    node = Node()
    prior = read(node)
    task = task_on(node, dry_run=True)
    assert told(monitoring.place(task, prior=prior, **SITE)) == "changed: alarms masked; stopped monit"
    node.monit, node.masked = "3 off", True
    assert told(monitoring.lift(task, prior=prior, **SITE)) == "changed: started monit; alarms unmasked"
    assert (node.monit, node.masked) == ("3 off", True)
    assert not [command for command in node.sent if command.endswith(("alarms mask", "alarms unmask", "monit start"))]
