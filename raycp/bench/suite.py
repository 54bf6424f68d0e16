"""Every scenario one after another, each as a command of its own: what one fails of, the next does not suffer from."""

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
class Step:
    """``arguments`` of ``raycp bench``; ``minutes`` that it takes on 2 cores, estimated from single runs. It is ended after three
    times as long, ten minutes at least."""

    name: str
    arguments: tuple[str, ...]
    minutes: float
    plot: bool = True

    @property
    def limit(self) -> float:
        """Seconds."""
        return max(600.0, self.minutes * 180.0)


STEPS: tuple[Step, ...] = (
    Step("steady", ("steady", "--peer", "kopf"), 2.5),
    Step("cold", ("cold", "--peer", "kopf"), 2.0),
    Step("jobs", ("jobs",), 1.5),
    Step("embedded", ("embedded",), 2.0, plot=False),
    Step("init-storm", ("init-storm", "--policy", "fifo"), 5.5),
    Step("init-storm-first", ("init-storm", "--first", "--policy", "fifo"), 5.0),
    Step("resync-storm", ("resync-storm", "--policy", "fifo"), 6.5),
    Step("noisy-tenant", ("noisy-tenant", "--policy", "fifo"), 4.0),
    Step("dead-cluster", ("dead-cluster", "--policy", "fifo"), 5.0),
    Step("joining-cluster", ("joining-cluster", "--policy", "fifo"), 6.0),
    Step("starvation", ("starvation", "--policy", "fifo"), 4.0),
    Step("tiers", ("tiers", "--policy", "fifo"), 3.0),
    Step("switch", ("switch", "--cause", "all", "--policy", "seed"), 27.0),
)
"""Quiet ones first: what a loaded machine leaves behind (page cache, files) disturbs them most."""


@dataclass
class Played:
    """How a step ended. ``code`` is None where it was ended for its time."""

    step: Step
    code: int | None
    seconds: float
    said: str = ""

    @property
    def word(self) -> str:
        return "done" if self.code == 0 else "took too long" if self.code is None else f"failed ({self.code})"


async def play_steps(
    steps: Sequence[Step], out: Path, extra: Sequence[str], figures: str, tell: Callable[[str], None]
) -> list[Played]:
    """Play them; JSON object, figure (``figures``: svg or png) and what was said go to ``out``."""
    end_on_term()
    played = []
    for step in steps:
        tell(f"{step.name}: about {step.minutes:g} min")
        played.append(await _play(step, out, extra, figures))
        tell(f"{step.name}: {played[-1].word} after {played[-1].seconds:.0f} s")
    return played


async def _play(step: Step, out: Path, extra: Sequence[str], figures: str) -> Played:
    kept, log = out / f"{step.name}.json", out / f"{step.name}.log"
    kept.unlink(missing_ok=True)  # an older run's figures are not this one's
    command = [sys.executable, "-m", "raycp.cli.main", "bench", *step.arguments, *extra, "--json", str(kept)]
    if step.plot:
        command += ["--plot", str(out / f"{step.name}.{figures}")]
    begun = time.monotonic()
    with log.open("wb") as told:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=told, stderr=told, env=dict(os.environ), start_new_session=True
        )
    try:
        code: int | None = await asyncio.wait_for(process.wait(), step.limit)
    except TimeoutError:
        code = None
    finally:
        await _end(process)
    return Played(step, code, time.monotonic() - begun, log.read_text(errors="replace")[-400:])


async def _end(process: asyncio.subprocess.Process) -> None:
    """As Ctrl-C would, so that it stops what it has started; then harder."""
    for what, patience in ((signal.SIGTERM, 30.0), (signal.SIGKILL, 5.0)):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(what)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), patience)


def read_out(out: Path) -> dict[str, dict[str, Any]]:
    """The JSON objects that steps have left in ``out``, in the steps' order; what is no such object is left out."""
    found: dict[str, dict[str, Any]] = {}
    known = [step.name for step in STEPS]
    for path in sorted(
        out.glob("*.json"), key=lambda path: (known.index(path.stem) if path.stem in known else len(known), path.stem)
    ):
        with contextlib.suppress(ValueError):
            told = json.loads(path.read_text())
            if isinstance(told, dict) and "machine" in told:
                found[path.stem] = told
    return found
