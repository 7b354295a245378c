"""Enterprise Linux 6: yum, rpm, service, chkconfig."""

from collections.abc import Sequence

from tasks.platforms import posix, rpm
from tasks.platforms.model import Platform, Services, States

# One line a service: name, its status' exit status, boot. `chkconfig --list NAME` fails for one that is not installed.
STATES = r"""
for name in %s; do
  if list=$(chkconfig --list "$name" 2>/dev/null); then
    service "$name" status >/dev/null 2>&1; status=$?
    case "$list" in *3:on*) boot=on;; *) boot=off;; esac
    echo "$name $status $boot"
  fi
done
"""


def parse_states(text: str) -> States:
    """Read the lines of `STATES`."""
    states = {}
    for line in text.splitlines():
        name, status, boot = line.split()
        states[name] = {"actual": "running" if status == "0" else "stopped", "boot": boot}
    return states


def _start(boot: Sequence[str], run: Sequence[str]) -> str:
    return " && ".join([f"chkconfig {name} on" for name in boot] + [f"service {name} start" for name in run])


EL6 = Platform(
    name="el6",
    words="Enterprise Linux 6",
    interpreter="bash",
    services=Services(
        states=lambda names: STATES % " ".join(names),
        parse=parse_states,
        stop=lambda names: " && ".join(f"chkconfig {name} off && service {name} stop" for name in names),
        start=_start,
        graceful=lambda names: " && ".join(f"service {name} graceful" for name in names),
    ),
    packages=rpm.by("yum", mend="package-cleanup", kernel="kernel"),
    system=posix.LINUX,
    guard=posix.GUARD,
    preflight=True,
)
