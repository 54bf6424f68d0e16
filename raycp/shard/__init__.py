"""A shard: watches whole clusters, queues the keys that changes make due, hands them to workers. In the order of a change's path:

- watching: ``watched_cluster`` holds one cluster's connection, reflectors and stores, ``caches`` all of them; ``watchers`` handles
  what they report, on a primary and on a standby;
- from event to due key: ``events`` classifies each change for the controllers that ``routes`` names; ``ledger`` alone changes a
  key's state: queue entry, SLI clock, watermark exception, reconciled version, timeline, and in ``notes`` what its last reconcile
  found; ``handouts`` are the open ones; ``resyncs`` adds periodic resyncs;
- other inputs of a key (law 13): ``watches`` leads from an object that reconciles read to their keys, ``inputs`` from a cluster,
  the fleet file or new code, ``key_requests`` from a person; ``fanout`` paces what concerns many keys;
- hand-outs: ``dispatcher`` gives queued keys to workers with credit (``handouts``), as the tasks that ``tasks`` makes and sends;
  ``own_writes`` folds a reconcile's writes into the cache before its key is released; ``rollcall`` finds dead workers and delays a
  new primary's first hand-out until every worker has reported (``long_hello``); ``silence`` finds blocked ones; ``handout_audit``
  finds hand-outs and slots that were lost; ``large_keys`` are those that no worker can be given;
- law 11: ``suspects`` says which keys may end workers, ``quarantine`` hands these out one at a time, ``convictions`` tells of them;
- limits: ``guard`` protects the other clusters from a failing one, ``probes`` asks it how it is; ``tokens`` shares each cluster's
  client budget;
- restarts: ``watermarks`` records what has been observed and reconciled, ``watermark_store`` keeps that in the hub;
- other shards: ``wakes`` queues owners that live elsewhere, ``outbox`` keeps each wake until it is acknowledged;
- the scheduler, in the hub's shard: ``scheduler_host`` shows it ``hub_jobs`` and the members' capacity, of which
  ``capacity_reports`` of every shard tells;
- the standby: ``replication`` sends the primary's progress (``progress_frames``), ``standby`` keeps the replica, ``takeover``
  promotes it, ``handover`` releases a primary's queue on purpose, ``switch_phases`` measures a promotion;
- outwards: ``reads`` answers reads of the caches, ``read_pages`` in pages; ``report`` describes clusters, lanes and timelines,
  ``readiness`` whether the shard is ready, ``problems`` what is wrong with its clusters, ``cluster_states`` sends the clusters'
  states to workers;
- ``identity`` is the shard's epoch and term; ``core`` puts all of this together.
"""
