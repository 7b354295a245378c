"""How fast the cloud answers and boots: the site's own commands, timed on a node, and several guests made at once.

Everything is timed on the node itself, so the operator's link does not count.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nornir.core.task import Result, Task

from tasks.errors import CommandFailed, Refused
from tasks.holds import Noted, changed, unchanged
from tasks.shell import change, sh

CALL_TIMEOUT_S = 60

# environment, command, times, seconds for each. A line a time: `seconds status`, and of the last failure what it said.
_CALL = r"""
export LC_ALL=C
said=$(mktemp); trap 'rm -f "$said"' EXIT
%s
command=%s
for ((n = 0; n < %d; n++)); do
  began=$(date +%%s.%%N); status=0
  timeout %d bash -c "$command" > /dev/null 2> "$said" < /dev/null || status=$?
  ended=$(date +%%s.%%N)
  echo "$began $ended $status"
  [ "$status" = 0 ] || last=$(grep -v '^ *$' "$said" | tail -n 1)
done
[ -z "${last:-}" ] || echo "said $last"
"""

# environment, seconds, then for each guest its name and the commands that create, show and delete it. All at once.
_GUESTS = r"""
export LC_ALL=C
%s
limit=%d
one() {
  local began=$(date +%%s.%%N) end=$(($(date +%%s) + limit)) said state=
  if ! said=$(timeout %d bash -c "$2" 2>&1 < /dev/null); then
    echo "guest $1 $began $(date +%%s.%%N) FAILED $(tail -n 1 <<< "$said")"
    return
  fi
  while :; do
    said=$(timeout %d bash -c "$3" 2>&1 < /dev/null) || :
    state=$(sed -n 's/^| *status *| *\([A-Z_]*\).*/\1/p' <<< "$said")
    case $state in ACTIVE|ERROR) break;; esac
    if [ "$(date +%%s)" -ge "$end" ]; then state=LATE; break; fi
    sleep 0.2
  done
  echo "guest $1 $began $(date +%%s.%%N) $state"
}
%s
wait
"""


@dataclass(frozen=True)
class Timed:
    """One call, several times.

    Attributes:
        seconds: of those that ended well, in their order.
        failed: how many did not.
        said: the last line of the last that failed.
    """

    seconds: tuple[float, ...]
    failed: int = 0
    said: str = ""


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        calls: by name.
        guests: how long each guest took until it was ACTIVE; None where none was made.
        rate: guests a minute: all of them, from the first request until the last was ACTIVE; None where none was.
    """

    calls: Mapping[str, Timed] = field(default_factory=dict)
    guests: Timed | None = None
    rate: float | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Measured":
        """From JSON values."""
        guests = data["guests"]
        return cls(
            {name: _timed(each) for name, each in data["calls"].items()}, guests and _timed(guests), data["rate"]
        )


def _timed(data: Mapping[str, Any]) -> Timed:
    return Timed(tuple(data["seconds"]), data["failed"], data["said"])


@dataclass(frozen=True)
class Guests:
    """Guests to make at once.

    Attributes:
        names: theirs; no two alike.
        create: for each the command that makes it; likewise `show` and `delete`.
        timeout_s: until each must be ACTIVE.
    """

    names: Sequence[str]
    create: Sequence[str]
    show: Sequence[str]
    delete: Sequence[str]
    timeout_s: float


def measure(
    task: Task, *, environment: str, calls: Mapping[str, str], repeat: int, guests: Guests | None = None
) -> Result:
    """Time the calls, one after the other, and the making of guests; the guests are deleted.

    Args:
        task: the Nornir task.
        environment: the file with the operator's credentials on the node, "" for none.
        calls: name to command.
        repeat: how often each.
        guests: which to make; None for none: then nothing is changed.

    Returns:
        A `Noted` with a `Measured` as JSON values.

    Raises:
        CommandFailed: a guest could not be deleted; the message names it.
        Refused: what the node printed is cut off.
    """
    source = f". {shlex.quote(environment)}" if environment else ""
    timed = {}
    for name, command in calls.items():
        script = _CALL % (source, shlex.quote(command), repeat, CALL_TIMEOUT_S)
        said = sh(task, script, what=f"timing {name}", timeout=repeat * (CALL_TIMEOUT_S + 1.0) + 30)
        timed[name] = parse_call(said.stdout, repeat)
    if guests is None or task.is_dry_run():
        return unchanged(task, Noted(f"{len(calls)} calls, {repeat} times each", Measured(timed).plain()))
    made, rate = _make(task, source, guests)
    words = f"{len(calls)} calls, {repeat} times each, and {len(guests.names)} guests"
    return changed(task, Noted(words, Measured(timed, made, rate).plain()))


def _make(task: Task, source: str, guests: Guests) -> tuple[Timed, float | None]:
    each = zip(guests.names, guests.create, guests.show, strict=True)
    lines = "\n".join(f"one {' '.join(map(shlex.quote, words))} &" for words in each)
    script = _GUESTS % (source, int(guests.timeout_s), CALL_TIMEOUT_S, CALL_TIMEOUT_S, lines)
    try:
        said = change(task, script, what="making guests", timeout=guests.timeout_s + 3 * CALL_TIMEOUT_S)
    finally:
        _delete(task, source, guests)
    return parse_guests(said.stdout, guests.names)


def _delete(task: Task, source: str, guests: Guests) -> None:
    left = []
    for name, command in zip(guests.names, guests.delete, strict=True):
        ended = change(task, f"{source}\n{command}", what=f"deleting {name}", timeout=CALL_TIMEOUT_S, ok=None)
        said = (ended.stdout + ended.stderr).lower()
        if ended.exit_status and "no server" not in said:  # one that was never made
            left.append((name, ended))
    if left:
        names = ", ".join(name for name, _ in left)
        raise CommandFailed(f"deleting {names}: delete them by hand", left[0][1])


def parse_call(said: str, repeat: int) -> Timed:
    """Read what `_CALL` printed.

    Raises:
        Refused: it is cut off.
    """
    seconds, failed, last, count = [], 0, "", 0
    for line in said.splitlines():
        if line.startswith("said "):
            last = line.removeprefix("said ")
            continue
        began, ended, status = line.split()
        count += 1
        if status == "0":
            seconds.append(round(float(ended) - float(began), 6))
        else:
            failed += 1
    if count != repeat:
        raise Refused(f"{count} times were told instead of {repeat}: measure again")
    return Timed(tuple(seconds), failed, last)


def parse_guests(said: str, names: Sequence[str]) -> tuple[Timed, float | None]:
    """Read what `_GUESTS` printed: the times until ACTIVE, and guests a minute.

    Raises:
        Refused: a guest is not in it, or is in it twice.
    """
    rows = [line.split(maxsplit=5) for line in said.splitlines() if line.startswith("guest ")]
    if sorted(row[1] for row in rows) != sorted(names):
        raise Refused("not every guest was told of, or one twice: measure again")
    good = [(float(row[2]), float(row[3])) for row in rows if row[4] == "ACTIVE"]
    bad = [row for row in rows if row[4] != "ACTIVE"]
    last = f"{bad[-1][1]}: {' '.join(bad[-1][4:])}" if bad else ""
    whole = max(ended for _, ended in good) - min(began for began, _ in good) if good else 0.0
    rate = round(60 * len(good) / whole, 2) if whole > 0 else None
    return Timed(tuple(round(ended - began, 6) for began, ended in good), len(bad), last), rate
