"""What the fleet file declares of a cluster for the scheduler: taints, and capacity where nodes can't be listed."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from raycp.base.quantities import QuantityError, parse_quantity
from raycp.config.names import Labels
from raycp.config.strict import InvalidValue, Strict


def _quantities(amounts: dict[str, str | int]) -> dict[str, str | int]:
    for name, value in amounts.items():
        try:
            parse_quantity(value, name)
        except QuantityError as error:
            raise InvalidValue(
                f"has {name}, which {error}", "write Kubernetes quantities, such as {cpu: 64, memory: 256Gi}"
            ) from None
    return amounts


class ClusterTaint(Strict):
    """Keeps jobs away whose `placement.tolerations` do not cover it."""

    key: str = Field(min_length=1)
    """Its key."""
    value: str = ""
    """Its value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"
    """`NoSchedule`: no new Pods. `PreferNoSchedule`: the last choice. `NoExecute`: no new Pods; of a cluster, those that run move
    to others, after the `tolerationSeconds` of a toleration that covers it."""


class CapacitySpec(Strict):
    """Alike nodes."""

    nodes: int = Field(ge=1)
    """How many."""
    allocatable: Annotated[dict[str, str | int], AfterValidator(_quantities)] = Field(min_length=1)
    """What Pods may use of each, in Kubernetes quantities: `{cpu: 64, memory: 256Gi, nvidia.com/gpu: 8, pods: 110}`."""
    labels: Labels = {}
    """Their labels, for `nodeSelector`s and flavors."""
    taints: list[ClusterTaint] = []
    """Their taints."""
