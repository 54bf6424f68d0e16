"""jq expressions that are a path to one value: ``.status.phase``, ``.metadata.annotations["a/b"]``, ``.spec.containers[0].name``.

Most expressions of stage files are. A look-up takes microseconds and certainly ends; a run of jq takes some hundred, and needs a
process that can be stopped (``evaluator``). A test holds this against jq itself.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

_STEP = re.compile(r'\.([A-Za-z_][A-Za-z0-9_]*)|\.?\["([^"\\]*)"\]|\.?\[(-?[0-9]{1,9})\]')
_PATH = re.compile(rf"(?=\.)(?:{_STEP.pattern})+")


@lru_cache(maxsize=4096)
def compile_path(text: str) -> Callable[[Any], list[Any] | None] | None:
    """A function from an object to the results of the path: one, none for null, ``None`` if it leads through a value that has no
    such part. None for an expression that is no path."""
    text = text.strip()
    if not _PATH.fullmatch(text):
        return None
    steps = [int(index) if index else name or key for name, key, index in _STEP.findall(text)]

    def look_up(value: Any) -> list[Any] | None:
        for step in steps:
            if value is None:
                return []
            if isinstance(step, str) and isinstance(value, dict):
                value = value.get(step)
            elif isinstance(step, int) and isinstance(value, list):
                value = value[step] if -len(value) <= step < len(value) else None
            else:
                return None
        return [] if value is None else [value]

    return look_up
