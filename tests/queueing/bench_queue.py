"""What the queue costs: ``python tests/queueing/bench_queue.py [KEYS]`` prints µs per operation at so many queued
keys."""

import gc
import json
import sys
import time
from random import Random
from statistics import median

from raycp.base.clock import SystemClock
from raycp.base.keys import RequestKey
from raycp.queueing import QueuePolicy, WorkQueue

TIERS = ("critical", "high", "standard", "background")


def measure(keys: int, batch: int = 32, rounds: int = 20_000) -> dict[str, float]:
    """µs per ``add`` (while filling), ``pull`` (per item) and ``done``, with ``keys`` queued throughout."""
    queue = WorkQueue(QueuePolicy(), SystemClock(), rng=Random(1))
    names = [RequestKey("c", f"cluster-{i % 10}", f"ns-{i % 997}", f"name-{i}") for i in range(keys + rounds)]
    start = time.perf_counter()
    for index in range(keys):
        queue.add(names[index], tier=TIERS[index & 3], reason="update")
    filled = time.perf_counter() - start
    pulled = added = done = again = 0.0
    at, taken = keys, 0
    while taken < rounds:
        start = time.perf_counter()
        items = queue.pull("w", batch)
        pulled += time.perf_counter() - start
        start = time.perf_counter()
        for _ in items:
            queue.add(names[at], tier="standard", reason="update")
            at = at + 1 if at + 1 < len(names) else keys
        added += time.perf_counter() - start
        start = time.perf_counter()
        for _ in items:
            queue.add(names[taken % keys], tier="standard", reason="update")
        again += time.perf_counter() - start
        start = time.perf_counter()
        for item in items:
            queue.done("w", item.key, id=item.id)
        done += time.perf_counter() - start
        taken += len(items)
    queue.close()
    return {
        "fill_us": filled / keys * 1e6,
        "add_us": added / taken * 1e6,
        "readd_us": again / taken * 1e6,
        "pull_us": pulled / taken * 1e6,
        "done_us": done / taken * 1e6,
    }


def delayed(keys: int) -> dict[str, float]:
    """µs per ``add`` with a delay, and per item woken by a real event."""
    queue = WorkQueue(QueuePolicy(), SystemClock(), rng=Random(1))
    rng = Random(2)
    names = [RequestKey("c", f"cluster-{i % 10}", f"ns-{i % 997}", f"name-{i}") for i in range(keys)]
    start = time.perf_counter()
    for name in names:
        queue.add(name, tier="background", delay=60 + rng.random(), reason="resync", real=False)
    put_off = time.perf_counter() - start
    start = time.perf_counter()
    for name in names[: keys // 10]:
        queue.add(name, tier="critical", reason="update")
    woken = time.perf_counter() - start
    queue.close()
    return {"add_delayed_us": put_off / keys * 1e6, "wake_us": woken / (keys // 10) * 1e6}


def main() -> None:
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    runs = []
    for _ in range(3):
        gc.collect()
        runs.append(measure(keys) | delayed(keys))
    print(json.dumps({"keys": keys} | {name: round(median(run[name] for run in runs), 2) for name in runs[0]}))


if __name__ == "__main__":
    main()
