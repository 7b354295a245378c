"""Check-out tests: cells that answer, and a guest that is created and deleted in each."""

import re
import time

import pytest

from plugins.connections.errors import CommandTimeout, ConnectionLost
from tasks import checkout
from tasks.errors import CommandFailed, Refused
from tests.support.scripted import Scripted, reply, said, task_on, told

SERVICES = """\
+------------------+---------------------+----------+---------+-------+
| Binary           | Host                | Zone     | Status  | State |
+------------------+---------------------+----------+---------+-------+
| nova-cells       | api@top-api01       | internal | enabled | up    |
| nova-conductor   | api!cell01@c01-ctl01 | internal | enabled | up    |
| nova-compute     | api!cell01@c01-n01.cern.ch | nova | enabled | up   |
| nova-compute     | api!cell02@c02-n01  | nova     | enabled | up    |
| nova-compute     | api!cell11@c01-n02  | nova     | enabled | up    |
"""
EXPECTED = {"api!cell01": ["c01-ctl01", "c01-n01"], "api!cell02": ["c02-n01.cern.ch"]}


def answer(text=SERVICES, expected=EXPECTED, environment="/root/open rc"):
    node = Scripted([(f". '{environment}' && nova service-list" if environment else "nova service-list", text)])
    return reply(node, checkout.cells_answer, environment=environment, services="nova service-list", expected=expected)


def test_every_cell_answers_with_its_hosts():
    """Full names or short ones."""
    assert answer() == "ok: answered over RabbitMQ: api!cell01, api!cell02"
    assert answer(environment="").startswith("ok")


@pytest.mark.parametrize(
    ("path", "hosts", "told_of"),
    [
        ("api!cell03", ["c03-n01"], "api!cell03 does not answer over RabbitMQ"),
        ("api!cell0", ["c01-n01"], "api!cell0 does not answer over RabbitMQ"),
        ("api!cell01", ["c01-ctl01", "c01-n02", "c01-n0"], "api!cell01 does not know c01-n02, c01-n0"),
        ("api!cell02", ["c01-n01"], "api!cell02 does not answer over RabbitMQ"),
    ],
)
def test_a_cell_or_host_that_is_missing_is_named(path, hosts, told_of):
    """Also where another cell has a host of that name."""
    with pytest.raises(Refused, match=f"^{told_of}$"):
        answer(expected=EXPECTED | {path: hosts})


def test_all_that_is_missing_is_named():
    expected = {"api!cell03": ["c03-n01"], "api!cell01": ["c01-n01", "c01-n09"]}
    with pytest.raises(Refused, match=r"^api!cell03 does not answer over RabbitMQ; api!cell01 does not know c01-n09$"):
        answer(expected=expected)


def test_a_list_that_fails_is_told():
    with pytest.raises(CommandFailed, match="nova service-list: exit status 1: ERROR: Unauthorized"):
        answer(said("", 1, "ERROR: Unauthorized (HTTP 401)"))


def test_without_child_cells_nobody_is_asked():
    assert answer(AssertionError("asked"), {}) == "skipped: no child cell with services to ask for"


# Guests

CELLS = ["api!cell01", "api!cell02"]
UNAVAILABLE = said(
    "", 1, "ERROR: <h1>503 Service Unavailable</h1>No server is available to handle this request. (HTTP 503)"
)
ERRORS = {"missing": "ERROR: No server with a name or ID of '{}' exists.", "new": "No server found for {}"}


class Nova(Scripted):
    """Stands for the API: guests by name, each with the states that `show` gives in turn (the last one stays).

    Attributes:
        states: cell to the states of a guest created there.
        deletes: cell to what `delete` comes to there, instead of deleting.
        gone: cell to what `show` comes to there once, after `delete`.
        left: the guests that are there, name to cell.
        tried: the cells in which `delete` was tried.
    """

    def __init__(self, states=None, *, creates=None, deletes=None, gone=None, words="missing"):
        super().__init__([("nova boot", self.create), ("nova show", self.show), ("nova delete", self.delete)])
        self.states = {cell: list((states or {}).get(cell, ["BUILD", "ACTIVE"])) for cell in CELLS}
        self.creates, self.deletes, self.gone = creates or {}, deletes or {}, gone or {}
        self.words = words
        self.left, self.cells, self.tried = {}, {}, []

    def create(self, command):
        cell, name = re.fullmatch(r"\. /root/openrc && nova boot --hint target_cell='(.*)' (\S+)", command).groups()
        self.cells[name] = cell
        if cell in self.creates:
            return self.creates[cell]
        assert name not in self.left
        self.left[name] = cell
        return "| status | BUILD |\n"

    def show(self, command):
        name = command.split()[-1]
        cell = self.cells[name]
        if name not in self.left:
            if self.gone.get(cell):
                return self.gone[cell].pop(0)
            return said("", 1, ERRORS[self.words].format(name))
        state = self.states[cell].pop(0) if len(self.states[cell]) > 1 else self.states[cell][0]
        return state if not isinstance(state, str) else f"| id | 7 |\n| status | {state} |\n| task_state | None |\n"

    def delete(self, command):
        name = command.split()[-1]
        cell = self.cells[name]
        self.tried.append(cell)
        if cell in self.deletes:
            return self.deletes[cell]
        return "" if self.left.pop(name, None) else said("", 1, "ERROR: No server with a name or ID")


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(checkout, "ASK_EVERY_S", 0.01)


def guests(nova, *, cells=CELLS, timeout_s=0.15, dry_run=False, untested=()):
    result = checkout.guest_in_each_cell(
        task_on(nova, dry_run=dry_run),
        environment="/root/openrc",
        create="nova boot --hint target_cell='{cell_path}' {name}",
        show="nova show {name}",
        delete="nova delete {name}",
        cells=cells,
        prefix="cellstep-r1",
        timeout_s=timeout_s,
        untested=untested,
    )
    return told(result)


@pytest.mark.parametrize("words", ERRORS)
def test_a_guest_is_created_and_deleted_in_each_cell(words):
    nova = Nova(words=words)
    assert guests(nova, timeout_s=30) == "changed: a guest was created and deleted in api!cell01, api!cell02"
    assert (nova.left, nova.tried) == ({}, CELLS)
    assert len(nova.cells) == 2
    assert all(name.startswith("cellstep-r1-") for name in nova.cells)


def test_a_cell_without_a_compute_node_in_the_run_is_named():
    assert "not tested, since no compute node of theirs is there: api!cell03" in guests(
        Nova(words="new"), timeout_s=30, untested=["api!cell03"]
    )


def test_another_try_meets_no_guests_of_the_first():
    nova = Nova(deletes=dict.fromkeys(CELLS, said("", 1, "ERROR: refused")))
    for _ in range(2):
        with pytest.raises(
            Refused, match=r"guest in api!cell01: .* refused; deleting the guest in api!cell02: .* refused"
        ):
            guests(nova)
    assert len(nova.left) == 4


def test_a_guest_that_goes_to_error_ends_the_wait_and_all_are_deleted():
    nova = Nova({"api!cell02": ["BUILD", "ERROR"]})
    began = time.monotonic()
    with pytest.raises(Refused, match=r"^the guest in api!cell02: ERROR, not ACTIVE$"):
        guests(nova, timeout_s=60)
    assert time.monotonic() - began < 10
    assert (nova.left, nova.tried) == ({}, CELLS)


def test_a_guest_that_never_becomes_active_is_refused_in_time_and_all_are_deleted():
    nova = Nova({"api!cell01": ["BUILD"]})
    began = time.monotonic()
    with pytest.raises(Refused, match=r"^the guest in api!cell01: BUILD, not ACTIVE$"):
        guests(nova)
    assert 0.15 <= time.monotonic() - began < 10
    assert (nova.left, nova.tried) == ({}, CELLS)


def test_a_create_that_fails_deletes_what_was_tried():
    """It may have made a guest all the same."""
    nova = Nova(creates={"api!cell02": said("", 1, "ERROR: Quota exceeded (HTTP 413)")})
    with pytest.raises(CommandFailed, match="Quota exceeded"):
        guests(nova)
    assert (nova.left, nova.tried) == ({}, CELLS)
    nova = Nova(creates={"api!cell01": CommandTimeout("no end")})
    with pytest.raises(CommandTimeout):
        guests(nova)
    assert nova.tried == CELLS[:1]


def test_a_delete_that_fails_is_told_with_its_cell():
    nova = Nova(deletes={"api!cell01": said("", 1, "ERROR: Cannot delete")})
    with pytest.raises(CommandFailed, match="deleting the guest in api!cell01: exit status 1: ERROR: Cannot delete"):
        guests(nova)
    assert (list(nova.left.values()), nova.tried) == (["api!cell01"], CELLS)


@pytest.mark.parametrize("error", [CommandTimeout("c01-n01: no end"), ConnectionLost("c01-n01: lost")])
def test_a_delete_without_an_answer_does_not_keep_the_others(error):
    nova = Nova(deletes={"api!cell01": error})
    with pytest.raises(type(error)):
        guests(nova)
    assert (list(nova.left.values()), nova.tried) == (["api!cell01"], CELLS)


def test_what_failed_first_is_told_also_when_deleting_fails_too():
    nova = Nova({"api!cell01": ["ERROR"]}, deletes={"api!cell02": CommandTimeout("no end of nova delete")})
    with pytest.raises(Refused, match="the guest in api!cell01: ERROR, not ACTIVE") as refused:
        guests(nova)
    assert list(nova.left.values()) == ["api!cell02"]
    assert "no end of nova delete" in str(refused.value)


def test_a_guest_that_does_not_go_away_is_refused():
    nova = Nova(deletes={"api!cell02": ""})
    with pytest.raises(Refused, match=r"^deleting the guest in api!cell02: ACTIVE, not gone$"):
        guests(nova)


def test_an_api_that_does_not_answer_is_not_taken_for_a_guest_that_is_gone():
    """HAProxy says `No server is available` when its own servers are down."""
    nova = Nova(gone={"api!cell01": [UNAVAILABLE] * 1000})
    with pytest.raises(
        Refused, match=r"deleting the guest in api!cell01: show: exit status 1: .*\(HTTP 503\), not gone"
    ):
        guests(nova)


def test_an_api_that_does_not_answer_for_a_moment_is_asked_again():
    nova = Nova({"api!cell01": [UNAVAILABLE, "ACTIVE"]}, gone={"api!cell01": [UNAVAILABLE, UNAVAILABLE]})
    assert guests(nova, timeout_s=30).startswith("changed")


def test_without_cells_with_computes_nothing_is_created():
    assert guests(Scripted({}), cells=[]) == "skipped: no child cell with a compute node"


def test_a_dry_run_creates_nothing():
    expected = "changed: would create and delete a guest in api!cell01, api!cell02"
    assert guests(Scripted({}), dry_run=True) == expected


def test_the_sites_own_commands_must_end_with_0():
    node = Scripted([("check-a", ""), ("check-b", ["", said("", 3, "b is wrong")])])
    arguments = {"environment": "/root/openrc", "commands": ["check-a", "check-b"]}
    assert reply(node, checkout.site_command, **arguments) == "ok: 2 commands of the site ended well"
    assert node.sent == [". /root/openrc && check-a", ". /root/openrc && check-b"]
    with pytest.raises(CommandFailed, match=r"^check-b: exit status 3: b is wrong$"):
        reply(node, checkout.site_command, **arguments)
    dry = checkout.site_command(task_on(Scripted({}), dry_run=True), **arguments)
    assert told(dry) == "changed: would run 2 commands of the site"
