"""A Kubernetes API server in one Python process, for first runs, tests and benchmarks.

The way of a request: ``httpio`` (HTTP/1.1 over TLS) → ``server`` (who asks, may he) → ``faults`` → ``verbs`` → ``pipeline`` (what
the object becomes: ``strategy``, ``patching``, ``managed``, ``crds``) → ``store`` (bytes with revisions and history) → ``watch``.
Forms of an
answer (Table, metadata only) come from ``forms`` and ``table``; what there is from ``resources``, ``registry``, ``discovery`` and
``openapi``. ``life`` is what lives in the cluster: garbage collection, namespaces, a scheduler, nodes, Pods by stages.
``cluster.EmbeddedCluster`` puts it together; ``standalone`` serves clusters from the command line.
"""
