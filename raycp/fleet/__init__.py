"""The Ray actors and their supervision: the only room that imports ray.

- ``names``, ``desired``, ``document``: what a fleet is made of, as values; what should live, as a pure function;
- ``wire``, ``channel``: what travels between shards and workers, and the TCP channel it travels on;
- ``shard``, ``worker``, ``leader``, ``observer``: the actors' logic, plain asyncio, no Ray;
- ``actors``: the thin Ray shells around them; ``substrate``: what the leader asks of Ray;
- ``launch``, ``jobs``, ``rayenv``: the driver's side: bring a fleet up, submit it as a Ray job, start a local Ray.
"""
