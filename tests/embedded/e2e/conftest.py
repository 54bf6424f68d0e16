"""A living cluster per module, with clients: one per test that waits as tests do, and two per module that block."""

from collections.abc import AsyncIterator, Iterator

import pytest
from e2e_driver import JSON, E2eClient, e2e_client, living_cluster
from e2e_typed import TypedClient

from raycp.testkit.clusters import EmbeddedHandle


@pytest.fixture(scope="module")
def e2e_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedHandle]:
    yield from living_cluster(tmp_path_factory.mktemp("e2e"))


@pytest.fixture
async def e2e(e2e_cluster: EmbeddedHandle) -> AsyncIterator[E2eClient]:
    async with e2e_client(e2e_cluster) as client:
        yield client


@pytest.fixture(scope="module")
def typed(e2e_cluster: EmbeddedHandle) -> Iterator[TypedClient]:
    made = TypedClient(e2e_cluster)
    yield made
    made.close()


@pytest.fixture(scope="module")
def dynamic(e2e_cluster: EmbeddedHandle) -> Iterator[TypedClient]:
    made = TypedClient(e2e_cluster, accept=JSON, sends=JSON)
    yield made
    made.close()
