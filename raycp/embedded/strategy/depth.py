"""The bound on nesting, for everything that a client sends or a patch makes.

kube-apiserver stops at 10 000 levels. Here what reads an object recurses in Python, whose stack has room for fewer: what is stored
can always be read, compared and written.
"""

from typing import Any

MAX_DEPTH = 200
"""levels of lists and maps"""

TOO_DEEP = f"exceeded max depth of {MAX_DEPTH}"


def too_deep(value: Any) -> bool:
    """Whether a decoded value has more than ``MAX_DEPTH`` levels."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [one for one in level if type(one) is dict or type(one) is list]
        if not level:
            return False
        level = [inner for one in level for inner in (one.values() if type(one) is dict else one)]
    return True


def json_too_deep(raw: bytes, value: Any) -> bool:
    """As ``too_deep``, of a value decoded from ``raw``: most JSON is too short or has too few brackets, and is not walked."""
    return len(raw) > 2 * MAX_DEPTH and raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and too_deep(value)
