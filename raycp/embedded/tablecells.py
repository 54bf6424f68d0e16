"""Cells that the tables of several kinds share: name and age, labels, selectors, containers."""

from collections.abc import Callable
from typing import Any

from raycp.embedded.ages import age

Object = dict[str, Any]
Row = Callable[[Object, float], list[Any]]
NONE = "<none>"


def name_age(obj: Object, now: float, *between: Any) -> list[Any]:
    meta = obj["metadata"]
    return [meta.get("name", ""), *between, age(meta.get("creationTimestamp"), now)]


def label_cell(labels: Object | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) if labels else NONE


def selector_cell(selector: Object | None) -> str:
    if not selector:
        return NONE
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for term in selector.get("matchExpressions") or ():
        values = ",".join(sorted(term.get("values") or ()))
        operator = term.get("operator")
        if operator in ("In", "NotIn"):
            parts.append(f"{term['key']} {operator.lower()} ({values})")
        else:
            parts.append(term["key"] if operator == "Exists" else f"!{term['key']}")
    return ",".join(parts) or NONE


def container_cells(template: Object | None) -> list[str]:
    found = ((template or {}).get("spec") or {}).get("containers") or ()
    return [",".join(c.get("name", "") for c in found), ",".join(c.get("image", "") for c in found)]
