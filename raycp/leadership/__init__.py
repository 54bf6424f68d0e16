"""Who leads, and since when.

- ``records``: the fleet's documents in its hub cluster (ConfigMaps ``raycp-<fleet>-*``), written with resourceVersion;
- ``epoch``: the epoch (of the fleet's leadership) and the incarnation (of the leader's process), kept in such a record;
- ``permit``: leave to write for a while, what the leader may grant and what its successor has to wait for.
"""
