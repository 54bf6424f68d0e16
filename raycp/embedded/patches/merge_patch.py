"""RFC 7386."""

from typing import Any


def apply(document: Any, patch: Any) -> Any:
    """A new document that shares the parts that the patch does not name; null deletes a key."""
    if type(patch) is not dict:
        return patch
    made = dict(document) if type(document) is dict else {}
    for key, one in patch.items():
        if one is None:
            made.pop(key, None)
        elif type(one) is dict:
            made[key] = apply(made.get(key), one)
        else:
            made[key] = one
    return made
