#!/usr/bin/env bash
# Boots systemd in namespaces of its own, over a copy-on-write view of this machine, with the unit of
# examples/systemd in it: that it runs with all its hardening, what updates and what does not, and that
# it stops in order. Needs root. Usage: tests/ship/systemd-boot.sh BINARY
set -euo pipefail

fail() {
  printf 'systemd-boot.sh: %s\n' "$*" >&2
  exit 1
}
need() { # need COMMAND PACKAGE
  command -v "$1" >/dev/null || fail "$1 is missing: install the Debian package $2"
}

# The second half: the first process in the new namespaces, which becomes systemd.
become_systemd() { # become_systemd DIRECTORY
  local work=$1 number name
  mount --make-rprivate /
  mount -t tmpfs tmpfs "$work/layers"
  mkdir "$work"/layers/{upper,work}
  mount -t overlay overlay -o "lowerdir=/,upperdir=$work/layers/upper,workdir=$work/layers/work" "$work/root"
  cp "$work"/{app.service,test.target} "$work/root/etc/systemd/system/"
  install -m 755 "$work/secretwatch" "$work/root/usr/local/bin/secretwatch"
  install -m 755 "$work/app" "$work/root/usr/bin/gunicorn"
  cd "$work/root"
  mount -t proc proc proc
  mount -t sysfs sysfs sys
  mount -t cgroup2 cgroup2 sys/fs/cgroup
  for name in run tmp dev; do mount -t tmpfs tmpfs "$name"; done
  mkdir dev/shm dev/pts
  number=3
  for name in null - zero - full random urandom; do
    [[ $name == - ]] || mknod -m 666 "dev/$name" c 1 "$number"
    number=$((number + 1))
  done
  mknod -m 666 dev/tty c 5 0
  mknod -m 666 dev/ptmx c 5 2
  ln -s /proc/self/fd dev/fd
  # As the README says.
  chroot . useradd --system --no-create-home --shell /usr/sbin/nologin my-app
  chroot . install -d -o root -g my-app -m 0750 /etc/my-app /etc/my-app/secrets
  chroot . install -d /opt/my-app
  printf 'fake-1' | chroot . install -o root -g my-app -m 0440 /proc/self/fd/0 /etc/my-app/secrets/password
  printf 'fake-key-1' | chroot . install -m 0400 /proc/self/fd/0 /etc/my-app/signing-key
  mkdir old
  pivot_root . old
  cd /
  umount -l old
  # systemd's mounts for a service have to be seen by the service.
  mount --make-rshared /
  exec env -i container=test /lib/systemd/systemd --system --unit=test.target \
    --log-target=journal --show-status=no
}
if [[ ${1:-} == --inside ]]; then become_systemd "$2"; fi

binary=$(realpath "${1:?usage: systemd-boot.sh BINARY}")
cd "$(dirname "$0")/../.."
[[ $EUID -eq 0 ]] || fail "namespaces and mounts need root"
need unshare util-linux
need nsenter util-linux
need useradd passwd
need python3 python3
[[ -x /lib/systemd/systemd ]] || fail "systemd is missing: install the Debian package systemd"
[[ -x /usr/bin/python3 ]] || fail "python3 is missing: install the Debian package python3-minimal"

work=$(mktemp -d)
outside=
inside=
end() {
  # Everything in its namespace ends with its first process.
  if [[ -n $inside ]]; then kill -KILL "$inside" 2>/dev/null || true; fi
  if [[ -n $outside ]]; then wait "$outside" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap end EXIT
mkdir "$work/layers" "$work/root"
cp examples/systemd/app.service "$work/"
cp "$binary" "$work/secretwatch"
printf '[Unit]\nDescription=Only the service\nRequires=app.service\n' >"$work/test.target"
cat >"$work/app" <<'APP'
#!/usr/bin/python3
import os, signal, time
def told(number, frame):
    os.write(1, b"told\n")
signal.signal(signal.SIGHUP, told)
os.write(1, b"up as user %d\n" % os.getuid())
while True:
    time.sleep(0.02)
APP

unshare --pid --fork --mount --uts --ipc --net --cgroup bash "$0" --inside "$work" >"$work/log" 2>&1 &
outside=$!
for _ in $(seq 100); do
  inside=$(ps --ppid "$outside" -o pid= | tr -d ' ' || true)
  [[ -z $inside ]] || break
  sleep 0.05
done
[[ -n $inside ]] || fail "it has not begun within 5 s: $(<"$work/log")"

within() { timeout 30 nsenter --target "$inside" --all "$@"; }
as_app() { within runuser -u my-app -- /usr/local/bin/secretwatch "$@"; }
journal() { within journalctl --unit=app --output=cat --no-pager; }
until_true() { # until_true WHAT COMMAND…
  local what=$1
  shift
  for _ in $(seq 300); do
    if "$@" >/dev/null 2>&1; then return; fi
    kill -0 "$inside" 2>/dev/null || break
    sleep 0.1
  done
  cat "$work/log" >&2
  journal >&2 || true
  fail "not within 30 s: $what"
}
has_said() { journal | grep -q "$1"; }
property() { within systemctl show --property="$1" --value app; }

until_true "the service is ready" as_app healthcheck
until_true "the app is up" has_said '^up as user [1-9]'
[[ $(property NRestarts) == 0 ]] || fail "the service was restarted"
if has_said ' WARN '; then fail "a warning: $(journal | grep ' WARN ')"; fi
echo "systemd runs the unit with all its hardening, and the app is another user than root"

# The plain directory, and the source of the credential.
printf 'fake-2' | within install -o root -g my-app -m 0440 /proc/self/fd/0 /etc/my-app/secrets/..password
within mv /etc/my-app/secrets/..password /etc/my-app/secrets/password
printf 'fake-key-2' | within install -m 0400 /proc/self/fd/0 /etc/my-app/signing-key
until_true "the app is told" has_said '^told$'
[[ $(as_app get db password) == fake-2 ]] || fail "the new file is not served"
[[ $(as_app get start signing-key) == fake-key-1 ]] || fail "a credential changed under a running service"
within systemctl restart app
until_true "it is ready again" as_app healthcheck
[[ $(as_app get start signing-key) == fake-key-2 ]] || fail "a restart does not bring the new credential"
echo "a file of the plain directory is taken up at once, a credential with the next start"

within systemctl stop app
[[ $(property ActiveState) == inactive && $(property Result) == success ]] ||
  fail "stopped, it is $(property ActiveState): $(property Result)"
if within test -e /run/secretwatch; then fail "the directory of the socket is still there"; fi
if journal | grep -q 'fake-'; then fail "a value is in the journal"; fi
echo "it stops in order, and leaves nothing behind"
