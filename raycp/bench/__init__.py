"""Measures raycp, and other systems beside it, on embedded or real clusters: ``raycp bench SCENARIO``.

In the order of a measurement: ``ground`` starts API servers (or uses kubeconfigs), each in a process of its own; ``fleets``
starts the system under test on them; a ``load`` process, controlled through ``driver``, makes users' changes and receives their
effects on its own watch; a ``scenario`` (``steady``, ``jobs``, ``storms``, ``neighbours``, ``poison``, ``hostile``, ``switch``,
``embedded``) decides what happens when, and ``latencies`` turns samples into figures; ``runner`` repeats a scenario; ``report``
prints tables, ``plot`` draws figures, ``bounds`` compares figures with what is promised. ``suite`` runs all scenarios.

- ``workload``: the controller under test: a labelled ConfigMap has a Pod;
- ``causes``, ``nodes``, ``gaps``, ``phases``: what ``switch`` does and measures;
- ``lying_server``: the server of which ``hostile`` has one beside honest ones;
- ``peer_kopf``, ``peer_seed``: other operators that do the same work in the same run.
"""
