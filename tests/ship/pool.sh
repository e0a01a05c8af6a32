#!/usr/bin/env bash
# The example axum_pool against a real PostgreSQL: tests/ship/pool.sh BINARY
#
# Builds the app and runs its demonstration, which ends with 1 where a request has failed or an old
# credential is still good.
set -euo pipefail
binary=$(realpath -- "${1:?usage: tests/ship/pool.sh BINARY}")
cd "$(dirname "$0")/../.."
cargo build --locked --example axum_pool
target=$(cargo metadata --locked --no-deps --format-version 1 |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
exec examples/axum_pool/demo.sh "$binary" "$target/debug/examples/axum_pool"
