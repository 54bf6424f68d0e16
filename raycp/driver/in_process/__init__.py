"""A fleet in one process: real cores, real TCP, real embedded clusters, no Ray. For tests.

- ``substrate``: ``InProcessSubstrate`` holds the members' cores; control questions pass their codec as they do on Ray, and a
  killed member ends abruptly;
- ``fleet``: ``InProcessFleet`` runs a leader on it;
- ``stack``: ``InProcessStack`` puts shards and workers together without a leader.
"""

from raycp.driver.in_process.fleet import InProcessFleet
from raycp.driver.in_process.stack import InProcessStack
from raycp.driver.in_process.substrate import InProcessSubstrate

__all__ = ["InProcessFleet", "InProcessStack", "InProcessSubstrate"]
