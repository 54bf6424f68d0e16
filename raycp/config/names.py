"""Kubernetes names as types for pydantic models, and the closest known name of a mistyped one."""

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from raycp.config.strict import InvalidValue

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The closest match of ``name`` in ``known``, or None."""
    by_plain = {re.sub(r"[-_. ]", "", each).lower(): each for each in known}
    plain = re.sub(r"[-_. ]", "", name).lower()
    found = difflib.get_close_matches(plain, by_plain, n=1, cutoff=0.6)
    return by_plain[found[0]] if found else None


def is_dns_label(text: str) -> bool:
    """RFC 1123 label: lower case, digits and ``-``, at most 63 characters."""
    return _DNS_LABEL.fullmatch(text) is not None


def is_label_key(text: str) -> bool:
    """``[prefix/]name`` as in ``metadata.labels``."""
    prefix, slash, name = text.rpartition("/")
    if slash and not (len(prefix) <= 253 and _DNS_SUBDOMAIN.fullmatch(prefix)):
        return False
    return _LABEL_NAME.fullmatch(name) is not None


def is_label_value(text: str) -> bool:
    """Empty, or at most 63 letters, digits, ``-``, ``_``, ``.``."""
    return text == "" or _LABEL_NAME.fullmatch(text) is not None


def _dns_label(text: str) -> str:
    if not is_dns_label(text):
        raise InvalidValue(
            "is not a name that Kubernetes accepts",
            "use lower case letters, digits and '-', a letter or digit first and last, at most 63 characters",
        )
    return text


def _fleet_name(text: str) -> str:
    if len(_dns_label(text)) > 40:
        raise InvalidValue("is longer than 40 characters", "shorten it: ConfigMaps and actors are named after it")
    return text


def _labels(labels: dict[str, str]) -> dict[str, str]:
    for key, value in labels.items():
        if not is_label_key(key):
            raise InvalidValue(f"has {key!r}, which is not a label key", "write it as name or prefix.example/name")
        if not is_label_value(value):
            raise InvalidValue(
                f"has {value!r} for {key!r}, which is not a label value",
                "use at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
            )
    return labels


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _listed_values(value: Any) -> Any:
    return {key: _listed(each) for key, each in value.items()} if isinstance(value, dict) else value


_ONE_OR_MANY: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}

DnsLabel = Annotated[str, AfterValidator(_dns_label)]
"""A name such as ``east-1``."""

FleetName = Annotated[str, AfterValidator(_fleet_name)]
"""A name such as ``quickstart``, short enough to be part of other names."""

Labels = Annotated[dict[str, str], AfterValidator(_labels)]
"""Kubernetes labels."""

Texts = Annotated[list[str], BeforeValidator(_listed), WithJsonSchema(_ONE_OR_MANY)]
"""A list of texts; one text needs no brackets."""

TextMap = Annotated[
    dict[str, list[str]],
    BeforeValidator(_listed_values),
    WithJsonSchema({"type": "object", "additionalProperties": _ONE_OR_MANY}),
]
"""Lists of texts by key; one text needs no brackets."""
