"""``BatchJob`` (``batch.raycp.io/v1alpha1``): a Kubernetes Job whose Pods are spread over the members of a fleet.

The path of a job: ``types`` is the schema of its spec, with ``podtemplate``, ``placementtypes``, ``labelselector``, ``statustypes``
and the CRD made of them;
``validation`` and ``immutability`` have the rules beyond types, in the form of the server and of the controller, and ``specs``
reads a spec by them; ``reconcile`` collects the observed state; ``plan`` decides, as a pure function from a ``job`` to a
``JobPlan``. Its parts work on one ``step``: ``repairs`` makes sense of damaged times; ``ends``, ``verdict``, ``creations`` and
``report`` count, judge, place and describe; ``refusals``, ``absence``, ``taints`` and ``moves`` know the clusters that refuse the
job's Pods, are lost, or are to be left, and ``obstacles`` says so in conditions; ``admission`` (with ``podadmission`` and
``admissiontypes``) keeps them to what the scheduler has decided, and ``limits`` tells it what can't be so. They use ``pods`` (a
Pod's state, with its ``troubles``), ``policy`` (what a failure means), ``record`` and ``cluster_record`` (what the status
remembers, with sets of ``indexes``) and ``raycp.scheduling``. ``reconcile`` writes the status first (``status_pace`` says what may
wait) and then has the plan carried out by ``execution``, with ``newpod``; ``cleanup`` deletes or releases the Pods of a deleted
job, ``invalidity`` ends those of one whose spec can't be read. ``sweeper`` is a second controller: it removes Pods of
``dead_jobs``.

The laws, held by tests:

1. A Pod is named ``{job}-{index}-{attempt}``. An index has one Pod at a time, in one cluster; a new attempt starts only when the
   Pod of the previous one has ended, or, under ``podReplacementPolicy: TerminatingOrFailed``, is being deleted and is counted.
2. Where an index runs is recorded (``status.clusters[].assigned``) before its Pod is created, and changes only when that Pod is
   known to have ended (or is being deleted and counted, see 1), is seen not to be there while none is wanted, its creation was
   refused, or its cluster was abandoned: by annotation, or by ``onUnreachable: Replace`` when no write of ours can take effect
   there any more.
3. An end is counted once: in one status write the index is completed, or its attempt number rises. The Pod keeps a finalizer
   until that is written, so that no end is missed; a Pod of a lower attempt or a completed index is never counted again.
4. An unreachable cluster is no failure. Pods assigned there are assumed to be running; where they are replaced nevertheless, the
   older attempt is never counted, and deleted when it is seen again.
5. What one cluster says of the job's Pods holds there and for a while; it ends no Pod elsewhere.
"""

from raycp.controllers.batchjob.reconcile import batchjob
from raycp.controllers.batchjob.sweeper import batchjob_sweep

__all__ = ["batchjob", "batchjob_sweep"]
