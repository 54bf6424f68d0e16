"""``mapping_of``: the map function of a watch as a controller, so that it is run, timed and reported like a reconciler."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from raycp.base.keys import RequestKey
from raycp.base.selections import ALL, every, selection_of
from raycp.base.tasks import Task
from raycp.sdk.controller import Controller
from raycp.sdk.session import decode
from raycp.sdk.watches import ObjectKey, WatchedKind

MOST = 5000
"""Keys of one watched object; beyond it, every object of the controller is requeued."""


def mapping_of(controller: Controller, task: Task) -> tuple[Controller, list[RequestKey]]:
    """What to run for the task of a ``mapping`` key, and the list that has the keys when it has succeeded.

    The function maps the watched object as it is, and each earlier state that came with the task. Raises ``ValueError`` where the
    controller has no such map function.
    """
    selection = selection_of(task.key)
    watched = controller.watches[selection.watch] if selection is not None and selection.watch < len(controller.watches) else None
    if watched is None or watched.to is None:
        raise ValueError(f"controller {controller.name!r} has no map function for {task.key}")
    function = watched.to
    found: list[RequestKey] = []
    cluster = ALL if watched.on == "hub" else task.key.cluster

    def run(ctx: object, obj: object) -> None:
        states = [*([task.raw] if task.raw is not None else []), *(child.raw for child in task.children)]
        keys: dict[RequestKey, None] = {}
        for raw in states:
            state = decode(raw)
            for entry in _listed(function(state), watched, controller):
                keys[_key(entry, state, cluster, controller.name)] = None
        found[:] = keys if len(keys) <= MOST else [every(controller.name, cluster)]

    return replace(controller, fn=run, is_async=False, takes=None, deleted=True), found


def _listed(result: Any, watched: WatchedKind, controller: Controller) -> Iterator[str | ObjectKey]:
    name = f"the map function {getattr(watched.to, '__name__', '')} of {controller.name!r}"
    if isinstance(result, str | ObjectKey) or not isinstance(result, Iterable):
        raise TypeError(f"{name} returned {result!r}: a list of names or ObjectKeys is expected")
    for entry in result:
        if not _valid(entry):
            raise TypeError(f"{name} returned {entry!r}: a name, or an ObjectKey of texts, is expected")
        yield entry


def _valid(entry: Any) -> bool:
    if isinstance(entry, str):
        return bool(entry) and "/" not in entry
    if not isinstance(entry, ObjectKey) or not all(isinstance(part, str) and "/" not in part for part in entry):
        return False
    return bool(entry.name and entry.cluster) and (entry.namespace != ALL or entry.name == ALL)


def _key(entry: str | ObjectKey, state: dict[str, Any], cluster: str, controller: str) -> RequestKey:
    if isinstance(entry, str):
        return RequestKey(controller, cluster, state["metadata"].get("namespace", ""), entry)
    where = cluster if entry.cluster == ALL else entry.cluster
    if entry.name == ALL:
        return every(controller, where, entry.namespace)
    return RequestKey(controller, where, entry.namespace, entry.name)
