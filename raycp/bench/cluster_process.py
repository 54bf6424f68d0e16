"""One embedded cluster as a process: prints its kubeconfig, obeys JSON lines on stdin, ends with its parent (end of
stdin).
"""

import asyncio
import json
import sys
from typing import Any

from raycp.config.embedded import EmbeddedSpec, FaultSpec
from raycp.embedded import EmbeddedCluster


async def main(name: str, spec: str) -> None:
    cluster = EmbeddedCluster(name, EmbeddedSpec.model_validate_json(spec))
    endpoint = await cluster.start()
    text = getattr(endpoint, "kubeconfig", None) or getattr(endpoint, "kubeconfig_text", "")
    print(json.dumps({"kubeconfig": text}), flush=True)
    reader = asyncio.StreamReader(limit=16 * 1024 * 1024)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            try:
                answer = _obey(cluster, json.loads(line))
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
    finally:
        await cluster.stop()


def _obey(cluster: Any, order: dict[str, Any]) -> dict[str, Any]:
    if "faults" in order:
        cluster.set_faults([FaultSpec.model_validate(fault) for fault in order["faults"]])
        return {"ok": True}
    raise ValueError(f"unknown order {sorted(order)}")


if __name__ == "__main__":
    try:
        import uvloop

        uvloop.run(main(sys.argv[1], sys.argv[2]))
    except ImportError:
        asyncio.run(main(sys.argv[1], sys.argv[2]))
