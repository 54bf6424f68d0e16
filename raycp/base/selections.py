"""Request keys that are not one object's: of several objects at once, and of a watched object (law 13).

Their name begins with ``/``, which no Kubernetes object's name may contain, so that queue, watermark and wakes treat them as any
other key:

- ``every``: all objects of a controller in a cluster, or in one of its namespaces;
- ``naming``: the objects whose field names a watched object (``watch(..., field=...)``);
- ``mapping``: a watched object itself, whose map function is to run (``watch(..., to=...)``). Its cluster is the watched object's.

The first two are wakes from shard to shard, and no queue holds them; the last is queued and handed out like an object.
"""

import re
from typing import Literal, NamedTuple

from raycp.base.keys import RequestKey

ALL = "*"
"""As a name, a namespace or a cluster: every one."""

_EVERY = "/*"
_WATCHED = re.compile(r"/(\d+)([=:])(.+)", re.DOTALL)


class Selection(NamedTuple):
    """What such a key stands for. ``watch`` is the number of the controller's watch, ``name`` the watched object's."""

    kind: Literal["every", "naming", "mapping"]
    watch: int = 0
    name: str = ""


def every(controller: str, cluster: str, namespace: str = ALL) -> RequestKey:
    """All objects of the controller in ``cluster``, in ``namespace`` unless it is ``ALL``."""
    return RequestKey(controller, cluster, namespace, _EVERY)


def naming(controller: str, cluster: str, watch: int, namespace: str, name: str) -> RequestKey:
    """The controller's objects in ``cluster`` whose field names the watched object ``namespace``/``name``."""
    return RequestKey(controller, cluster, namespace, f"/{watch}={name}")


def mapping(controller: str, cluster: str, watch: int, namespace: str, name: str) -> RequestKey:
    """The watched object ``namespace``/``name`` in ``cluster``, to be mapped to the controller's keys."""
    return RequestKey(controller, cluster, namespace, f"/{watch}:{name}")


def selection_of(key: RequestKey) -> Selection | None:
    """What ``key`` stands for; None for a key that is one object's."""
    if not key.name.startswith("/"):
        return None
    if key.name == _EVERY:
        return Selection("every")
    found = _WATCHED.fullmatch(key.name)
    return Selection("naming" if found[2] == "=" else "mapping", int(found[1]), found[3]) if found else None
