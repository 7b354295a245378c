"""How fast the cloud answers and boots: the site's own commands, timed on a node, and guests made at once.

Everything is timed on the node itself, so the operator's link does not count.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nornir.core.task import Result, Task

from tasks import guests as making
from tasks.errors import Refused
from tasks.guests import CALL_TIMEOUT_S, Commands, Several
from tasks.holds import Noted, changed, skipped, unchanged
from tasks.shell import change, sh

AT_ONCE = 10
"""Clients that run on the node at once: it is one that serves."""
PREFIXES = ("cellstep-measure-", "cellstep-several-")
"""How the names of the guests begin: those of single requests, and those of one for several."""

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

# environment, seconds, then for each guest its name and the commands that create and show it, in a few rows at once.
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
        several: of guests that one request made: count, names, faults as words; None where none was.
    """

    calls: Mapping[str, Timed] = field(default_factory=dict)
    guests: Timed | None = None
    rate: float | None = None
    several: Mapping[str, Any] | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Measured":
        """From JSON values."""
        guests = data["guests"]
        calls = {name: _timed(each) for name, each in data["calls"].items()}
        return cls(calls, guests and _timed(guests), data["rate"], data.get("several"))


def _timed(data: Mapping[str, Any]) -> Timed:
    return Timed(tuple(data["seconds"]), data["failed"], data["said"])


@dataclass(frozen=True)
class Guests:
    """Guests to make, `AT_ONCE` at a time, each by a request of its own.

    Attributes:
        names: theirs; no two alike.
        create: for each the command that makes it; likewise `show`.
        timeout_s: until each must be ACTIVE.
    """

    names: Sequence[str]
    create: Sequence[str]
    show: Sequence[str]
    timeout_s: float


def measure(
    task: Task,
    *,
    commands: Commands,
    calls: Mapping[str, str],
    repeat: int,
    guests: Guests | None = None,
    several: Several | None = None,
) -> Result:
    """Time the calls, one after the other, and the making of guests; these are deleted, and those of before, too.

    Args:
        task: the Nornir task.
        commands: the site's own, for what guests there are.
        calls: name to command.
        repeat: how often each.
        guests: which to make; None for none: then nothing is changed.
        several: to be made by one request beside them; None for none.

    Returns:
        A `Noted` with a `Measured` as JSON values.

    Raises:
        CommandFailed: a guest could not be deleted; the message names it.
        Refused: what the node printed is cut off; a guest that was deleted is still there.
    """
    timed = {}
    for name, command in calls.items():
        script = _CALL % (commands.source, shlex.quote(command), repeat, CALL_TIMEOUT_S)
        said = sh(task, script, what=f"timing {name}", timeout=repeat * (CALL_TIMEOUT_S + 1.0) + 30)
        timed[name] = parse_call(said.stdout, repeat)
    if guests is None or task.is_dry_run():
        return unchanged(task, Noted(f"{len(calls)} calls, {repeat} times each", Measured(timed).plain()))
    left = _clear(task, commands)
    made, rate = _make(task, commands, guests)
    together = making.try_several(task, commands, several) if several else None
    words = f"{len(calls)} calls, {repeat} times each, and {len(guests.names)} guests"
    words += f"; {several.count} by one request" if several else ""
    words += f"; {left}" if left else ""
    return changed(task, Noted(words, Measured(timed, made, rate, together).plain()))


def clean(task: Task, *, commands: Commands) -> Result:
    """Delete guests that a measurement left which did not come to its end.

    Raises:
        CommandFailed: one could not be deleted; the message names it.
        Refused: one that was deleted is still there.
    """
    left = _clear(task, commands)
    return changed(task, left) if left else skipped(task, "no guest of a measurement is there")


def _clear(task: Task, commands: Commands) -> str:
    found = [guest for guest in making.listed(task, commands) if guest.name.startswith(PREFIXES)]
    making.delete(task, commands, found)
    names = ", ".join(guest.name for guest in found)
    return f"deleted {len(found)} that an earlier measurement left: {names}" if found else ""


def _make(task: Task, commands: Commands, guests: Guests) -> tuple[Timed, float | None]:
    lines = [f"one {shlex.join(words)}" for words in zip(guests.names, guests.create, guests.show, strict=True)]
    rows = "\n".join(f"{{ {'; '.join(lines[first::AT_ONCE])}; }} &" for first in range(min(AT_ONCE, len(lines))))
    script = _GUESTS % (commands.source, int(guests.timeout_s), CALL_TIMEOUT_S, CALL_TIMEOUT_S, rows)
    rounds = -(-len(lines) // AT_ONCE)
    patience = rounds * (guests.timeout_s + 2 * CALL_TIMEOUT_S) + CALL_TIMEOUT_S
    try:
        said = change(task, script, what="making guests", timeout=patience)
    finally:
        names = set(guests.names)
        making.delete(task, commands, [each for each in making.listed(task, commands) if each.name in names])
    return parse_guests(said.stdout, guests.names)


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
