"""Settings of a reflector."""

from collections.abc import Callable

import msgspec

from raycp.metrics import ReflectorSeries


class ReflectorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in seconds. The defaults of watches and backoff are client-go's."""

    watch_list: bool = True
    """stream the initial state if the server supports it (WatchList, KEP-3157); otherwise list in pages"""
    page: int = 500
    """objects per page of a list"""
    watch_timeout: tuple[float, float] = (300.0, 600.0)
    """the server is asked to end a watch after a random time in this range, so that watches spread over its replicas"""
    stall: float = 90.0
    """a watch without a byte for this long counts as dead; a server sends a bookmark about once a minute"""
    initial_patience: float = 15.0
    """silence within a streamed initial state after which a list is requested instead"""
    initial_deadline: float = 60.0
    """time after which a list is requested instead, whatever the stream has sent; 10 ms more for each object"""
    list_timeout: float = 60.0
    """deadline of one page"""
    backoff_first: float = 0.8
    backoff_cap: float = 30.0
    backoff_quiet: float = 120.0
    refused_cap: float = 2.5
    """as ``backoff_cap``, while the server refuses the credentials (401): a breaker that had opened wakes reflectors, but it takes
    five refusals to open one, and a server of one group that refuses them opens none"""
    settled: float = 5.0
    """a watch that lived this long resets the backoff; one that ends sooner, without a change, counts as a failure"""
    list_every: float = 1.0
    """least time between the beginnings of two lists"""
    watch_every: float = 1.0
    """least time between the beginnings of two watches"""
    void_cap: float = 60.0
    """longest wait for a list after repeated voids; the first void is followed by a list at once"""
    check_identity: bool = True
    """compare the uid of namespace kube-system at each list and reconnection (law 7)"""
    replay_quiet: float = 2.0
    """silence after which the replay from a watermark counts as complete"""
    on_void: Callable[[str], None] | None = None
    """called with the reason when the cluster turns out to be another one or a restored one"""
    series: ReflectorSeries | None = None
    """what the reflector counts on"""
