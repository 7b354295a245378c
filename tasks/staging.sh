# Restores a dump into a scratch server of its own, tells what is in it, and tries a schema change on that copy.
# After contents.sh. Set before: home, the run's folder for this; name, of what is done in it; dump, digest (SHA-256);
# database; repository, its row in migrate_version; options, an array for the server; command, "" to change no schema;
# config, the text of its configuration; snapshot, SQL that describes the schema. bash 4.1, coreutils and util-linux of
# EL6, MySQL 5.1 or later. What it found is in $home/$name.result, a line a fact: kind, tab, fact.
set -e -o pipefail
umask 077
export LC_ALL=C PATH="$PATH:/usr/sbin:/usr/libexec"
scratch=$home/$name socket=$home/$name/s

fail() { # STATUS WORDS; 3: this node will not do, 4: the dump will not
  echo "$2" >&2
  exit "$1"
}

program() { # NAME...: the first of them that is there
  local each
  for each; do
    if type -P "$each"; then return; fi
  done
  fail 3 "there is no $1 on $(uname -n): install a MySQL server's programs"
}

tell() { # KIND: standard input, a fact a line
  sed "s/^/$1\t/" >> "$scratch/result"
}

ask() { # SQL by standard input
  "$client" --no-defaults --socket="$socket" --user=root --default-character-set=utf8 -N -B "$@" 8>&- 9>&-
}

runs() { # FOLDER PID: whether that process is the folder's server; a dead one has no command line
  [ "$(tr '\0' '\n' < "/proc/$2/cmdline" | grep -cxF -- "--datadir=$1/data")" = 1 ]
} 2> /dev/null

clear_away() { # FOLDER: its server, then all that is in it
  local pid tries
  if [ -s "$1/pid" ]; then
    read -r pid < "$1/pid"
    for ((tries = 0; tries < 600; tries++)); do
      runs "$1" "$pid" || break
      kill -KILL "$pid" # nothing in it is needed any more
      sleep 0.05 # it is not always our child, which could be waited for
    done
  fi
  rm -rf -- "${1:?}" "$1.sql.gz"
}

# staging.folder may be any folder, with others' files: nothing is ours but what has our own names.
OURS='([a-z]+-)?[0-9]{8}[T-][0-9]{6}Z?(-[0-9]+)?' # as runs, and restores by hand, are named
JOB='[a-z0-9-]{0,20}\.[0-9a-f]{8}' # as staging.py names them

sweep() { # what jobs left that were killed, and what they found two weeks ago
  local lock other
  for lock in "${home%/*}"/*/*.lock; do
    other=${lock%.lock}
    [[ $lock =~ /$OURS/$JOB\.lock$ && -f $lock && ! -L $lock && $other != "$scratch" ]] || continue
    # A dump that has just come in waits for its job.
    [ -z "$(find "$other.sql.gz" -mmin -60 2> /dev/null)" ] || continue
    (if flock -n 7; then clear_away "$other"; fi) 7< "$lock"
  done
  find "${home%/*}" -mindepth 2 -maxdepth 2 -type f -mtime +13 -regextype posix-extended \
    -regex ".*/$OURS/$JOB\\.(result|lock|part|sql\\.gz)" -delete
  find "${home%/*}" -mindepth 1 -maxdepth 1 -type d -mtime +13 -regextype posix-extended \
    -regex ".*/$OURS" -empty -delete
}

begin() {
  [ "${#socket}" -le 100 ] || fail 3 "$socket is too long for a socket: give cloud.yaml a shorter staging.folder"
  mkdir -p -- "$home"
  touch -- "$scratch.lock"
  exec 9>> "$scratch.lock"
  flock -w 60 9 || fail 3 "another job has been at work in $scratch for a minute"
  sweep
  if [ "$dump" = "$scratch.sql.gz" ]; then mv -f -- "$dump" "$scratch.part"; fi
  clear_away "$scratch"
  mkdir -- "$scratch" "$scratch/tmp"
  if [ "$dump" = "$scratch.sql.gz" ]; then
    dump=$scratch/dump
    mv -f -- "$scratch.part" "$dump"
  fi
  trap 'exit 143' TERM INT HUP
  trap 'clear_away "$scratch"' EXIT
  # Where this shell is killed, this one clears away: its input ends. The lock (9) stays with it until then.
  exec 8> >(trap '' TERM INT HUP && cat > /dev/null && [ ! -e "$scratch" ] || clear_away "$scratch")
  # The cloud goes before us, where this is a node of it.
  renice 10 -p $$ > /dev/null
  if type -P ionice > /dev/null; then ionice -c 2 -n 7 -p $$ || :; fi
}

check_dump() { # that it is the one which is meant, and whole; sets bytes, of its SQL
  local found last
  [ -e "$dump" ] || fail 4 "there is no dump $dump on $(uname -n)"
  found=$(sha256sum < "$dump")
  [ "${found%% *}" = "$digest" ] || fail 4 "$dump is not the dump that was made: its SHA-256 is another"
  found=$(gzip -dc -- "$dump" | awk '{ bytes += length($0) + 1; last = $0 } END { printf "%.0f %s\n", bytes, last }') ||
    fail 4 "$dump is broken: gzip cannot read it"
  read -r bytes last <<< "$found"
  case "$last" in
    '-- Dump completed'*) ;;
    *) fail 4 "$dump is cut off: its last line is “${last:0:60}”";;
  esac
}

free_kib() {
  df -P -k -- "$home" | awk 'NR == 2 { print $4 }'
}

check_room() { # twice the SQL for tables and indexes; once more for the table that is being changed; the server's own
  local free need
  need=$((bytes / 1024 * (command_given + 2) + 400 * 1024))
  free=$(free_kib)
  [ "$free" -ge "$need" ] ||
    fail 3 "a copy of $database takes $((need / 1024)) MiB, and $home on $(uname -n) has $((free / 1024)): make room"
}

start_server() {
  local server install pool pid tries more=()
  server=$(program mariadbd mysqld)
  install=$(program mariadb-install-db mysql_install_db)
  client=$(program mariadb mysql)
  case "$("$install" --help 2>&1 || :)" in
    *--auth-root-authentication-method*) more=(--auth-root-authentication-method=normal --skip-test-db);;
  esac
  # What it starts deletes the temporary tables that it finds in its folder, a running server's too.
  TMPDIR=$scratch/tmp "$install" --no-defaults --datadir="$scratch/data" --user="$(id -un)" "${more[@]}" > "$scratch/log" 2>&1 8>&- 9>&- ||
    fail 3 "$install failed: $(tail -n 3 "$scratch/log" | tr '\n' ' ')"
  # An eighth of the memory that is free or a cache, in MiB.
  pool=$(awk '/^(MemFree|Cached):/ { kib += $2 } END { print int(kib / 8192) }' /proc/meminfo)
  pool=$((pool < 64 ? 64 : pool > 4096 ? 4096 : pool))
  "$server" --no-defaults --datadir="$scratch/data" --socket="$socket" --pid-file="$scratch/server.pid" \
    --tmpdir="$scratch/tmp" --user="$(id -un)" --skip-networking --skip-name-resolve --event-scheduler=OFF \
    --max-allowed-packet=1G --loose-skip-log-bin --loose-performance-schema=OFF \
    --loose-innodb-flush-log-at-trx-commit=2 --loose-innodb-buffer-pool-size="${pool}M" "${options[@]}" \
    < /dev/null > "$scratch/log" 2>&1 8>&- 9>&- &
  pid=$!
  echo "$pid" > "$scratch/pid"
  disown # or this bash would say that it was killed
  for ((tries = 0; tries < 600; tries++)); do
    if ask <<< 'SELECT 1' > /dev/null 2>&1; then break; fi
    kill -0 "$pid" 2> /dev/null || fail 3 "the scratch server does not start: $(grep -i error "$scratch/log" | tail -n 2)"
    sleep 0.2 # it has no way to tell us
  done
  case "$(ask <<< 'SELECT @@datadir')" in
    "$scratch/data" | "$scratch/data/") ;;
    *) fail 3 "the scratch server did not answer within two minutes";;
  esac
  ask <<< 'SELECT VERSION()' | tell server
}

load() {
  local began said
  began=$(date +%s.%N)
  if ! said=$(gzip -dc -- "$dump" | ask --max-allowed-packet=1G 2>&1 > /dev/null); then
    [ "$(free_kib)" -ge 20480 ] || fail 3 "$home on $(uname -n) was filled while $database was loaded: make room"
    runs "$scratch" "$(< "$scratch/pid")" || fail 3 "the scratch server has died: $(tail -n 2 "$scratch/log" | tr '\n' ' ')"
    # The client tells the statement, too: rows, which are for nobody's eyes.
    fail 4 "$dump cannot be loaded: $(sed -n '/^ERROR/ { s/ near .*//; p; }' <<< "$said" | tail -n 1)"
  fi
  echo "$began $(date +%s.%N)" | tell load
}

version() { # nothing where it tells none
  local table
  table=$(ask <<< "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = $(literal "$database")
    AND table_name = 'migrate_version'")
  [ "$table" = 1 ] || return 0
  ask <<< "SELECT version FROM $quoted.migrate_version WHERE repository_id = $(literal "$repository")"
}

describe() { # before|after
  contents "$database" | tell "contents $1"
  if [ -n "$snapshot" ]; then ask "$database" <<< "$snapshot" | tell "schema $1"; fi
}

# The rows that the server has written, changed and deleted so far. MySQL has them in another place from 5.7 on.
COUNTERS="SUM(IF(variable_name = 'Handler_write', variable_value, 0)),
  SUM(IF(variable_name = 'Handler_update', variable_value, 0)),
  SUM(IF(variable_name = 'Handler_delete', variable_value, 0))
  FROM %s.global_status WHERE variable_name LIKE 'Handler%%' HAVING COUNT(*) > 0"

watch() { # the schema's version: notes when each passes, and what it took
  local counters place time
  for place in information_schema performance_schema; do
    printf -v counters "$COUNTERS" "$place"
    if ask <<< "SELECT $counters" > /dev/null 2>&1; then break; fi
  done
  time='SYSDATE(6)'
  ask <<< "SELECT $time" > /dev/null 2>&1 || time='SYSDATE()'
  ask << SQL
CREATE DATABASE cellstep_rehearsal;
CREATE TABLE cellstep_rehearsal.steps (n INT AUTO_INCREMENT PRIMARY KEY, version INT, at DECIMAL(20, 6),
  rows_written BIGINT, rows_changed BIGINT, rows_deleted BIGINT) ENGINE=MyISAM;
SQL
  # The first note is the start. Where the server allows no such trigger, nothing is measured, and nothing is in the way.
  ask << SQL || ask <<< "DROP TRIGGER IF EXISTS $quoted.cellstep_rehearsal"
CREATE TRIGGER $quoted.cellstep_rehearsal AFTER UPDATE ON $quoted.migrate_version FOR EACH ROW
  INSERT INTO cellstep_rehearsal.steps (version, at, rows_written, rows_changed, rows_deleted)
  SELECT NEW.version, UNIX_TIMESTAMP($time), $counters AND NEW.repository_id = $(literal "$repository");
UPDATE $quoted.migrate_version SET version = version WHERE repository_id = $(literal "$repository");
SQL
}

rehearse() {
  local began status=0 alone=()
  printf %s "$config" > "$scratch/copy.conf"
  # It has nothing to look for anywhere else: no network, no other server by default.
  if unshare -n true 2> /dev/null; then alone=(unshare -n); fi
  ask <<< 'SET GLOBAL innodb_flush_log_at_trx_commit = 1'
  began=$(date +%s.%N)
  (cd "$scratch" && exec env HOME="$scratch" MYSQL_UNIX_PORT="$socket" "${alone[@]}" bash -c "$command") \
    < /dev/null > "$scratch/said" 2>&1 8>&- 9>&- || status=$?
  echo "$status $began $(date +%s.%N) ${#alone[@]}" | tell ended
  ask <<< "DROP TRIGGER IF EXISTS $quoted.cellstep_rehearsal"
  ask <<< "SELECT version, at, rows_written, rows_changed, rows_deleted FROM cellstep_rehearsal.steps
    ORDER BY n" | tell step
  (tail -c 16384 "$scratch/said" | tr '\r' '\n'; echo) | tail -n 60 | tell said
  version | tell "version after"
  describe after
}

command_given=${command:+1}
quoted="\`${database//\`/\`\`}\`"
begin
check_dump
check_room
start_server
load
version | tell "version before"
describe before
if [ -n "$command" ]; then
  watch
  rehearse
fi
echo "$digest" | tell whole
mv -f -- "$scratch/result" "$scratch.result"
