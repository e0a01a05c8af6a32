#!/usr/bin/env bash
# What Docker Compose says to examples/compose, and that both services do what its comments say: files
# in a directory, and a file mounted by itself, as user 65534. Needs no Docker daemon, but root for the
# mounts. Usage: tests/ship/compose.sh BINARY
set -euo pipefail
binary=$(realpath "${1:?usage: compose.sh BINARY}")
cd "$(dirname "$0")/../.."

fail() {
  printf 'compose.sh: %s\n' "$*" >&2
  exit 1
}
need() { # need COMMAND PACKAGE
  command -v "$1" >/dev/null || fail "$1 is missing: install the Debian package $2"
}
need setpriv util-linux
need unshare util-linux
[[ $EUID -eq 0 ]] || fail "mounts need root"

# In a mount namespace of its own, so that nothing mounted here is left behind.
if [[ -z ${IN_NAMESPACE:-} ]]; then
  IN_NAMESPACE=1 exec unshare --mount --propagation private bash "$0" "$binary"
fi

if docker compose version >/dev/null 2>&1; then
  compose=(docker compose)
else
  need docker-compose docker-compose
  compose=(docker-compose)
fi

work=$(mktemp -d)
sidecar=
end() {
  if [[ -n $sidecar ]]; then
    kill "$sidecar" 2>/dev/null || true
    wait "$sidecar" || true
  fi
  umount "$work"/file/password "$work"/over 2>/dev/null || true
  rm -rf "$work"
}
trap end EXIT
chmod 755 "$work"
cp "$binary" "$work/secretwatch"
chmod 755 "$work/secretwatch"

"${compose[@]}" -f examples/compose/compose.yaml config >"$work/config" ||
  fail "Docker Compose refuses examples/compose/compose.yaml"
grep -q 'db-password' "$work/config" || fail "Docker Compose does not show the secret"
sed 's/entrypoint:/entrypiont:/' examples/compose/compose.yaml >"$work/broken.yaml"
if "${compose[@]}" -f "$work/broken.yaml" config >/dev/null 2>&1; then
  fail "Docker Compose accepts a setting that does not exist"
fi
echo "Docker Compose accepts the file"

as_app=(setpriv --reuid=65534 --regid=65534 --clear-groups)
client() { "${as_app[@]}" "$work/secretwatch" "$@" --socket "$socket"; }

# Starts it over a directory, and waits until it is ready.
start() { # start DIRECTORY ARGUMENT…
  local directory=$1
  shift
  mkdir -m 1777 "$work/run"
  socket=$work/run/secretwatch.sock
  # No function: the process id would be that of a shell around it.
  "${as_app[@]}" "$work/secretwatch" serve --volume="db=$directory" --require=db:password \
    --socket="$socket" "$@" 2>"$work/log" &
  sidecar=$!
  for _ in $(seq 200); do
    if client healthcheck 2>/dev/null; then return; fi
    sleep 0.05
  done
  cat "$work/log" >&2
  fail "not ready within 10 s"
}
stop() {
  kill "$sidecar"
  wait "$sidecar" || fail "it ended with $?"
  sidecar=
  rm -r "$work/run"
}
until_value() { # until_value EXPECTED
  local value=
  for _ in $(seq 200); do
    value=$(client get db password | cat)
    if [[ $value == "$1" ]]; then return; fi
    sleep 0.05
  done
  fail "the value is not $1 within 10 s"
}

# The directory of the service `app`, and the commands of the README.
mkdir -m 755 "$work/secrets"
printf 'fake-1' >"$work/secrets/password"
start "$work/secrets"
until_value fake-1
printf 'fake-2' >"$work/secrets/..password"
mv "$work/secrets/..password" "$work/secrets/password"
until_value fake-2
[[ $(client list) != *..password* ]] || fail "the file that is being written counts as a key"

# A container that mounts the socket read-only, as the app in the templates for Kubernetes does.
mkdir "$work/over"
mount --bind "$work/run" "$work/over"
mount -o remount,bind,ro "$work/over"
[[ $("${as_app[@]}" "$work/secretwatch" get db password --socket "$work/over/secretwatch.sock" | cat) == fake-2 ]] ||
  fail "nobody can connect over a read-only mount"
if "${as_app[@]}" touch "$work/over/other.sock" 2>/dev/null; then fail "a read-only mount was written"; fi
# Another user is refused by the mode, and by the user that the kernel reports.
if setpriv --reuid=1000 --regid=1000 --clear-groups "$work/secretwatch" get db password \
  --socket "$socket" >/dev/null 2>&1; then
  fail "another user was let in"
fi
umount "$work/over"
stop
echo "a directory: a renamed file is taken up; a read-only mount of the socket is enough"

# The file of the service `worker`.
mkdir -m 755 "$work/file"
printf 'fake-1' >"$work/host"
touch "$work/file/password"
mount --bind "$work/host" "$work/file/password"
start "$work/file" --detector=poll --poll-interval=200ms
until_value fake-1
printf 'fake-2' >"$work/host"
until_value fake-2
# Tied to the file it was: what the README warns of. A marker shows that the poll has looked since.
printf 'fake-3' >"$work/other"
mv "$work/other" "$work/host"
printf 'x' >"$work/file/marker"
for _ in $(seq 200); do
  if [[ $(client list) == *marker* ]]; then break; fi
  sleep 0.05
done
[[ $(client list) == *marker* ]] || fail "the poll has not looked within 10 s"
until_value fake-2
stop
echo "a file by itself: rewritten in place it is taken up, replaced it is not"
