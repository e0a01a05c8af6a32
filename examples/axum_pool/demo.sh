#!/usr/bin/env bash
# A database password rotates under load: examples/axum_pool/demo.sh [SECRETWATCH [AXUM_POOL]]
#
# Starts a PostgreSQL of its own on loopback in a temporary directory, the app, and users who send
# requests all the time; rotates the credential in every way that the README describes; and ends with
# 1 where a request has failed, or an old credential is still good.
set -euo pipefail
here=$(dirname "$(realpath -- "$0")")
secretwatch=$(realpath -- "${1:-$here/../../target/debug/secretwatch}")
app=$(realpath -- "${2:-$here/../../target/debug/examples/axum_pool}")

# What is waited for here takes at most seconds; past this something is broken.
readonly DEADLINE_SECONDS=60
# So many answers show that a version is really in use.
readonly ENOUGH=100

say() { printf '%s\n' "$*"; }
fail() {
  say "FAILED: $*" >&2
  exit 1
}
need() { # need WHAT FILE REMEDY
  [[ -n $2 && -x $2 ]] || fail "$1 is missing: $3"
}
need secretwatch "$secretwatch" "cargo build"
need axum_pool "$app" "cargo build --example axum_pool"
need python3 "$(command -v python3)" "on Debian: apt-get install python3"
# Debian keeps the server's programs out of the PATH, one directory a version.
postgres=$(find /usr/lib/postgresql -name initdb 2>/dev/null | sort -V | tail -n 1)
need PostgreSQL "$postgres" "on Debian: apt-get install postgresql"
postgres=$(dirname "$postgres")

work=$(mktemp -d)
mount=$work/db
app_pid='' load_pid='' database_pid='' lock=''
finish() {
  # What has ended by itself is no mistake here.
  if [[ -n $load_pid ]]; then kill -KILL "$load_pid" 2>/dev/null || true; fi
  if [[ -n $app_pid ]]; then kill -KILL "$app_pid" 2>/dev/null || true; fi
  if [[ -n $lock ]]; then exec {lock}>&-; fi # which ends who holds it
  # QUIT ends PostgreSQL at once, and its children with it.
  if [[ -n $database_pid ]]; then kill -QUIT "$database_pid" 2>/dev/null || true; fi
  wait
  rm -rf -- "$work"
}
trap finish EXIT

# until_so WHAT COMMAND…: waits until the command succeeds.
until_so() {
  local what=$1 deadline=$((SECONDS + DEADLINE_SECONDS))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || { cat "$work"/*.log >&2; fail "not within $DEADLINE_SECONDS s: $what"; }
    sleep 0.05
  done
}

# --- The database ------------------------------------------------------------------------------

# PostgreSQL refuses to run as root.
as_database=()
if ((EUID == 0)); then
  owner=postgres
  id "$owner" >/dev/null 2>&1 || owner=nobody
  as_database=(setpriv --reuid="$owner" --regid="$(id -g "$owner")" --clear-groups)
  chmod 711 "$work"
  install -d -o "$owner" -m 700 "$work/database"
else
  mkdir -m 700 "$work/database"
fi
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')

start_database() {
  # Administration by a socket that only its owner can reach, apps by password over TCP.
  "${as_database[@]}" "$postgres/initdb" -D "$work/database/data" -U admin --auth-local=trust \
    --auth-host=scram-sha-256 --no-sync >"$work/initdb.log"
  (cd / && exec "${as_database[@]}" "$postgres/postgres" -D "$work/database/data" -p "$port" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories="$work/database" -c fsync=off \
    >"$work/database.log" 2>&1) &
  database_pid=$!
  until_so "PostgreSQL answers" sql <<<"SELECT 1"
}

# Statements come from standard input, as everybody can see the arguments of a command.
sql() {
  "${as_database[@]}" "$postgres/psql" -h "$work/database" -p "$port" -U admin -d postgres \
    --no-psqlrc --quiet --tuples-only --no-align -v ON_ERROR_STOP=1
}

can_log_in() { # can_log_in USER PASSWORD
  PGPASSWORD=$2 "$postgres/psql" -h 127.0.0.1 -p "$port" -U "$1" -d postgres --no-psqlrc -c 'SELECT 1'
}

sessions() { # sessions VERSION CONDITION
  sql <<<"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'axum_pool/$1' AND $2"
}
has_no_sessions() { [[ $(sessions "$1" true) == 0 ]]; }
has_waiting() { (($(sessions "$1" "wait_event_type = 'Lock'") > 0)); }

# Makes all requests wait in the middle, until `let_requests_go`.
hold_requests() {
  mkfifo "$work/statements"
  sql <"$work/statements" >/dev/null &
  lock_pid=$!
  exec {lock}>"$work/statements"
  say 'BEGIN; LOCK TABLE item;' >&"$lock"
}
let_requests_go() {
  say 'COMMIT;' >&"$lock"
  exec {lock}>&-
  lock=''
  wait "$lock_pid" || fail "the lock was not given back"
}

# --- The operator ------------------------------------------------------------------------------

new_password() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

# Changes the mounted secret, as the kubelet does: publish VERSION USER PASSWORD
publish() {
  local separator='{' pair
  for pair in host=127.0.0.1 port="$port" dbname=postgres user="$2" password="$3" secretwatch.version="$1"; do
    printf '%s"%s":"%s"' "$separator" "${pair%%=*}" "$(printf %s "${pair#*=}" | base64 -w0)"
    separator=,
  done | { cat; printf '}\n'; } | "$secretwatch" simulate "$mount" --stdin >/dev/null
  expected+=("$2 axum_pool/$1")
}

# Waits until the app uses this version and nothing else, and requests are served with it.
adopted() { # adopted VERSION USER
  until_so "version $1 is adopted" says_adopted "$1"
  until_so "version $1 serves requests" has_served "$2 axum_pool/$1"
}
says_adopted() {
  [[ $(python3 -c 'import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())' \
    "http://$address/adoption") == "{\"adopted\":true,\"version\":\"$1\"}" ]]
}
# Whether enough were served, since there were so many: has_served WHOM [BEFORE]
has_served() { (($(served "$1") >= ${2:-0} + ENOUGH)); }
served() { summary '["answers"].get(sys.argv[2], 0)' "$1"; }
summary() { # summary EXPRESSION [ARGUMENT]
  python3 -c "import json, sys; print(json.load(open(sys.argv[1]))$1)" "$work/summary.json" "${2:-}"
}

# --- The demonstration -------------------------------------------------------------------------

start_app() {
  "$app" "$mount" 127.0.0.1:0 >"$work/app.log" 2>&1 &
  app_pid=$!
  until_so "the app listens" grep -q '^app: listening on ' "$work/app.log"
  address=$(sed -n 's/^app: listening on //p' "$work/app.log")
  shown=1 # that line
}

# What the app has said since it was last shown.
show_app() {
  tail -n "+$((shown + 1))" "$work/app.log" | sed 's/^/  /'
  shown=$(wc -l <"$work/app.log")
}

expected=()
blue=$(new_password) green=$(new_password)
start_database
sql <<SQL
CREATE TABLE item (id int);
CREATE ROLE app NOLOGIN;
GRANT SELECT ON item TO app;
CREATE ROLE app_blue LOGIN PASSWORD '$blue' IN ROLE app;
CREATE ROLE app_green NOLOGIN IN ROLE app;
SQL
publish 1 app_blue "$blue"
start_app
python3 "$here/load.py" "${address##*:}" "$work/summary.json" &
load_pid=$!
adopted 1 app_blue
say "PostgreSQL $(sql <<<'SHOW server_version'), the app, and 16 users who never pause. The app uses app_blue."

say
say "1. Two roles: app_green gets a password, is published, and app_blue is locked once that is adopted"
sql <<<"ALTER ROLE app_green LOGIN PASSWORD '$green'"
hold_requests
until_so "requests wait for a lock" has_waiting 1
publish 2 app_green "$green"
until_so "the app uses version 2" grep -q 'now version 2' "$work/app.log"
if says_adopted 2; then fail "version 2 is adopted, although requests still use version 1"; fi
show_app
say "  operator: a lock keeps requests on the old pool; version 2 is not adopted; giving the lock back"
let_requests_go
adopted 2 app_green
show_app
until_so "app_blue has no session" has_no_sessions 1
sql <<<"ALTER ROLE app_blue NOLOGIN"
say "  operator: app_blue is locked; it had no session left"

say
say "2. A mistake: app_blue's new password is published before the database knows it"
old_blue=$blue blue=$(new_password)
publish 3 app_blue "$blue"
until_so "the app refuses the new credential" grep -q 'still version 2' "$work/app.log"
so_far=$(served "app_green axum_pool/2")
until_so "requests are served with version 2" has_served "app_green axum_pool/2" "$so_far"
if says_adopted 3; then fail "version 3 is adopted, although it does not work"; fi
show_app
say "  operator: requests are still served by app_green; version 3 is not adopted; mending it"
sql <<<"ALTER ROLE app_blue LOGIN PASSWORD '$blue'"
adopted 3 app_blue
show_app
until_so "app_green has no session" has_no_sessions 2
sql <<<"ALTER ROLE app_green NOLOGIN"
say "  operator: app_green is locked; it had no session left"

say
say "3. One role, ALTER ROLE: the old password is dead before the new one is there"
last_blue=$blue blue=$(new_password)
sql <<<"ALTER ROLE app_blue PASSWORD '$blue'"
if can_log_in app_blue "$last_blue" >"$work/login.log" 2>&1; then fail "the old password is still good"; fi
so_far=$(served "app_blue axum_pool/3")
until_so "requests are served over old connections" has_served "app_blue axum_pool/3" "$so_far"
say "  operator: the old password is refused, and requests go on over the connections opened with it"
publish 4 app_blue "$blue"
adopted 4 app_blue
show_app
until_so "the old connections are closed" has_no_sessions 3
say "  operator: no session of the old password is left"

# --- What has to hold --------------------------------------------------------------------------

kill -TERM "$load_pid"
wait "$load_pid" || fail "the load has ended badly"
load_pid=''
kill -TERM "$app_pid"
wait "$app_pid" || fail "the app has ended badly"
app_pid=''

say
say "requests: $(summary '["requests"]'), failed: $(summary '["failed"]')"
for whom in "${expected[@]}"; do
  say "  answered for ${whom/ axum_pool\// with version }: $(served "$whom")"
done
[[ $(summary '["failed"]') == 0 ]] || fail "requests have failed, the first: $(summary '["first_failure"]')"
[[ $(summary '["answers"].__len__()') == "${#expected[@]}" ]] || fail "unexpected answers: $(summary '["answers"]')"

can_log_in app_blue "$blue" >/dev/null 2>&1 || fail "the current password is not good"
for old in "app_blue $old_blue" "app_blue $last_blue" "app_green $green"; do
  read -r user password <<<"$old"
  if can_log_in "$user" "$password" >/dev/null 2>"$work/login.log"; then
    fail "an old password of $user is still good"
  fi
  say "refused, as it should be: $(sed -n 's/.*FATAL: *//p' "$work/login.log")"
  if grep -qF -- "$password" "$work/app.log"; then fail "the app has printed a password"; fi
done
if grep -qF -- "$blue" "$work/app.log"; then fail "the app has printed a password"; fi
say "0 requests failed, and only the last credential is good."
