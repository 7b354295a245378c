# What every stand-in begins with: who this node is, how long things take here, and its log of what was done to it.
. /etc/node       # NODE, CELL, TIER
. /opt/cloud/pace # YUM_S, SYNC_S, DUMP_S, REBOOT_S, SERVICE_S: seconds
log() { printf '%(%s)T %s\n' -1 "$*" >> /var/log/node.log; }
unknown() {
  echo "this stand-in does not know: ${0##*/} $*" >&2
  exit 99
}
