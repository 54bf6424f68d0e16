"""Where Pods of a job go: ``place(job, fleet, now) -> PlacementDecision``, a pure function that gives its reasons.

- ``model``: the question (``Demand``, ``Candidate``, ``Rules``) and the answer (``PlacementDecision`` with a ``ClusterVerdict`` for
  each cluster);
- ``place``: filters, then one of three strategies; ``allowed``: the filters that no state of a cluster changes.

Production, ``raycp explain`` and simulations call the same function.
"""

from raycp.scheduling.model import Candidate, ClusterVerdict, Demand, PlacementDecision, Rules
from raycp.scheduling.place import allowed, place

__all__ = ["Candidate", "ClusterVerdict", "Demand", "PlacementDecision", "Rules", "allowed", "place"]
