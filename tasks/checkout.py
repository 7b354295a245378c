"""Check-out tests with the site's own commands, on a controller, past the fence."""

import re
import shlex
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nornir.core.task import Result, Task

from plugins.connections.errors import TransportError
from plugins.connections.ssh import CommandResult
from tasks.binding import binding_of
from tasks.databases import mysql_of
from tasks.errors import CommandFailed, Refused
from tasks.holds import Noted, changed, skipped, unchanged
from tasks.peers import host_of
from tasks.shell import change, sh

ASK_EVERY_S = 1.0
GONE = "gone"
COMMAND_TIMEOUT_S = 120.0


def _with(environment: str, command: str) -> str:
    return f". {shlex.quote(environment)} && {command}" if environment else command


def cells_answer(task: Task, *, environment: str, services: str, expected: Mapping[str, Sequence[str]]) -> Result:
    """List the services of every cell through the API, which asks each cell over RabbitMQ.

    Args:
        task: the Nornir task.
        environment: the file with the operator's credentials on the node.
        services: the command, for example `nova service-list`.
        expected: cell path (`api!cell01`) to hosts of that cell that must be in its answer.

    Raises:
        Refused: a cell, or a host of it, is not in the answer.
    """
    if not expected:
        return skipped(task, "no child cell with services to ask for")
    text = sh(task, _with(environment, services), what=services, timeout=COMMAND_TIMEOUT_S).stdout
    # Cell paths use `!`, and cell and item are joined by `@` (nova/cells/utils.py).
    found = {(path, host.split(".")[0]) for path, host in re.findall(r"([\w!.-]+)@([\w.-]+)", text)}
    missing = []
    for path, hosts in expected.items():
        absent = [host for host in hosts if (path, host.split(".")[0]) not in found]
        if len(absent) == len(hosts):
            missing.append(f"{path} does not answer over RabbitMQ")
        elif absent:
            missing.append(f"{path} does not know {', '.join(absent)}")
    if missing:
        raise Refused("; ".join(missing))
    return unchanged(task, f"answered over RabbitMQ: {', '.join(expected)}")


def guest_in_each_cell(  # noqa: PLR0913 - three commands of the site, and where and how they are tried
    task: Task,
    *,
    environment: str,
    create: str,
    show: str,
    delete: str,
    cells: Sequence[str],
    prefix: str,
    timeout_s: float,
    untested: Sequence[str] = (),
) -> Result:
    """Create a guest in each cell, see it become ACTIVE, delete it and see it gone.

    Args:
        task: the Nornir task.
        environment: the file with the operator's credentials on the node.
        create: the site's command; `{cell_path}` and `{name}` are filled in.
        show: the command that tells the guest's state; fails when it is gone.
        delete: the command that deletes it.
        cells: cell paths.
        prefix: of the guests' names.
        timeout_s: seconds for each of the two waits.
        untested: cell paths that have no compute node in this run; they are named in the outcome.

    Raises:
        CommandFailed: a guest could not be created or deleted.
        Refused: one did not become ACTIVE, or did not go away; the message names its cell. Or several things failed.
    """
    if not cells:
        return skipped(task, "no child cell with a compute node")
    if task.is_dry_run():
        return changed(task, f"would create and delete a guest in {', '.join(cells)}")
    # Another try after a failure must not meet the guests of the first; one whose end is not known has them again.
    binding = binding_of(task)
    unique = binding.generation if binding else uuid.uuid4().hex[:6]
    names = {cell: f"{prefix}-{unique}-{number}" for number, cell in enumerate(cells, 1)}

    def command(template: str, cell: str) -> str:
        return _with(environment, template.format(cell_path=cell, name=names[cell]))

    _clear(task, {cell: (command(delete, cell), command(show, cell)) for cell in cells}, timeout_s)

    tried: list[str] = []
    failed: list[Exception] = []
    try:
        for cell in cells:
            tried.append(cell)
            change(task, command(create, cell), what=create, timeout=COMMAND_TIMEOUT_S)
        for cell in cells:
            _wait(task, command(show, cell), "ACTIVE", timeout_s, f"the guest in {cell}")
    except (CommandFailed, Refused, TransportError) as error:
        failed.append(error)
    failed += _delete(task, {cell: command(delete, cell) for cell in tried})
    if len(failed) > 1 and not isinstance(failed[0], TransportError):
        raise Refused("; ".join(str(error) for error in failed)) from failed[0]
    if failed:
        raise failed[0]
    for cell in cells:
        _wait(task, command(show, cell), GONE, timeout_s, f"deleting the guest in {cell}")
    left = f"; not tested, since no compute node of theirs is there: {', '.join(untested)}" if untested else ""
    return changed(task, f"a guest was created and deleted in {', '.join(cells)}{left}")


def _clear(task: Task, commands: Mapping[str, tuple[str, str]], timeout_s: float) -> None:
    """Where the try before was cut off: delete the guests that it may have left behind, and see them gone.

    Args:
        task: the Nornir task.
        commands: cell to the commands that delete and show its guest.
        timeout_s: seconds until each must be gone.

    Raises:
        CommandFailed: one cannot be deleted.
        Refused: one did not go away.
    """
    binding = binding_of(task)
    if binding is None or not binding.again:
        return
    for error in _delete(task, {cell: delete for cell, (delete, _) in commands.items()}):
        raise error
    for cell, (_, show) in commands.items():
        _wait(task, show, GONE, timeout_s, f"deleting the guest of the try before in {cell}")


def _delete(task: Task, commands: Mapping[str, str]) -> list[Exception]:
    """Delete the guests; what failed. One that gives no answer does not keep the others from being deleted.

    Args:
        task: the Nornir task.
        commands: cell to the command for its guest.
    """
    failed: list[Exception] = []
    for cell, command in commands.items():
        try:
            ended = change(task, command, timeout=COMMAND_TIMEOUT_S, ok=None)
        except TransportError as error:
            failed.append(error)
        else:
            if ended.exit_status != 0 and not _says_gone(ended):
                failed.append(CommandFailed(f"deleting the guest in {cell}", ended))
    return failed


def _says_gone(answer: CommandResult) -> bool:
    """Whether a command failed because there is no such guest: in novaclient's words, and in those of its successor.

    HAProxy's own 503 page begins alike: "No server is available to handle this request".
    """
    words = r"no server (with a name or id|found)"
    return answer.exit_status != 0 and bool(re.search(words, answer.stdout + answer.stderr, re.IGNORECASE))


def _wait(task: Task, command: str, wanted: str, timeout_s: float, what: str) -> None:
    """Wait until `show` prints the wanted state; GONE: until it fails because there is no such server."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        answer = sh(task, command, timeout=COMMAND_TIMEOUT_S, ok=None)
        state = re.search(r"^\|\s*status\s*\|\s*(\S+)", answer.stdout, re.MULTILINE)
        said = state.group(1) if state else ""
        if _says_gone(answer):
            said = GONE
        if said == wanted:
            return
        if said == "ERROR" or time.monotonic() >= deadline:
            raise Refused(f"{what}: {said or CommandFailed('show', answer)}, not {wanted}")
        pause.wait(ASK_EVERY_S)


@dataclass(frozen=True)
class Shown:
    """What an ordinary user's list of images shows.

    Attributes:
        command: the user's.
        project: the user's.
        listed: how many images are in the list.
        may_see: how many live images the project may see.
        hidden: how many it may not see, public ones and its own left out: with none of these nothing is proven.
        wrong: images in the list that it may not see, in words.
    """

    command: str
    project: str
    listed: int
    may_see: int
    hidden: int
    wrong: tuple[str, ...]


# An image is seen by all if it is public, by its owner, and by its members.
_IMAGES = (
    "SELECT i.id, i.name, i.owner, i.deleted<>0 AS deleted, (i.is_public<>0 OR i.owner=%s OR EXISTS (SELECT 1 FROM"
    " image_members m WHERE m.image_id=i.id AND m.member=%s AND m.deleted=0)) AS visible FROM images i"
)


def images_shown(task: Task, *, environment: str, command: str, project: str, place: tuple[str, str]) -> Result:
    """List the images as an ordinary user does, and compare with what Glance's database says that it may see.

    Args:
        task: the Nornir task.
        environment: the file with the user's credentials on the node.
        command: `nova image-list` or `glance image-list`.
        project: the id of the user's project.
        place: the node and the name of Glance's database.

    Returns:
        A `Noted` with a `Shown`.

    Raises:
        CommandFailed: the list cannot be had.
        Refused: the command printed no table with a column ID.
    """
    text = sh(task, _with(environment, command), what=command, timeout=COMMAND_TIMEOUT_S).stdout
    listed = listed_ids(text)
    if listed is None:
        raise Refused(f"`{command}` printed no table with a column ID: {text.strip()[:200] or 'nothing'}")
    node, database = place
    rows = mysql_of(task, host_of(task, node)).query(_IMAGES, (project, project), database=database)
    known = {row["id"]: row for row in rows}
    wrong = []
    for image in listed:
        row = known.get(image)
        if row is None:
            wrong.append(f"image {image}, which {node}/{database} does not know: whose list is that?")
        elif not row["visible"]:
            wrong.append(f"image {image} “{row['name']}” of project {row['owner']}, which is not public")
    live = [row for row in rows if not row["deleted"]]
    may_see = sum(bool(row["visible"]) for row in live)
    shown = Shown(command, project, len(listed), may_see, len(live) - may_see, tuple(wrong))
    proof = f"{shown.hidden} of others are not in it" if shown.hidden else "there are none of others to hide"
    words = f"{len(wrong)} too many of {len(listed)} images" if wrong else f"{len(listed)} images; {proof}"
    return unchanged(task, Noted(words, shown))


def listed_ids(text: str) -> list[str] | None:
    """The column ID of a table as the clients of OpenStack print it; None where there is no such table.

    Of an empty list glance's client prints nothing but an empty line, or the table's head.
    """
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines() if "|" in line]
    if not rows:
        return None if text.strip() else []
    head = [cell.lower() for cell in rows[0]]
    if "id" not in head:
        return None
    at = head.index("id")
    return [row[at] for row in rows[1:] if len(row) > at and row[at]]


def site_command(task: Task, *, environment: str, commands: Sequence[str]) -> Result:
    """Run the site's own check-out commands; each must end with 0."""
    if task.is_dry_run():
        return changed(task, f"would run {len(commands)} commands of the site")
    for command in commands:
        change(task, _with(environment, command), what=command, timeout=COMMAND_TIMEOUT_S)
    return unchanged(task, f"{len(commands)} commands of the site ended well")
