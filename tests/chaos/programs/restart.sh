. /opt/node/lib.sh
end_everything() { # every process whose root is this node's, but this one
  local process
  for process in /opt/proc/[0-9]*; do
    if [ "${process##*/}" != $$ ] && [ "$process/root" -ef / ]; then kill -9 "${process##*/}"; fi
  done 2> /dev/null
}
sleep 0.1
: > /.down
log "reboot"
end_everything
sleep 0.05
end_everything
rm -rf /run/services /proc/[0-9]*
mkdir /run/services
cat /opt/proc/sys/kernel/random/uuid > /proc/sys/kernel/random/boot_id
grep '^kernel ' /var/lib/rpm/packages | tail -n 1 | cut -d' ' -f2 > /etc/kernel
sleep "$REBOOT_S"
for name in $(ls /etc/rc3.d); do service "$name" start; done
rm /.down
