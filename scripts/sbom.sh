#!/usr/bin/env bash
# Write raycp.cdx.json: a CycloneDX bill of materials of raycp and of requirements.lock, with versions, licenses and who needs whom.
# It describes an environment made for that, since .venv also has what tests need; pip verifies the digests of all that goes in.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pip() { .venv/bin/python -m pip --python "$work/venv/bin/python" install -q --disable-pip-version-check "$@"; }

echo "sbom: installing requirements.lock into an environment of its own"
.venv/bin/python -m venv --without-pip "$work/venv"
pip --require-hashes --no-deps --only-binary :all: -r requirements.lock
pip --no-deps --no-build-isolation .
.venv/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --validate -o raycp.cdx.json "$work/venv/bin/python"
echo "sbom: $(grep -c '"bom-ref"' raycp.cdx.json) components in raycp.cdx.json"
