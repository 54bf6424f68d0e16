"""``BatchJob`` (``batch.raycp.io/v1alpha1``): a Kubernetes Job whose Pods are spread over the members of a fleet.

The way of a job: ``types`` is its shape (and its CRD); ``reconcile`` gathers what is there; ``plan`` decides, purely,
with ``pods`` (what a Pod says), ``policy`` (what a failure means), ``record`` (what the status remembers) and
``raycp.scheduling``; ``reconcile`` writes the status first and then carries the plan out.

The laws, held by tests:

1. A Pod is named ``{job}-{index}-{attempt}``. An index has one Pod at a time, in one cluster; a new attempt starts
   only when the Pod of the one before has ended.
2. Where an index runs is written down (``status.clusters[].assigned``) before its Pod is created, and changes only
   when that Pod is known to have ended, or its cluster was given up by hand.
3. An end is counted once: in one status write the index is completed, or its attempt number rises. The Pod keeps a
   finalizer until that is written, so that no end goes unseen; a Pod of a lower attempt or a completed index is never
   counted again.
4. A cluster out of sight is no failure. What was assigned there is taken to be running.
"""

from raycp.controllers.batchjob.reconcile import batchjob

__all__ = ["batchjob"]
