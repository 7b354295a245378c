"""The directory behind keystone (LDAP, Active Directory): a digest of what it has, to prove that nobody touched it.

It is only read, with ldapsearch on a keystone server, as whom and where its own keystone.conf says. The password stays
on the node, and is no argument.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nornir.core.task import Result, Task

from tasks.errors import Refused
from tasks.holds import Noted, skipped, unchanged
from tasks.keystone.server import reading
from tasks.shell import sh

TIMEOUT_S = 300.0
SHOWN = 20

# One line an entry: its name, when and by whom it was changed. Sorted, since a server may give them in any order.
_SCRIPT = r"""
get() { keystone_settings "$1" | tail -n 1 | cut -d= -f2-; }
driver=$(get identity.driver)
case "$driver" in *ldap*|*Ldap*|*LDAP*) ;; *) echo "none $driver"; exit 0;; esac
url=$(get ldap.url) base=$(get ldap.user_tree_dn) suffix=$(get ldap.suffix) account=$(get ldap.user)
[ -n "$base" ] || base=$suffix
if [ -z "$url" ] || [ -z "$base" ]; then echo "keystone.conf has no url and no suffix in [ldap]" >&2; exit 3; fi
if ! command -v ldapsearch > /dev/null; then
  echo "there is no ldapsearch on $(uname -n): install openldap-clients" >&2; exit 4
fi
certificates=$(get ldap.tls_cacertfile)
[ -z "$certificates" ] || export LDAPTLS_CACERT=$certificates
options=(-x -LLL -H "$url" -l 240)
case $(get ldap.use_tls) in [Tt]rue|1|[Yy]es) options+=(-ZZ);; esac
search() {
  if [ -n "$account" ]; then
    ldapsearch "${options[@]}" -D "$account" -y <(printf %s "$(get ldap.password)") "$@"
  else
    ldapsearch "${options[@]}" "$@"
  fi
}
set -o pipefail
entries=$(search -b "$base" -s sub -E pr=500/noprompt '(objectClass=*)' modifyTimestamp modifiersName entryCSN | awk '
  /^#/ { next }
  /^ / { line = line substr($0, 2); next }
  { take() ; line = $0 }
  END { take(); flush() }
  function take() {
    if (line ~ /^dn:/) { flush(); name = line; sub(/^dn::? */, "", name); there = 1 }
    else if (line ~ /^[mM]odifyTimestamp:/) { when = line; sub(/^[^:]*:+ */, "", when) }
    else if (line ~ /^modifiersName:/) { who = line; sub(/^[^:]*:+ */, "", who) }
    else if (line ~ /^entryCSN:/) { csn = line; sub(/^[^:]*:+ */, "", csn) }
    line = ""
  }
  function flush() {
    if (there) print substr(when, 1, 14) "\t" csn "\t" who "\t" name
    there = 0; name = when = who = csn = ""
  }' | LC_ALL=C sort) || { echo "the search below $base failed" >&2; exit 5; }
context=$(search -b "${suffix:-$base}" -s base '(objectClass=*)' contextCSN 2> /dev/null |
  awk '/^contextCSN:/ { print $2 }' | sort | tr '\n' ' ')
echo "url $url"
echo "base $base"
echo "account $account"
echo "context ${context% }"
echo "digest $(printf '%s\n' "$entries" | sha256sum | cut -d' ' -f1)"
echo "entries $(printf '%s' "$entries" | grep -c '')"
echo "newest $(printf '%s\n' "$entries" | cut -f1 | LC_ALL=C sort | tail -n 1)"
[ -z "$since" ] || printf '%s\n' "$entries" | awk -F '\t' -v since="$since" '$1 > since { print "changed " $3 "\t" $4 }'
"""


@dataclass(frozen=True)
class Directory:
    """What a directory has, seen from a keystone server.

    Attributes:
        url: the server's address; "" where keystone's users are in no directory.
        driver: of the identity backend, where they are in none.
        base: below which keystone looks for users.
        account: as whom keystone logs in to the directory, "" for nobody.
        context: OpenLDAP's contextCSN, which any change in the directory moves; "" where it tells none.
        entries: how many are below the base.
        digest: of their names, and of when and by whom each was changed.
        newest: when the latest of them was changed.
        changed: those that were changed since the time that was asked for: by whom, and their names.
    """

    url: str = ""
    driver: str = ""
    base: str = ""
    account: str = ""
    context: str = ""
    entries: int = 0
    digest: str = ""
    newest: str = ""
    changed: tuple[tuple[str, str], ...] = ()

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "changed": [list(each) for each in self.changed]}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Directory":
        """The opposite of `plain`."""
        return cls(**{**data, "changed": tuple((who, name) for who, name in data["changed"])})


def look(task: Task, *, since: str = "") -> Result:
    """Read the directory that the node's keystone.conf names; the result is a `Noted` with a `Directory`.

    Args:
        task: on a keystone server.
        since: tell which entries were changed after this time (`newest` of an earlier look); "" for none.

    Raises:
        CommandFailed: there is no ldapsearch, or the directory does not let it look.
        Refused: it has no entry there: a digest of nothing would prove nothing.
    """
    if since and not since.isdecimal():
        raise Refused(f"'{since[:40]}' is no time of a directory")
    script = f"since={since}\n{reading()}\n{_SCRIPT}"
    found = parse(sh(task, script, what="reading keystone's directory", timeout=TIMEOUT_S).stdout)
    if not found.url:
        driver = found.driver or "none that is set"
        words = f"keystone.conf names no directory: the identity backend is {driver}"
        return skipped(task, Noted(words, found))
    if not found.entries:
        raise Refused(f"{found.url} shows no entry below {found.base} to {found.account or 'anybody'}")
    return unchanged(task, Noted(f"{found.entries:,} entries below {found.base} of {found.url}", found))


def parse(text: str) -> Directory:
    """Read what the script prints."""
    words: dict[str, str] = {}
    changed: list[tuple[str, str]] = []
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "none":
            return Directory(driver=value)
        if name == "changed":
            who, _, entry = value.partition("\t")
            changed.append((who, entry))
        else:
            words[name] = value
    names = ("url", "base", "account", "context", "digest", "newest")
    known = {name: words.get(name, "") for name in names}
    return Directory(**known, entries=int(words.get("entries") or 0), changed=tuple(changed[:SHOWN]))
