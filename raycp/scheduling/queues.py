"""Queues: who may use how much. The notions and names are those of Kueue's ``ClusterQueue`` (``kueue.x-k8s.io/v1beta1``)."""

from typing import Literal

import msgspec


class FlavorResource(msgspec.Struct, frozen=True):
    """The quota of one resource in one flavor, in the units of ``quantities``.

    ``nominal``: the queue's own. ``borrowing_limit``: how much more it may use of what its cohort lends, None: all.
    ``lending_limit``: how much of its own it lends while it does not need it, None: all.
    """

    name: str
    nominal: int
    borrowing_limit: int | None = None
    lending_limit: int | None = None


class FlavorQuotas(msgspec.Struct, frozen=True):
    """A flavor: the nodes with ``node_labels`` (empty: any), and the queue's quotas on them. Queues of one cohort share what has
    the
    same flavor name. Resources that are not named are not limited."""

    name: str
    resources: tuple[FlavorResource, ...]
    node_labels: dict[str, str] = {}


class QueueSpec(msgspec.Struct, frozen=True):
    """A queue.

    ``flavors`` are tried in order. ``cohort``: the queues that lend to each other; empty: none. ``weight``: its part in fair
    sharing
    (0: only what nobody else wants). ``namespaces``: whose jobs go to it unless they name a queue. ``within_queue``: whether a job
    may preempt jobs of lower priority in the queue. ``reclaim_within_cohort``: whose jobs it may preempt to get back what it lent.
    ``strategy``: ``StrictFIFO`` lets no job pass a head that waits; ``BestEffortFIFO`` lets those pass that do not delay it.
    ``stop``: ``Hold`` admits nothing more.
    """

    name: str
    flavors: tuple[FlavorQuotas, ...] = ()
    cohort: str = ""
    weight: float = 1.0
    namespaces: tuple[str, ...] = ()
    within_queue: Literal["Never", "LowerPriority"] = "LowerPriority"
    reclaim_within_cohort: Literal["Never", "LowerPriority", "Any"] = "Any"
    strategy: Literal["BestEffortFIFO", "StrictFIFO"] = "BestEffortFIFO"
    stop: Literal["None", "Hold"] = "None"


class ResourceUsage(msgspec.Struct, frozen=True):
    """What a queue uses of one resource of one flavor. ``borrowed`` is the part above ``nominal``."""

    flavor: str
    resource: str
    nominal: int
    used: int
    borrowed: int


class QueueHead(msgspec.Struct, frozen=True):
    """The next job of a queue (``NAMESPACE/NAME``), and what it waits for."""

    job: str
    reason: str
    message: str


class QueueStatus(msgspec.Struct, frozen=True):
    """A queue's state. ``share``: its weighted dominant share, the key of fair sharing (0: it borrows nothing). ``head`` is None
    where no job waits."""

    name: str
    cohort: str
    pending: int
    admitted: int
    share: float
    usage: tuple[ResourceUsage, ...]
    head: QueueHead | None = None
