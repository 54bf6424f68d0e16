"""All scenarios in sequence, each as a command of its own, so that the failure of one does not affect the next."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raycp.bench.child import end_on_term


@dataclass(frozen=True)
class SuiteStep:
    """``arguments`` of ``raycp bench``; ``minutes`` on 2 cores, estimated from single runs. It is ended after three times as
    long, at least ten minutes."""

    name: str
    arguments: tuple[str, ...]
    minutes: float
    plot: bool = True

    @property
    def limit(self) -> float:
        """Seconds."""
        return max(600.0, self.minutes * 180.0)


STEPS: tuple[SuiteStep, ...] = (
    SuiteStep("steady", ("steady", "--peer", "kopf"), 2.5),
    SuiteStep("cold", ("cold", "--peer", "kopf"), 2.0),
    SuiteStep("jobs", ("jobs",), 1.5),
    SuiteStep("jobs-large", ("jobs-large",), 2.0),
    SuiteStep("jobs-live", ("jobs-live",), 5.0),
    SuiteStep("admission-fleet", ("admission-fleet",), 3.0),
    SuiteStep("embedded", ("embedded",), 2.0, plot=False),
    SuiteStep("init-storm", ("init-storm", "--policy", "fifo"), 5.5),
    SuiteStep("init-storm-first", ("init-storm", "--first", "--policy", "fifo"), 5.0),
    SuiteStep("resync-storm", ("resync-storm", "--policy", "fifo"), 6.5),
    SuiteStep("noisy-tenant", ("noisy-tenant", "--policy", "fifo"), 4.0),
    SuiteStep("dead-cluster", ("dead-cluster", "--policy", "fifo"), 5.0),
    SuiteStep("joining-cluster", ("joining-cluster", "--policy", "fifo"), 6.0),
    SuiteStep("starvation", ("starvation", "--policy", "fifo"), 4.0),
    SuiteStep("tiers", ("tiers", "--policy", "fifo"), 3.0),
    SuiteStep("poison", ("poison",), 3.0),
    SuiteStep("hostile", ("hostile",), 9.0),
    SuiteStep("switch", ("switch", "--cause", "all", "--policy", "seed"), 27.0),
)
"""The quiet scenarios first: they are the most sensitive to what others leave on the machine (page cache, files)."""


@dataclass
class Played:
    """How a step ended. ``code`` is None if it exceeded its time."""

    step: SuiteStep
    code: int | None
    seconds: float
    said: str = ""

    @property
    def word(self) -> str:
        return "done" if self.code == 0 else "took too long" if self.code is None else f"failed ({self.code})"


async def play_steps(
    steps: Sequence[SuiteStep], out: Path, extra: Sequence[str], figures: str, progress: Callable[[str], None]
) -> list[Played]:
    """Run them; JSON object, figure (``figures``: svg or png) and log are written to ``out``."""
    end_on_term()
    played = []
    for step in steps:
        progress(f"{step.name}: about {step.minutes:g} min")
        played.append(await _play(step, out, extra, figures))
        progress(f"{step.name}: {played[-1].word} after {played[-1].seconds:.0f} s")
    return played


async def _play(step: SuiteStep, out: Path, extra: Sequence[str], figures: str) -> Played:
    kept, log = out / f"{step.name}.json", out / f"{step.name}.log"
    kept.unlink(missing_ok=True)  # figures of an earlier run
    command = [sys.executable, "-m", "raycp.cli.main", "bench", *step.arguments, *extra, "--json", str(kept)]
    if step.plot:
        command += ["--plot", str(out / f"{step.name}.{figures}")]
    begun = time.monotonic()
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, env=dict(os.environ), start_new_session=True
        )
    try:
        code: int | None = await asyncio.wait_for(process.wait(), step.limit)
    except TimeoutError:
        code = None
    finally:
        await _end(process)
    return Played(step, code, time.monotonic() - begun, log.read_text(errors="replace")[-400:])


async def _end(process: asyncio.subprocess.Process) -> None:
    """Interrupt it, as Ctrl-C does, so that it stops what it has started; then kill it."""
    for what, patience in ((signal.SIGTERM, 30.0), (signal.SIGKILL, 5.0)):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(what)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), patience)


def read_out(out: Path) -> dict[str, dict[str, Any]]:
    """The JSON objects of steps in ``out``, in the order of the steps; other files are ignored."""
    found: dict[str, dict[str, Any]] = {}
    known = [step.name for step in STEPS]
    for path in sorted(
        out.glob("*.json"), key=lambda path: (known.index(path.stem) if path.stem in known else len(known), path.stem)
    ):
        with contextlib.suppress(ValueError):
            content = json.loads(path.read_text())
            if isinstance(content, dict) and "machine" in content:
                found[path.stem] = content
    return found
