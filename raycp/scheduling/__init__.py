"""Where Pods of a job go: ``place(job, fleet, now) -> Decision``, a pure function that gives its reasons.

- ``model``: what is asked (``Demand``, ``Rules``) and answered (``Decision`` with a ``Verdict`` per cluster);
- ``place``: filters, then one of three strategies.

Production, ``raycp explain`` and simulations call the same function.
"""

from raycp.scheduling.model import Candidate, Decision, Demand, Rules, Verdict
from raycp.scheduling.place import place

__all__ = ["Candidate", "Decision", "Demand", "Rules", "Verdict", "place"]
