#!/usr/bin/env bash
# Create the virtual environment .venv: the packages of requirements-dev.lock, whose digests pip verifies, then raycp itself.
# Returns at once when it is up to date. The index is the one that pip is configured to use.
set -euo pipefail
cd "$(dirname "$0")/.."

usable() { # Ray has wheels for these versions of Python
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3 python; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null && usable "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  echo "install: no Python 3.11, 3.12 or 3.13 found; install one, or set its path: make install PYTHON=/path/to/python" >&2
  return 1
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

make_venv() {
  local python="$1" minor
  rm -rf .venv
  if ! "$python" -m venv .venv 2>/dev/null; then # Debian has venv in a separate package
    rm -rf .venv
    minor=$("$python" -c 'import sys; print(f"{sys.version_info[0]}.{sys.version_info[1]}")')
    echo "install: $python has no venv module, trying apt-get install python$minor-venv" >&2
    as_root apt-get update -qq && as_root apt-get install -y -qq --no-install-recommends "python$minor-venv" >/dev/null
    "$python" -m venv .venv
  fi
}

stamp=.venv/.installed
locked=$(sha256sum <requirements-dev.lock | cut -c1-64)
wanted=$(cat pyproject.toml requirements-dev.lock scripts/install.sh | sha256sum | cut -c1-64)
if [ -x .venv/bin/python ] && [ -x .venv/bin/raycp ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi

# pip removes nothing: a package that has left the lock would stay.
if ! { [ "$(cat .venv/.locked 2>/dev/null)" = "$locked" ] && [ -x .venv/bin/python ] && usable .venv/bin/python; }; then
  python=$(find_python)
  echo "install: creating .venv with $python"
  make_venv "$python"
fi
echo "install: installing into .venv (a minute or two on a fresh machine)"
pip_install() {
  local out
  if ! out=$(.venv/bin/python -m pip install -q --disable-pip-version-check "$@" 2>&1); then
    echo "$out" >&2
    echo "install: pip failed" >&2
    exit 1
  fi
}
# Wheels only: a source package would fetch what builds it without looking at a digest, and run it.
# No dependencies: the file has all of them.
pip_install --require-hashes --no-deps --only-binary :all: -r requirements-dev.lock
# compat: a plain path in site-packages, so that a package added to the tree is found at once
pip_install --no-deps --no-build-isolation --config-settings editable_mode=compat -e .
echo "$locked" >.venv/.locked
echo "$wanted" >"$stamp"
echo "install: done; .venv/bin/raycp --help"
