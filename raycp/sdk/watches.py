"""``watch(...)``, an entry of ``watches=[...]``: a kind that a reconciler reads, and the keys that a change of an object requeues.

Two ways lead from a watched object to keys:

- ``field="spec.configRef.name"``: the objects of the controller whose field names it. An index answers; nothing else runs;
- ``to=function``: a *map function* from the object to names. It runs on a worker, like a reconciler, for the object as it is and
  for each earlier state that it has not seen: an object that no longer maps to a key requeues it too.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from raycp.base.keys import GVK
from raycp.base.selections import ALL
from raycp.classify.references import References
from raycp.sdk.definition import DefinitionError, kind_of, selector_text


class ObjectKey(NamedTuple):
    """Objects of the controller's kind to requeue: one; with ``ALL`` as ``name`` those of a namespace, with ``ALL`` as both those
    of every namespace. ``cluster`` narrows a watch on the hub to one member; without it, all clusters of the controller are meant.
    A cluster-scoped object has an empty ``namespace``."""

    namespace: str
    name: str
    cluster: str = ALL


MapFunction = Callable[[dict[str, Any]], Iterable[str | ObjectKey]]
"""From a watched object to the keys that read it. A text names an object in the watched object's namespace."""


@dataclass(frozen=True, slots=True)
class WatchedKind:
    """See ``watch``. Exactly one of ``field`` and ``to`` is given."""

    kind: GVK
    on: Literal["same", "hub"] = "same"
    selector: str = ""
    field: str = ""
    namespace_field: str = ""
    to: MapFunction | None = None


def watch(
    kind: str | GVK,
    *,
    field: str = "",
    namespace_field: str = "",
    to: MapFunction | None = None,
    on: Literal["same", "hub"] = "same",
    labels: Mapping[str, str] | str | None = None,
) -> WatchedKind:
    """Watch ``kind``: a change of one of its objects requeues the keys that read it.

    ``field`` is a path in the controller's own objects, such as ``spec.volumes[*].secret.secretName``: objects whose value there is
    the watched object's name, in the watched object's namespace, are requeued. ``namespace_field`` is the path of that reference's
    namespace, where it may be another one. ``to`` is a map function instead. ``on="hub"``: objects of the hub, by default those of
    the key's own cluster. ``labels`` narrow what is watched.

    Raises ``DefinitionError``.
    """
    where = f"watch({str(kind)!r})"
    if on not in ("same", "hub"):
        raise DefinitionError(f'{where}: on={on!r} is neither "same" nor "hub"')
    if bool(field) == (to is not None):
        raise DefinitionError(f'{where}: give field="path.of.the.name" or to=a function from the object to names, one of the two')
    if namespace_field and not field:
        raise DefinitionError(f"{where}: namespace_field= goes with field=")
    if to is not None and not callable(to):
        raise DefinitionError(f"{where}: to={to!r} is no function")
    for path in (field, namespace_field):
        try:
            References(path) if path else None
        except ValueError as error:
            raise DefinitionError(f"{where}: {error}") from None
    return WatchedKind(kind_of(kind, where), on, selector_text(labels, where), field, namespace_field, to)
