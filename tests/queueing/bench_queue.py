"""What the queue costs, in µs of CPU per operation at so many queued keys.

``python tests/queueing/bench_queue.py [KEYS]``
"""

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
    start = time.thread_time()
    for index in range(keys):
        queue.add(names[index], tier=TIERS[index & 3], reason="update")
    filled = time.thread_time() - start
    pulled = added = done = again = 0.0
    at, taken = keys, 0
    while taken < rounds:
        start = time.thread_time()
        items = queue.pull("w", batch)
        pulled += time.thread_time() - start
        start = time.thread_time()
        for _ in items:
            queue.add(names[at], tier="standard", reason="update")
            at = at + 1 if at + 1 < len(names) else keys
        added += time.thread_time() - start
        start = time.thread_time()
        for _ in items:
            queue.add(names[taken % keys], tier="standard", reason="update")
        again += time.thread_time() - start
        start = time.thread_time()
        for item in items:
            queue.done("w", item.key, id=item.id)
        done += time.thread_time() - start
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
    start = time.thread_time()
    for name in names:
        queue.add(name, tier="background", delay=60 + rng.random(), reason="resync", real=False)
    put_off = time.thread_time() - start
    start = time.thread_time()
    for name in names[: keys // 10]:
        queue.add(name, tier="critical", reason="update")
    woken = time.thread_time() - start
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
