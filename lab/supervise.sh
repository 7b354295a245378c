#!/bin/bash
# Runs one host of the lab: its overlay, its boots, its power. Started detached by lab/machine.py as
#   supervise.sh HOST_FOLDER
# and ends when the host is powered off. HOST_FOLDER/settings says which host it is.
#
# All mounts are made in a mount namespace of this process alone, so they are gone when it is gone, however it
# ends. The root is a shared mount there, so what is mounted over it later (faults) appears in the host as well.
set -u
folder=$1
# shellcheck disable=SC1091
. "$folder/settings"

if [ "${2:-}" != inside ]; then
    # The groups were made before this was started; if they are gone, the lab is being taken down.
    for group in $CGROUPS; do
        echo $$ > "$group/cgroup.procs" || exit 1
    done
    echo $$ > "$folder/pid"
    exec unshare --mount --propagation slave bash "$0" "$folder" inside
fi

root=$folder/root
power() { ip -n "$LAB_NAMESPACE" link set dev "$HOST" "$1"; }

fail() {
    echo "supervise.sh: $1" >&2
    touch "$folder/failed"
    exit 1
}

# nspawn leaves a folder for each machine here; nobody else need see it.
mkdir -p /run/systemd/nspawn
mount -t tmpfs -o mode=755 tmpfs /run/systemd/nspawn || fail "cannot mount a tmpfs"
# After a kill this marker of an earlier volatile mount would forbid mounting.
rm -rf "$folder/work/work/incompat/volatile"
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$folder/upper,workdir=$folder/work" "$root" || fail "cannot mount the overlay"
mount --make-private "$root" && mount --make-shared "$root" || fail "cannot share the root"
mount --bind "$REPOSITORIES" "$root/srv/repositories" && mount -o remount,bind,ro "$root/srv/repositories" || fail "cannot bind the repositories"
mount --bind "$SHARED" "$root/srv/shared" || fail "cannot bind the shared folder"

while :; do
    rm -f "$folder/faults/rpm-lock" # its process does not outlive a boot
    power up
    SYSTEMD_NSPAWN_LOCK=0 systemd-nspawn --quiet --directory="$root" --machine="$MACHINE" --hostname="$HOST" \
        --boot --register=no --keep-unit --network-namespace-path="/run/netns/$NAMESPACE" \
        --capability=all --system-call-filter=@mount --link-journal=no --resolv-conf=off --timezone=off \
        --console=pipe
    status=$?
    power down
    # 133: the host asked for a reboot. Anything else is a power-off.
    [ "$status" = 133 ] || break
    sleep "$BOOT_DELAY_S" # what a real machine takes before its boot loader
done
echo "supervise.sh: $HOST is off (systemd-nspawn ended with $status)" >&2
