"""A worker: pulls tasks from every shard, runs reconcilers, writes fenced, acknowledges.

In the order of a task's path:

- ``shard_link``, ``links``: a connection to each shard, with credit, acknowledgements and questions; ``resends``: what may be lost
  with a connection;
- ``runs``: the reconciles that run, from hand-out to acknowledgement; ``controllers``: the plan's controllers, imported;
- ``user_loop``: where user code runs; ``watchdog``: ends the process when user code can't be stopped, ``gil_alarm``: when it holds
  the interpreter;
- ``backend``: the SDK's ``Backend``, made of ``cluster_table`` (``ctx.clusters``), ``shard_reads`` (cache reads), ``admission`` and
  ``call_outcomes`` (clusters of other shards) and ``fence`` (law 6e); ``questions`` cross from the user loop to a shard's link;
- ``write_folds``: writes reported to the shards of their objects (law 8);
- ``core``: puts these together.
"""
