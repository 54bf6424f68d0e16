"""A Kubernetes API server in one Python process, for first runs, tests and benchmarks.

The path of a request:

- ``httpio``: HTTP/1.1 over TLS;
- ``server``: routing, authentication (``auth``) and authorization (``access``);
- ``faults``: injected latency, errors and broken connections;
- ``verbs``: get, list, watch, create, update, patch, delete;
- ``pipeline``: the object's new state (``strategy``, ``patches``, ``managed``, ``crds``, ``webhooks``), and whether ``quota`` has
  room for it;
- ``store``: bytes with revisions and history;
- ``watch``, ``lists``: what clients read.

``forms`` and ``table`` render other representations of an answer (Table, metadata only, protobuf). ``resources``, ``registry``,
``discovery``, ``openapi`` and ``openapi_crds`` describe the served resources. ``life`` simulates the rest of a cluster: garbage
collection, namespaces, scheduler, nodes and Pods. ``cluster.EmbeddedCluster`` wires all of it; ``standalone`` serves clusters
from the command line.
"""
