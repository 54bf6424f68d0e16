"""Embedded clusters in a process of their own, for ``raycp embedded`` and benchmarks."""

import asyncio
import gc
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.embedded.cluster import EmbeddedCluster, write_kubeconfig


def tune() -> None:
    """Tune the garbage collector after start: freeze the present objects and collect old generations rarely.

    A store makes millions of objects and no cycles, so full collections are wasted. Young ones stay short: of 200 000 objects one
    was measured to take 80 ms, of 2 000 it takes 1 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 10, 10_000)


def specs(
    count: int, *, life: bool = False, nodes: int = 0, rbac: bool = False, seed: int = 0, port: int = 0,
    data_dir: Path | None = None,
) -> list[tuple[str, EmbeddedSpec]]:  # fmt: skip
    """Names and specs of ``count`` clusters: ``embedded-1``, ... ``port`` is the first one's; the others follow."""
    found = []
    for number in range(1, count + 1):
        name = f"embedded-{number}"
        spec = EmbeddedSpec(
            controllers=EmbeddedControllers() if life else EmbeddedControllers.none(),
            nodes=nodes if life else 0,
            rbac=rbac,
            seed=seed + number - 1,
            port=port + number - 1 if port else 0,
            data_dir=data_dir / name if data_dir is not None else None,
        )
        found.append((name, spec))
    return found


async def serve(
    clusters: Sequence[tuple[str, EmbeddedSpec]],
    directory: Path,
    *,
    announce: Callable[[str], None] = print,
    until: asyncio.Event | None = None,
) -> None:
    """Run clusters until ``until`` is set, or SIGINT, SIGTERM or SIGHUP arrive (the latter unless it is ignored, as by ``nohup``);
    write ``NAME.kubeconfig`` into ``directory``, which lasts as long as what it lets in to: the cluster, or its ``dataDir``.

    Prints one line per cluster, ``NAME SERVER KUBECONFIG``, when it serves. Raises ``OSError`` if a port is taken.
    """
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    stop = until if until is not None else asyncio.Event()
    loop = asyncio.get_running_loop()
    if until is None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN or number is not signal.SIGHUP:
                loop.add_signal_handler(number, stop.set)
    running: list[EmbeddedCluster] = []
    written: list[Path] = []
    try:
        for name, spec in clusters:
            if stop.is_set():
                break
            cluster = EmbeddedCluster(name, spec)
            running.append(cluster)
            endpoint = await cluster.start()
            path = directory / f"{name}.kubeconfig"
            write_kubeconfig(path, endpoint.kubeconfig)
            if spec.data_dir is None:
                written.append(path)
            announce(f"{name} {endpoint.server} {path}")
        tune()
        await stop.wait()
    finally:
        for path in written:
            path.unlink(missing_ok=True)
        for cluster in reversed(running):
            await cluster.stop()


def main(clusters: Sequence[tuple[str, EmbeddedSpec]], directory: Path, announce: Callable[[str], None]) -> None:
    """Run ``serve`` on an event loop of its own (uvloop)."""
    import uvloop

    uvloop.run(serve(clusters, directory, announce=announce))
