"""How many files one user's change enters, and how often its path comes back to a file that it had left.

``python -m raycp.bench.path`` runs the real cores (a shard and a worker, the user loop included) over an embedded cluster in this
process, changes one object at a time, and follows each change by ``sys.setprofile``: from the bytes of the watch event to the
reconcile's acknowledgement, as the sequence of files whose functions are called. ``base``, the cells of metrics and ``embedded``
are left out; the reconciler reads its cluster and writes nothing. It prints one JSON line: ``files`` and ``returns``, medians over
the changes (a timer may fire during one of them), with ``path``, the files in the order in which they are first entered.
"""

import argparse
import asyncio
import json
import statistics
import sys
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from raycp.config import FleetDoc
from raycp.driver.fleet_builder import build_fleet
from raycp.driver.in_process import InProcessStack
from raycp.sdk import Context, controller

PACKAGE = f"{Path(__file__).parents[1]}/"
LEFT_OUT = ("base/", "embedded/", "bench/", "metrics/cells.py")
CLUSTER = "here"
QUIET = {"gc": False, "namespace": False, "serviceaccount": False, "disruption": False, "scheduler": False, "stages": False}
"""The embedded cluster serves its API and does nothing else."""

SETTLED = 0.05
"""Seconds after a reconcile within which its acknowledgement is handled."""

_done: Callable[[str], object] = str
"""Called by the reconciler with the name of its object."""


@controller("v1/ConfigMap", labels={"app": "path"})
async def reader(ctx: Context, cm: dict[str, Any]) -> None:
    """Reads its cluster's name and writes nothing."""
    assert ctx.cluster.name
    _done(cm["metadata"]["name"])


class Tracer:
    """The files of raycp whose functions are called, in order, on all threads that started after it was installed."""

    def __init__(self) -> None:
        self.on = False
        self.files: list[str] = []

    def install(self) -> None:
        """Trace this thread, and those that start from now on."""
        threading.setprofile(self)
        sys.setprofile(self)

    def __call__(self, frame: Any, event: str, _: Any) -> None:
        if self.on and event == "call":
            file = frame.f_code.co_filename
            if file.startswith(PACKAGE) and not file.startswith(LEFT_OUT, len(PACKAGE)):
                self.files.append(file[len(PACKAGE) :])


def figures(files: Iterable[str]) -> tuple[list[str], int]:
    """(files in the order of their first call, how often the sequence comes back to a file that it had left)."""
    entered: dict[str, None] = {}
    returns, current = 0, ""
    for file in files:
        if file != current:
            returns += file in entered
            entered[file] = None
            current = file
    return list(entered), returns


def _document() -> FleetDoc:
    return FleetDoc.model_validate(
        {
            "apiVersion": "raycp.io/v1alpha1",
            "kind": "Fleet",
            "metadata": {"name": "path"},
            "spec": {
                "clusters": [{"name": CLUSTER, "embedded": {"controllers": QUIET}}],
                "controllers": [{"use": "raycp.bench.path:reader"}],
                "observer": {"port": 0},
            },
        }
    )


def _hand_over(loop: asyncio.AbstractEventLoop, done: "asyncio.Queue[str]", name: str) -> None:
    loop.call_soon_threadsafe(done.put_nowait, name)


async def measure(changes: int) -> dict[str, Any]:
    """Follow so many changes, after a few that warm caches and connections."""
    from raycp.bench import path as module  # the controller's module, which is not ``__main__``

    done: asyncio.Queue[str] = asyncio.Queue()
    module._done = partial(_hand_over, asyncio.get_running_loop(), done)
    tracer, found = Tracer(), []
    tracer.install()
    stack = InProcessStack(build_fleet(_document(), Path("fleet.yaml"), []), {CLUSTER: "0"})
    try:
        await stack.start(1, {})
        await stack.synced()
        api = stack.clusters[CLUSTER].api
        for number in range(-3, changes):
            name = f"change-{number + 3}"
            labels = {"app": "path"}
            tracer.files.clear()
            tracer.on = number >= 0
            obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", "labels": labels}}
            await api.create("configmaps", obj)
            async with asyncio.timeout(10.0):
                while await done.get() != name:
                    pass
            await asyncio.sleep(SETTLED)
            tracer.on = False
            if number >= 0:
                found.append(figures(tracer.files))
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        await stack.stop()
    shortest = min((path for path, _ in found), key=len)
    return {
        "files": round(statistics.median(len(path) for path, _ in found)),
        "returns": round(statistics.median(returns for _, returns in found)),
        "changes": changes,
        "path": shortest,
    }


def main() -> int:
    """Print the figures as one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m raycp.bench.path", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--changes", type=int, default=15, help="changes to follow (default 15)")
    print(json.dumps(asyncio.run(measure(parser.parse_args().changes))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
