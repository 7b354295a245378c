"""Services of systemd."""

import shlex
from collections.abc import Sequence

from tasks.platforms.model import Services, States

# One line a service: name, ActiveState, what `is-enabled` says. A unit that is not installed has LoadState=not-found.
STATES = r"""
for name in %s; do
  state=$(systemctl show -p LoadState -p ActiveState -- "$name.service") || exit
  case "$state" in *LoadState=not-found*) continue;; esac
  active=${state##*ActiveState=}
  enabled=$(systemctl is-enabled -- "$name.service" 2>/dev/null) || :
  echo "$name ${active%%$'\n'*} ${enabled##*$'\n'}"
done
"""

_RUNNING = {"active": "running", "reloading": "running", "refreshing": "running", "activating": "starting"}
_AT_BOOT = {"enabled", "enabled-runtime", "alias", "generated"}


def parse_states(text: str) -> States:
    """Read the lines of `STATES`; `starting` is one that systemd starts again and again, too."""
    states = {}
    for line in text.splitlines():
        name, active, *enabled = line.split()
        boot = "on" if enabled and enabled[0] in _AT_BOOT else "off"
        states[name] = {"actual": _RUNNING.get(active, "stopped"), "boot": boot}
    return states


def _units(names: Sequence[str]) -> str:
    return " ".join(shlex.quote(f"{name}.service") for name in names)


def _start(boot: Sequence[str], run: Sequence[str]) -> str:
    lines = [f"systemctl --quiet enable -- {_units(boot)}"] if boot else []
    return " && ".join([*lines, f"systemctl start -- {_units(run)}"])


SYSTEMD = Services(
    states=lambda names: STATES % " ".join(shlex.quote(name) for name in names),
    parse=parse_states,
    stop=lambda names: f"systemctl --quiet disable -- {_units(names)} && systemctl stop -- {_units(names)}",
    start=_start,
    graceful=lambda names: f"systemctl reload -- {_units(names)}",
)
