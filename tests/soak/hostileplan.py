"""The hostile answers of a soak: which, where, when, and which deadline still runs when one is over. A pure function of a seed."""

import math
import random
from collections.abc import Sequence
from typing import Any

from faultplan import Fault

from raycp.kube.exec_plugin import PLUGIN_SECONDS

BREAKER_MAX = 5.0
"""``breaker.max`` of the soak's clusters, in seconds."""
PROBE_SECONDS = 2.0
"""Deadline of a shard's probe of a cluster whose breaker is open."""
GRACE = 10.0
"""Seconds after a fault's end, and after the deadline that ran then, within which its cluster is in use again."""
JUDGED = 7.0
"""Seconds after that in which nothing new happens to the cluster, so that its recovery can be judged."""

FIRST = ("html", "redirect", "truncated", "401 storm", "plugin hangs", "clock ahead", "clock behind")
"""Played first, then the others, then all again."""
OTHERS = (
    "token rotated", "htmlAsJson", "empty", "text", "list", "nothing", "wrongTypes", "emptyObject", "invalidUtf8", "nan",
    "duplicateKeys", "deep", "huge",
)  # fmt: skip
KINDS = (*FIRST, *OTHERS)
CREDENTIALS = ("401 storm", "token rotated", "plugin hangs")
CLOCKS = ("clock ahead", "clock behind")


def hostilities(seed: int, seconds: float, clusters: Sequence[str], plugin: str) -> tuple[Fault, ...]:
    """The faults in order; all are over and recovered from when ``seconds`` are over. ``clusters``: the hub first, whose faults
    concern all, since permits come from there; ``plugin``: the one with a credential plugin.

    A cluster's next fault begins ``JUDGED`` after it has to be in use again; one of the hub, when that is so of all,
    apart from the one with the plugin, which takes too long.
    """
    rng = random.Random(f"hostile/{seed}")
    hub = clusters[0]
    free = {cluster: rng.uniform(2.0, 6.0) + (15.0 if cluster == hub else 0.0) for cluster in clusters}
    found: list[Fault] = []
    deck: list[str] = []
    while True:
        if not deck:
            deck = [*rng.sample(OTHERS, len(OTHERS)), *rng.sample(FIRST, len(FIRST))]
        kind = deck.pop()
        cluster = plugin if kind == "plugin hangs" else min(clusters, key=free.__getitem__)
        at = max(free[each] for each in clusters if each != plugin) if cluster == hub else free[cluster]
        fault = _drawn(rng, at, kind, cluster)
        over = fault.at + fault.seconds + deadline(fault) + GRACE + JUDGED
        if over > seconds:
            if kind == "plugin hangs":  # it takes the longest: others may still fit
                continue
            return tuple(sorted(found, key=lambda fault: fault.at))
        found.append(fault)
        for each in clusters if cluster == hub else [cluster]:
            free[each] = max(free[each], over + rng.uniform(0.0, 2.0))
        if cluster == hub:
            free[hub] += rng.uniform(10.0, 30.0)


def deadline(fault: Fault) -> float:
    """Seconds that a deadline may still run when the fault is over.

    - An answer that is no API server's opens the breaker: at most ``breaker.max`` until the next probe, and the probe itself.
    - A hanging plugin that was started just before the end: its own deadline, then the backoff after so many failed runs.
    - Rotated tokens and wrong clocks leave nothing that has to run out, and 401s no more than the bound itself has room for.
    """
    if fault.kind == "plugin hangs":
        runs = 1 + math.floor(fault.seconds / (PLUGIN_SECONDS + 1.0))
        return PLUGIN_SECONDS + float(2 ** (runs - 1))
    if fault.kind in CREDENTIALS or fault.kind in CLOCKS:
        return 0.0
    return BREAKER_MAX + PROBE_SECONDS


def named(fault: Fault) -> bool:
    """Whether status has to name it while it runs: it concerns every request, and lasts long enough to be met and reported."""
    whole = all(spec.get("probability", 1.0) == 1.0 for spec in fault.specs)
    return whole and fault.kind not in (*CLOCKS, "token rotated") and fault.seconds >= 4.0


def _drawn(rng: random.Random, at: float, kind: str, cluster: str) -> Fault:
    share = rng.choice((1.0, 1.0, 0.5))
    lasts = rng.uniform(2.0, 10.0)
    specs: list[dict[str, Any]]
    match kind:
        case "401 storm":
            specs = [{"kind": "error", "status": 401, "probability": share}]
            lasts = rng.uniform(4.0, 20.0)
        case "token rotated":
            specs, lasts = [{"kind": "expireToken"}], 0.5
        case "plugin hangs":
            # The token is void, so that nothing works until the plugin gives another one.
            specs, lasts = [{"kind": "expireToken"}], rng.choice((rng.uniform(2.0, 10.0), rng.uniform(20.0, 36.0)))
        case "clock ahead" | "clock behind":
            minutes = rng.choice((2, 7, 30))
            specs = [{"kind": "clockSkew", "skew": f"{minutes}m", "behind": kind == "clock behind"}]
        case _:
            specs = [{"kind": "badAnswer", "answer": kind, "probability": share}]
    if kind not in CLOCKS and rng.random() < 0.5:
        specs.append({"kind": "closeWatch", "for": "100ms"})  # whoever stands before the server has cut all connections
    return Fault(at, kind, (cluster,), lasts, tuple(specs))
