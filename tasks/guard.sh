# Sent to a node before anything that changes it. Set before: root, the folder; token, the operator's.
# bash 4.1, coreutils and flock. Ends with 210: a newer token was seen; 211: no room, or no answer, on the node itself.

refuse() { # STATUS WORDS
  echo "cellstep-guard: $2" >&2
  exit "$1"
}

durable() { # FILE: standard input becomes its content, on disk, at once or not at all
  local said
  if said=$(LC_ALL=C dd of="$1.new" conv=fsync 2>&1) && said=$(LC_ALL=C mv -f -- "$1.new" "$1" 2>&1); then
    return 0
  fi
  said=${said%%$'\n'*}
  echo "${said##*: }"
  return 1
}

guard() { # locks the folder (7) and looks at the token
  local said seen=0
  said=$( (umask 077 && LC_ALL=C mkdir -p -m 700 -- "$root" && LC_ALL=C touch -- "$root/lock" "$root/busy") 2>&1) ||
    refuse 211 "the node cannot keep what was started in $root: ${said##*: }"
  exec 7>> "$root/lock"
  flock -w 20 7 || refuse 211 "another command held $root/lock for 20 s"
  [ ! -s "$root/token" ] || read -r seen < "$root/token"
  [ "$token" -ge "$seen" ] || refuse 210 "the operator with token $seen has taken over from the one with token $token"
  [ "$token" -eq "$seen" ] || said=$(umask 077 && printf '%s\n' "$token" | durable "$root/token") ||
    refuse 211 "the node cannot keep the token in $root: $said"
}

unlock() {
  exec 7>&-
}

# 8 says that a change is under way: shared by those who change, alone by one who waits for their end.
busy() {
  exec 8>> "$root/busy"
  flock -s -w 20 8 || refuse 211 "another command held $root/busy for 20 s"
}

idle() { # SECONDS
  exec 8>> "$root/busy"
  if [ "$1" -gt 0 ]; then flock -w "$1" 8; else flock -n 8; fi ||
    refuse 211 "something that was sent before still changes this node after $1 s (/proc/locks has its process)"
  exec 8>&-
}
