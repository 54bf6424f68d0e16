"""The scripted server of tests/kube, and a reflector on it."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "kube")]

from scripted_api import ScriptedApi  # noqa: E402
from watched import Watched  # noqa: E402

from raycp.base.clock import SystemClock  # noqa: E402
from raycp.kube import ClusterClient, ConnectSpec  # noqa: E402


@pytest.fixture(params=[False, True], ids=["list", "watchlist"])
async def api(request: pytest.FixtureRequest) -> AsyncIterator[ScriptedApi]:
    found = ScriptedApi(watchlist=request.param, tls=False)
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def watched(api: ScriptedApi) -> AsyncIterator[Watched]:
    spec = ConnectSpec(name="c1", mode="direct", server=api.url, token=api.token, timeout=5.0)
    client = await ClusterClient.connect(spec, SystemClock())
    found = Watched(api, client)
    yield found
    await found.stop()
    await client.close()
