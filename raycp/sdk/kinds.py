"""The types in which authors name kinds and labels and get objects."""

from collections.abc import Mapping
from typing import Any

from raycp.base.keys import GVK

Labels = Mapping[str, str] | str | None
"""A label selector: a dict, or text as the API takes it."""

Objects = list[dict[str, Any]]


def as_gvk(kind: str | GVK) -> GVK:
    """``"apps/v1/Deployment"`` as a ``GVK``. Raises ``ValueError``."""
    return kind if isinstance(kind, GVK) else GVK.parse(kind)
