"""The bash script that brings everything which the preflight asks of a node; it changes nothing there.

Each question is a line `@name status`, and what was printed follows, one space before each line. What yum must be asked
with stands in a temporary folder that goes when the script ends, however it ends.
"""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tasks.platforms.el6 import STATES
from tasks.platforms.rpm import EVR


@dataclass(frozen=True)
class Questions:
    """What to ask of a node.

    Attributes:
        packages: the release's packages that may be on it: name to `[epoch:]version[-release]` after the upgrade.
        kernel: the upgrade brings a kernel too.
        repository: the id of the release's repository.
        baseurl: where it is before it is promoted, or "".
        paths: folders whose free space counts.
        services: the release's services there.
        puppet_lock: the file that is there while Puppet is disabled.
        socket: HAProxy's admin socket, "" where there is no load balancer.
        queue: RabbitMQ is there.
        databases: the schemas of which dumps are made, () where no database is there.
        heads: (database, repository_id) whose schema versions count.
    """

    packages: Mapping[str, str] = field(default_factory=dict)
    kernel: bool = False
    repository: str = ""
    baseurl: str = ""
    paths: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    puppet_lock: str = ""
    socket: str = ""
    queue: bool = False
    databases: tuple[str, ...] = ()
    heads: tuple[tuple[str, str], ...] = ()


# `out` and `status` stay for who wants to read on in an answer.
_BEGIN = r"""
export LC_ALL=C
ask() { # name, seconds, command: what it prints, and how it ends
  local name=$1 seconds=$2; shift 2
  out=$(timeout "$seconds" "$@" 2>&1 < /dev/null); status=$?
  tell "$name" "$status" "$out"
}
tell() { # name, status, text; passwords in addresses are left out
  printf '@%s %s\n' "$1" "$2"
  [ -z "$3" ] || printf '%s\n' "$3" | sed -e 's#://[^/@ ]*@#://#g' -e 's/^/ /'
}
tell start "$(date +%s.%N)"
tell uid "$(id -u)"
if [ "$(id -u)" != 0 ]; then tell finish "$(date +%s.%N)"; exit 0; fi
tell boot 0 "$(cat /proc/sys/kernel/random/boot_id; uname -r)"
"""

# Path, mount point, free KiB, free inodes; of a folder that is not there yet, where it would be.
_SPACE = r"""
space() {
  local path there
  for path in "${paths[@]}"; do
    there=$path
    while [ ! -e "$there" ]; do there=${there%/*}; there=${there:-/}; done
    printf '%s\t%s\t%s\n' "$path" "$(timeout 10 df -Pk -- "$there" 2>&1 | awk 'NR == 2 {print $6 "\t" $4}')" \
      "$(timeout 10 df -Pi -- "$there" 2>&1 | awk 'NR == 2 {print $4}')"
  done
}
tell space 0 "$(space)"
"""

# Who holds a lock: what, pid, program, seconds since the process began. A lock's inode stands in /proc/locks.
_RPM = r"""
ask rpm 60 rpm -qa --qf '%{NAME}\t%{ARCH}\t__EVR__\t%{VENDOR}\n'
installed=$out
export names
ask requires 90 bash -c 'set -o pipefail
each="%{=NAME}\t%{=VERSION}-%{=RELEASE}\t%{=VENDOR}\t%{REQUIRENAME}\t%{REQUIREFLAGS:depflags}\t%{REQUIREVERSION}\n"
rpm -qa --qf "[$each]" |
  awk -F"\t" "{gsub(/ /, \"\", \$5)} index(ENVIRON[\"names\"], \" \" \$4 \" \") && \$5 != \"\""'
holder() {
  local line name
  read -r line 2>/dev/null < "/proc/$1/stat" || return 0
  name=${line#*(}; name=${name%)*}
  set -- "$1" "$2" ${line##*) }
  printf '%s\t%s\t%s\t%s\n' "$2" "$1" "$name" "$(($(cut -d. -f1 /proc/uptime) - ${22} / 100))"
}
holders() {
  local lock pid
  lock=$(rpm -E '%{?_rpmlock_path}' 2>/dev/null)
  case $lock in /*) ;; *) lock=/var/lib/rpm/.rpm.lock;; esac
  if [ -e "$lock" ]; then
    for pid in $(awk -v end=":$(stat -c %i -- "$lock")" \
        '$2 != "->" && substr($6, length($6) - length(end) + 1) == end {print $5}' /proc/locks | sort -u); do
      ls -l "/proc/$pid/fd" 2>/dev/null | grep -qF -- "-> $lock" && holder "$pid" "rpm's lock"
    done
  fi
  pid=$(cat /var/run/yum.pid 2>/dev/null) && grep -qs yum "/proc/$pid/cmdline" && holder "$pid" "yum's lock"
}
tell holders 0 "$(holders)"
tell unfinished 0 "$(ls -d /var/lib/yum/transaction-all.* 2>/dev/null)"
"""

# What yum is told to do and to leave: `repo ID 0|1`, `exclude WHERE PATTERNS`, `lock PATTERN`.
_CONFIGURATION = r"""
base=/etc/yum.conf; [ ! -e /etc/dnf/dnf.conf ] || base=/etc/dnf/dnf.conf
configuration() {
  local file switch
  for file in "$base" /etc/yum/repos.d/*.repo /etc/yum.repos.d/*.repo; do
    [ -r "$file" ] || continue
    awk -v file="$file" '
      function flush() { if (section != "" && section != "main") print "repo\t" section "\t" on }
      /^[[:space:]]*([#;]|$)/ {next}
      /^\[/ {flush(); section = $0; sub(/^\[/, "", section); sub(/\].*/, "", section); on = 1; key = ""; next}
      /^[[:space:]]/ {if (key ~ /^exclude/) print "exclude\t" file " [" section "]\t" $0; next}
      {
        at = index($0, "="); key = tolower(substr($0, 1, at - 1)); gsub(/[[:space:]]/, "", key)
        value = substr($0, at + 1); sub(/^[[:space:]]+/, "", value); sub(/[[:space:]]+$/, "", value)
        if (key == "enabled") on = (tolower(value) ~ /^(1|yes|true|on)$/) ? 1 : 0
        if (key ~ /^exclude(pkgs)?$/ && value != "") print "exclude\t" file " [" section "]\t" value
      }
      END {flush()}' "$file"
  done
  for file in /etc/yum/pluginconf.d/versionlock /etc/dnf/plugins/versionlock; do
    grep -qsiE '^enabled *= *(1|yes|true|on)' "$file.conf" || continue
    grep -svE '^[[:space:]]*(#|$)' "$file.list" | sed "s#^#lock\t$file.list\t#"
  done
}
ask_configuration=$(configuration)
tell configuration 0 "$ask_configuration"
"""

# yum is asked with a configuration of its own: the node's, with folders, plug-ins and answers replaced. Its metadata
# are copied, so that only those of the repository in question are fetched. No answer but `N` is ever given.
_UPDATE = r"""
wish=()
while read -r name want; do
  [ -n "$name" ] || continue
  have=$(printf '%s\n' "$installed" | awk -F'\t' -v name="$name" '$1 == name {print $3}')
  [ -n "$have" ] || continue
  case "$have" in "$want"|"$want"-*) continue;; esac
  case "$want" in *-*) wish+=("$name-${want##*:}");; *) wish+=("$name-${want##*:}-*");; esac
done <<< "$packages"
tell pending 0 "$(printf '%s\n' "${wish[@]}")"
[ -z "$kernel" ] || wish+=(kernel)
mode=unpromoted; asked=$repository
if printf '%s\n' "$ask_configuration" | grep -qxF "$(printf 'repo\t%s\t1' "$repository")"; then mode=promoted
elif [ -n "$baseurl" ]; then mode=baseurl; asked=cellstep-preflight; fi
tell mode 0 "$mode"
work=
if [ "${#wish[@]}" != 0 ] && [ "$mode" != unpromoted ]; then
  work=$(mktemp -d "${TMPDIR:-/tmp}/cellstep-preflight.XXXXXX") || tell update 1 "no temporary folder on the node"
fi
if [ -n "$work" ]; then
  trap 'rm -rf -- "$work"' EXIT
  cache=$(sed -n 's/^cachedir *= *//p' "$base" | tail -n 1)
  case $cache in /*) ;; *) cache=/var/cache/yum; [ ! -d /var/cache/dnf ] || cache=/var/cache/dnf;; esac
  plain=${cache%%\$*}; plain=${plain%/}
  room=$(df -Pk "$work" | awk 'NR == 2 {print int($4 / 2)}')
  if [ -d "$plain" ] && [ "$(du -sk --exclude='*.rpm' "$plain" | cut -f1)" -lt "$room" ]; then
    mkdir -p "$work$plain"
    tar -C "$plain" --exclude='*.rpm' --exclude='*.pid' -cf - . | tar -C "$work$plain" -xf -
    find "$work$plain" -depth \( -name "$asked" -o -name "$asked-*" -o -name "$asked.*" \) -exec rm -rf {} +
  fi
  settings="cachedir=$work$cache
persistdir=$work/lib
logdir=$work/log
logfile=$work/yum.log
plugins=0
assumeyes=0
keepcache=0
history_record=0
metadata_expire=604800
reposdir=/etc/yum/repos.d,/etc/yum.repos.d"
  {
    [ -r "$base" ] && grep -q '^\[main\]' "$base" || printf '[main]\n%s\n' "$settings"
    ours="cachedir|persistdir|logdir|logfile|plugins|pluginpath|pluginconfpath|assumeyes|assumeno|defaultyes"
    ours="^($ours|keepcache|history_record|metadata_expire|reposdir|installroot)[[:space:]]*="
    [ ! -r "$base" ] || settings=$settings ours=$ours awk '
      /^\[/ {main = /^\[main\]/}
      main && tolower($0) ~ ENVIRON["ours"] {next}
      {print}
      /^\[main\]/ {print ENVIRON["settings"]}' "$base"
    [ "$mode" != baseurl ] || printf '\n[%s]\nname=%s\nbaseurl=%s\n%s\n' "$asked" "$asked" "$baseurl" \
      "enabled=1
gpgcheck=0
metadata_expire=1
skip_if_unavailable=0"
  } > "$work/yum.conf"
  printf 'N\n' | timeout 240 yum -c "$work/yum.conf" update "${wish[@]}" > "$work/said" 2>&1; status=$?
  tell update "$status" "$(tr '\r' '\n' < "$work/said")"
  BASE=$(yum -C -c "$work/yum.conf" -v repolist "$asked" 2>/dev/null < /dev/null |
    sed -n 's/^Repo-baseurl *: *\([^ ,]*\).*/\1/p' | head -n 1)
  export BASE
  python=
  for name in /usr/libexec/platform-python python3 python2 python; do
    [ -n "$python" ] || ! command -v "$name" > /dev/null || python=$name
  done
  if [ -n "$BASE" ] && [ -n "$python" ]; then
    cat > "$work/download.py" <<'end-of-download'
__DOWNLOAD__
end-of-download
    ask download 120 "$python" "$work/download.py" "${wish[@]}"
  fi
fi
"""

# Reads the first bytes of each wanted RPM, as a download would begin. For the Python of EL6 (2.6) and for Python 3, one
# of which is where yum is. 0 and `size BYTES`; 1 and the files that are not there; 2 where it could not be tried.
DOWNLOAD = r"""
import bz2, fnmatch, os, re, sys, zlib
try:
    from urllib.request import urlopen
except ImportError:
    from urllib2 import urlopen
base = os.environ["BASE"].rstrip("/") + "/"
def say(error):
    return re.sub("://[^/@ ]*@", "://", " ".join(str(error).split()))
def unpack(name, data):
    if name.endswith(".gz"):
        return zlib.decompress(data, 31)
    if name.endswith(".bz2"):
        return bz2.decompress(data)
    if name.endswith(".xz"):
        import lzma
        return lzma.decompress(data)
    if name.endswith(".xml"):
        return data
    raise ValueError("metadata are compressed in a way that is not known here: " + name)
try:
    index = urlopen(base + "repodata/repomd.xml", timeout=20).read().decode("utf-8")
    block = re.search('<data type="primary">.*?</data>', index, re.S).group()
    name = re.search('<location[^>]* href="([^"]+)"', block).group(1)
    text = unpack(name, urlopen(base + name, timeout=60).read()).decode("utf-8")
except Exception:  # whatever it is, it is the answer: why the repository cannot be read
    print(say(sys.exc_info()[1]))
    sys.exit(2)
size, missing = 0, []
for block in text.split("<package ")[1:]:
    evr = re.search('<version[^>]* ver="([^"]*)" rel="([^"]*)"', block)
    full = "-".join([re.search("<name>(.*?)</name>", block).group(1), evr.group(1), evr.group(2)])
    if "<arch>src<" in block or not [each for each in sys.argv[1:] if fnmatch.fnmatchcase(full, each)]:
        continue
    href = re.search('<location[^>]* href="([^"]+)"', block).group(1)
    size += int((re.search('<size[^>]* package="([0-9]+)"', block) or re.match("(0)", "0")).group(1))
    try:
        if urlopen(base + href, timeout=30).read(4) != b"\xed\xab\xee\xdb":
            missing.append(href + ": is no RPM")
    except Exception:  # the same, for one package
        missing.append(href + ": " + say(sys.exc_info()[1]))
print("\n".join(missing) or "size %d" % size)
sys.exit(1 if missing else 0)
"""

# Its diagnostics show a hash of the cluster's cookie, which is nobody's business.
_QUEUE = r"""
ask queue 60 bash -c 'set -o pipefail; rabbitmqctl -q list_vhosts 2>&1 | sed "/[Cc]ookie/d"'
"""

_MYSQL = r"""
ask mysql 30 mysql -N -B -e 'SELECT CURRENT_USER()'
ask grants 30 bash -c 'set -o pipefail; mysql -N -B -e "SHOW GRANTS" | sed "s/ IDENTIFIED .*//"'
ask sizes 60 mysql -N -B -e "SELECT s.schema_name, COALESCE(SUM(t.data_length), 0) FROM information_schema.schemata s
 LEFT JOIN information_schema.tables t ON t.table_schema = s.schema_name GROUP BY s.schema_name"
ask tools 10 bash -c 'for tool in mysqldump gzip sha256sum; do command -v $tool > /dev/null || echo $tool; done'
"""

_END = r"""
tell finish "$(date +%s.%N)"
exit 0
"""


def _quoted(words: Iterable[str]) -> str:
    return " ".join(shlex.quote(word) for word in words)


def _socket(socket: str, command: str) -> str:
    """A command for HAProxy's admin socket, as `tasks.loadbalancer` sends it."""
    if socket.startswith("/"):
        return f"printf '%s\\n' {shlex.quote(command)} | socat -t 10 - UNIX-CONNECT:{shlex.quote(socket)}"
    host, _, port = socket.rpartition(":")
    return f"exec 3<>/dev/tcp/{host}/{int(port)} && printf '%s\\n' {shlex.quote(command)} >&3 && cat <&3"


NOBODY = "disable server cellstep-preflight/none"
"""Needs the level admin, and names a server that is not there: HAProxy does nothing, and says which it minds."""


def script(questions: Questions) -> str:
    """The script for one node."""
    wanted = "".join(f"{name} {evr}\n" for name, evr in questions.packages.items())
    states = STATES % " ".join(questions.services)
    parts = [
        f"paths=({_quoted(questions.paths)})",
        f"packages={shlex.quote(wanted)}",
        f"names={shlex.quote(' ' + ' '.join(questions.packages) + ' ')}",
        f"kernel={'yes' if questions.kernel else ''}",
        f"repository={shlex.quote(questions.repository)}",
        f"baseurl={shlex.quote(questions.baseurl)}",
        _BEGIN,
        _SPACE,
        _RPM.replace("__EVR__", EVR),
        _CONFIGURATION,
        _UPDATE.replace("__DOWNLOAD__", DOWNLOAD.strip()) if questions.packages else "",
        f"ask services 90 bash -c {shlex.quote(states)}" if questions.services else "",
        f"ask puppet 10 cat -- {shlex.quote(questions.puppet_lock)}",
    ]
    if questions.socket:
        parts.append(f"ask balancer 20 bash -c {shlex.quote(_socket(questions.socket, 'show stat'))}")
        parts.append(f"ask admin 20 bash -c {shlex.quote(_socket(questions.socket, NOBODY))}")
    if questions.queue:
        parts.append(_QUEUE)
    return "\n".join([*parts, _MYSQL if questions.databases else "", _END])
