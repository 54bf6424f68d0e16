"""Measures raycp, and others beside it, on embedded or real clusters: ``raycp bench SCENARIO``.

The path of a measurement: ``ground`` starts API servers (or takes kubeconfigs), each in a process of its own;
``fleets`` writes
the fleet file and starts the system under test on them; a ``load`` process (driven through ``driver``) makes users'
changes
and sees their effects on its own watch; a scenario of ``scenarios`` says what happens when and turns ``latencies``
into figures;
``report`` prints one JSON object, ``plot`` draws it, ``bounds`` holds it against what is promised.

- ``workload``: the controller under test: a labelled ConfigMap becomes a Pod;
- ``peer_kopf``: kopf doing the same work, in its own process on the same clusters, in the same run.
"""
