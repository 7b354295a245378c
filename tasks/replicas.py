"""Replicas: whether one stands for its master, so that a dump can be taken from it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nornir.core.task import Task

from tasks.contents import unescaped
from tasks.errors import Refused
from tasks.manifest import VARIABLES, Server
from tasks.peers import connection
from tasks.shell import sh, taken

FILTERS = ("Do_DB", "Ignore_DB", "Do_Table", "Ignore_Table", "Wild_Do_Table", "Wild_Ignore_Table", "Rewrite_DB")

# By MySQL's first names of the fields; 8.4 has others alone.
STATUS = r"""
set -e -o pipefail
export LC_ALL=C
said=$(mysql -E -e 'SHOW SLAVE STATUS' 2> /dev/null) || said=$(mysql -E -e 'SHOW REPLICA STATUS')
said=$(sed -e 's/^ *//' -e 's/^Replica_/Slave_/; s/^\([A-Za-z_]*\)Source/\1Master/' <<< "$said")
sed -n 's/^\([A-Z][A-Za-z_]*\): \{0,1\}\(.*\)/\1\t\2/p' <<< "$said"
master=$(sed -n 's/^Master_Host: //p' <<< "$said")
[ -z "$master" ] || getent ahosts "$master" | awk '{print "address\t" $1}'
printf 'boot\t%s\n' "$(cat /proc/sys/kernel/random/boot_id)"
"""

MASTER = rf"""
set -e -o pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
mysql -N -B -e "{VARIABLES}"
ip -o addr show | awk '{{sub("/.*", "", $4); print "address\t" $4}}'
printf 'boot\t%s\n' "$(cat /proc/sys/kernel/random/boot_id)"
"""


@dataclass(frozen=True)
class Replica:
    """That the task's node is to be asked in another's place.

    Attributes:
        of: the node with the server that is meant.
        lag_s: seconds that the replica may be behind.
    """

    of: str
    lag_s: float


@dataclass(frozen=True)
class State:
    """What a replica, or its master, tells: fields by name, and addresses."""

    fields: Mapping[str, str]
    addresses: frozenset[str]


def parse(text: str) -> State:
    """Read what `STATUS` or `MASTER` printed."""
    rows = [line.split("\t", 1) for line in text.splitlines() if "\t" in line]
    fields = {name: unescaped(value) for name, value in rows if name != "address"}
    return State(fields, frozenset(value for name, value in rows if name == "address"))


def origin(task: Task, replica: Replica) -> tuple[Server, int]:
    """The server on the node that is meant, and how many seconds the replica on the task's node is behind it.

    Raises:
        Refused: it is no replica of that server, leaves something out, stands still, or is too far behind.
        CommandFailed: a server does not answer.
        plugins.connections.errors.TransportError: a node does not answer.
    """
    here = task.host.name
    status = parse(sh(task, STATUS, what=f"asking {here} whether it is a replica").stdout)
    master = parse(taken(connection(task, replica.of).run(MASTER), f"asking {replica.of} for its server", (0,)).stdout)
    server = Server.of(master.fields, replica.of)
    why = refusal(status, server, master, replica)
    if why:
        raise Refused(f"{here} does not stand for {replica.of}: {why}")
    return server, int(status.fields["Seconds_Behind_Master"])


def refusal(status: State, server: Server, master: State, replica: Replica) -> str:
    """Why a replica does not stand for that server, "" where it does.

    Args:
        status: of the replica.
        server: that is meant.
        master: of the node that is meant.
        replica: what is asked for.
    """
    fields = status.fields
    if not fields.get("Master_Host"):
        return "it is no replica"
    found = f"{fields['Master_Host']}:{fields.get('Master_Port', '?')}"
    if not _is_master(status, server, master):
        return f"it is a replica of {found}, not of {server}"
    if left_out := [name for name in (f"Replicate_{each}" for each in FILTERS) if fields.get(name)]:
        return f"it is a replica of a part alone: {left_out[0]} is {fields[left_out[0]]}"
    for name, thread in (
        ("Slave_IO_Running", "fetches from its master"),
        ("Slave_SQL_Running", "applies what it gets"),
    ):
        if fields.get(name) != "Yes":
            error = fields.get(name.replace("Slave_", "Last_").replace("Running", "Error"), "")
            return f"it no longer {thread} ({name} is {fields.get(name, 'not told')})" + (f": {error}" if error else "")
    lag = fields.get("Seconds_Behind_Master", "")
    if not re.fullmatch(r"\d+", lag):
        return "it does not know how far it is behind"
    return f"it is {lag} s behind, more than {replica.lag_s:g} s" if int(lag) > replica.lag_s else ""


def _is_master(status: State, server: Server, master: State) -> bool:
    """By its uuid where both tell one; else it is at the node's addresses, has that port and that number."""
    fields = status.fields
    if server.uuid and fields.get("Master_UUID"):
        return fields["Master_UUID"] == server.uuid
    shared = status.addresses & master.addresses
    if fields["boot"] != master.fields["boot"]:  # two machines: each has a loopback of its own
        shared = frozenset(address for address in shared if not address.startswith("127.") and address != "::1")
    number = fields.get("Master_Server_Id", str(server.server_id))
    return bool(shared) and fields.get("Master_Port") == str(server.port) and number == str(server.server_id)
