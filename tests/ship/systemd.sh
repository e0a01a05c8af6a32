#!/usr/bin/env bash
# What systemd says to examples/systemd, and that what the unit runs works with a directory of
# credentials. Needs no running systemd. Usage: tests/ship/systemd.sh BINARY
set -euo pipefail
binary=$(realpath "${1:?usage: systemd.sh BINARY}")
cd "$(dirname "$0")/../.."
unit=examples/systemd/app.service

fail() {
  printf 'systemd.sh: %s\n' "$*" >&2
  exit 1
}
need() { # need COMMAND PACKAGE
  command -v "$1" >/dev/null || fail "$1 is missing: install the Debian package $2"
}
need systemd-analyze systemd
need python3 python3

work=$(mktemp -d)
app=
end() {
  if [[ -n $app ]]; then
    kill "$app" 2>/dev/null || true
    wait "$app" || true
  fi
  rm -rf "$work"
}
trap end EXIT

# `verify` wants the programs to be there.
sed -e "s#/usr/local/bin/secretwatch#$binary#" -e 's#/usr/bin/gunicorn#/bin/true#' \
  "$unit" >"$work/app.service"
verify() { systemd-analyze verify "$1" 2>&1; }
complaints=$(verify "$work/app.service") || fail "systemd refuses the unit: $complaints"
[[ -z $complaints ]] || fail "systemd complains: $complaints"
sed 's/^KillMode=/KilMode=/' "$work/app.service" >"$work/broken.service"
[[ -n $(verify "$work/broken.service" || true) ]] || fail "systemd accepts a setting that does not exist"

# From 0 (best) to 100. A unit without any hardening has 96.
systemd-analyze security --offline=true --threshold=20 "$work/app.service" >"$work/security" ||
  fail "the unit is not hardened: $(tail -1 "$work/security")"
echo "systemd accepts the unit; $(tail -1 "$work/security" | grep -o 'level.*')"

# What it runs, by hand: the same words, with paths of this test.
mkdir "$work/secrets" "$work/credentials" "$work/run"
printf 'fake-1' >"$work/secrets/password"
printf 'fake-key' >"$work/credentials/signing-key"
# As systemd leaves them.
chmod 500 "$work/credentials"
chmod 400 "$work/credentials/signing-key"
cat >"$work/app.py" <<'APP'
import os, signal, time
def told(number, frame):
    os.write(1, b"told\n")
signal.signal(signal.SIGHUP, told)
os.write(1, b"up\n")
while True:
    time.sleep(0.02)
APP
line=$(sed -n '/^ExecStart=/,/[^\\]$/p' "$unit" | sed -e 's/^ExecStart=//' -e 's/\\$//' | tr '\n' ' ')
line=${line%% -- *}
line=${line//\/etc\/my-app\/secrets/$work/secrets}
line=${line//127.0.0.1:9180/127.0.0.1:0}
# shellcheck disable=SC2016
line=${line//'${CREDENTIALS_DIRECTORY}'/$work/credentials}
read -ra words <<<"$line"
[[ ${words[0]} == /usr/local/bin/secretwatch && ${words[1]} == run ]] || fail "unexpected: $line"

SECRETWATCH_SOCKET=$work/run/secretwatch.sock \
  "$binary" "${words[@]:1}" -- python3 "$work/app.py" >"$work/log" 2>&1 &
app=$!
until_said() { # until_said TEXT
  for _ in $(seq 200); do
    if grep -q "$1" "$work/log"; then return; fi
    kill -0 "$app" 2>/dev/null || break
    sleep 0.05
  done
  cat "$work/log" >&2
  fail "«$1» is not said within 10 s"
}
until_said '^up$'
[[ $("$binary" list --socket "$work/run/secretwatch.sock") == *signing-key* ]] ||
  fail "the credential is not served"
printf 'fake-2' >"$work/secrets/..password"
mv "$work/secrets/..password" "$work/secrets/password"
until_said '^told$'
kill "$app"
code=0
wait "$app" || code=$?
app=
[[ $code -eq 143 ]] || fail "it ended with $code instead of 143"
if grep -q 'fake-' "$work/log"; then fail "a value is in the log"; fi
echo "what the unit runs starts with credentials, and takes up a file of the plain directory"
