"""Changes of a running fleet's document that need nobody's files: pauses and drains. Pure.

A file that is applied later replaces them, as it replaces all else.
"""

import hashlib
from collections.abc import Collection, Iterable

import msgspec

from raycp.config import FleetDoc, generation
from raycp.config.pauses import PausedSpec
from raycp.protocol.control import ControlError, ErrorCode
from raycp.protocol.plan import ControllerPlan, Fleet


def fleet_generation(doc: FleetDoc, runtime: str, controllers: Collection[ControllerPlan]) -> str:
    """See ``Fleet.generation``."""
    plans = msgspec.json.encode(list(controllers)).decode()
    return hashlib.sha256(f"{generation(doc)} {runtime} {plans}".encode()).hexdigest()[:12]


def amended(fleet: Fleet, doc: FleetDoc) -> Fleet:
    """``fleet`` with another document, which changes no controller."""
    made = fleet_generation(doc, fleet.runtime, fleet.controllers)
    return msgspec.structs.replace(fleet, document=doc.canonical(), generation=made)


def with_pause(fleet: Fleet, clusters: Collection[str], controllers: Collection[str], *, paused: bool) -> Fleet:
    """``fleet`` with these paused too, or no longer. Raises ``ControlError`` for a name that it does not have."""
    doc, before = fleet.doc, fleet.doc.spec.paused
    _known("cluster", clusters, [each.name for each in doc.spec.clusters])
    _known("controller", controllers, [each.name for each in fleet.controllers])
    made = PausedSpec(
        clusters=_changed(before.clusters, clusters, paused), controllers=_changed(before.controllers, controllers, paused)
    )
    if made == before:
        return fleet
    return amended(fleet, doc.model_copy(update={"spec": doc.spec.model_copy(update={"paused": made})}))


def with_drain(fleet: Fleet, clusters: Collection[str], *, drained: bool) -> Fleet:
    """``fleet`` with these members drained, or no longer. Raises ``ControlError`` for a name that is no member's."""
    doc = fleet.doc
    _known("member", clusters, [each.name for each in doc.members])
    if all(row.drain == drained for row in doc.spec.clusters if row.name in clusters):
        return fleet
    rows = [row.model_copy(update={"drain": drained}) if row.name in clusters else row for row in doc.spec.clusters]
    return amended(fleet, doc.model_copy(update={"spec": doc.spec.model_copy(update={"clusters": rows})}))


def _changed(before: Iterable[str], names: Collection[str], paused: bool) -> list[str]:
    """Sorted, so that the same pauses are the same document whatever their order."""
    return sorted({*before, *names} if paused else set(before).difference(names))


def _known(what: str, names: Iterable[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ControlError(ErrorCode.NOT_FOUND, f"the fleet has no {what} {name!r}; there are: {', '.join(known)}")
