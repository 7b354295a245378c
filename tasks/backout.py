"""What a back-out needs besides packages and databases: rest, and the repository moved back."""

import shlex
import threading
import time
from collections.abc import Mapping, Sequence

from nornir.core.task import Result, Task

from tasks import checkout, databases, puppet, rabbitmq
from tasks.errors import CommandFailed, Refused
from tasks.holds import changed, skipped, unchanged
from tasks.platforms import platform_of
from tasks.shell import change, fence, sh

ASK_EVERY_S = 2.0
IDLE_TIMEOUT_S = 3600.0
AT_REST = "at rest since the dumps were made"


def wait_until_idle(task: Task, *, sync: str) -> Result:
    """Wait until no yum, no dump and no schema change runs on the node: what the upgrade had begun may outlive it.

    Args:
        task: the Nornir task.
        sync: the command that changes the schema.

    Raises:
        Refused: something still runs after an hour.
    """
    fence(task)  # from here on the node refuses what the run before has sent and not begun yet
    busy = platform_of(task).packages.busy
    if not busy:
        return unchanged(task, "nothing of the upgrade runs")  # the fence has waited for whatever did
    # The pattern must not find the very command that looks: [n]ova matches nova, and not itself.
    patterns = [f"[{text[0]}]{text[1:]}" for text in (sync, "mysqldump --opt")]
    looks = [f"pgrep -f -l -- {shlex.quote(pattern)}" for pattern in patterns]
    script = f"{{ pgrep -l -x '{busy}'; {'; '.join(looks)}; }} | sort -u"
    deadline = time.monotonic() + (0 if task.is_dry_run() else IDLE_TIMEOUT_S)
    pause = threading.Event()
    while True:
        running = sh(task, script, what="looking for what still runs").stdout.splitlines()
        if not running:
            return unchanged(task, "nothing of the upgrade runs")
        if task.is_dry_run():
            return unchanged(task, f"runs: {'; '.join(running)}")
        if time.monotonic() >= deadline:
            raise Refused(f"still running after {IDLE_TIMEOUT_S:.0f} s: {'; '.join(running)}; see what it waits for")
        pause.wait(ASK_EVERY_S)


def wait_for_tasks(task: Task, *, rested: bool, database: str, timeout_s: float, accept_stuck: bool) -> Result:
    """As `databases.wait_for_tasks`, where the upgrade had not brought the cloud to rest."""
    if rested:
        return skipped(task, AT_REST)
    return databases.wait_for_tasks(task, database=database, timeout_s=timeout_s, accept_stuck=accept_stuck)


def wait_until_empty(task: Task, *, rested: bool, service: str, timeout_s: float, accept_stuck: bool) -> Result:
    """As `rabbitmq.wait_until_empty`, where the upgrade had not brought the cloud to rest and RabbitMQ runs."""
    if rested:
        return skipped(task, AT_REST)
    return rabbitmq.wait_until_empty(task, timeout_s=timeout_s, accept_stuck=accept_stuck, service=service)


def move_back(task: Task, *, command: str, promoted: str) -> Result:
    """Move the release's repository back from where every node follows it, with the site's own command.

    Args:
        task: the Nornir task.
        command: the site's command, "" where it has none.
        promoted: the site's command that ends with 0 while the repository is promoted, "" where it has none.

    Raises:
        CommandFailed: the command failed.
        Refused: it is promoted still, or there is no command for it.
    """
    asking = "asking whether the repository is promoted"
    if promoted and sh(task, promoted, what=asking, ok=None).exit_status != 0:
        return skipped(task, "not promoted")
    if not command:
        if promoted and not task.is_dry_run():
            raise Refused(
                "the repository is promoted still, and cloud.yaml has no repository.promote.undo: move it back by hand"
            )
        return unchanged(task, "cloud.yaml has no repository.promote.undo: must be moved back by hand")
    if not task.is_dry_run():
        change(task, command, what="moving the repository back", timeout=puppet.RUN_TIMEOUT_S)
        if promoted and sh(task, promoted, what=asking, ok=None).exit_status == 0:
            raise Refused(f"`{command}` ended well, and the repository is promoted still")
    return changed(task, f"ran: {command}")


def lose_repository(task: Task, *, repository: str, run: str) -> Result:
    """See that the node has the release's repository no more, by one forced Puppet run where it has it.

    Args:
        task: the Nornir task.
        repository: its id, as `yum repolist` prints it.
        run: the command for one forced Puppet run.

    Raises:
        CommandFailed: the Puppet run failed, and the repository is still there.
        Refused: the repository is still there.
    """
    if not puppet.has_repository(task, repository):
        return unchanged(task, f"has no repository {repository}")
    if task.is_dry_run():
        return changed(task, f"has the repository {repository}: would run Puppet once")
    ended = change(task, run, what="the forced Puppet run", timeout=puppet.RUN_TIMEOUT_S, ok=None)
    if puppet.has_repository(task, repository):
        if ended.exit_status not in puppet.PUPPET_WENT_WELL:
            raise CommandFailed("the forced Puppet run", ended)
        listed = platform_of(task).packages.repolist
        raise Refused(f"`{listed}` still lists {repository} after a Puppet run: Puppet must take it away")
    return changed(task, f"lost the repository {repository} by a forced Puppet run")


def cells_answer(task: Task, *, environment: str, services: str, expected: Mapping[str, Sequence[str]]) -> Result:
    """As `checkout.cells_answer`, which asks in a dry run too: here the services may be down, and stay down then."""
    if task.is_dry_run():
        return unchanged(task, f"would ask for the services of {', '.join(expected)}")
    return checkout.cells_answer(task, environment=environment, services=services, expected=expected)
