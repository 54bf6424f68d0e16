"""Fixtures on the scripted server."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from scripted_api import ScriptedApi

from raycp.base.clock import SystemClock
from raycp.kube import ClusterClient, ConnectSpec


def direct(server: ScriptedApi, **change: object) -> ConnectSpec:
    fields: dict[str, object] = {"server": server.url, "ca_pem": server.authority.pem, "token": server.token, "timeout": 5.0}
    return ConnectSpec(name="c1", mode="direct", **{**fields, **change})  # type: ignore[arg-type]


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
