#!/usr/bin/env bash
# Checks examples/prometheus and examples/grafana against a real Prometheus and running sidecars.
#
#   tests/ship/prometheus.sh BINARY
set -euo pipefail

[[ $# == 1 && -x $1 ]] || { echo "usage: $0 BINARY (an executable secretwatch)" >&2; exit 1; }
binary="$(realpath "$1")"
cd "$(dirname "$0")/../.."

need() { # need COMMAND PACKAGE
  command -v "$1" >/dev/null || { echo "$1 is not here: apt-get install $2" >&2; exit 1; }
}
need python3 python3
need promtool prometheus
need prometheus prometheus
need openssl openssl

echo "== the rules are valid"
promtool check rules examples/prometheus/alerts.yaml examples/prometheus/records.yaml
echo "== the rules do what they say"
promtool test rules examples/prometheus/alerts_test.yaml
echo "== the dashboard is whole"
python3 -B tests/ship/dashboard.py examples/grafana/dashboard.json
echo "== all of it with a real Prometheus"
exec python3 -B tests/ship/prometheus.py "$binary"
