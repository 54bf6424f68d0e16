"""Where Pods of a job go, and which job is next. Pure: no input, no output, the time is an argument.

Room and labels:

- ``podrequests``: what a Pod takes; ``labels``: labels, taints, tolerations;
- ``capacity``: ``CapacitySummary`` of a cluster; ``accumulator``: ``ClusterCapacity`` makes it from nodes and Pods.

Placement, ``place(job, fleet, now) -> PlacementDecision``:

- ``model``: the question (``Demand``, ``Candidate``, ``Rules``) and the answer (a ``ClusterVerdict`` for each cluster);
- ``place``: ``filters``, ``scores`` and ``domains`` make the order, ``division`` the numbers.

Admission, which job is next:

- ``demand``: ``JobDemand``; ``queues``: ``QueueSpec`` with its quotas; ``admissions``: what is decided and recorded;
- ``admission``: ``Admission``, the state machine (``questions``: what is asked of it);
  ``relocation``: what can't stay where it was admitted.

Production, ``raycp explain`` and simulations call the same functions.
"""

from raycp.scheduling.filters import allowed
from raycp.scheduling.model import Candidate, ClusterVerdict, Demand, PlacementDecision, Rules
from raycp.scheduling.place import place

__all__ = ["Candidate", "ClusterVerdict", "Demand", "PlacementDecision", "Rules", "allowed", "place"]
