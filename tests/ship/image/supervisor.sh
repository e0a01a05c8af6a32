# The supervisor as the first process of an app's own image. To be sourced after store.sh.

run_app() { start --volume "$secret:/etc/db:ro" "$@"; }

no_zombie() {
  local states
  states=$(podman exec app ps -o stat)
  [[ $states == STAT* && $states != *Z* ]]
}

check_rotation() {
  rotate_by_hand fake-1
  # Again what an `emptyDir` is.
  install -d -m 1777 "$work/own"
  run_app --detach --name app --volume "$work/own:/run/secretwatch" localhost/app >/dev/null
  until_true 20 "the app has the first value" logged app "using fake-1"
  [[ $(podman exec app cat /proc/1/comm) == secretwatch ]] || fail "it is not the first process"
  rotate_by_hand fake-2
  until_true 20 "the app has the second value" logged app "using fake-2"
  passed "as process 1 it tells the app of a rotation, by a signal that the app handles"
  podman exec app secretwatch healthcheck
  [[ $(podman exec app secretwatch get db password) == fake-2 ]] || fail "the socket has another value"
  passed "its socket works in the same container"
}

check_orphans() {
  until_true 20 "an orphan is a child of process 1" logged app $'orphan: PPid:\t1'
  until_true 20 "every zombie is reaped" no_zombie
  passed "orphans of the app are reaped"
}

check_status() {
  podman stop --time 20 app >/dev/null
  [[ $(of app '{{.State.ExitCode}}') == 7 ]] || fail "it ended with $(of app '{{.State.ExitCode}}')"
  passed "podman stop ends it within the time, with the status of the app"
  podman rm app >/dev/null
  ends_with 3 run_app --rm localhost/app sh -c 'exit 3'
  ends_with 137 run_app --rm localhost/app sh -c 'kill -KILL $$'
  passed "an app that ends by itself, or by a signal, gives its status to the container"
  ends_with 127 run_app --rm localhost/app no-such-command
  passed "a command that is not there ends it with 127"
}

check_core() {
  mkdir -m 1777 "$work/cores" "$work/control"
  # A process that may be dumped, to see whether this machine writes core files at all.
  ends_with 134 run_app --rm --volume "$work/control:/cores" --workdir /cores \
    --entrypoint sh localhost/app -c 'sleep 60 & kill -ABRT $!; wait $!'
  ends_with 134 run_app --rm --volume "$work/cores:/cores" --workdir /cores \
    --entrypoint sh localhost/app -c '
      export SECRETWATCH_SOCKET=/cores/socket
      secretwatch serve & until secretwatch healthcheck; do sleep 0.1; done
      kill -ABRT $!; wait $!'
  rm -f "$work/cores/socket"
  [[ -z $(ls -A "$work/cores") ]] || fail "there is a core file: $(ls -A "$work/cores")"
  if [[ -n $(ls -A "$work/control") ]]; then
    passed "killed by ABRT it leaves no core file, where another process leaves one"
  else
    passed "killed by ABRT it leaves no core file; this machine writes none of other processes either"
  fi
}

check_supervisor() {
  step "the supervisor in an app's own image"
  check_rotation
  check_orphans
  check_status
  check_core
}
