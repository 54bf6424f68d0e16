"""Leader election: one contract (``Lock``), three kinds of object that store it.

- ``ray``: the named detached leader actor of one Ray cluster, recorded in the hub (ConfigMap ``raycp-FLEET-leader``). Another Ray
  cluster's leader *knocks*: it writes a question into the record, which a living holder answers with its next proof, within about
  a second. A holder that does not answer for longer than its permits does not lead any more.
- ``configMap``: for life. A ConfigMap ``raycp-FLEET-lock``, owned by the holder's Pod where it has one in that namespace; free
  when that Pod has ended, or the holder released it.
- ``lease``: a Lease ``raycp-FLEET``, renewed by the holder's proof; free when it was released, or did not change for its duration.

The fleet's *record of epochs* beside the lock outlives it: epochs never decrease, whatever is deleted or restored (lock ``ray``
keeps it in ``raycp-FLEET-epoch``, the others in ``raycp-FLEET-leader``).

Protocol of a hand-over from one fleet instance to another, by ``Identity.home`` (stable over restarts of its leader):

1. the successor calls ``acquire`` and waits; it watches the lock, so it observes the release at once;
2. the holder ends its proofs and makes sure that every permit of its epoch has ended;
3. ``release(mine, successor=HOME)``. For ``RESERVED`` seconds only HOME, or the releasing home itself (which thereby takes the
   lock back), may acquire; then any candidate may. Each candidate counts by its own clock, from when it observed the release;
4. the successor's ``acquire`` returns, with the next epoch and nothing to wait for.

The epochs' *floor* stands on a cluster-scoped object, too (``floor``): a candidate that finds a floor and no record waits like one
that finds a record and no lock, since a namespace that was deleted says nothing of its last leader.

In the order of an acquisition: ``make``: the lock of a fleet file. ``kube_lock``: its implementation. ``lock_watch``: what a
candidate observes, and since when. ``eligibility``: may it acquire? Pure. ``stores``: the objects. ``pods``: the Pod that owns one.
``types``: the contract and its values.
"""

from raycp.leadership.locks.make import lock_of_kind, make_lock
from raycp.leadership.locks.pods import pod_of
from raycp.leadership.locks.types import RESERVED, Confirmed, Holding, Identity, Lock, LockProblem, PodRef, Waiting

__all__ = [
    "RESERVED",
    "Confirmed",
    "Holding",
    "Identity",
    "Lock",
    "LockProblem",
    "PodRef",
    "Waiting",
    "lock_of_kind",
    "make_lock",
    "pod_of",
]
