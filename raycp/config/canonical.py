"""A fleet's generation, and the difference between two fleets."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from raycp.config.fleet import FleetDoc


@dataclass(frozen=True)
class Change:
    """One value that differs. In ``path``, entries of named lists stand by name: ``spec.clusters[east-1].qps``.

    ``old`` is None for an added value, ``new`` for a removed one; values are as in ``canonical``.
    """

    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        if self.old is None:
            return f"+ {self.path}: {_short(self.new)}"
        if self.new is None:
            return f"- {self.path}: {_short(self.old)}"
        return f"~ {self.path}: {_short(self.old)} -> {_short(self.new)}"


def generation(doc: FleetDoc) -> str:
    """12 hex digits that identify this content: equal for two files with the same meaning, defaults written out or not."""
    return hashlib.sha256(doc.canonical().encode()).hexdigest()[:12]


def diff(old: FleetDoc, new: FleetDoc) -> list[Change]:
    """The changes from ``old`` to ``new``, in the order of the document. Clusters and controllers are matched by name."""
    changes: list[Change] = []
    _compare("", _keyed(old), _keyed(new), changes)
    return changes


def parts(doc: FleetDoc) -> dict[str, str]:
    """A digest of each part that ``diff`` would name: clusters, controllers and objectives one by one (``spec.clusters[east-1]``),
    and the other sections of the spec. Values can't be read from it."""
    found: dict[str, Any] = {}
    for name, section in _keyed(doc)["spec"].items():
        if isinstance(section, _Named):
            found.update({f"spec.{name}[{key}]": value for key, value in section.items()})
        else:
            found[f"spec.{name}"] = section
    return {path: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12] for path, value in found.items()}


def _keyed(doc: FleetDoc) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(doc.canonical())
    spec = content["spec"]
    spec["clusters"] = _Named({each["name"]: each for each in spec["clusters"]})
    spec["controllers"] = _Named({each["name"] or each["use"]: each for each in spec["controllers"]})
    spec["slo"] = _Named({_objective(each): each for each in spec["slo"]})
    return content


def _objective(promise: dict[str, Any]) -> str:
    return f"{promise['controller']}/{promise['tier'] or '*'}/{promise['within']:g}s"


class _Named(dict[str, Any]):
    """A list as a mapping from its entries' names."""


def _compare(path: str, old: Any, new: Any, changes: list[Change]) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        named = isinstance(old, _Named)
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{path}[{key}]" if named else f"{path}.{key}" if path else key
            _compare(inner, old.get(key), new.get(key), changes)
    elif old != new:
        changes.append(Change(path, _plain(old), _plain(new)))


def _plain(value: Any) -> Any:
    """The value without nulls that stand for defaults, so that an added cluster reads as its author wrote it."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if each is not None}
    return value


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text if len(text) <= 100 else text[:97] + "..."
