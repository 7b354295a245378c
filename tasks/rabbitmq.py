"""RabbitMQ: waiting until its queues are empty."""

import threading
import time

from nornir.core.task import Result, Task

from tasks import services
from tasks.errors import Refused
from tasks.holds import skipped, unchanged
from tasks.shell import sh

ASK_EVERY_S = 2.0

# One line a queue with messages: vhost, queue, messages. What reads standard input in the loop would read the vhosts.
FULL_QUEUES = r"""
set -o pipefail
rabbitmqctl -q list_vhosts 2>/dev/null | while read -r vhost; do
  [ "$vhost" = name ] && continue
  rabbitmqctl -q list_queues -p "$vhost" name messages </dev/null | while IFS=$'\t' read -r queue messages; do
    case "$messages" in ''|*[!0-9]*|0) ;; *) printf '%s\t%s\t%s\n' "$vhost" "$queue" "$messages";; esac
  done || exit 1
done
"""


def wait_until_empty(task: Task, *, timeout_s: float, accept_stuck: bool, service: str = "") -> Result:
    """Wait until no queue holds a message.

    Args:
        task: the Nornir task.
        timeout_s: seconds to wait.
        service: where it does not run there is nothing to ask: a hold that was lifted in part may leave it so.
        accept_stuck: end well with a list of what is stuck, where the site says so in cloud.yaml.

    Raises:
        Refused: queues still hold messages; the message lists them.
    """
    if service and services.states(task, [service]).get(service, {}).get("actual") != "running":
        return skipped(task, f"{service} does not run")
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        lines = sh(task, FULL_QUEUES, what="rabbitmqctl list_queues", timeout=60).stdout.splitlines()
        if not lines:
            return unchanged(task, "all queues are empty")
        if task.is_dry_run() or time.monotonic() >= deadline:
            break
        pause.wait(ASK_EVERY_S)
    full = (line.split("\t") for line in lines)
    stuck = ", ".join(f"{queue} ({count} messages, vhost {vhost})" for vhost, queue, count in full)
    if accept_stuck or task.is_dry_run():
        return unchanged(task, f"not empty: {stuck}")
    raise Refused(f"queues not empty after {timeout_s:.0f} s: {stuck}; see who consumes them")
