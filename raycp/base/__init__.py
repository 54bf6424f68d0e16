"""Value types that every room shares, and the clock. No logic lives here.

- ``clock``: one ``Clock`` protocol; ``SystemClock`` for production, ``VirtualClock`` for tests;
- ``keys``: ``GVK`` (what kind), ``RequestKey`` (what a reconcile is for);
- ``objects``: ``Meta`` and ``Obj``, an object as it is cached: raw JSON plus its decoded metadata;
- ``events``: what a cache tells about a change;
- ``tasks``: what a shard hands to a worker and what comes back.
"""
