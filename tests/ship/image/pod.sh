# A sidecar and an app, as two containers of a pod. To be sourced after store.sh.
#
# Both have the user 65534, as on SAP AI Core, so the user separates nothing. What does is who mounts
# the directory of the socket; and the app mounts it read-only, so that it cannot put a socket of its
# own there.

secret=$work/secret
socket=$work/socket
readonly METRICS=127.0.0.1:9180

# rotate VALUE: as the kubelet does, from outside of the container
rotate() { "$binary" simulate "$secret" user=app password="$1" >/dev/null; }

# rotate_by_hand VALUE: the same with commands that everybody has
rotate_by_hand() {
  local old new
  old=$(readlink "$secret/..data")
  new=..$(date -u +%Y_%m_%d_%H_%M_%S.%N)
  mkdir "$secret/$new"
  printf app >"$secret/$new/user"
  printf %s "$1" >"$secret/$new/password"
  ln -s "$new" "$secret/..data_tmp"
  mv -T "$secret/..data_tmp" "$secret/..data"
  rm -r "${secret:?}/$old"
}

in_sidecar() { podman exec sidecar /secretwatch "$@"; }
scrape() {
  podman run --rm "${hardened[@]}" --network=container:sidecar --entrypoint /bin/wget localhost/app \
    -q -O - "http://$METRICS/metrics"
}
# How often inotify has found a rotation.
noticed() { scrape | awk '/^secretwatch_snapshots_total.*inotify/ { print $2 }'; }

start_app() {
  start --detach --name app --volume "$socket:/run/secretwatch:ro" \
    --entrypoint client localhost/app >/dev/null
}

start_sidecar() {
  start --detach --name sidecar \
    --volume "$secret:/etc/db:ro" --volume "$socket:/run/secretwatch" \
    --env SECRETWATCH_VOLUME=db=/etc/db --env SECRETWATCH_REQUIRE=db:password \
    --env SECRETWATCH_METRICS_ADDR=$METRICS localhost/secretwatch >/dev/null
}

check_start() {
  mkdir "$secret"
  # The mode of an `emptyDir`.
  install -d -m 1777 "$socket"
  start_app
  start_sidecar
  until_true 20 "the sidecar is alive" in_sidecar healthcheck --live
  ends_with 1 in_sidecar healthcheck
  passed "without a secret the sidecar is alive and not ready; the app was there first and waits"
  rotate fake-1
  until_true 20 "the app has the first value" logged app "using fake-1"
  in_sidecar healthcheck
  passed "the first write makes it ready, and the app has the value from the socket"
}

check_rotations() {
  local revision
  revision=$(in_sidecar wait db)
  rotate fake-2
  until_true 20 "the app has the second value" logged app "using fake-2"
  rotate_by_hand fake-3
  until_true 20 "the app has the third value" logged app "using fake-3"
  podman exec app secretwatch wait db --adopted --after "$revision" --timeout 20s >/dev/null
  local found
  found=$(noticed)
  ((found >= 2)) || fail "inotify has found $found rotations: expected 2 or more"
  passed "rotations from outside, by simulate and by ln -s and mv -T, reach the app, by inotify"
  [[ $(scrape) == *$'\nsecretwatch_adopted_all{volume="db"} 1\n'* ]] || fail "adopted_all is not 1"
  passed "the app has adopted the last one, and the metrics on TCP say so"
}

check_access() {
  ends_with 0 start --rm --volume "$socket:/run/secretwatch:ro" localhost/secretwatch status
  passed "the client commands of the image itself work in any container that mounts the socket"
  for user in 0 1000; do
    ends_with 5 podman run --rm --network=none --user "$user" --volume "$socket:/run/secretwatch" \
      localhost/secretwatch get db password
  done
  passed "other users are refused, root with its capabilities too"
  ends_with 3 start --rm localhost/secretwatch get db password
  passed "the same user without the mount of the socket finds no sidecar"
  ends_with 1 podman exec app rm /run/secretwatch/secretwatch.sock
  [[ -S $socket/secretwatch.sock ]] || fail "the app has removed the socket"
  passed "the app mounts the socket read-only: it can use it, and cannot replace it"
}

check_traces() {
  local pid
  pid=$(host_pid sidecar)
  [[ $(awk '/^(Uid|Gid)/ { print $3 }' "/proc/$pid/status" | xargs) == "65534 65534" ]] \
    || fail "it does not run as 65534:65534"
  ! grep -qE '^Cap[A-Za-z]+:.*[1-9a-f]' "/proc/$pid/status" || fail "it has capabilities"
  grep -q '^NoNewPrivs:.1$' "/proc/$pid/status" || fail "it may gain privileges"
  grep -q '^Seccomp:.2$' "/proc/$pid/status" || fail "no system call is filtered"
  passed "65534:65534, no capability, no new privileges, system calls filtered, 16 MiB of memory"
  # What may be dumped belongs to its user; to root belongs what may not.
  [[ $(stat -c %u "/proc/$pid/environ") == 0 ]] || fail "its memory may be dumped"
  [[ $(stat -c %u "/proc/$(host_pid app)/environ") == 65534 ]] || fail "no process here may be dumped"
  passed "its memory may not be dumped, unlike the app's"
  ends_with 1 grep -r fake- "$socket" "/proc/$pid/cmdline" "/proc/$pid/environ"
  ! logged sidecar fake- || fail "a value is in the log"
  passed "no value is in its log, arguments or environment"
}

check_end() {
  podman stop --time 20 sidecar >/dev/null
  [[ $(of sidecar '{{.State.ExitCode}}') == 0 ]] || fail "SIGTERM ended it with $(of sidecar '{{.State.ExitCode}}')"
  [[ -z $(ls -A "$socket") ]] || fail "the socket is still there"
  passed "SIGTERM ends it with 0 within the time, and the socket is gone"
  podman rm --force --time 0 app sidecar >/dev/null
}

check_pod() {
  step "a sidecar and an app, as in a pod"
  check_start
  check_rotations
  check_access
  check_traces
  check_end
}
