"""``spec.paused``: what the fleet leaves alone for now."""

from raycp.config.names import DnsLabel
from raycp.config.strict import Strict


class PausedSpec(Strict):
    """Of what no reconcile is begun. What is due meanwhile waits, and is reconciled once the name no longer stands here."""

    clusters: list[DnsLabel] = []
    """Clusters of whose objects none is reconciled: `raycp pause --cluster`. Controllers of the hub go on writing there for the
    hub's objects; to move Pods away, drain it."""
    controllers: list[DnsLabel] = []
    """Controllers, by name, that reconcile nothing in any cluster: `raycp pause --controller`."""
