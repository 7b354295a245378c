# Starts a script as a job which outlives this connection, or attaches to it; waits, and tells what came of it.
# After guard.sh. Set before: job, its folder; size, bytes of the script that comes by standard input, "" to start
# nothing; limit, seconds that it may run; wait, seconds to wait for its end; days, after which folders go; bound, bytes
# of each stream brought back; boot, the file with the boot id.

keep() { # FILE
  local said
  said=$(durable "$1") || refuse 211 "the node cannot keep a job in $root: $said"
}

prune() {
  find "$root" -mindepth 1 -maxdepth 1 -type d -mtime "+$((days - 1))" | while read -r old; do
    flock -n "$old/lock" rm -rf -- "$old" 7>&-
  done
}

# The script gets no 9, or a daemon that it starts would hold the job's lock for ever; `timeout` keeps it, so that
# the lock is held as long as the script runs, whatever becomes of this shell.
run_job() { # FOLDER LIMIT UMASK
  (umask "$3" && exec timeout "$2" bash -c 'exec 9>&-; exec bash "$0"' "$1/script") > "$1/out" 2> "$1/err"
  # Into blocks that were taken at the start: a job that filled the disk has a status all the same.
  printf '%-40s\n' "$? $(date +%s)" | dd of="$1/status.part" conv=notrunc,fsync 2> /dev/null &&
    mv -f -- "$1/status.part" "$1/status" && rm -f -- "$1/script" "$1/lock"
}

# Under systemd a session's processes may be killed at its end (KillUserProcesses): out of the session, into a scope.
launch() { # FOLDER LIMIT UMASK
  if [ -d /run/systemd/system ] && type -P systemd-run > /dev/null; then
    systemd-run --scope --quiet --slice=system.slice --unit="cellstep-${1##*/}" -- \
      bash -c "$(declare -f run_job); run_job \"\$@\"" cellstep-job "$@"
  fi
  [ -e "$1/out" ] || run_job "$@"
}

start() {
  local script mask
  script=$(cat && echo .)
  script=${script%.}
  [ "$(printf %s "$script" | wc -c)" -eq "$size" ] || refuse 211 "the script did not arrive whole; nothing was started"
  mask=$(umask)
  umask 077
  guard
  if [ ! -e "$job/start" ]; then
    prune
    mkdir -p -- "$job" 2> /dev/null || refuse 211 "the node cannot keep a job in $root: no folder can be made"
    printf %s "$script" | keep "$job/script" || exit
    printf '%-40s\n' "" | keep "$job/status.part" || exit
    exec 9>> "$job/lock"
    flock 9
    printf '%s %s\n' "$(date +%s)" "$(cat "$boot")" | keep "$job/start" || exit
    setsid bash -c "$(declare -f run_job launch); launch \"\$@\"" cellstep-job "$job" "$limit" "$mask" \
      < /dev/null > /dev/null 2>&1 7>&- &
    disown # or this bash would say among the job's own words that it was killed
    exec 9>&-
  fi
  unlock
}

await() { # sets state
  state=absent
  [ -e "$job/start" ] || return 0
  state=ended
  [ ! -e "$job/status" ] || return 0
  # No lock any more: it has ended in this moment.
  if exec 9< "$job/lock"; then
    if [ "$wait" -gt 0 ]; then flock -s -w "$wait" 9; else flock -s -n 9; fi || { state=running; return 0; }
    exec 9<&-
  fi 2> /dev/null
  [ -e "$job/status" ] || state=cut
}

show() { # FILE
  local bytes
  [ -e "$1" ] || return 0
  bytes=$(stat -c %s -- "$1")
  if [ "$bytes" -le "$bound" ]; then
    cat -- "$1"
  else
    head -c $((bound / 2)) -- "$1"
    printf '\n[%s bytes left out]\n' $((bytes - bound / 2 * 2))
    tail -c $((bound / 2)) -- "$1"
  fi
}

tell() {
  local began=0 then=- status=- ended=0 bytes=0 digest=-
  [ "$state" = absent ] || read -r began then < "$job/start"
  if [ "$state" = ended ]; then read -r status ended < "$job/status"; fi
  if [ -e "$job/err" ]; then
    bytes=$(cat -- "$job/out" "$job/err" | wc -c)
    digest=$(cat -- "$job/out" "$job/err" | sha256sum)
  fi
  echo "cellstep-job $state $status $began $ended $then $(cat "$boot") $bytes ${digest%% *}"
  if [ "$state" != running ]; then
    show "$job/out"
    show "$job/err" >&2
  fi
  [ "$state" != cut ] || rm -f -- "$job/script" "$job/status.part"
}

[ -z "$size" ] || start
await
tell
