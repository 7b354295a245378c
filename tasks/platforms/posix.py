"""What the platforms with a bash have in common: the questions, the guard, Linux's boot id, kernel and guests."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from tasks.platforms.model import Care, Guard, Guest, Platform, System

TICKS_PER_SECOND = 100
"""USER_HZ: what Linux shows to programs on every platform here, whatever the kernel's own rate."""

BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"

# A guest is a process of qemu with `-uuid X`; its start is field 22 of /proc/PID/stat, in ticks since the boot. The
# process's name (field 2) may hold spaces and parentheses, so the fields are counted after the last one.
GUESTS = r"""
while read -r key value _; do [ "$key" = btime ] && echo "btime $value"; done < /proc/stat
for dir in /proc/[0-9]*; do
  [ -r "$dir/cmdline" ] || continue
  words=(); while IFS= read -r -d '' word; do words+=("$word"); done < "$dir/cmdline" 2>/dev/null
  uuid=; qemu=
  for ((i = 0; i < ${#words[@]}; i++)); do
    case "${words[i]}" in *qemu*) ((i < 2)) && qemu=1;; -uuid) uuid=${words[i+1]};; esac
  done
  [ -n "$qemu" ] && [ -n "$uuid" ] || continue
  stat=$(cat "$dir/stat" 2>/dev/null) || continue
  set -- ${stat##*) }
  echo "guest $uuid ${20}"
done
"""


def parse_guests(lines: Sequence[str]) -> list[Guest]:
    """Read the lines of `GUESTS`."""
    booted = next((float(line.split()[1]) for line in lines if line.startswith("btime ")), 0.0)
    found = []
    for line in lines:
        if line.startswith("guest "):
            _, uuid, ticks = line.split()
            found.append(Guest(uuid, int(ticks), booted + int(ticks) / TICKS_PER_SECOND))
    return sorted(found, key=lambda guest: guest.uuid)


# Of each folder, or where it would be: path, mount point, free KiB. `timeout`: a dead NFS server answers nobody.
_SPACE = r"""
for path in %s; do
  there=$path
  while [ ! -e "$there" ]; do there=${there%%/*}; there=${there:-/}; done
  printf '%%s\t%%s\n' "$path" "$(timeout 10 df -Pk -- "$there" 2>/dev/null | awk 'NR == 2 {print $6 "\t" $4}')"
done
"""

# What monit says of each thing that it watches: kind, name, and `Running`, `Not monitored` and so on.
_MONIT = "timeout 20 monit summary 2>&1"


def _condition(platform: Platform, care: Care) -> str:
    """What an audit asks beside the rest. The answers stand between two looks at the clock."""
    packages = platform.packages
    quoted = " ".join(map(shlex.quote, care.paths))
    puppet = f"[ ! -e {shlex.quote(care.puppet_lock)} ] || {{ echo disabled; cat -- {shlex.quote(care.puppet_lock)}; }}"
    return f"""
echo '@uptime'; cut -d' ' -f1 /proc/uptime
echo '@kernels'; {packages.kernels or ":"}
echo '@pending'; {platform.system.pending or ":"}
echo '@set_aside'; {packages.set_aside or ":"}
echo '@puppet'; {puppet if care.puppet_lock else ":"}
echo; echo '@monit'; {_MONIT if care.monit else ":"}
echo; echo '@space'; {_SPACE % quoted if care.paths else ":"}
echo '@ended'; date +%s.%N
"""


def facts(platform: Platform, services: Sequence[str], care: Care | None = None) -> str:
    """All that a node with a bash is asked at once."""
    system, packages = platform.system, platform.packages
    began = "\necho '@began'; date +%s.%N" if care else ""
    return f"""{began}
echo '@boot_id'; {system.boot_id}; {system.kernel}
echo '@packages'
{packages.listing} || {{ echo {shlex.quote(f"{packages.database} cannot be read")} >&2; exit 1; }}
echo '@services'
{platform.services.states(services) if services else ""}
echo '@guests'
{system.guests}
{_condition(platform, care) if care else ""}exit 0
"""


LINUX = System(
    boot_id=f"cat {BOOT_ID_FILE}",
    kernel="uname -r",
    reboot="sync; reboot",
    facts=facts,
    guests=GUESTS,
    parse_guests=parse_guests,
    cares=True,
)

_GUARD = Path(__file__).parent.with_name("guard.sh").read_text()


def _before(root: str, token: int) -> str:
    return f"root={shlex.quote(root)} token={token:d}\n{_GUARD}"


def _change(script: str) -> str:
    # The shell that holds the lock must outlive the script, which gets none of its files: a daemon would keep them.
    return f"guard\nbusy\nunlock\nbash -c {shlex.quote(script)} 8>&-\nexit $?"


def _fence(seconds: float) -> str:
    return f"guard\nunlock\nidle {seconds:.0f}"


GUARD = Guard(_before, _change, _fence)
"""`guard.sh`: bash, coreutils and flock."""
