# What every test of the image starts with: a store of its own for podman, so that nothing of it is
# left and no image or container of the machine is touched. To be sourced.

fail() { echo "image: $*" >&2; exit 1; }
passed() { printf '  ok  %s\n' "$*"; }
step() { printf '\n%s\n' "$*"; }

# need COMMAND PACKAGE
need() { command -v "$1" >/dev/null || fail "$1 is missing: apt-get install -y $2"; }

# until_true SECONDS WHAT COMMAND…: waits for what can be seen, at most so long.
until_true() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || fail "$what: not within the time"
    sleep 0.1
  done
}

# ends_with STATUS COMMAND…
ends_with() {
  local expected=$1 status=0
  shift
  "$@" >"$work/output" 2>&1 || status=$?
  if ((status != expected)); then
    cat -- "$work/output" >&2
    fail "$* ended with $status instead of $expected"
  fi
}

((EUID == 0)) || fail "run it as root: it makes containers with users of its own choice"
need podman podman
need runc runc

work=$(mktemp -d)
finish() {
  local status=$?
  if ((status != 0)); then
    for name in $(podman ps --all --format '{{.Names}}'); do
      echo "--- log of $name"
      podman logs "$name" 2>&1 | tail -n 20
    done >&2
  fi
  podman rm --all --force --time 0 >/dev/null 2>&1 || true
  # An overlay store is a mount as long as it is in use.
  ! mountpoint -q "$work/store/overlay" || umount "$work/store/overlay"
  rm -rf -- "$work"
}
trap finish EXIT

# Containers get the limits that this shell may have, as podman's own may be above them; so they write
# core files wherever the machine does. Locks are files, because those in shared memory would be those
# of the machine's own podman.
limit() { local most; most=$(ulimit -H "$2"); echo "\"$1=${most/unlimited/-1}:${most/unlimited/-1}\""; }
cat >"$work/containers.conf" <<CONF
[containers]
default_ulimits = [$(limit core -c), $(limit nofile -n), "nproc=32768:32768"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
tmp_dir = "$work/tmp"
volume_path = "$work/volumes"
[network]
network_config_dir = "$work/networks"
CONF
cat >"$work/storage.conf" <<CONF
[storage]
driver = "${STORAGE_DRIVER:-overlay}"
graphroot = "$work/store"
runroot = "$work/run"
CONF
export CONTAINERS_CONF=$work/containers.conf CONTAINERS_STORAGE_CONF=$work/storage.conf

# What SAP AI Core enforces, and the `restricted` profile of Kubernetes asks for. Without
# `--read-only-tmpfs=false` podman would make /tmp and /run writable, which Kubernetes does not.
hardened=(
  --read-only --read-only-tmpfs=false --cap-drop=all --security-opt=no-new-privileges
  --memory=16m --pull=never
)

# The processor of this machine, by the names that images have for it.
case $(uname -m) in
  x86_64) machine=amd64 ;;
  aarch64) machine=arm64 ;;
  *) fail "there is no image for $(uname -m)" ;;
esac

# start OPTION… IMAGE ARGUMENT…: a hardened container without a network of its own
start() { podman run --network=none "${hardened[@]}" "$@"; }

# of NAME FORMAT: a fact about a container
of() { podman inspect --format "$2" "$1"; }
logged() { [[ $(podman logs "$1" 2>&1) == *"$2"* ]]; }
host_pid() { of "$1" '{{.State.Pid}}'; }
