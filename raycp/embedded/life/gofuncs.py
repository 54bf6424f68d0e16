"""The functions of stage templates: kwok's own, and those of sprig that apply to JSON data.

Sources: kwok ``pkg/utils/gotpl/funcs.go`` and ``pkg/kwok/controllers``; https://masterminds.github.io/sprig/.
Random functions (``randInt``, ``uuidv4``) use the cluster's seed, functions of time its clock.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import yaml

from raycp.embedded.life.gotemplate import TemplateError, go_text, truth

NODE_CONDITIONS: list[dict[str, str]] = [
    {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"},
    {
        "type": "MemoryPressure",
        "status": "False",
        "reason": "KubeletHasSufficientMemory",
        "message": "kubelet has sufficient memory available",
    },
    {
        "type": "DiskPressure",
        "status": "False",
        "reason": "KubeletHasNoDiskPressure",
        "message": "kubelet has no disk pressure",
    },
    {
        "type": "PIDPressure",
        "status": "False",
        "reason": "KubeletHasSufficientPID",
        "message": "kubelet has sufficient PID available",
    },
    {
        "type": "NetworkUnavailable",
        "status": "False",
        "reason": "RouteCreated",
        "message": "RouteController created a route",
    },
]


def quote(value: Any) -> str:
    """kwok's ``Quote``: text as JSON; anything else as the JSON text of its JSON."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.startswith('"') else json.dumps(text)


def to_yaml(value: Any, indent: int = 0) -> str:
    """kwok's ``YAML``: with ``indent``, on new lines and two spaces deeper per step."""
    text = yaml.safe_dump(value, default_flow_style=False, sort_keys=True, allow_unicode=True)
    return ("\n" + text).replace("\n", "\n" + "  " * indent) if indent > 0 else text


@lru_cache(maxsize=65536)
def node_ip(name: str) -> str:
    """The address of a simulated node: in 10.0.0.0/16, always the same for the same name."""
    if not name:
        return ""
    digest = hashlib.blake2b(name.encode(), digest_size=2).digest()
    return f"10.0.{digest[0]}.{max(1, min(254, digest[1]))}"


def pod_ip(node: str, host_network: bool, uid: str, name: str, namespace: str) -> str:
    """The address of a simulated Pod: in 10.128.0.0/9, its node's with ``hostNetwork``."""
    if host_network and node:
        return node_ip(node)
    digest = hashlib.blake2b(f"{uid}/{namespace}/{name}".encode(), digest_size=3).digest()
    return f"10.{128 + digest[0] % 64}.{digest[1]}.{max(1, min(254, digest[2]))}"


def _join(separator: str, values: Any) -> str:
    return separator.join(go_text(value) for value in values or [])


def _dict(*pairs: Any) -> dict[str, Any]:
    return {str(pairs[i]): pairs[i + 1] if i + 1 < len(pairs) else "" for i in range(0, len(pairs), 2)}


def _int(value: Any) -> int:
    try:
        return int(float(value)) if value not in (None, "") else 0
    except (TypeError, ValueError):
        return 0


def _fold(step: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def run(first: Any, *others: Any) -> Any:
        total = _int(first)
        for other in others:
            total = step(total, _int(other))
        return total

    return run


def _divide(a: int, b: int) -> int:
    if b == 0:
        raise TemplateError("division by zero")
    return int(a / b)


def _fail(message: str) -> Any:
    raise TemplateError(message)


def _pad(count: int, text: str) -> str:
    pad = " " * count
    return pad + text.replace("\n", "\n" + pad)


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


GENERIC: dict[str, Callable[..., Any]] = {
    "Quote": quote,
    "YAML": to_yaml,
    "NodeConditions": lambda: NODE_CONDITIONS,
    "NodeIPWith": node_ip,
    "NodeIPsWith": lambda name: [node_ip(name)] if name else [],
    "PodIPWith": pod_ip,
    "PodIPsWith": lambda *of: [pod_ip(*of)],
    "abbrev": lambda width, text: text if len(text) <= width else text[: width - 3] + "...",
    "add": _fold(lambda a, b: a + b),
    "add1": lambda value: _int(value) + 1,
    "append": lambda values, value: [*(values or []), value],
    "atoi": _int,
    "b64dec": lambda text: base64.b64decode(text).decode(),
    "b64enc": lambda text: base64.b64encode(text.encode()).decode(),
    "coalesce": lambda *values: next((value for value in values if truth(value)), None),
    "compact": lambda values: [value for value in values or [] if truth(value)],
    "concat": lambda *lists: [value for values in lists for value in values or []],
    "contains": lambda part, text: part in text,
    "default": lambda fallback, value=None: value if truth(value) else fallback,
    "dict": _dict,
    "div": _fold(_divide),
    "empty": lambda value: not truth(value),
    "fail": _fail,
    "first": lambda values: values[0] if values else None,
    "float64": lambda value: float(value or 0),
    "fromJson": _from_json,
    "get": lambda holder, key: (holder or {}).get(key, ""),
    "has": lambda value, values: value in (values or []),
    "hasKey": lambda holder, key: key in (holder or {}),
    "hasPrefix": lambda part, text: text.startswith(part),
    "hasSuffix": lambda part, text: text.endswith(part),
    "indent": _pad,
    "int": _int,
    "int64": _int,
    "join": _join,
    "keys": lambda holder: sorted(holder or {}),
    "last": lambda values: values[-1] if values else None,
    "list": lambda *values: list(values),
    "lower": lambda text: text.lower(),
    "max": _fold(max),
    "merge": lambda *holders: {key: value for holder in reversed(holders) for key, value in (holder or {}).items()},
    "min": _fold(min),
    "mod": _fold(lambda a, b: a % b if b else _fail("division by zero")),
    "mul": _fold(lambda a, b: a * b),
    "nindent": lambda count, text: "\n" + _pad(count, text),
    "nospace": lambda text: re.sub(r"\s", "", text),
    "prepend": lambda values, value: [value, *(values or [])],
    "quote": lambda *values: " ".join(json.dumps(go_text(v), ensure_ascii=False) for v in values if v is not None),
    "regexMatch": lambda pattern, text: re.search(pattern, text) is not None,
    "regexReplaceAll": lambda pattern, text, new: re.sub(pattern, re.sub(r"\$\{?(\d+)\}?", r"\\\1", new), text),
    "repeat": lambda count, text: text * count,
    "replace": lambda old, new, text: text.replace(old, new),
    "rest": lambda values: (values or [])[1:],
    "reverse": lambda values: list(reversed(values or [])),
    "set": lambda holder, key, value: {**(holder or {}), key: value},
    "sha1sum": lambda text: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(),
    "sha256sum": lambda text: hashlib.sha256(text.encode()).hexdigest(),
    "sortAlpha": lambda values: sorted(go_text(value) for value in values or []),
    "splitList": lambda separator, text: text.split(separator),
    "squote": lambda *values: " ".join(f"'{go_text(value)}'" for value in values if value is not None),
    "sub": _fold(lambda a, b: a - b),
    "substr": lambda start, end, text: text[start:] if end < 0 else text[start:end],
    "ternary": lambda yes, no, test: yes if truth(test) else no,
    "title": lambda text: text.title(),
    "toJson": lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False),
    "toString": go_text,
    "trim": lambda text: text.strip(),
    "trimAll": lambda cut, text: text.strip(cut),
    "trimPrefix": lambda part, text: text.removeprefix(part),
    "trimSuffix": lambda part, text: text.removesuffix(part),
    "trunc": lambda count, text: text[:count] if count >= 0 else text[count:],
    "tuple": lambda *values: list(values),
    "uniq": lambda values: list(dict.fromkeys(values or [])),
    "unset": lambda holder, key: {k: v for k, v in (holder or {}).items() if k != key},
    "until": lambda count: list(range(count)),
    "upper": lambda text: text.upper(),
    "values": lambda holder: [holder[key] for key in sorted(holder or {})],
}
"""Functions that need neither clock nor seed."""
