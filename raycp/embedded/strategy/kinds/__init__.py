"""Rules of single kinds, grouped as their Go packages are. ``rules_for`` looks them up.

- ``core``, ``limits``, ``pods``, ``services``: the core group; ``pod_parts``, ``pod_defaults``, ``pod_validation``,
  ``container_validation`` and ``placement_validation``: Pods and pod templates;
- ``workloads``: apps; ``batch``: batch; ``flowcontrol``: API priority and fairness;
- ``cluster``: cluster-scoped kinds of the other groups.
"""

from raycp.embedded.strategy.kinds import (  # noqa: F401  (each module registers its kinds at import)
    batch,
    cluster,
    core,
    flowcontrol,
    limits,
    pods,
    services,
    workloads,
)
from raycp.embedded.strategy.rules import KindRules, registered


def rules_for(group: str, kind: str) -> KindRules:
    """The rules of a kind; plain ones for a kind without rules of its own."""
    return registered(group, kind)
