"""What the declarations of a controller, its children and its watches are made of: kinds and selectors, checked."""

import re
from collections.abc import Mapping

from raycp.base.keys import GVK

_KEY = re.compile(r"([a-z0-9A-Z]([-a-z0-9A-Z_.]{0,251}[a-z0-9A-Z])?/)?[a-z0-9A-Z]([-a-z0-9A-Z_.]{0,61}[a-z0-9A-Z])?")
_VALUE = re.compile(r"([a-z0-9A-Z]([-a-z0-9A-Z_.]{0,61}[a-z0-9A-Z])?)?")


class DefinitionError(Exception):
    """The declaration of a controller is invalid. The message names the controller and says what to write."""


def selector_text(labels: Mapping[str, str] | str | None, where: str) -> str:
    """A label selector as the API takes it. Raises ``DefinitionError`` for keys and values that can't be labels."""
    if labels is None:
        return ""
    if isinstance(labels, str):
        return labels.strip()
    for key, value in labels.items():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise DefinitionError(f"{where}: {key!r} can't be a label's key")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise DefinitionError(f"{where}: {value!r} can't be the value of label {key!r}; quote it if it is a number")
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def kind_of(kind: str | GVK, where: str) -> GVK:
    """The kind. Raises ``DefinitionError`` for a text that names none."""
    if isinstance(kind, GVK):
        return kind
    try:
        return GVK.parse(kind)
    except (ValueError, AttributeError) as error:
        raise DefinitionError(f'{where}: {error}; write "v1/ConfigMap" or "apps/v1/Deployment"') from None
