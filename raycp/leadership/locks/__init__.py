"""Who may lead: one contract (``Lock``), three places to keep it.

- ``ray``: the named detached leader actor of one Ray cluster, recorded in the hub (ConfigMap ``raycp-FLEET-leader``). Another Ray
  cluster's leader *knocks*: it writes a question into the record, which a living holder answers with its next proof, within a
  second or so. Unanswered for longer than the holder's permits, the holder does not lead any more.
- ``configMap``: for life. A ConfigMap ``raycp-FLEET-lock``, owned by the holder's Pod where it has one in that namespace; free when
  that Pod is gone, or the holder released it.
- ``lease``: a Lease ``raycp-FLEET``, renewed by the holder's proof; free when it was released, or did not change for its duration.

The fleet's *record of epochs* beside the lock outlives it: epochs never fall, whatever is deleted or restored (lock ``ray`` keeps
it in ``raycp-FLEET-epoch``, the others in ``raycp-FLEET-leader``).

Protocol of a hand-over from one fleet instance to another, by ``Identity.home`` (stable over restarts of its leader):

1. the successor calls ``acquire`` and waits; it watches, so that it hears of the release at once;
2. the holder ends its proofs and makes sure that nobody holds a permit of its epoch any more;
3. ``release(mine, successor=HOME)``. For ``RESERVED`` seconds only HOME, or the releasing home itself (which thereby takes back
   what nobody took), may acquire; then anyone may. Each candidate counts by its own clock, from when it saw the release;
4. the successor's ``acquire`` returns, with the next epoch and nothing to wait for.

``types``: the contract and its values. ``judge``: may I take it? Pure. ``sighting``: what a candidate sees, and since when.
``homes``: the objects. ``pods``: the Pod that owns one. ``kube_lock``: the engine. ``make``: from the fleet file.
"""

from raycp.leadership.locks.make import make_lock
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
    "make_lock",
    "pod_of",
]
