#!/usr/bin/env bash
# What the sidecar costs while nothing happens: benches/footprint.sh BINARY
#
# Starts BINARY with five simulated volumes and prints its size, its memory, its wake-ups and how
# long it takes from being started to being ready. Ends with 1 where a size, a memory or a wake-up
# goal is missed; a time depends on what else the machine does and is only printed.
set -euo pipefail

readonly VOLUMES=5
# So many, as the first ones find the binary cold and any one may be disturbed.
readonly STARTS=41
# The poll looks every 30 s, first 30 s after the start: none falls into this time.
readonly IDLE_SECONDS=5

readonly MAX_BYTES=$((3 * 1024 * 1024))
readonly MAX_RESIDENT_KIB=$((4 * 1024))
readonly MAX_PRIVATE_DIRTY_KIB=1024
readonly MAX_WAKEUPS=0
readonly MAX_READY_MS=5

binary=${1:?usage: benches/footprint.sh BINARY}
binary=$(realpath -- "$binary")
# The pages of a file that is not on the disk yet count as dirty in every process that maps them.
sync -- "$binary"
work=$(mktemp -d)
pid=
finish() {
  # It may have ended by itself, and then says so above.
  if [[ -n $pid ]]; then kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; fi
  rm -rf -- "$work"
}
trap finish EXIT

missed=0
row() { printf '%-34s %14s %14s  %s\n' "$@"; }
# judge WHAT MEASURED GOAL UNIT
judge() {
  local verdict=ok
  if (($2 > $3)); then verdict=MISSED; missed=1; fi
  row "$1" "$2 $4" "≤ $3 $4" "$verdict"
}

volumes=()
for ((n = 1; n <= VOLUMES; n++)); do
  "$binary" simulate "$work/secret-$n" user=app password="value-$n" host=db.example.com >/dev/null
  volumes+=(--volume "$work/secret-$n")
done
socket=$work/secretwatch.sock

# From just before the process is made to the first 200 of /readyz, and, in turn with it, the same
# binary asked for its version only: what a process takes here and now. It asks over and over, as
# any client that is started for it would take longer to start than the sidecar.
ready_ms() {
  python3 - "$STARTS" "$socket" "$binary" serve --socket "$socket" "${volumes[@]}" <<'PYTHON'
import socket, statistics, subprocess, sys, time

starts, path, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
DEADLINE = 10
# Adds half of itself to what is measured.
PAUSE = 0.0002


def is_ready():
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
        except OSError:
            return False
        client.sendall(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return client.recv(64).startswith(b"HTTP/1.1 200")


def start(*command):
    # Without closing descriptors it is made by posix_spawn, which costs the least.
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, close_fds=False, **quiet)


def until_ready():
    begin = time.perf_counter()
    server = start(*command)
    try:
        while not is_ready():
            if server.poll() is not None or time.perf_counter() - begin > DEADLINE:
                sys.exit("the sidecar does not become ready")
            # Every question takes processor time from what is measured, and so does a tight loop.
            time.sleep(PAUSE)
        return time.perf_counter() - begin
    finally:
        server.terminate()
        server.wait()


def until_ended():
    begin = time.perf_counter()
    start(command[0], "--version").wait()
    return time.perf_counter() - begin


times = [(until_ready(), until_ended()) for _ in range(starts)]
ready, ended = (sorted(column) for column in zip(*times))
shown = [ready[0], statistics.median(ready), statistics.median(ended)]
print(*(f"{seconds * 1000:.1f}" for seconds in shown))
PYTHON
}

# How often the process has gone to sleep, which is how often it had been woken.
sleeps() {
  awk '/^voluntary_ctxt_switches/ { sum += $2 } END { print sum }' /proc/"$pid"/task/*/status
}

row what measured goal ''
judge "size of the binary" "$(stat -c %s -- "$binary")" $MAX_BYTES bytes

"$binary" serve --socket "$socket" "${volumes[@]}" 2>"$work/log" &
pid=$!
for ((tries = 0; ; tries++)); do
  if [[ -S $socket ]] && "$binary" healthcheck --socket "$socket" >/dev/null 2>&1; then break; fi
  if ((tries == 500)) || ! kill -0 "$pid" 2>/dev/null; then
    cat "$work/log" >&2
    echo "footprint: the sidecar does not become ready" >&2
    exit 2
  fi
  sleep 0.02
done
# The connection of the check is closed, and whatever the start has left to do is done.
sleep 1

before=$(sleeps)
sleep $IDLE_SECONDS
wakeups=$(($(sleeps) - before))

# Other processes of the same user may not look into the sidecar's memory, so this takes root.
if rollup=$(cat /proc/"$pid"/smaps_rollup 2>/dev/null); then
  kib() { awk -v field="$1:" '$1 == field { print $2 }' <<<"$rollup"; }
  judge "resident, $VOLUMES volumes, idle" "$(kib Rss)" $MAX_RESIDENT_KIB KiB
  judge "private dirty" "$(kib Private_Dirty)" $MAX_PRIVATE_DIRTY_KIB KiB
else
  resident=$(awk '/^VmRSS:/ { print $2 }' /proc/"$pid"/status)
  judge "resident, $VOLUMES volumes, idle" "$resident" $MAX_RESIDENT_KIB KiB
  row "private dirty" "not readable" "≤ $MAX_PRIVATE_DIRTY_KIB KiB" "only root may read it"
fi
judge "wake-ups in $IDLE_SECONDS s, but for the poll" "$wakeups" $MAX_WAKEUPS ''

kill "$pid"
wait "$pid" || true
pid=

if command -v python3 >/dev/null; then
  read -r least median version < <(ready_ms)
  note="least $least ms; --version, start to end: $version ms"
  row "start to ready, median of $STARTS" "$median ms" "≤ $MAX_READY_MS ms" "$note"
else
  row "start to ready" "not measured" "≤ $MAX_READY_MS ms" "python3 is missing"
fi
exit $missed
