"""What each process of a fleet weighs over time: memory, descriptors, threads, and how they grow."""

import contextlib
from collections import defaultdict
from collections.abc import Mapping

import psutil
from invariants import slope

WARM = 900.0
"""Seconds after which a process's memory has to be flat."""
TARGET = 3.0
"""Growth after that, in MiB an hour."""


class Weights:
    """Samples by place and pid: a successor weighs anew."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], list[tuple[float, float, int, int]]] = defaultdict(list)

    def sample(self, now: float, processes: Mapping[str, int]) -> None:
        """Weigh the processes by their places. ``now`` in seconds from the begin."""
        for place, pid in processes.items():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                self.add(now, place, pid, process.memory_info().rss, process.num_fds(), process.num_threads())

    def add(self, now: float, place: str, pid: int, memory: float, descriptors: int, threads: int) -> None:
        self._found[place, pid].append((now, memory, descriptors, threads))

    def table(self) -> list[str]:
        """A line for each process: its last figures, and its growth per hour after a third of the time, at most ``WARM``."""
        end = max((found[-1][0] for found in self._found.values()), default=0.0)
        begin = min(end / 3.0, WARM)
        lines = [f"growth per hour from {begin:.0f} to {end:.0f} s; memory has to be below {TARGET:g} MiB/h after {WARM:.0f} s"]
        for (place, pid), found in sorted(self._found.items()):
            late = [each for each in found if each[0] >= begin]
            memory, descriptors, threads = (slope([(each[0], each[i]) for each in late]) * 3600.0 for i in (1, 2, 3))
            last = found[-1]
            lines.append(
                f"{place} ({pid}): {found[0][1] / 2**20:.0f} to {last[1] / 2**20:.1f} MiB, {memory / 2**20:+.1f} MiB/h; "
                f"{last[2]} descriptors, {descriptors:+.1f}/h; {last[3]} threads, {threads:+.1f}/h"
            )
            lines.append("    MiB: " + " ".join(f"{each[1] / 2**20:.0f}" for each in found[:: max(1, len(found) // 20)]))
        return lines
