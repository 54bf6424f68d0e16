"""Controllers that ship with raycp. ``batchjob``: a job on the hub becomes Pods on member clusters.
``queues``: the ``Queue`` objects that say how much of the fleet jobs may use."""
