#!/usr/bin/env bash
# Write the lock files from pyproject.toml, with the sha256 of every file of every version, and no address:
#   requirements.lock       what raycp needs to run and to be built: for images
#   requirements-dev.lock   also what tests, benchmarks and releases need: for .venv
#   requirements-sbom.lock  what `make sbom` runs, in an environment of its own
# A version stays while it fits; `make lock UPGRADE=1` takes the newest ones. The index is the one that pip uses.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$PWD/.venv/bin/uv
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

index=${PIP_INDEX_URL:-$(.venv/bin/python -m pip config get global.index-url 2>/dev/null || true)}
[ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
[ -z "${PIP_CERT:-}" ] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}

# What builds raycp is installed like everything else: pip would fetch it without looking at a hash.
.venv/bin/python -c 'import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"]))' >"$work/build.in"

compile() { # compile FILE ARGUMENT...: for all platforms and versions of Python at once
  "$uv" pip compile -q ${UPGRADE:+--upgrade} --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
    -o "$@" >/dev/null
}

compile requirements.lock pyproject.toml "$work/build.in"
compile requirements-dev.lock pyproject.toml "$work/build.in" --all-extras -c requirements.lock
compile requirements-sbom.lock --group sbom

for python in 3.11 3.12 3.13; do
  for machine in x86_64 aarch64; do
    echo "lock: wheels for Python $python on Linux $machine"
    "$uv" pip compile -q --python-version $python --python-platform $machine-manylinux_2_28 --only-binary :all: --all-extras \
      -c requirements-dev.lock pyproject.toml "$work/build.in" >/dev/null
  done
done
echo "lock: $(grep -c == requirements.lock) packages in requirements.lock, $(grep -c == requirements-dev.lock) in requirements-dev.lock," \
  "$(grep -c == requirements-sbom.lock) in requirements-sbom.lock"
