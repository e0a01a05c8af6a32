#!/usr/bin/env bash
# What Kubernetes' own tools and schemas say to the templates in examples/kubernetes and
# examples/ai-core. Needs no cluster. Usage: tests/ship/kubernetes.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

# Schemas of Kubernetes' releases, as a Python package.
SCHEMAS=kubernetes-validate==1.37.0
# The first release with native sidecars, and a new one.
RELEASES=(1.29 1.37)

fail() {
  printf 'kubernetes.sh: %s\n' "$*" >&2
  exit 1
}
need() { # need COMMAND PACKAGE
  command -v "$1" >/dev/null || fail "$1 is missing: install the Debian package $2"
}
need kubectl kubernetes-client
need python3 python3
python3 -c 'import ensurepip, venv' 2>/dev/null || fail "venv is missing: install the Debian package python3-venv"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

printf 'installing %s\n' "$SCHEMAS"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "$SCHEMAS" ||
  fail "$SCHEMAS cannot be installed"

# Refuses unknown fields, too.
validate() { # validate RELEASE FILE…
  "$work/venv/bin/kubernetes-validate" --quiet --strict -k "$@"
}
# Reads the file into the real types of the API: quantities, ports and so on.
decode() { # decode FILE-OR-DIRECTORY
  KUBECONFIG=/dev/null kubectl set env --local --list -f "$1" >/dev/null
}

# The pods inside the templates of AI Core, with parameters that look like something else.
mkdir "$work/pods"
"$work/venv/bin/python" tests/ship/pods.py "$work/pods" examples/ai-core/*.yaml

# Those with the defaults; the others have the same structure, as the script makes sure.
files=(examples/kubernetes/*.yaml "$work"/pods/*-0.yaml)
[[ ${#files[@]} -ge 6 ]] || fail "only ${#files[@]} files to check"
for directory in examples/kubernetes "$work/pods"; do
  decode "$directory" || fail "kubectl cannot read what is in $directory"
done
for release in "${RELEASES[@]}"; do
  validate "$release" "${files[@]}" || fail "these do not fit the schema of Kubernetes $release"
done

# A check that accepts everything would be none.
broken="$work/broken.txt"
refuses() { # refuses CHECK… : sed expression in $1, the check in the rest
  sed "$1" examples/kubernetes/native-sidecar.yaml >"$broken"
  shift
  ! cmp -s "$broken" examples/kubernetes/native-sidecar.yaml || fail "nothing to break"
  if "$@" "$broken" >/dev/null 2>&1; then fail "a broken template is accepted by: $*"; fi
}
refuses 's/restartPolicy: Always/restartPolcy: Always/' validate "${RELEASES[0]}"
refuses 's/containerPort: 9180/containerPort: metrics/' validate "${RELEASES[0]}"
refuses 's/memory: 16Mi/memory: 16 MiB/' decode

printf '%s\n' "${#files[@]} templates fit the schemas of Kubernetes ${RELEASES[*]}, and kubectl reads them"
