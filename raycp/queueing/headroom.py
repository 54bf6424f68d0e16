"""Slots kept free for those who need few: a flood of long work must not make others wait for its ends.

Fair turns alone don't help whoever comes when all slots are taken: he waits until one ends (measured: ten slots full of one
namespace's work of 50 ms, all begun together, p50 of the others 30 ms instead of 5). So while some (cluster, namespace) comes
and goes without a backlog, namespaces that hold slots already leave the last ``policy.headroom`` of them free. Where nobody
comes and goes, all slots are lent.
"""

from collections import OrderedDict

RECENT = 5.0
"""How long somebody who came and went is expected to come again, in seconds."""


class Headroom:
    """Who came and went lately. Every operation is O(1), amortised."""

    __slots__ = ("_light",)

    def __init__(self) -> None:
        self._light: OrderedDict[tuple[str, str], float] = OrderedDict()

    def ended(self, cluster: str, namespace: str, backlog: bool, now: float) -> None:
        """A piece of work has ended; ``backlog``: more of the same namespace is queued."""
        place = (cluster, namespace)
        if backlog:
            self._light.pop(place, None)
        else:
            self._light[place] = now
            self._light.move_to_end(place)

    def slots(self, share: float, slots: int, now: float) -> int:
        """How many slots are kept free at this moment, of ``slots`` in all."""
        light = self._light
        while light:
            place = next(iter(light))
            if now - light[place] <= RECENT:
                return int(share * slots + 0.5)
            del light[place]
        return 0
