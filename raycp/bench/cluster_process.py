"""One embedded cluster as a process: prints its kubeconfig as a JSON line, another one whenever its token changes, and exits with
its parent (end of stdin).
"""

import asyncio
import json
import sys

from raycp.config.embedded import EmbeddedSpec
from raycp.embedded.cluster import EmbeddedCluster, Endpoint
from raycp.embedded.standalone import tune


async def main(name: str, spec: str) -> None:
    cluster = EmbeddedCluster(name, EmbeddedSpec.model_validate_json(spec))
    _announce(await cluster.start())
    tune()
    cluster.on_endpoint = _announce
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        await reader.read()
    finally:
        await cluster.stop()


def _announce(endpoint: Endpoint) -> None:
    print(json.dumps({"kubeconfig": endpoint.kubeconfig}), flush=True)


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(sys.argv[1], sys.argv[2]))
