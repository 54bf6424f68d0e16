"""``Queue`` (``raycp.io/v1alpha1``): who may use how much of the fleet. An object on the hub; the scheduler reads it and writes its
status. ``types`` is its schema and CRD, ``specs`` reads an object as a ``QueueSpec`` of ``raycp.scheduling``.

Names and meanings are those of Kueue's ``ClusterQueue`` (``kueue.x-k8s.io``) wherever there is such a field.
"""
