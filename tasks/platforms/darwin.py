"""Mac: launchctl, pip. There is no flock, no timeout and a bash of 2007, but perl."""

import dataclasses
import shlex
from collections.abc import Sequence

from tasks.platforms import posix
from tasks.platforms.model import Platform, Services, States, System
from tasks.platforms.pip import PIP

# One line a daemon: its label, running or stopped, boot. One that is not loaded is known by its property list.
STATES = r"""
disabled=$(launchctl print-disabled system) || exit
for name in %s; do
  if said=$(launchctl print "system/$name" 2>/dev/null); then
    state=$(printf '%%s\n' "$said" | sed -n 's/^[[:space:]]state = //p' | head -n 1)
  elif [ -e "/Library/LaunchDaemons/$name.plist" ]; then
    state=
  else
    continue
  fi
  [ "$state" = running ] && actual=running || actual=stopped
  case "$disabled" in *"\"$name\" => disabled"*|*"\"$name\" => true"*) boot=off;; *) boot=on;; esac
  echo "$name $actual $boot"
done
"""


def parse_states(text: str) -> States:
    """Read the lines of `STATES`."""
    rows = (line.split() for line in text.splitlines())
    return {name: {"actual": actual, "boot": boot} for name, actual, boot in rows}


def _quoted(names: Sequence[str]) -> str:
    return " ".join(map(shlex.quote, names))


def _stop(names: Sequence[str]) -> str:
    # A daemon that is not loaded cannot be booted out.
    return (
        f'set -e; for name in {_quoted(names)}; do launchctl disable "system/$name";'
        ' if launchctl print "system/$name" >/dev/null 2>&1; then launchctl bootout "system/$name"; fi; done'
    )


def _start(boot: Sequence[str], run: Sequence[str]) -> str:
    # launchd loads nothing that is disabled; one that is not to be in the boot sequence is disabled again.
    off = [name for name in run if name not in boot]
    return (
        f'set -e; for name in {_quoted([*boot, *off])}; do launchctl enable "system/$name"; done;'
        f" for name in {_quoted(run)}; do"
        ' launchctl print "system/$name" >/dev/null 2>&1 ||'
        ' launchctl bootstrap system "/Library/LaunchDaemons/$name.plist";'
        ' launchctl kickstart "system/$name" >/dev/null; done;'
        f' for name in {_quoted(off)}; do launchctl disable "system/$name"; done'
    )


# What guard.sh takes from Linux, in perl.
_FLOCK = r"""flock() { perl -MFcntl=:flock -e '
my ($mode, $wait) = (LOCK_EX, undef);
while (@ARGV > 1) {
  my $option = shift;
  if ($option eq "-s") { $mode = LOCK_SH }
  elsif ($option eq "-n") { $wait = 0 }
  elsif ($option eq "-w") { $wait = shift }
}
open(my $file, ">>&=", $ARGV[0]) or exit 2;
exit(flock($file, $mode | LOCK_NB) ? 0 : 1) if defined $wait && $wait == 0;
$SIG{ALRM} = sub { exit 1 };
alarm $wait if $wait;
exit(flock($file, $mode) ? 0 : 1)' -- "$@"; }
"""
_DD = r"""dd() { perl -MIO::Handle -e '
my ($to) = map { /^of=(.*)/s ? $1 : () } @ARGV;
open(my $file, ">", $to) or die "$to: $!\n";
{ local $/; print $file scalar <STDIN> }
$file->flush && $file->sync or die "$to: $!\n"' -- "$@"; }
"""

DARWIN = Platform(
    name="darwin",
    words="a Mac",
    interpreter="bash-perl",
    services=Services(lambda names: STATES % _quoted(names), parse_states, _stop, _start),
    packages=PIP,
    system=System(
        boot_id="sysctl -n kern.bootsessionuuid", kernel="uname -r", reboot="shutdown -r now", facts=posix.facts
    ),
    guard=dataclasses.replace(
        posix.GUARD,
        before=lambda root, token: _FLOCK + _DD + posix.GUARD.before(root, token),
        root="/private/var/db/cellstep/jobs",
    ),
    jobs=False,
)
