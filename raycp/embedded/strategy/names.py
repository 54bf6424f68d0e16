"""Validation of names, labels and keys, with the messages of ``k8s.io/apimachinery/pkg/util/validation``."""

import re

from raycp.base.text_cache import cached_by_text

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z](?:[-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LABEL_VALUE = re.compile(r"(?:(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_ENV = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_PRINTABLE_ENV = re.compile(r"[\x20-\x3c\x3e-\x7e]+")
_C_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PORT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")

_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_QUALIFIED_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def too_long(limit: int) -> str:
    return f"must be no more than {limit} characters"


@cached_by_text(4096)
def dns_label(value: str) -> tuple[str, ...]:
    """RFC 1123 label. Returns the errors of a value, as do all functions below."""
    return ((too_long(63),) if len(value) > 63 else ()) + (() if _LABEL.fullmatch(value) else (_LABEL_TEXT,))


@cached_by_text(4096)
def dns_1035_label(value: str) -> tuple[str, ...]:
    return ((too_long(63),) if len(value) > 63 else ()) + (() if _LABEL_1035.fullmatch(value) else (_LABEL_1035_TEXT,))


@cached_by_text(4096)
def dns_subdomain(value: str) -> tuple[str, ...]:
    return ((too_long(253),) if len(value) > 253 else ()) + (() if _SUBDOMAIN.fullmatch(value) else (_SUBDOMAIN_TEXT,))


def path_segment(value: str) -> tuple[str, ...]:
    """RBAC names: anything that fits in one segment of a path."""
    if value in (".", ".."):
        return (f"may not be '{value}'",)
    return tuple(f"may not contain '{c}'" for c in "/%" if c in value)


@cached_by_text(4096)
def qualified_name(value: str) -> tuple[str, ...]:
    """``[prefix/]name`` of labels, annotations, finalizers, resources."""
    prefix, slash, name = value.rpartition("/")
    if "/" in prefix:
        return (
            "a qualified name " + _QUALIFIED_TEXT + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
        )
    errors: list[str] = []
    if slash:
        if not prefix:
            errors.append("prefix part must be non-empty")
        else:
            errors.extend("prefix part " + text for text in dns_subdomain(prefix))
    if not name:
        errors.append("name part must be non-empty")
    elif len(name) > 63:
        errors.append("name part " + too_long(63))
    if not _QUALIFIED.fullmatch(name):
        errors.append("name part " + _QUALIFIED_TEXT)
    return tuple(errors)


@cached_by_text(4096)
def label_value(value: str) -> tuple[str, ...]:
    return ((too_long(63),) if len(value) > 63 else ()) + (() if _LABEL_VALUE.fullmatch(value) else (_LABEL_VALUE_TEXT,))


def config_map_key(value: str) -> tuple[str, ...]:
    errors: list[str] = []
    if len(value) > 253:
        errors.append(too_long(253))
    if not _CONFIG_KEY.fullmatch(value):
        errors.append(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or "
            "'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
        )
    errors.extend(_no_dot_dot(value))
    return tuple(errors)


def _no_dot_dot(value: str) -> tuple[str, ...]:
    if value == ".":
        return ("must not be '.'",)
    if value == "..":
        return ("must not be '..'",)
    return ("must not start with '..'",) if value.startswith("..") else ()


def env_name(value: str) -> tuple[str, ...]:
    """Environment variables (relaxed rule, GA since 1.34): printable ASCII without '='."""
    if _PRINTABLE_ENV.fullmatch(value):
        return ()
    return ("a valid environment variable name must consist only of printable ASCII characters other than '='",)


def port_name(value: str) -> tuple[str, ...]:
    """IANA service name."""
    errors: list[str] = []
    if len(value) > 15:
        errors.append(too_long(15))
    if not _PORT_NAME.fullmatch(value):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        errors.append("must contain at least one letter (a-z)")
    if "--" in value:
        errors.append("must not contain consecutive hyphens")
    if value[:1] == "-" or value[-1:] == "-":
        errors.append("must not begin or end with a hyphen")
    return tuple(errors)
