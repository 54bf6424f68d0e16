"""The environment of a simulated container, and its expansion in commands. Pure.

``$(NAME)`` in ``command``, ``args`` and values is expanded as kubelet does (``third_party/forked/golang/expansion``), ``$NAME``,
``${NAME}`` and ``${NAME:-word}`` in the scripts of shells outside of single quotes.
"""

import re
from collections.abc import Mapping
from typing import Any

_REFERENCE = re.compile(r"\$\$|\$\(([^()\s]+)\)")
_SHELL = re.compile(r"'[^']*'|\\.|\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::-([^}]*))?\})", re.DOTALL)
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


def environment_of(pod: Mapping[str, Any], container: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a container: values, and fields of the Pod. What comes of ConfigMaps and Secrets is left out."""
    found: dict[str, str] = {"HOSTNAME": str(pod["metadata"].get("name") or "")}
    for one in container.get("env") or ():
        if one.get("value") is not None:
            found[one["name"]] = expanded(str(one["value"]), found)
        else:
            field = ((one.get("valueFrom") or {}).get("fieldRef") or {}).get("fieldPath")
            if field:
                found[one["name"]] = _field(pod, field)
            elif one.get("valueFrom") is None:
                found[one["name"]] = ""
    return found


def _field(pod: Mapping[str, Any], path: str) -> str:
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript is not None:
        return str((pod["metadata"].get(subscript[1]) or {}).get(subscript[2], ""))
    value: Any = pod
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return "" if value is None else str(value)


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """With ``$(NAME)`` replaced; a name that is not set stays as it is, and ``$$`` stands for ``$``."""

    def replace(found: re.Match[str]) -> str:
        return "$" if found[1] is None else variables.get(found[1], found[0])

    return _REFERENCE.sub(replace, text)


class ShellText:
    """A script in which variables stand as marks, so that their values are not parsed as parts of it."""

    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self._values: list[str] = []

        def mark(found: re.Match[str]) -> str:
            name = found[1] or found[2]
            if name is None:
                return found[0]
            self._values.append(variables.get(name) or found[3] or "")
            return f"\x00{len(self._values) - 1}\x00"

        self.text = _SHELL.sub(mark, text)

    def filled(self, word: str) -> str:
        """A word of the script with the values in place of the marks."""
        return re.sub(r"\x00(\d+)\x00", lambda found: self._values[int(found[1])], word)
