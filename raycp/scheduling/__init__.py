"""Where Pods of a job go: ``place(job, fleet, now) -> PlacementDecision``, a pure function that gives its reasons.

- ``model``: what is asked (``Demand``, ``Rules``) and answered (``PlacementDecision`` with a ``ClusterVerdict`` per cluster);
- ``place``: filters, then one of three strategies.

Production, ``raycp explain`` and simulations call the same function.
"""

from raycp.scheduling.model import Candidate, ClusterVerdict, Demand, PlacementDecision, Rules
from raycp.scheduling.place import place

__all__ = ["Candidate", "ClusterVerdict", "Demand", "PlacementDecision", "Rules", "place"]
