#!/usr/bin/env bash
# The status page in a real browser: the facts are there, nothing is wider than the screen of a phone,
# hostile text stays text, and it is readable in light and dark.
#
#   tests/ship/page.sh BINARY [DIRECTORY FOR SCREENSHOTS]
#
# Needs the Debian packages chromium, curl, openssl and python3. Talks to loopback only.
set -euo pipefail

fail() { echo "page.sh: $*" >&2; exit 1; }
need() { command -v "$1" >/dev/null || fail "$1 is needed; install the Debian package $2"; }
[[ $# -ge 1 && -x $1 ]] || fail "usage: $0 BINARY [DIRECTORY FOR SCREENSHOTS]"
need chromium chromium
need curl curl
need openssl openssl
need python3 python3
binary=$(realpath "$1")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
shots=${2:-$work}
mkdir -p "$shots"

sidecar=
clean_up() {
  if [[ -n $sidecar ]]; then
    kill "$sidecar" 2>/dev/null || true
    wait "$sidecar" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap clean_up EXIT

# until WHAT COMMAND…: waits until the command succeeds.
until_so() {
  local what=$1 end=$((SECONDS + 30))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || { cat "$work/log" >&2; fail "not within 30 s: $what"; }
    sleep 0.05
  done
}

echo "== a sidecar with something to show"
certificate() { # certificate NAME DAYS
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days "$2" \
    -subj "/CN=$1" -keyout "$work/$1.key" -out "$work/$1.crt" 2>/dev/null
}
certificate app 90
certificate old 3
markup='<b>tls<script><img src>&lt;.crt'
"$binary" simulate "$work/db" user=app password=canary-1 secretwatch.version=2026-11 >/dev/null
"$binary" simulate "$work/tls" --file "tls.crt=$work/app.crt" --file "tls.key=$work/app.key" \
  --file "a-rather-long-name-of-a-certificate-of-the-old-authority.example.com.crt=$work/old.crt" >/dev/null
"$binary" simulate "$work/web" "$markup=canary-2" >/dev/null
cat >"$work/config.toml" <<TOML
socket = "$work/s.sock"
metrics_addr = "127.0.0.1:0"
log_format = "json"
[[volume]]
path = "$work/db"
[[volume]]
path = "$work/tls"
[[volume]]
path = "$work/web"
require = ["$markup"]
[[volume]]
name = "not-mounted-yet"
path = "$work/nowhere"
[[target]]
name = "copy-to-legacy-app"
exec = ["cp", "-rL", "{path}", "$work/copy"]
volumes = ["db"]
[[target]]
name = "reload-proxy"
exec = ["sh", "-c", "echo 'the proxy says <no>' >&2; exit 3"]
volumes = ["db", "tls"]
TOML
"$binary" serve --config "$work/config.toml" >"$work/log" 2>&1 &
sidecar=$!
until_so "the metrics address is logged" grep -q '"metrics_addr"' "$work/log"
address=$(sed -n 's/.*"metrics_addr":"\([^"]*\)".*/\1/p' "$work/log" | head -n 1)
url="http://$address/"

has_status() { # has_status TEXT: `status` ends with 1 where not all is well, which is so here
  local json
  json=$("$binary" status --socket "$work/s.sock" --json) || [[ $? -eq 1 ]]
  [[ $json == *$1* ]]
}
adopt() { # adopt VOLUME CONSUMER
  local revision
  revision=$("$binary" wait "$1" --socket "$work/s.sock")
  "$binary" adopted "$1" --consumer "$2" --revision "$revision" --socket "$work/s.sock" >/dev/null
}
adopt db web-frontend
adopt db worker
adopt web proxy
"$binary" simulate "$work/db" password=canary-3 secretwatch.version=2026-12 >/dev/null
"$binary" simulate "$work/web" --remove "$markup" other=canary-4 >/dev/null
until_so "the rotation of db is served" has_status '"version":"2026-12"'
adopt db worker
until_so "web is held" has_status '"reason":"missing_key"'
until_so "a target has been told" has_status '"state":"idle"'
until_so "a target has failed" has_status '"state":"failing"'

echo "== without a browser: headers, and other paths"
headers=$(curl -fsS -D - -o "$work/page.html" "$url" | tr -d '\r')
for line in "content-type: text/html; charset=utf-8" "cache-control: no-store" \
  "x-content-type-options: nosniff" "referrer-policy: no-referrer" \
  "content-security-policy: default-src 'none'; style-src 'sha256-"; do
  grep -qF "$line" <<<"$headers" || fail "no header $line in: $headers"
done
code() { curl -sS -o /dev/null -w '%{http_code}' "$@"; }
[[ $(code "${url}v1/secrets") == 404 ]] || fail "/v1/secrets is there on the port"
[[ $(code "${url}?refresh=1") == 400 ]] || fail "a reload every second is allowed"
[[ $(code -X POST "$url") == 405 ]] || fail "the page can be posted to"
[[ $(code -I "$url") == 200 ]] || fail "HEAD is not answered"
[[ $(curl -fsS --unix-socket "$work/s.sock" http://localhost/) == *'<h1>secretwatch'* ]] ||
  fail "the page is not on the socket"
if grep -q canary "$work/page.html"; then fail "a value is on the page"; fi

echo "== in a browser"
python3 "$here/page.py" "$url" "$shots"
echo "page.sh: all is as it should be; screenshots: ${2:-not kept, name a directory to have them}"
