#!/usr/bin/env bash
# The image built from source: tests/ship/image-source.sh [--twice] [amd64|arm64]
#
# Runs every stage of the Dockerfile and looks at the binary that comes out; with --twice once more
# without any cache, and compares the two byte for byte. Where the binary is for this machine, it goes
# through tests/ship/image.sh, too. It takes minutes, so it is not among the checks of every change.
#
# The base image is made here, of a small Debian and of this machine's Rust, with the sources of the
# dependencies in place, so that the build needs neither a registry of images nor a network. Only to
# make it takes one, for Debian's packages and the dependencies.
set -euo pipefail
cd "$(dirname "$0")/../.."

twice=
if [[ ${1:-} == --twice ]]; then twice=1; shift; fi

# shellcheck source=tests/ship/image/store.sh
source tests/ship/image/store.sh
need debootstrap debootstrap
need rustup rustup
architecture=${1:-$machine}
case $architecture in
  amd64) target=x86_64-unknown-linux-musl processor="Advanced Micro Devices X86-64" ;;
  arm64) target=aarch64-unknown-linux-musl processor=AArch64 ;;
  *) fail "there is no image for $architecture: expected amd64 or arm64" ;;
esac
need readelf binutils

readonly DEBIAN=bookworm

# The same places as in the official image of Rust.
make_base() {
  local base=$work/base toolchain
  rustup target add "$target"
  toolchain=$(rustc --print sysroot)
  debootstrap --variant=minbase --include=gcc,libc6-dev "$DEBIAN" "$base" >"$work/output" 2>&1 \
    || { tail -n 20 "$work/output" >&2; fail "debootstrap does not work"; }
  mkdir -p "$base"/usr/local/{cargo/bin,rustup/toolchains}
  cp -r --dereference "$toolchain" "$base/usr/local/rustup/toolchains/"
  # Documentation is half of it.
  rm -r "$base/usr/local/rustup/toolchains/${toolchain##*/}/share"
  for name in rustup cargo rustc; do
    cp "$(command -v rustup)" "$base/usr/local/cargo/bin/$name"
  done
  printf 'version = "12"\ndefault_toolchain = "%s"\n' "${toolchain##*/}" >"$base/usr/local/rustup/settings.toml"
  CARGO_HOME=$base/usr/local/cargo cargo fetch --locked --target "$target" --quiet
  tar --create --directory "$base" . | podman import --quiet \
    --change 'ENV PATH=/usr/local/cargo/bin:/usr/bin:/bin' --change 'ENV CARGO_HOME=/usr/local/cargo' \
    --change 'ENV RUSTUP_HOME=/usr/local/rustup' --change 'ENV CARGO_NET_OFFLINE=true' \
    - localhost/rust >/dev/null
  rm -r "$base"
}

# build STAGE OPTION…
build() {
  podman build --pull=never --network=none --platform "linux/$architecture" --target "$1" --timestamp 0 \
    --build-arg RUST_IMAGE=localhost/rust --build-arg "BUILDPLATFORM=linux/$machine" "${@:2}" .
}

step "the base image"
make_base
passed "a Debian $DEBIAN with $(rustc --version)"

step "the image for $architecture, from source"
build artifact --output "$work/artifact"
binary=$work/artifact/secretwatch
readelf --file-header "$binary" | grep -q "Machine: *$processor" || fail "it is for another processor"
! readelf --program-headers "$binary" | grep -q INTERP || fail "it is not static"
passed "a static binary for $processor, of $(stat -c %s "$binary") bytes"
# The C library has /usr/local/bin in it, as a default.
! grep -qaE '/build/|/usr/local/(cargo|rustup)|/registry/src/' "$binary" || fail "paths of the build are in it"
passed "no path of the build is in it"

build final --output "$work/final"
cmp "$binary" "$work/final/secretwatch"
passed "the default target has the same binary"

if [[ -n $twice ]]; then
  build artifact --output "$work/again" --no-cache
  cmp "$binary" "$work/again/secretwatch"
  passed "a second build, without any cache, gives the same bytes"
fi

if [[ $architecture == "$machine" ]]; then tests/ship/image.sh "$binary"; fi
