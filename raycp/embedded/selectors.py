"""Label and field selectors: the full grammar, compiled to predicates and cached.

Grammar and wording follow ``k8s.io/apimachinery/pkg/labels`` and ``pkg/fields``.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from raycp.base.text_cache import cached_by_text
from raycp.embedded.errors import bad_request
from raycp.embedded.store import StoredObject
from raycp.embedded.strategy.scalars import parse_integer

LabelPredicate = Callable[[Mapping[str, str]], bool]
RecordPredicate = Callable[[StoredObject], bool]

_TOKEN = re.compile(r"\s*(==|!=|=|!|,|\(|\)|<|>|[^\s,()!=<>]+)")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        at = 0
        stripped = text.rstrip()
        while at < len(stripped):
            match = _TOKEN.match(stripped, at)
            if match is None:
                raise ValueError(f"unexpected character at {at} of {text!r}")
            self.tokens.append(match[1])
            at = match.end()
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def requirements(self) -> list[LabelPredicate]:
        found = []
        while True:
            found.append(self.requirement())
            token = self.take()
            if token == "":
                return found
            if token != ",":
                raise ValueError(f"found '{token}', expected: ',' or 'end of string'")
            if self.peek() in ("", ","):
                raise ValueError(f"found '{self.peek()}', expected: identifier after ','")

    def requirement(self) -> LabelPredicate:
        token = self.take()
        if token == "!":
            key = _key(self.take())
            return lambda labels: key not in labels
        key = _key(token)
        operator = self.peek()
        if operator in ("", ","):
            return lambda labels: key in labels
        self.take()
        if operator in ("=", "=="):
            value = self.value()
            return lambda labels: labels.get(key) == value
        if operator == "!=":
            value = self.value()
            return lambda labels: labels.get(key) != value
        if operator == "in":
            values = self.values()
            return lambda labels: key in labels and labels[key] in values
        if operator == "notin":
            values = self.values()
            return lambda labels: key not in labels or labels[key] not in values
        if operator in ("<", ">"):
            return _ordered(key, operator, self.value())
        raise ValueError(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")

    def value(self) -> str:
        if self.peek() in ("", ","):
            return ""
        return _value(self.take())

    def values(self) -> frozenset[str]:
        if self.take() != "(":
            raise ValueError("expected: '('")
        found: set[str] = set()
        while True:
            token = self.take()
            if token in (",", ")"):
                found.add("")  # as in `in (,a)`
                if token == ")":
                    return frozenset(found)
                continue
            if token == "":
                raise ValueError("found end of string, expected: ')'")
            found.add(_value(token))
            token = self.take()
            if token == ")":
                return frozenset(found)
            if token != ",":
                raise ValueError(f"found '{token}', expected: ',' or ')'")


def _ordered(key: str, operator: str, value: str) -> LabelPredicate:
    bound = parse_integer(value)

    def holds(labels: Mapping[str, str]) -> bool:
        try:
            given = parse_integer(labels[key])
        except (KeyError, ValueError):
            return False
        return given > bound if operator == ">" else given < bound

    return holds


def _key(token: str) -> str:
    if not token or token in ("=", "==", "!=", ",", "(", ")", "<", ">", "!"):
        raise ValueError(f"found '{token}', expected: '!', identifier, or 'end of string'")
    prefix, slash, name = token.rpartition("/")
    if not _NAME.fullmatch(name) or (slash and (len(prefix) > 253 or not _PREFIX.fullmatch(prefix))):
        raise ValueError(f"invalid label key {token!r}")
    return token


def _value(token: str) -> str:
    if not _VALUE.fullmatch(token):
        raise ValueError(f"invalid label value {token!r}")
    return token


@cached_by_text(4096)
def parse_labels(text: str) -> LabelPredicate | None:
    """The predicate of a label selector; None for one that selects everything.

    Raises ``StatusError`` 400 if it can't be parsed.
    """
    if not text.strip():
        return None
    try:
        required = _Parser(text).requirements()
    except ValueError as error:
        raise bad_request(f"unable to parse requirement: {error}") from None
    if len(required) == 1:
        return required[0]
    return lambda labels: all(holds(labels) for holds in required)


def parse_label_dict(selector: Mapping[str, Any]) -> LabelPredicate:
    """The predicate of a ``metav1.LabelSelector`` (matchLabels, matchExpressions)."""
    terms = [f"{k}={v}" for k, v in (selector.get("matchLabels") or {}).items()]
    for term in selector.get("matchExpressions") or []:
        key, operator, values = term["key"], term["operator"], ",".join(term.get("values") or [])
        forms = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        terms.append(forms[operator])
    return parse_labels(",".join(terms)) or (lambda labels: True)


FieldTerm = tuple[str, bool, str]
"""One term: field, whether the value must be equal, value."""


@cached_by_text(4096)
def parse_fields(text: str) -> tuple[FieldTerm, ...]:
    """The terms of a field selector. Raises ``StatusError`` 400."""
    terms: list[FieldTerm] = []
    for part in re.split(r"(?<!\\),", text):
        if not part:
            continue
        match = re.fullmatch(r"((?:[^=!\\]|\\.)*)(==|!=|=)(.*)", part, re.DOTALL)
        if match is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        value = match[3]
        if re.search(r"(?<!\\)=", value):
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        terms.append((match[1].strip(), match[2] != "!=", re.sub(r"\\(.)", r"\1", value)))
    return tuple(terms)


FIELDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "pods"): (
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
        "status.phase", "status.podIP", "status.nominatedNodeName",
    ),
    ("", "events"): (
        "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
        "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
        "reason", "reportingComponent", "source", "type",
    ),
    ("", "nodes"): ("spec.unschedulable",),
    ("", "namespaces"): ("status.phase", "name"),
    ("", "secrets"): ("type",),
    ("", "services"): ("spec.clusterIP", "spec.type"),
    ("", "replicationcontrollers"): ("status.replicas",),
    ("apps", "replicasets"): ("status.replicas",),
    ("batch", "jobs"): ("status.successful",),
    ("certificates.k8s.io", "certificatesigningrequests"): ("spec.signerName",),
    ("certificates.k8s.io", "podcertificaterequests"): ("spec.signerName", "spec.podName", "spec.nodeName"),
    ("resource.k8s.io", "resourceslices"): ("spec.nodeName", "spec.driver"),
}  # fmt: skip
"""The fields that select built-in resources, besides ``metadata.name`` and ``metadata.namespace``."""

_ALIASES = {
    ("", "namespaces", "name"): "metadata.name",
    ("", "events", "source"): "source.component",
    ("batch", "jobs", "status.successful"): "status.succeeded",
}
_ZEROS = {"spec.unschedulable": "false", "spec.hostNetwork": "false", "status.replicas": "0", "status.successful": "0"}


def _struct(paths: list[list[str]], name: str = "Fields") -> Any:
    heads: dict[str, list[list[str]]] = {}
    for path in paths:
        heads.setdefault(path[0], []).append(path[1:])
    fields = []
    for number, (head, tails) in enumerate(heads.items()):
        deeper = [tail for tail in tails if tail]
        kind: Any = (_struct(deeper, f"{name}_{number}") | None) if deeper else Any
        fields.append((f"f{number}", kind, msgspec.field(default=None, name=head)))
    return msgspec.defstruct(name, fields)


def _reader(path: str) -> Callable[[bytes], str]:
    parts = path.split(".")
    decode = msgspec.json.Decoder(_struct([parts])).decode

    def read(raw: bytes) -> str:
        value: Any = decode(raw)
        for _ in parts:
            if value is None:
                return ""
            value = value.f0
        if value is None:
            return ""
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value)

    return read


@cached_by_text(1024)
def field_predicate(group: str, plural: str, selectable: tuple[str, ...], text: str) -> RecordPredicate | None:
    """The predicate of a field selector on records of a resource; None for one that selects everything.

    ``selectable`` are a CRD's ``selectableFields``, as dotted paths. Raises ``StatusError`` 400 for others.
    """
    terms = parse_fields(text)
    known = FIELDS.get((group, plural), ()) + selectable
    holds = []
    for field, equal, value in terms:
        if field not in known and field not in ("metadata.name", "metadata.namespace"):
            if (group, plural) in FIELDS:
                raise bad_request(f"field label not supported: {field}")
            only = ", ".join(f'"{name}"' for name in ("metadata.name", "metadata.namespace", *selectable))
            raise bad_request(f'"{field}" is not a known field selector: only {only}')
        holds.append(_field_term(_ALIASES.get((group, plural, field), field), equal, value, _ZEROS.get(field, "")))
    if not holds:
        return None
    return holds[0] if len(holds) == 1 else lambda record: all(each(record) for each in holds)


def _field_term(field: str, equal: bool, value: str, zero: str) -> RecordPredicate:
    if field == "metadata.name":
        return lambda record: (record.name == value) == equal
    if field == "metadata.namespace":
        return lambda record: (record.ns == value) == equal
    read = _reader(field)
    return lambda record: ((read(record.raw) or zero) == value) == equal


def exact_name(text: str) -> str:
    """The name that a field selector requires by ``metadata.name=X``, or an empty string. Turns a list into a look-up."""
    if "metadata.name" not in text:
        return ""
    return next((value for field, equal, value in parse_fields(text) if field == "metadata.name" and equal), "")
