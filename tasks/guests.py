"""Guests that a measurement made: listed, judged by their names, deleted by their ids, and seen to be gone."""

import re
import shlex
import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from nornir.core.task import Task

from plugins.connections.ssh import CommandResult
from tasks.errors import CommandFailed, Refused
from tasks.shell import change, sh

CALL_TIMEOUT_S = 60
LOOK_EVERY_S = 1.0
LONGEST_LABEL = 63
"""Characters of one label of a host's name: RFC 1035, section 2.3.4; its form is RFC 1123's, section 2.1."""
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?")
# The client prints the first of them.
_FIRST = re.compile(r"^\|\s*id\s*\|\s*([0-9a-f-]{36})\s*\|", re.MULTILINE)
_TEMPLATE = re.compile(r"%\(\w*\)?\w?|%[sdi]\b|\$[({]\w*|\{\w*\}|<\w+>")


@dataclass(frozen=True)
class Guest:
    """One row of the list."""

    id: str
    name: str
    status: str


@dataclass(frozen=True)
class Commands:
    """The site's own, on the node.

    Attributes:
        environment: the file with the operator's credentials, "" for none.
        list: prints a table of guests.
        delete: deletes the guest {name}, which is given its id.
        timeout_s: until those that are deleted are gone.
    """

    environment: str
    list: str
    delete: str
    timeout_s: float

    @property
    def source(self) -> str:
        """What a script begins with."""
        return f". {shlex.quote(self.environment)}" if self.environment else ":"


def listed(task: Task, commands: Commands) -> list[Guest]:
    """The guests that the operator's credentials show.

    Raises:
        CommandFailed: they cannot be listed.
        Refused: what is printed is no table with the columns ID, Name and Status.
    """
    script = f"{commands.source}\n{commands.list}"
    return parse(sh(task, script, what="listing guests", timeout=CALL_TIMEOUT_S).stdout)


def parse(said: str) -> list[Guest]:
    """Read a table as the client prints it.

    Raises:
        Refused: it is none.
    """
    rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in said.splitlines() if line[:1] == "|"]
    if not rows or not {"ID", "Name", "Status"} <= set(rows[0]):
        raise Refused("measure.list in cloud.yaml printed no table with the columns ID, Name and Status")
    head = {name: place for place, name in enumerate(rows[0])}
    if any(len(row) != len(rows[0]) for row in rows):
        raise Refused("measure.list in cloud.yaml printed a table that cannot be read: a name with | in it?")
    return [Guest(*(row[head[name]] for name in ("ID", "Name", "Status"))) for row in rows[1:]]


@dataclass(frozen=True)
class Several:
    """Guests to make by one request.

    Attributes:
        name: what their names are to be made of; unique.
        count: how many.
        command: makes them.
    """

    name: str
    count: int
    command: str


def try_several(task: Task, commands: Commands, several: Several) -> dict[str, Any]:
    """Make guests by one request, judge them once they have come up, and delete them.

    Returns:
        count, names, and faults as words.

    Raises:
        CommandFailed: they cannot be listed, or one could not be deleted.
        Refused: the list cannot be read, or one that was deleted is still there.
    """
    before = {guest.id for guest in listed(task, commands)}
    script = f"{commands.source}\n{several.command}"
    what = f"making {several.count} guests by one request"
    first, found = "", list[Guest]()
    try:
        ended = change(task, script, what=what, timeout=CALL_TIMEOUT_S, ok=None)
        if ended.exit_status:
            wrong = [str(CommandFailed(what, ended))]
        first = next(iter(_FIRST.findall(ended.stdout)), "")
        found, strangers = _settled(task, commands, several, first, before, wait=not ended.exit_status)
        if not ended.exit_status:
            wrong = faults(several.name, several.count, found, strangers)
    finally:
        delete(task, commands, [each for each in listed(task, commands) if _made(each, several, first)])
    return {"count": several.count, "names": [guest.name for guest in found], "faults": wrong}


def _made(guest: Guest, several: Several, first: str) -> bool:
    return several.name in guest.name or guest.id == first


def _settled(
    task: Task, commands: Commands, several: Several, first: str, before: Collection[str], *, wait: bool
) -> tuple[list[Guest], list[Guest]]:
    """Those that were made, once none is being built, and others that came meanwhile: a cell may rename them late."""
    end, pause = time.monotonic() + commands.timeout_s, threading.Event()
    while True:
        now = listed(task, commands)
        found = [guest for guest in now if _made(guest, several, first)]
        ready = len(found) == several.count and all(guest.status != "BUILD" for guest in found)
        if ready or not wait or time.monotonic() >= end:
            return found, [guest for guest in now if guest.id not in before and guest not in found]
        pause.wait(LOOK_EVERY_S)


def faults(name: str, count: int, found: Sequence[Guest], strangers: Sequence[Guest] = ()) -> list[str]:
    """What is wrong with guests that one request made, as words.

    Args:
        name: what was asked for.
        count: how many.
        found: those that it made.
        strangers: guests of other names that came meanwhile.
    """
    words = [] if len(found) == count else [f"{len(found)} guests instead of {count}"]
    if len(found) != count and strangers:
        others = ", ".join(f"{each.name} ({each.id})" for each in strangers)
        words.append(f"came meanwhile under other names, delete them by hand if they are of this request: {others}")
    for each, times in Counter(each.name for each in found).items():
        if times > 1:
            words.append(f"{times} guests have the same name {each}")
        why = _invalid(each)
        if why:
            words.append(f"no host may be called {each}: {why}")
        if name not in each:
            words.append(f"{each} has not the name that was asked for in it")
    words += [f"{each.name} is {each.status}" for each in found if each.status != "ACTIVE"]
    return words


def _invalid(name: str) -> str:
    """Why it cannot be a host's name; "" where it can."""
    rest = _TEMPLATE.search(name)
    if rest:
        return f"{rest[0]} is a template's rest"
    for label in name.split("."):
        if len(label) > LONGEST_LABEL:
            return f"{len(label)} characters, more than {LONGEST_LABEL}"
        if not _LABEL.fullmatch(label):
            return "it has more than letters, digits and hyphens inside" if label else "a part of it is empty"
    return ""


def delete(task: Task, commands: Commands, which: Collection[Guest]) -> None:
    """Delete guests by their ids, and wait until the list has none of them.

    Raises:
        CommandFailed: one could not be deleted; the message names it.
        Refused: one is still there when the time is over; the message names it.
    """
    left: list[tuple[Guest, CommandResult]] = []
    for guest in which:
        what = f"deleting {_named([guest])}"
        script = f"{commands.source}\n{commands.delete.format(name=shlex.quote(guest.id))}"
        ended = change(task, script, what=what, timeout=CALL_TIMEOUT_S, ok=None)
        if ended.exit_status:
            left.append((guest, ended))
    refused = {guest.id for guest, _ in left}
    wanted = {guest.id for guest in which} - refused
    end, pause = time.monotonic() + commands.timeout_s, threading.Event()
    there: list[Guest] = []
    while which:
        now = listed(task, commands)
        there = [guest for guest in now if guest.id in wanted]
        # One that was gone by itself before it was deleted is no fault.
        left = [(guest, ended) for guest, ended in left if guest.id in {each.id for each in now}]
        if not there or time.monotonic() >= end:
            break
        pause.wait(LOOK_EVERY_S)
    if left:
        guests = [guest for guest, _ in left]
        raise CommandFailed(f"deleting {_named([*guests, *there])}: delete them by hand", left[0][1])
    if there:
        raise Refused(f"{_named(there)}: still listed {commands.timeout_s:.0f} s after deleting: see nova's logs")


def _named(which: Sequence[Guest]) -> str:
    return ", ".join(f"{guest.name} ({guest.id})" for guest in which)
