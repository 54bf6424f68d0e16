"""Fixtures on the scripted server."""

from collections.abc import AsyncIterator

import pytest
from scripted_api import ScriptedApi, direct

from raycp.base.clock import SystemClock
from raycp.kube import ClusterClient


@pytest.fixture
async def server() -> AsyncIterator[ScriptedApi]:
    found = ScriptedApi()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def client(server: ScriptedApi) -> AsyncIterator[ClusterClient]:
    found = await ClusterClient.connect(direct(server), SystemClock())
    yield found
    await found.close()
