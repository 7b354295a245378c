"""Jobs: long commands that run detached on a node, and outlive the SSH connection, cellstep, and a change of operators.

A job has a name within the step, and is started once for each try of the step: whoever asks for it again is attached to
the one that is there. What came of it is read from its files on the node, never guessed. `job.sh` is the node's side.
"""

import hashlib
import re
import shlex
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nornir.core.task import Task

from plugins.connections.errors import CommandTimeout, ConnectionLost, Unreachable
from plugins.connections.ssh import CommandResult
from tasks.binding import Binding, Command, binding_of, ends
from tasks.errors import TAIL_LINES, CommandFailed, Refused, TaskError
from tasks.platforms import lacking, platform_of
from tasks.platforms.posix import BOOT_ID_FILE
from tasks.shell import change, changing, fence, first_line, guarded, taken

JOB = Path(__file__).with_name("job.sh").read_text()
KEEP_DAYS = 14
BOUND = 64 * 1024  # bytes of each stream that are brought back
REATTACH_S = 60.0  # without any answer of the node; then the connection counts as lost
ASK_EVERY_S = 1.0
GRACE_S = 30.0  # for a script to end after `timeout` has told it to
ANSWER_S = 60.0  # for the node's own part: locks, starting, reading the files
TIMED_OUT = 124  # what coreutils' `timeout` ends with
HEADER = re.compile(
    r"^cellstep-job (absent|running|ended|cut) (-|\d+) (\d+) (\d+) (\S+) (\S+) (\d+) (-|[0-9a-f]{64})\n", re.MULTILINE
)


# This try's jobs, and those of other runs that have not ended: what they change must stand still too.
UNDER_WAY = """
cd "$root" || exit
for job in */; do
  job=${job%/}
  case "$job" in
    "$own"*) echo "$job";;
    *) [ ! -e "$job/lock" ] || echo "$job";;
  esac
done
"""


class CutOff(TaskError):
    """A job ended without a status: what it did is unknown but over. Look at the node, then `cellstep resume`."""


@dataclass(frozen=True)
class Job:
    """A job as its files on the node tell.

    Attributes:
        name: as in its id.
        state: `absent` (never started), `running`, `ended`, or `cut` (over, without a status).
        exit_status: of a job that has ended, as in a shell.
        began: seconds since 1970, by the node's clock.
        seconds: from start to end.
        boot: the node's boot id when it was started.
        boot_now: the node's boot id now.
        size: bytes that it printed.
        sha256: of what it printed: standard output, then error.
        stdout: its ends, where it is longer than `BOUND`.
        stderr: the same.
    """

    name: str
    state: str
    exit_status: int | None
    began: int
    seconds: float
    boot: str
    boot_now: str
    size: int
    sha256: str
    stdout: str
    stderr: str


def _slug(text: str, longest: int) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:longest]


def _prefix(binding: Binding) -> str:
    place = hashlib.sha256(f"{binding.run}\0{binding.step}".encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{_slug(binding.run, 40)}.{place}.{binding.generation:d}."


def job_id(binding: Binding, name: str) -> str:
    """The name of a job's folder: safe as a file's and a systemd unit's, and no other run, step, try or name has it."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{_prefix(binding)}{_slug(name, 40)}.{digest}"


def detached(
    task: Task, script: str, *, name: str, what: str = "", timeout: float, ok: tuple[int, ...] | None = (0,)
) -> CommandResult:
    """Run a script that changes the node as a job, and wait for its end; attach to it where it was started before.

    A task that is not bound to a run has no place to find its jobs again by: its script runs as `change` does. So it
    does on a platform without jobs: there it ends with its connection, and what became of it is unknown then.

    Args:
        task: the Nornir task.
        script: bash 4.1; standard input is empty. Never a secret: it lies on the node while it runs.
        name: of the job within its step.
        what: the words for a failure; the script's first line when empty.
        timeout: seconds that it may run; the node itself ends it then.
        ok: the exit statuses that are taken; None takes any.

    Raises:
        CommandFailed: another exit status, or its time was over.
        CutOff: it was killed, or the node was restarted while it ran.
        Fenced: another operator has taken the cloud over; nothing was started.
        Refused: in a dry run; or the node has no room to keep the job, and nothing was started.
        ConnectionLost: the node gave no answer for `REATTACH_S`; the job goes on.
        CommandTimeout: it runs still, although it was told to end.
    """
    what = what or first_line(script)
    binding = binding_of(task)
    if binding is None or not platform_of(task).jobs:
        return change(task, script, what=what, timeout=timeout, ok=ok)
    ask = partial(_look, task, binding, job_id(binding, name), script=script, limit=timeout)
    with changing(task, what):
        job = _until_ended(task, what, timeout, ask)
    result = _result(task, binding, job, what)
    if job.exit_status == TIMED_OUT and job.seconds >= timeout - 1 and (ok is None or TIMED_OUT not in ok):
        raise CommandFailed(f"{what}: ended after {timeout:g} s, which is all it may take", result)
    return taken(result, what, ok)


def begin(task: Task, script: str, *, name: str, what: str = "", timeout: float) -> Job:
    """Start a job as `detached` does, without waiting for it; where it was started before, see how it is now.

    Raises:
        Refused: the task is not bound, or one of the reasons of `detached`.
        Fenced: another operator has taken the cloud over; nothing was started.
    """
    binding = binding_of(task)
    if binding is None:
        raise Refused(f"{task.host.name}: not part of a run: {what or first_line(script)}")
    if not platform_of(task).jobs:
        raise lacking(task, "command that outlives its connection")
    with changing(task, what or first_line(script)):
        return _look(task, binding, job_id(binding, name), 0, script=script, limit=timeout)


def earlier(task: Task, name: str, *, timeout: float) -> Job | None:
    """The job that the try before started, after its end; None where that try has a known end, or did not start it.

    Raises:
        ConnectionLost: the node gave no answer for `REATTACH_S` while it was waited for.
        CommandTimeout: it still runs after `timeout` seconds.
    """
    binding = binding_of(task)
    if binding is None or not binding.again:
        return None
    if not platform_of(task).jobs:
        fence(task, timeout=timeout)  # it was a plain change, which may be under way still
        return None
    job = _until_ended(task, name, timeout, partial(_look, task, binding, job_id(binding, name)))
    return None if job.state == "absent" else job


def attach(task: Task, *, timeout: float) -> list[Job]:
    """Wait until nothing is under way any more that the try before, or a former operator, sent to this node.

    For a node whose try before has no known end: what is asked of it afterwards stands still.

    Args:
        task: the Nornir task, bound.
        timeout: seconds to wait, for plain changes and for each job.

    Returns:
        The jobs of this run, step and try, each after its end.

    Raises:
        Unreachable: nothing could be asked.
        Fenced: a newer operator is known.
        Refused: a change is still under way after `timeout`, or the node cannot keep the token.
        ConnectionLost: the node gave no answer for `REATTACH_S`.
        CommandTimeout: a job still runs after `timeout`.
    """
    binding = binding_of(task)
    if binding is None or task.is_dry_run():
        return []
    if not platform_of(task).jobs:
        fence(task, timeout=timeout)
        return []
    own = _prefix(binding)
    body = f"guard\nunlock\nidle {timeout:.0f}\nown={shlex.quote(own)}\n{UNDER_WAY}"
    listed = guarded(task, binding, body, timeout=timeout + ANSWER_S)
    jobs = []
    for folder in taken(listed, "looking for jobs", (0,)).stdout.split():
        job = _until_ended(task, folder, timeout, partial(_look, task, binding, folder))
        if job.state != "absent" and folder.startswith(own):
            jobs.append(job)
    return jobs


def _until_ended(task: Task, what: str, timeout: float, ask: Callable[[float], Job]) -> Job:
    """Ask until the node tells the job's end, over as many connections as that takes.

    Args:
        task: the Nornir task.
        what: the words for a failure.
        timeout: seconds; longer than that and `GRACE_S` the job is not waited for.
        ask: waits that many seconds on the node, and returns the job as it is then.
    """
    until = time.monotonic() + timeout + GRACE_S
    pause = threading.Event()
    lost_at: float | None = None
    while True:
        left = max(1.0, until - time.monotonic())
        try:
            job = ask(left)
        except Unreachable as error:
            if lost_at is None:
                raise
            if time.monotonic() - lost_at >= REATTACH_S:
                raise ConnectionLost(f"{error}; {what} runs on there or has ended, its result is kept there") from error
        except ConnectionLost as error:
            # It was there until now: only what stays away from here on counts.
            lost_at = time.monotonic()
            if lost_at >= until:
                raise ConnectionLost(f"{error}; {what} has run longer than {timeout:g} s") from error
        else:
            if job.state != "running":
                return job
            raise CommandTimeout(f"{task.host.name}: no end of {what} within {timeout + GRACE_S:g} s; it runs on there")
        pause.wait(ASK_EVERY_S)


def _look(task: Task, binding: Binding, folder: str, wait: float, *, script: str = "", limit: float = 0) -> Job:
    """Start the job if a script is given and it is not there yet, wait for its end, and read what came of it."""
    size = str(len(script.encode("utf-8", "surrogateescape"))) if script else ""
    body = (
        f'job="$root"/{shlex.quote(folder)} size={size} limit={max(1, round(limit))} wait={max(0, round(wait))}\n'
        f"days={KEEP_DAYS} bound={BOUND} boot={shlex.quote(BOOT_ID_FILE)}\n{JOB}"
    )
    result = guarded(task, binding, body, stdin=script, timeout=wait + ANSWER_S)
    found = HEADER.search(result.stdout)
    if result.exit_status != 0 or found is None:
        raise CommandFailed(f"reading the job {folder}", result)
    state, status, began, ended, boot, boot_now, printed, digest = found.groups()
    if script and state == "absent":
        raise CommandFailed(f"starting the job {folder}", result)
    return Job(
        name=folder.removeprefix(_prefix(binding)).rpartition(".")[0],
        state=state,
        exit_status=int(status) if state == "ended" else None,
        began=int(began),
        seconds=float(int(ended) - int(began)) if state == "ended" else 0.0,
        boot=boot,
        boot_now=boot_now,
        size=int(printed),
        sha256=digest,
        stdout=result.stdout[found.end() :],
        stderr=result.stderr,
    )


def _result(task: Task, binding: Binding, job: Job, what: str) -> CommandResult:
    """A job's result, which its binding gets as well.

    Raises:
        CutOff: it has none.
    """
    said = job.stdout + job.stderr
    if job.exit_status is None:
        lines = [line.strip() for line in said.strip().splitlines()[-TAIL_LINES:]]
        why = "the node was restarted while it ran" if job.boot != job.boot_now else "it was killed while it ran"
        last = f": {' | '.join(lines)}" if lines else ""
        raise CutOff(f"{task.host.name}: {what} was cut off: {why}{last}")
    binding.commands.append(Command(what, job.exit_status, job.seconds, job.size, job.sha256, *ends(said)))
    return CommandResult(job.exit_status, job.stdout, job.stderr, job.seconds)
