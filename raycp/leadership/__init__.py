"""Who leads, and since when. In the order of a leadership:

- ``locks``: leader election: one contract, three kinds of object that store the lock;
- ``epoch``: the epoch (of the fleet's leadership) and the incarnation (of the leader's process), numbers that only rise;
- ``permit``: permits to write for a few seconds: what a leader may grant, and what its successor has to wait for;
- ``switches``: the history of changes of leadership and of primaries, with their phases;
- ``records``: the fleet's documents in its hub cluster (ConfigMaps ``raycp-<fleet>-*``), written with resourceVersion;
- ``mark_secret``: the Secret beside them that keeps the keys for owner marks;
- ``answers``: the boundary to the hub's API server, which all of these read through.
"""
