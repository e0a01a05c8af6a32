#!/usr/bin/env bash
# The clients under examples/clients against a real sidecar: tests/ship/clients.sh BINARY [CLIENT…]
#
# Builds each client as its README says, in a temporary directory, and lets clients.py put it through
# rotations, restarts of the sidecar and bad contents.
set -euo pipefail

binary=${1:?usage: tests/ship/clients.sh BINARY [CLIENT…]}
binary=$(realpath -- "$binary")
[[ -x $binary ]] || { echo "clients: $binary is no program: cargo build" >&2; exit 1; }
shift
cd "$(dirname "$0")/../../examples/clients"

missing=0
need() { # need COMMAND PACKAGE
  command -v "$1" >/dev/null && return
  echo "clients: $1 is missing; on Debian: apt-get install $2" >&2
  missing=1
}
need python3 python3
need node nodejs
need go golang-go
need javac default-jdk-headless
need java default-jre-headless
if ! python3 -c 'import ensurepip' 2>/dev/null; then
  echo "clients: venv is missing in python3; on Debian: apt-get install python3-venv" >&2
  missing=1
fi
((missing == 0)) || exit 1

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
# So that no cache of a toolchain is needed, or left behind.
export GOCACHE=$work/go-cache GOFLAGS=-mod=mod PYTHONDONTWRITEBYTECODE=1

echo "clients: building"
(cd go && go vet ./... && go build -o "$work/go-client" .)
javac -Xlint:all,-serial -Werror -d "$work/java" java/*.java
node --check node/app.js
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check -r python-fastapi/requirements.txt

# The client of the shell finds the command by its name.
mkdir "$work/bin"
ln -s "$binary" "$work/bin/secretwatch"
PATH=$work/bin:$PATH python3 ../../tests/ship/clients.py "$binary" "$work" "$@"
