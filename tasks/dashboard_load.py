"""A small load on the dashboard from a node outside: whole log-ins, so many at once, and what came of each request."""

import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from statistics import quantiles
from typing import Any
from urllib.parse import urlencode

from nornir.core.task import Result, Task

from tasks.dashboard import GUESTS, LOG_IN, LOG_OUT, PATIENCE_S, form_at
from tasks.holds import Noted, unchanged
from tasks.shell import sh

GIVE_UP = 5
"""So many log-ins of one user in a row that do not go well end it early: users need not suffer any longer."""
MARGIN_S = 4 * PATIENCE_S + 30

# Standard input: the log-in form without its token. Each line that it prints: what, status, milliseconds, 1 for well.
_LOAD = r"""
command -v curl > /dev/null || {{ echo "there is no curl on $(uname -n): see dashboard.watch_from" >&2; exit 3; }}
umask 077
dir=$(mktemp -d /tmp/cellstep-load.XXXXXX) || exit 1
trap 'rm -rf -- "$dir"' EXIT
read -r form || :
base={base} end=$(($(date +%s) + {seconds}))
user() {{
  jar=$dir/jar$1 form=$2 bad=0
  ask() {{
    what=$1 path=$2; shift 2
    said=$(curl -s -k -m {patience} -b "$jar" -c "$jar" -e "$base{login}" -o /dev/null \
      -w '%{{http_code}} %{{time_total}} %{{redirect_url}}' "$@" -- "$base$path") || said='000 0 '
    status=${{said%% *}} goes=${{said##* }}
    took=${{said#* }}; took=${{took%% *}}
  }}
  tell() {{
    echo "$what $status $took $1"
    [ "$1" = 1 ] || ill=1
  }}
  while [ "$(date +%s)" -lt "$end" ] && [ "$bad" -lt {give_up} ]; do
    began=$(date +%s%N) ill=0
    rm -f -- "$jar"
    ask page {login} < /dev/null
    [ "$status" = 200 ] && tell 1 || tell 0
    token=$(awk '$6 == "csrftoken" {{ print $7 }}' "$jar" 2> /dev/null)
    ask login {login} --data @- < <(printf '%s&csrfmiddlewaretoken=%s' "$form" "$token")
    case "$status $goes" in
      *{login}*) tell 0; in=0;;
      302*) tell 1; in=1;;
      *) tell 0; in=0;;
    esac
    if [ "$in" = 1 ]; then
      ask list {guests} < /dev/null
      [ "$status" = 200 ] && tell 1 || tell 0
      ask logout {logout} < /dev/null
      [ "$status" -gt 0 ] && [ "$status" -lt 500 ] && tell 1 || tell 0
    fi
    if [ "$ill" = 1 ]; then bad=$((bad + 1)); else bad=0; fi
    rest=$(({interval} - ($(date +%s%N) - began) / 1000000))
    if [ "$rest" -gt 0 ]; then sleep "$((rest / 1000)).$(printf %03d $((rest % 1000)))"; fi
  done
  if [ "$bad" -ge {give_up} ]; then echo "@gave-up 0 0 0"; fi
}}
for ((n = 0; n < {users}; n++)); do user "$n" "$form" > "$dir/out$n" & done
wait
cat "$dir"/out*
"""


@dataclass(frozen=True)
class Figures:
    """What came of a load.

    Attributes:
        requests: how many.
        errors: of them, how many had no answer or a status of 500 and above.
        logins: how many log-ins were tried.
        failed_logins: of them, how many were refused, or had no answer.
        median_ms: of the requests that were answered; None where there are none.
        p95_ms: their 95th percentile.
        statuses: HTTP status ("0": no answer) to requests.
        gave_up: it was ended early, because nothing went well any more.
    """

    requests: int
    errors: int
    logins: int
    failed_logins: int
    median_ms: float | None
    p95_ms: float | None
    statuses: Mapping[str, int] = field(default_factory=dict)
    gave_up: bool = False

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def parse(said: str) -> Figures:
    """Read what the load printed.

    Raises:
        ValueError: a line is not of the load's.
    """
    took: list[float] = []
    statuses: Counter[str] = Counter()
    errors = logins = failed = 0
    gave_up = False
    for line in said.splitlines():
        what, status, seconds, well = line.split()
        if what == "@gave-up":
            gave_up = True
            continue
        code = int(status)
        statuses[str(code)] += 1
        errors += code == 0 or code >= 500
        if what == "login":
            logins += 1
            failed += well != "1"
        if code:
            took.append(1000 * float(seconds))
    middle, high = _percentiles(took)
    return Figures(
        sum(statuses.values()), errors, logins, failed, middle, high, dict(sorted(statuses.items())), gave_up
    )


def _percentiles(took: list[float]) -> tuple[float | None, float | None]:
    if not took:
        return None, None
    if len(took) == 1:
        return round(took[0], 1), round(took[0], 1)
    cuts = quantiles(took, n=20, method="inclusive")
    return round(cuts[9], 1), round(cuts[18], 1)


def press(
    task: Task,
    *,
    base: str,
    username: str,
    password: Callable[[], str],
    users: int,
    rate_per_s: float,
    seconds: float,
    needless: str = "",
) -> Result:
    """Put the load on the dashboard for a time.

    Args:
        task: the Nornir task.
        base: the address that users have.
        username: a user of the dashboard.
        password: reads the user's password.
        users: log-ins at once.
        rate_per_s: log-ins begun in a second, all in all.
        seconds: for how long.
        needless: why it need not be done; "" where it must.

    Returns:
        A `Noted` with `Figures` as JSON values, None where it need not be done.

    Raises:
        CommandFailed: there is no curl on the node.
    """
    if needless or task.is_dry_run():
        return unchanged(task, Noted(needless or f"would put load on {base} for {seconds:.0f} s", None))
    base = base.rstrip("/")
    form = urlencode({**form_at(task, base), "username": username, "password": password()})
    script = _LOAD.format(
        base=shlex.quote(base),
        seconds=max(1, round(seconds)),
        patience=PATIENCE_S,
        users=users,
        interval=max(1, round(1000 * users / rate_per_s)),
        give_up=GIVE_UP,
        login=LOG_IN,
        guests=GUESTS,
        logout=LOG_OUT,
    )
    said = sh(task, script, what=f"load on {base}", stdin=form + "\n", timeout=seconds + MARGIN_S).stdout
    figures = parse(said)
    return unchanged(task, Noted(told(figures.plain()), figures.plain()))


def told(figures: Mapping[str, Any]) -> str:
    """Figures in words."""
    words = f"{figures['requests']} requests, {figures['errors']} errors, "
    words += f"{figures['failed_logins']} of {figures['logins']} log-ins failed"
    if figures["median_ms"] is not None:
        words += f", median {figures['median_ms']:.0f} ms, 95 % within {figures['p95_ms']:.0f} ms"
    return words + (", ended early" if figures["gave_up"] else "")


def worse(
    before: Mapping[str, Any], after: Mapping[str, Any], *, slower: float, slack_ms: float, failed: float
) -> list[str]:
    """In what the second is worse than the first; empty where it is not.

    Args:
        before: figures of the old dashboard.
        after: those of the new one.
        slower: so many times the 95th percentile is worse,
        slack_ms: where it is more by so many milliseconds, too.
        failed: share that may fail beyond that of before.
    """
    if not after["requests"] or not after["logins"]:
        return ["nothing was measured"]
    found = []
    for what, bad, of in (("requests without an answer or with HTTP 500 and above", "errors", "requests"),
                          ("failed log-ins", "failed_logins", "logins")):  # fmt: skip
        was = before[bad] / before[of] if before[of] else 0.0
        is_ = after[bad] / after[of]
        if is_ > was + failed:
            found.append(f"{after[bad]} of {after[of]} {what} ({is_:.0%}, before {was:.0%})")
    was, is_ = before["p95_ms"], after["p95_ms"]
    if was is not None and is_ is not None and is_ > slower * was and is_ - was > slack_ms:
        found.append(f"95 % of the requests within {is_:.0f} ms, before {was:.0f} ms")
    return found
