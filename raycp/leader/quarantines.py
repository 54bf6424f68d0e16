"""Which shards have a quarantine worker: a process with one slot for the shard's suspects (law 11), made when one is due.

It takes nothing else, so a suspect's death costs no other key. Each shard has its own: a death there is the suspect's, with no
question to other shards, and slow suspects of one shard delay no other's. It costs nothing while there are no suspects.
"""

from collections.abc import Collection

MOST = 4
"""Quarantine workers of one fleet at a time: further shards wait for one of them to have no suspects that are due."""

LINGER = 60.0
"""Seconds for which one is kept that has nothing to do: where one suspect was, more may follow."""


class Quarantines:
    """One per leader. ``shards``: those that are to have a quarantine worker."""

    def __init__(self) -> None:
        self.shards: frozenset[str] = frozenset()
        self._needed: dict[str, tuple[float, float]] = {}
        """Shard -> since when it has needed one, and when it did last."""
        self._begun = False

    def step(self, needing: Collection[str], living: Collection[str], now: float) -> frozenset[str]:
        """The shards that are to have one. ``needing``: those with a suspect that is due; ``living``: those that have such a
        worker, as a leader finds it after its start."""
        needed = self._needed
        for shard in needing:
            needed[shard] = (needed.get(shard, (now, now))[0], now)
        for shard in () if self._begun else living:
            needed.setdefault(shard, (now, now))
        self._begun = True
        for shard in [shard for shard, (_, last) in needed.items() if now - last > LINGER]:
            del needed[shard]
        # One that is in use stays, then come those that wait in the order of their need, then idle ones.
        order = sorted(needed, key=lambda shard: (shard not in needing, shard not in living, needed[shard][0]))
        self.shards = frozenset(order[:MOST])
        return self.shards
