"""The scheduler: decides once for the whole fleet which job runs next and where (``raycp.scheduling``), and writes that down.

It runs beside the primary of the hub's shard, under its permit and term (``shard.scheduler_host``): there the jobs are cached,
a warm standby follows, and a promotion is decided by the rules of every shard. The path of a decision:

- ``nodes`` reads nodes and Pods, ``capacity_watch`` keeps them for one member, and tells its ``CapacitySummary`` when it changes;
- ``jobs`` reads a ``BatchJob`` as a ``JobDemand``, and its ``status.admission`` as a record;
- ``queue_table`` holds the ``Queue`` objects, and which namespace belongs to which;
- ``core`` shows all of them to one ``term`` after the other, which feeds ``Admission``; ``writes`` writes its decisions to the
  ``hub``, before any Pod is made (law 6e);
- ``queue_report`` writes the queues' status; ``answers`` explains a job to whoever asks;
- ``job_list`` pages, filters and sorts all jobs for the status page, ``job_rows`` says what a row shows.

Nothing of it costs a fleet anything that has no queue, and no job with ``queue``, ``gang`` or ``dependsOn``.
"""
