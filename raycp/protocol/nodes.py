"""A node of the Ray cluster, as a value."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Node:
    """A Ray node that lives. ``identity`` is Ray's id of it, in hex; ``port`` its raylet's; ``ends_at`` Unix seconds of a drain's
    deadline, 0 for none."""

    identity: str
    address: str = ""
    port: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    head: bool = False
    draining: bool = False
    ends_at: float = 0.0
