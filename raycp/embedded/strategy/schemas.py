"""The JSON schemas of the built-in kinds, as the ``kubernetes-validate`` package ships them.

The file of all definitions (1.6 MB) is split into raw pieces once; a definition is decoded at its first use. The package
is located but not imported, since it would import jsonschema.
"""

import importlib.util
import re
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import msgspec

WANTED = (1, 36)
"""the Kubernetes release of embedded clusters; the nearest shipped schemas are used"""


class _File(msgspec.Struct):
    defs: dict[str, msgspec.Raw] = msgspec.field(name="$defs")


class _Kinds(msgspec.Struct):
    gvks: list[dict[str, str]] = msgspec.field(name="x-kubernetes-group-version-kind", default_factory=list)


def _path() -> Path:
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or spec.origin is None:
        raise RuntimeError("the kubernetes-validate package is not installed: embedded clusters need its JSON schemas")
    found: dict[tuple[int, int], Path] = {}
    for path in (Path(spec.origin).parent / "kubernetes-json-schema").glob("v*-local"):
        version = re.match(r"v(\d+)\.(\d+)\.", path.name)
        if version is not None:
            found[int(version[1]), int(version[2])] = path / "_definitions.json"
    if not found:
        raise RuntimeError("the kubernetes-validate package has no JSON schemas")
    return found[min(found, key=lambda v: (abs(v[1] - WANTED[1]), -v[1]))]


@lru_cache(maxsize=1)
def _raw() -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(_path().read_bytes(), type=_File).defs


@lru_cache(maxsize=1)
def _names() -> dict[tuple[str, str, str], str]:
    found: dict[tuple[str, str, str], str] = {}
    decoder = msgspec.json.Decoder(_Kinds)
    for name, raw in _raw().items():
        if b"x-kubernetes-group-version-kind" in memoryview(raw).tobytes():
            for gvk in decoder.decode(raw).gvks:
                found.setdefault((gvk["group"], gvk["version"], gvk["kind"]), name)
    return found


def definition_name(group: str, version: str, kind: str) -> str | None:
    """``("apps", "v1", "Deployment")`` -> ``io.k8s.api.apps.v1.Deployment``; None for an unknown kind."""
    return _names().get((group, version, kind))


@cache
def definition(name: str) -> dict[str, Any]:
    """The JSON schema of one definition. The result is shared: don't change it."""
    found: dict[str, Any] = msgspec.json.decode(_raw()[name])
    return found
