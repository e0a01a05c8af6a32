#!/usr/bin/env bash
# Whether the pages are true where a program can tell: tests/ship/pages.sh BINARY
#
# Every relative link of every page leads to a file, and to a heading of it. The metrics in the table of
# README.md are those that BINARY has, no more and no fewer. Ends with 1 at the first thing wrong.
set -euo pipefail

binary=$(realpath -- "${1:?usage: tests/ship/pages.sh BINARY}")
cd "$(dirname "$0")/../.."
for tool in python3 openssl curl; do
  command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install $tool" >&2; exit 1; }
done

echo "links"
python3 tests/ship/links.py

work=$(mktemp -d)
pids=()
finish() {
  # They may have ended by themselves.
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done
  rm -rf -- "$work"
}
trap finish EXIT

# wait_for WHAT COMMAND...: until the command succeeds; 20 s are a lot for each of them.
wait_for() {
  local what=$1 deadline=$((SECONDS + 20))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || { echo "not within 20 s: $what" >&2; cat "$work/log" >&2; exit 1; }
    sleep 0.05
  done
}

echo "metrics"
# All families have a series only where all of it happens: a label, a certificate, a target that is told,
# one that cannot take its signal, a consumer, a request, and contents that are not accepted.
openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=pages -keyout "$work/key" -out "$work/crt" 2>/dev/null
rotate() { "$binary" simulate "$work/db" --file tls.crt="$work/crt" secretwatch.version="$1" >/dev/null; }
rotate 1
sleep 600 &
pids+=("$!")
echo "$!" >"$work/app.pid"
socket=$work/secretwatch.sock
"$binary" serve --volume "db=$work/db" --require tls.crt --socket "$socket" \
  --notify-exec true --notify-pid-file "$work/app.pid" 2>"$work/log" &
pids+=("$!")
scrape() { curl -sS --fail --unix-socket "$socket" http://localhost/metrics >"$work/metrics"; }
has() { scrape 2>/dev/null && grep -q "$1" "$work/metrics"; }
ready() { "$binary" healthcheck --socket "$socket" 2>/dev/null; }
wait_for "the sidecar is ready" ready
"$binary" adopted db --consumer app --socket "$socket" >/dev/null
rotate 2
wait_for "a target is told" has '^secretwatch_reloads_total{target="exec"} 1'
wait_for "a signal is held" has '^secretwatch_signal_deferred_total{reason="no_handler"} [1-9]'
"$binary" simulate "$work/db" --remove tls.crt >/dev/null
wait_for "contents are refused" has '^secretwatch_holding_last_good{volume="db"} 1'

# shellcheck disable=SC2016 # The backquotes are those of the table.
written='s/^| `\(secretwatch_[a-z_]*\)` | .*/\1/p'
sed -n 's/^# TYPE \(secretwatch_[a-z_]*\) .*/\1/p' "$work/metrics" | sort -u >"$work/there"
sed -n "$written" README.md | sort -u >"$work/written"
if ! diff "$work/written" "$work/there" >"$work/diff"; then
  echo "README.md (<) and $binary (>) differ in their metrics:" >&2
  cat "$work/diff" >&2
  exit 1
fi
echo "$(wc -l <"$work/there") metrics are as README.md says"
