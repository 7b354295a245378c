"""How long users get no answer from an API, measured from outside: a hold that looks once a second, and tells.

The looking goes on while the operator's connection or cellstep itself is away; it ends by itself after a day.
"""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nornir.core.task import Result, Task

from tasks.errors import Refused
from tasks.holds import Hold, Noted, changed, skipped, unchanged
from tasks.shell import change

FOLDER = "/var/lib/cellstep/darktime"
LONGEST_S = 86_400
BACK_S = 30
"""Seconds to wait for an API that was opened: the load balancer first sees for itself that its servers answer."""

# name, address, seconds between two looks, seconds to wait for an answer. A line for each change of the answer, and at
# most every tenth look one that says that it is still so: `when status`, seconds since 1970. 000: no answer at all.
_PROBE = r"""
umask 077
mkdir -p {folder} && cd {folder} || exit 1
name={name} url={url}
if ! command -v curl > /dev/null; then
  echo "there is no curl on $(uname -n): name another node in apis.watch_from" >&2
  exit 3
fi
runs() {{ tr '\0' '\n' < "/proc/$(cat "$name.pid")/cmdline" | grep -qxF "cellstep-$name"; }} 2> /dev/null
if runs; then echo "it runs already"; exit 0; fi
cat > "$name.sh" <<'end-of-probe'
url=$1 every=$2 patience=$3 end=$(($(date +%s) + {longest})) last= same=0
while [ "$(date +%s)" -lt "$end" ]; do
  began=$(date +%s.%N)
  status=$(curl -s -k -o /dev/null -m "$patience" -w '%{{http_code}}' -- "$url" < /dev/null) || status=000
  same=$((same + 1))
  if [ "$status" != "$last" ] || [ "$same" -ge 10 ]; then echo "$began $status"; last=$status same=0; fi
  sleep "$every"
done
end-of-probe
: > "$name.log"
exec 8>&- 9>&- 2> /dev/null
setsid nohup bash "$name.sh" "$url" {every} {patience} "cellstep-$name" > "$name.log" < /dev/null &
echo $! > "$name.pid"
for ((tries = 0; tries < 100; tries++)); do [ ! -s "$name.log" ] || break; sleep 0.1; done
cat "$name.log"
"""

# name, seconds to wait until it serves. Ends it, and prints what it saw.
_END = r"""
cd {folder} 2> /dev/null || exit 0
name={name}
if [ -s "$name.pid" ]; then
  read -r pid < "$name.pid"
  if tr '\0' '\n' < "/proc/$pid/cmdline" 2> /dev/null | grep -qxF "cellstep-$name"; then
    for ((tries = 0; tries < {back}; tries++)); do
      case "$(tail -n 1 "$name.log")" in *' '[1-4]??) break;; esac
      sleep 1
    done
    kill "$pid" 2> /dev/null || :
    for ((tries = 0; tries < 100; tries++)); do [ -e "/proc/$pid" ] || break; sleep 0.1; done
    echo "@ended $(date +%s.%N)"
  else
    echo "@gone"
  fi
fi
[ ! -e "$name.log" ] || cat "$name.log"
"""


@dataclass(frozen=True)
class Span:
    """A time in which an API did not serve.

    Attributes:
        began: seconds since 1970, by the clock of the node that looked.
        ended: the same; None: it had not come back when the looking ended.
        status: the HTTP status that was seen most recently in it, 0 for no answer at all.
    """

    began: float
    ended: float | None
    status: int

    @property
    def seconds(self) -> float | None:
        """How long, None where it had not come back."""
        return None if self.ended is None else self.ended - self.began


@dataclass(frozen=True)
class Dark:
    """What was seen of an API.

    Attributes:
        api: its name.
        url: where.
        began: when the looking began, seconds since 1970 by that node's clock.
        ended: when it ended, or the last look where it was cut off.
        whole: it was not cut off.
        spans: when the API did not serve: no answer, or a status of 500 and above.
    """

    api: str
    url: str
    began: float
    ended: float
    whole: bool
    spans: tuple[Span, ...]

    @property
    def seconds(self) -> float:
        """How long it did not serve, all in all; up to the last look where it had not come back."""
        return sum((span.ended or self.ended) - span.began for span in self.spans)

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "seconds": self.seconds}


def parse(said: str, api: str, url: str) -> Dark | None:
    """Read what the probe wrote; None where it saw nothing.

    Raises:
        ValueError: a line is not of the probe's.
    """
    looks: list[tuple[float, int]] = []
    ended: float | None = None
    for line in said.splitlines():
        word, _, rest = line.partition(" ")
        if word == "@ended":
            ended = float(rest)
        elif word not in {"@gone", ""} and rest:
            looks.append((float(word), int(rest)))
    if not looks:
        return None
    last = ended or looks[-1][0]
    return Dark(api, url, looks[0][0], max(last, looks[-1][0]), ended is not None, tuple(_spans(looks)))


def _spans(looks: Iterable[tuple[float, int]]) -> list[Span]:
    spans: list[Span] = []
    began: float | None = None
    worst = 0
    for when, status in looks:
        dark = status == 0 or status >= 500
        if dark:
            began, worst = (when if began is None else began), status
        elif began is not None:
            spans.append(Span(began, when, worst))
            began = None
    if began is not None:
        spans.append(Span(began, None, worst))
    return spans


def _script(template: str, api: str, **words: Any) -> str:
    return template.format(folder=FOLDER, name=shlex.quote(api), **words)


def read(task: Task, *, api: str, url: str, every_s: float) -> Result:
    """Prior state: nothing is there before us."""
    del api, url, every_s
    return unchanged(task, {})


def begin(task: Task, *, prior: Mapping[str, Any], api: str, url: str, every_s: float) -> Result:
    """Begin to look.

    Raises:
        CommandFailed: there is no curl on the node.
        Refused: it saw nothing, or the API does not serve now: what it measures would say nothing.
    """
    del prior
    if task.is_dry_run():
        return changed(task, f"would look at {url} every {every_s:g} s")
    words = {"url": shlex.quote(url), "every": every_s, "patience": max(2, round(every_s)), "longest": LONGEST_S}
    said = change(task, _script(_PROBE, api, **words), what=f"looking at {url}").stdout
    if "it runs already" in said:
        return skipped(task, "it is looked at already")
    seen = parse(said, api, url)
    if seen is None or seen.spans:
        status = seen.spans[-1].status if seen else 0
        _end(task, api, url, back=0)
        what = f"HTTP {status}" if status else "no answer"
        raise Refused(f"{url} does not serve now ({what}): mend it, or the address in apis.urls")
    return changed(task, f"looks at {url} every {every_s:g} s")


def end(task: Task, *, prior: Mapping[str, Any], api: str, url: str, every_s: float) -> Result:
    """End the looking once the API serves, and tell what was seen; the result is a `Noted` with a `Dark`, or None."""
    del prior, every_s
    if task.is_dry_run():
        return changed(task, Noted("would end the looking", None))
    seen = _end(task, api, url, back=BACK_S)
    if seen is None:
        return skipped(task, Noted("it was not looked at", None))
    return changed(task, Noted(told(seen), seen.plain()))


def _end(task: Task, api: str, url: str, back: int) -> Dark | None:
    what = f"ending the look at {url}"
    said = change(task, _script(_END, api, back=back), what=what, timeout=BACK_S + 60.0).stdout
    change(task, _script("cd {folder} && rm -f -- {name}.log {name}.pid {name}.sh", api), ok=None)
    return parse(said, api, url)


def told(seen: Dark) -> str:
    """It in words."""
    cut = "" if seen.whole else "; the looking was cut off: the node was restarted?"
    if not seen.spans:
        return f"{seen.api} served all the time{cut}"
    times = "once" if len(seen.spans) == 1 else f"{len(seen.spans)} times"
    still = "; it had not come back" if seen.spans[-1].ended is None else ""
    return f"{seen.api} did not serve for {seen.seconds:.0f} s in all, {times}{still}{cut}"


DARK_TIME = Hold("dark-time", read, begin, end)
"""The look at an API from outside."""
