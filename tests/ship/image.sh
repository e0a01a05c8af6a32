#!/usr/bin/env bash
# The container image: tests/ship/image.sh BINARY
#
# Packages BINARY, a static one, as the target `prebuilt` of the Dockerfile does, and runs the image
# with podman: as a sidecar next to an app, and as the supervisor in the app's own image. It needs no
# network and no image from anywhere, and takes less than two minutes. tests/ship/image-source.sh
# builds the image from source, which takes longer.
set -euo pipefail

binary=$(realpath -- "${1:?usage: tests/ship/image.sh BINARY}")
cd "$(dirname "$0")/../.."
# shellcheck source=tests/ship/image/store.sh
source tests/ship/image/store.sh
# shellcheck source=tests/ship/image/pod.sh
source tests/ship/image/pod.sh
# shellcheck source=tests/ship/image/supervisor.sh
source tests/ship/image/supervisor.sh
# need_static BINARY ADVICE
need_static() { ! ldd "$1" 2>/dev/null | grep -q '=>' || fail "$1 is not static: $2"; }
need busybox busybox-static
need_static "$(command -v busybox)" "apt-get install -y busybox-static"
need_static "$binary" "build it for the target x86_64-unknown-linux-musl"

readonly MAX_IMAGE_BYTES=$((4 * 1024 * 1024))

build() { podman build --quiet --pull=never --no-cache "$@"; }
# A context with the binary where CI puts it, and with the Dockerfile's own .dockerignore.
make_context() {
  mkdir "$work/context"
  cp Dockerfile .dockerignore "$work/context"
  for architecture in amd64 arm64; do
    install -D -- "$binary" "$work/context/dist/$architecture/secretwatch"
  done
}
# prebuilt ARCHITECTURE OPTION…
prebuilt() {
  build --target prebuilt --timestamp 0 --platform "linux/$1" "${@:2}" "$work/context"
}

check_image() {
  step "the image"
  local version bytes
  prebuilt "$machine" --tag localhost/secretwatch >/dev/null
  bytes=$(podman image inspect --format '{{.Size}}' localhost/secretwatch)
  ((bytes <= MAX_IMAGE_BYTES)) || fail "the image has $bytes bytes: at most $MAX_IMAGE_BYTES"
  passed "$bytes bytes, at most $MAX_IMAGE_BYTES"

  [[ $(prebuilt "$machine") == $(prebuilt "$machine") ]] || fail "two builds give two images"
  passed "two builds give the same image"

  for architecture in amd64 arm64; do
    prebuilt $architecture --tag localhost/other >/dev/null
    [[ $(podman image inspect --format '{{.Architecture}}' localhost/other) == "$architecture" ]] \
      || fail "the image for $architecture is not for it"
  done
  passed "for amd64 and arm64 alike"

  version=$("$binary" --version)
  for label in "title=secretwatch" "licenses=Apache-2.0" "version=${version#* }"; do
    podman image inspect --format '{{json .Labels}}' localhost/secretwatch \
      | grep -qF "\"org.opencontainers.image.${label%%=*}\":\"${label#*=}\"" || fail "no label $label"
  done
  passed "labels, with the version of the binary"

  podman create --name empty localhost/secretwatch >/dev/null
  [[ $(podman export empty | tar --list | grep -vE '/$' | xargs) == secretwatch ]] \
    || fail "there is more in it: $(podman export empty | tar --list | xargs)"
  podman rm empty >/dev/null
  passed "it holds the binary and nothing else, so no shell"

  ends_with 0 start --rm localhost/secretwatch --version
  ends_with 2 start --rm localhost/secretwatch
  grep -q -- --volume "$work/output" || fail "it does not say what is missing"
  passed "by default it serves, and says what is missing where no volume is given"
}

make_app() {
  local context=$work/app
  mkdir -p "$context/rootfs/bin" "$context"/rootfs/{dev,etc/db,proc,run/secretwatch,sys,usr/local/bin}
  cp "$(command -v busybox)" "$context/rootfs/bin/busybox"
  for applet in awk cat grep ls ps rm sh sleep wget; do
    ln -s busybox "$context/rootfs/bin/$applet"
  done
  install tests/ship/image/app.sh "$context/rootfs/bin/app"
  install tests/ship/image/client.sh "$context/rootfs/bin/client"
  build --file tests/ship/image/app.Dockerfile --tag localhost/app "$context" >/dev/null
}

make_context
check_image
make_app
check_pod
check_supervisor
