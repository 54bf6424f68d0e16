"""Controllers that ship with raycp. ``batchjob``: a job on the hub becomes Pods on member clusters."""
