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


VISITS = 20_000
"""values that all paths of one object may lead to: some milliseconds"""


class Visits:
    """What is left to the paths of one object. ``..a..a..a`` leads to as many values as there are ways: the author of a CRD would
    decide how long all other requests wait."""

    def __init__(self, left: int = VISITS) -> None:
        self.left = left

    def spend(self, values: int) -> bool:
        """Whether ``values`` more may be visited."""
        self.left -= values
        return self.left >= 0


def json_path(obj: Any, path: str, visits: Visits | None = None) -> list[Any]:
    """The values at a simple JSONPath: names, indexes, ``*``, ``..name`` and equality filters. None, where they are more than
    ``visits`` allow."""
    visits = visits if visits is not None else Visits()
    found = [obj]
    at = 0
    path = path if path.startswith((".", "[")) else f".{path}"
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            return []
        at = step.end()
        reached: list[Any] = []
        for value in found:
            inner = _step(value, step, visits)
            if not visits.spend(1 + len(inner)):
                return []
            reached += inner
        found = reached
    return found


def _step(value: Any, step: re.Match[str], visits: Visits) -> list[Any]:
    if step["deep"]:
        return _deep(value, step["deep"], visits)
    if step["star"] or step["name"] == "*":
        return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []
    if step["index"] is not None:
        index = int(step["index"])
        return [value[index]] if isinstance(value, list) and -len(value) <= index < len(value) else []
    if step["key"]:
        want = step["want"].strip("'\"")
        same = step["op"] == "=="
        items = value if isinstance(value, list) else []
        return [one for one in items if ([shown(v) for v in json_path(one, step["key"], visits)] == [want]) is same]
    name = step["name"] or step["quoted"] or step["double"] or ""
    name = re.sub(r"\\(.)", r"\1", name)
    return [value[name]] if isinstance(value, dict) and name in value else []


def _deep(value: Any, name: str, visits: Visits) -> list[Any]:
    found: list[Any] = []
    if not visits.spend(1):
        return found
    if isinstance(value, dict):
        if name in value:
            found.append(value[name])
        for one in value.values():
            found += _deep(one, name, visits)
    elif isinstance(value, list):
        for one in value:
            found += _deep(one, name, visits)
    return found
