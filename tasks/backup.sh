# A database node's side of a backup. After contents.sh; before what calls these functions. bash 4.1, coreutils of EL6,
# and the clients of the node's root.
set -e -o pipefail
umask 077
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

ask() { mysql -N -B; }

# What the server tells of itself: `server<TAB>name<TAB>value`.
server() {
  ask <<< "$SESSION __VARIABLES__;" | sed 's/^/server\t/'
}

# Those databases that are there: `database<TAB>name<TAB>bytes`, of data without indexes.
sizes() { # DATABASE...
  local name names=
  for name; do names+=${names:+, }$(literal "$name"); done
  ask <<< "$SESSION
    SELECT 'database', s.schema_name, COALESCE(SUM(t.data_length), 0) FROM information_schema.schemata s
    LEFT JOIN information_schema.tables t ON t.table_schema = s.schema_name
    WHERE s.schema_name IN ($names) GROUP BY BINARY s.schema_name;"
}

# The schema's versions: `head<TAB>repository<TAB>version`; none where it has no table for them.
heads() { # DATABASE
  local there
  there=$(ask <<< "$SESSION SELECT COUNT(*) FROM information_schema.tables
    WHERE table_schema = $(literal "$1") AND table_name = 'migrate_version';")
  [ "$there" != 0 ] || return 0
  ask <<< "$SESSION SELECT 'head', repository_id, version FROM \`$1\`.migrate_version;"
}

# Where the folder is or will be: `room<TAB>KiB` free, with what a try that was cut off has left and the next one removes.
room() { # FOLDER DATABASE...
  local folder=$1 there=$1 name free left=0
  shift
  while [ ! -e "$there" ]; do
    there=${there%/*}
    there=${there:-/}
  done
  free=$(df -Pk -- "$there" | awk 'NR == 2 {print $4}')
  for name; do
    [ ! -e "$folder/$name.part" ] || left=$((left + $(du -k -- "$folder/$name.part" | cut -f1)))
  done
  printf 'room\t%s\n' $((free + left))
}

how() { # PROGRAM STATUS; nothing of one that went well
  if [ "$2" -gt 128 ]; then printf ' %s was killed by signal %s' "$1" $(($2 - 128))
  elif [ "$2" != 0 ]; then printf ' %s ended with status %s' "$1" "$2"; fi
}

# Leaves DATABASE.sql.gz and DATABASE.facts, whole or as they were before.
dump() { # DATABASE
  local part=$1.part facts=$1.facts both last said digest
  {
    printf 'began\t%s\n' "$(date -u +%FT%TZ)"
    server
    heads "$1"
    contents "$1" | sed 's/^/before\t/'
  } > "$facts.part"
  set +e
  __MYSQLDUMP__ "$1" | gzip > "$part"
  both=("${PIPESTATUS[@]}")
  set -e
  if [ "${both[*]}" != "0 0" ]; then
    echo "the dump of $1 failed:$(how mysqldump "${both[0]}")$(how gzip "${both[1]}")"
    return 4
  fi >&2
  last=$(gzip -dc -- "$part" | tail -n 1)
  if [ "${last#-- Dump completed}" = "$last" ]; then
    echo "the dump of $1 is cut off"
    return 4
  fi >&2
  digest=$(sha256sum < "$part")
  {
    contents "$1" | sed 's/^/after\t/'
    printf 'dump\t%s\t%s\n' "${digest%% *}" "$(stat -c %s -- "$part")"
    printf 'ended\t%s\n' "$(date -u +%FT%TZ)"
  } >> "$facts.part"
  # On disk before it has its name.
  said=$(dd if=/dev/null of="$part" conv=notrunc,fsync 2>&1) || { echo "$said" >&2; return 4; }
  rm -f -- "$1.manifest.json"
  mv -f -- "$part" "$1.sql.gz"
  mv -f -- "$facts.part" "$facts"
  digest=$(sha256sum < "$facts")
  printf '%s %s\n' "${digest%% *}" "$1"
}

# Prints a line a dump: the SHA-256 of its facts, the database.
dump_all() { # FOLDER DATABASE...
  local name said status
  mkdir -p -- "$1"
  cd -- "$1"
  shift
  for name; do parts+=("./$name.part" "./$name.facts.part"); done
  trap 'rm -f -- "${parts[@]}"' EXIT
  rm -f -- "${parts[@]}" # what is opened anew is our own
  exec 3>&1
  for name; do
    # What is said waits until the unfinished files are gone: on a full disk there is no room for it before.
    set +e
    said=$(set -e; dump "$name" 2>&1 >&3)
    status=$?
    set -e
    [ "$status" = 0 ] || rm -f -- "${parts[@]}"
    [ -z "$said" ] || printf '%s\n' "$said" >&2
    [ "$status" = 0 ] || exit "$status"
  done
}
