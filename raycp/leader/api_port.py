"""Whether the API server of an embedded cluster may live, by what answers at its address."""

import asyncio
import ssl
from urllib.parse import urlsplit

from raycp.kube import ConnectSpec
from raycp.protocol.transport import Life


async def api_server_life(connect: ConnectSpec, timeout: float = 1.0) -> Life:
    """Dead where its port refuses (law 6f), or is another's, with another certificate authority. A process that is frozen answers
    nothing, which is no sign of death."""
    server = urlsplit(connect.server or "")
    try:
        context = ssl.create_default_context(cadata=connect.ca_pem)
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(server.hostname, server.port or 443, ssl=context)
    except (ConnectionRefusedError, ssl.SSLCertVerificationError):
        return Life.DEAD
    except (OSError, TimeoutError):
        return Life.UNKNOWN
    writer.close()
    return Life.ALIVE
