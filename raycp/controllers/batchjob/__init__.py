"""``BatchJob`` (``batch.raycp.io/v1alpha1``): a Kubernetes Job whose Pods are spread over the members of a fleet.

The path of a job: ``types`` is the schema of its spec, with ``podtemplate``, ``statustypes`` and the CRD made of them;
``validation`` and ``immutability`` have the rules beyond types, in the form of the server and of the controller, and ``specs``
reads a spec by them; ``reconcile`` collects the observed state; ``plan`` decides, as a pure function from a ``job`` to a
``JobPlan``; its parts ``ends``, ``verdict``, ``creations``, ``report`` and others work on one ``step``, with ``pods`` (a Pod's
state), ``policy`` (what a failure means), ``record`` (what the status remembers, with sets of ``indexes``) and
``raycp.scheduling``; ``reconcile`` writes the status first and then has the plan carried out by ``execution``, with ``newpod``;
``cleanup`` deletes the Pods of a deleted job.

The laws, held by tests:

1. A Pod is named ``{job}-{index}-{attempt}``. An index has one Pod at a time, in one cluster; a new attempt starts only when the
   Pod of the previous one has ended, or, under ``podReplacementPolicy: TerminatingOrFailed``, is being deleted and is counted.
2. Where an index runs is recorded (``status.clusters[].assigned``) before its Pod is created, and changes only when that Pod is
   known to have ended, or its cluster was abandoned by annotation.
3. An end is counted once: in one status write the index is completed, or its attempt number rises. The Pod keeps a finalizer
   until that is written, so that no end is missed; a Pod of a lower attempt or a completed index is never counted again.
4. An unreachable cluster is no failure. Pods assigned there are assumed to be running.
"""

from raycp.controllers.batchjob.reconcile import batchjob
from raycp.controllers.batchjob.sweeper import batchjob_sweep

__all__ = ["batchjob", "batchjob_sweep"]
