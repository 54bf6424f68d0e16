"""The scripted API server of tests/kube, and a reflector on it."""

from collections.abc import AsyncIterator

import pytest
from scripted_api import ScriptedApi
from watched import Watched

from raycp.base.clock import SystemClock
from raycp.kube import ClusterClient, ConnectSpec


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
