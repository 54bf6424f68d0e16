#!/usr/bin/env bash
# Write raycp.cdx.json: a CycloneDX bill of materials of raycp and of requirements.lock, with versions, licenses and who needs whom.
# It describes an environment made for that, since .venv also has what tests need, and is made by a tool in another one
# (requirements-sbom.lock); pip verifies the digests of all that goes in.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
install() { # install ENVIRONMENT ARGUMENT...
  local environment=$work/$1
  shift
  [ -d "$environment" ] || .venv/bin/python -m venv --without-pip "$environment"
  .venv/bin/python -m pip --python "$environment/bin/python" install -q --disable-pip-version-check --no-deps "$@"
}

echo "sbom: installing requirements.lock into an environment of its own"
install venv --require-hashes --only-binary :all: -r requirements.lock
install venv --no-build-isolation .
install tool --require-hashes --only-binary :all: -r requirements-sbom.lock
"$work/tool/bin/cyclonedx-py" environment --pyproject pyproject.toml --output-reproducible --validate -o raycp.cdx.json "$work/venv/bin/python"
echo "sbom: $(grep -c '"bom-ref"' raycp.cdx.json) components in raycp.cdx.json"
