#!/bin/sh
# An app that goes on when its credential rotates: sh app.sh [VOLUME [CONSUMER]]
#
# The command `secretwatch` is the client: it finds the socket by SECRETWATCH_SOCKET and the token by
# SECRETWATCH_TOKEN_FILE, and waits by itself for a sidecar that is restarted.
set -u

volume=${1:-db}
consumer=${2:-shell}
# Seconds between attempts where the sidecar says no: doubled each time, spread by a random half.
first_delay=2
longest_delay=8

# Stands for opening a connection: fail where the new credential does not work. The value is passed
# by a built-in of the shell, as everybody can see the arguments of a command.
connect() {
  size=$(printf '%s' "$new_password" | wc -c)
  echo "using version $new_version, a password of $((size)) bytes"
}

revision() {
  secretwatch wait "$volume" --timeout 1s
}

# Reads all values of one revision. A rotation may come between two of them, so the revision is
# looked at before and after.
load() {
  new_revision=$(revision) &&
    new_version=$(secretwatch get "$volume" secretwatch.version) &&
    new_password=$(secretwatch get "$volume" password) &&
    [ "$(revision)" = "$new_revision" ]
}

use() {
  # After a restart of secretwatch the same values have another revision.
  if [ "$new_version/$new_password" != "$version/$password" ]; then
    connect || return
  fi
  version=$new_version
  password=$new_password
  secretwatch adopted "$volume" --consumer "$consumer" --revision "$new_revision" >/dev/null
}

# Runs a command until it ends or a signal comes: the shell only looks for one while it waits.
interruptibly() {
  "$@" &
  child=$!
  wait "$child"
  [ -z "$is_over" ] || kill "$child" 2>/dev/null
}

back_off() {
  random=$(od -An -N1 -tu1 /dev/urandom)
  pause=$((delay / 2 + random % (delay / 2 + 1)))
  echo "secretwatch: $volume: still using version $version, again in $pause s" >&2
  interruptibly sleep "$pause"
  delay=$((delay * 2 < longest_delay ? delay * 2 : longest_delay))
}

is_over=
trap 'is_over=yes' TERM INT
version=none
password=
delay=$first_delay
while [ -z "$is_over" ]; do
  if load && use; then
    delay=$first_delay
    # Whatever is wrong is said by the next `load`.
    interruptibly secretwatch wait "$volume" --after "$new_revision" --timeout 30s >/dev/null 2>&1
  elif [ -z "$is_over" ]; then
    back_off
  fi
done
wait
echo "stopped"
