"""The simple JSONPaths of printer columns, and how values are shown (``k8s.io/client-go/util/jsonpath``)."""

import json
import re
from typing import Any


def shown(value: Any) -> str:
    """A value as a printer column of type string shows it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return json.dumps(value, separators=(",", ":"))
    return "" if value is None else str(value)


_STEP = re.compile(
    r"\.\.(?P<deep>[\w-]+)|\.(?P<name>(?:[\w/-]|\\.)+|\*)|\[(?P<star>\*)\]|\[(?P<index>-?\d+)\]"
    r"|\['(?P<quoted>(?:[^'\\]|\\.)*)'\]|\[\"(?P<double>(?:[^\"\\]|\\.)*)\"\]"
    r"|\[\?\(\s*@\.(?P<key>[\w.-]+)\s*(?P<op>==|!=)\s*(?P<want>'[^']*'|\"[^\"]*\"|[\w.-]+)\s*\)\]"
)


def json_path(obj: Any, path: str) -> list[Any]:
    """The values at a simple JSONPath: names, indexes, ``*``, ``..name`` and equality filters."""
    found = [obj]
    at = 0
    path = path if path.startswith((".", "[")) else f".{path}"
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            return []
        at = step.end()
        found = [inner for value in found for inner in _step(value, step)]
    return found


def _step(value: Any, step: re.Match[str]) -> list[Any]:
    if step["deep"]:
        return _deep(value, step["deep"])
    if step["star"] or step["name"] == "*":
        return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []
    if step["index"] is not None:
        index = int(step["index"])
        return [value[index]] if isinstance(value, list) and -len(value) <= index < len(value) else []
    if step["key"]:
        want = step["want"].strip("'\"")
        same = step["op"] == "=="
        items = value if isinstance(value, list) else []
        return [one for one in items if ([shown(v) for v in json_path(one, step["key"])] == [want]) is same]
    name = step["name"] or step["quoted"] or step["double"] or ""
    name = re.sub(r"\\(.)", r"\1", name)
    return [value[name]] if isinstance(value, dict) and name in value else []


def _deep(value: Any, name: str) -> list[Any]:
    found: list[Any] = []
    if isinstance(value, dict):
        if name in value:
            found.append(value[name])
        for one in value.values():
            found += _deep(one, name)
    elif isinstance(value, list):
        for one in value:
            found += _deep(one, name)
    return found
