"""Value types that every room shares, and the clock. No logic lives here.

- ``clock``: one ``Clock`` protocol; ``SystemClock`` for production, ``VirtualClock`` for tests;
- ``keys``: ``GVK`` (a kind), ``RequestKey`` (the object and controller of a reconcile);
- ``objects``: ``Meta`` and ``Obj``, an object as it is cached: raw JSON plus its decoded metadata;
- ``events``: ``Event``, a change as a cache reports it;
- ``owner_marks``: ``MarkKeys``, which sign what raycp creates away from its owner and prove it later;
- ``tasks``: ``Task`` from a shard to a worker, and its result;
- ``text``: text from outside, bounded and encodable;
- ``plaintext``: text for people, made harmless and laid out as a table;
- ``recent_names``: ``RecentNames``, a bounded set of names;
- ``quantities``: amounts of resources, in the notation of Kubernetes;
- ``loops``: ``Loops``, supervised background tasks, whose names are in ``loop_names``;
- ``problems``: ``FleetProblem``, a fault as it is shown: its kind, its owner, since when.
"""
