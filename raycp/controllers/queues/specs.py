"""``read_queue``: a ``Queue`` object as a ``QueueSpec`` of ``raycp.scheduling``."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from raycp.base.quantities import QuantityError, parse_quantity
from raycp.controllers.queues.types import Flavor, QueueObjectSpec
from raycp.scheduling.queues import FlavorQuotas, FlavorResource, QueueSpec


class InvalidQueue(ValueError):
    """A ``Queue`` that the API server should have refused. The message names field and problem."""


def read_queue(obj: Mapping[str, Any]) -> QueueSpec:
    """The queue. Raises ``InvalidQueue``."""
    try:
        made = QueueObjectSpec.model_validate(obj.get("spec") or {})
    except ValidationError as error:
        raise InvalidQueue("; ".join(_cause(one) for one in error.errors(include_url=False))) from None
    _unique("spec.flavors", (each.name for each in made.flavors))
    for at, flavor in enumerate(made.flavors):
        _unique(f"spec.flavors[{at}].resources", (each.name for each in flavor.resources))
    try:
        return QueueSpec(
            obj["metadata"]["name"],
            tuple(_flavor(flavor) for flavor in made.flavors),
            made.cohort or "",
            made.fair_sharing.weight,
            tuple(made.namespaces),
            made.preemption.within_queue,
            made.preemption.reclaim_within_cohort,
            made.queueing_strategy,
            made.stop_policy,
        )
    except QuantityError as error:
        raise InvalidQueue(f"spec.flavors: {error}") from None


def _unique(path: str, names: Iterable[str]) -> None:
    """Of two quotas of one name, the cohort would lend both, and the queue be held to the second."""
    seen: set[str] = set()
    for at, name in enumerate(names):
        if name in seen:
            raise InvalidQueue(f"{path}[{at}].name: {name!r} is there twice; remove one, or add it to the other")
        seen.add(name)


def _flavor(flavor: Flavor) -> FlavorQuotas:
    resources = tuple(
        FlavorResource(
            each.name,
            parse_quantity(each.nominal_quota, each.name),
            _limit(each.borrowing_limit, each.name),
            _limit(each.lending_limit, each.name),
        )
        for each in flavor.resources
    )
    return FlavorQuotas(flavor.name, resources, dict(flavor.node_labels))


def _limit(value: int | str | None, resource: str) -> int | None:
    return None if value is None else parse_quantity(value, resource)


def _cause(error: Mapping[str, Any]) -> str:
    path = "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    return f"{path}: {error['msg']}"
