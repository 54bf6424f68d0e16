"""A living cluster per module, and a client per test."""

from collections.abc import AsyncIterator, Iterator

import pytest
from e2e_driver import E2eClient, e2e_client, living_cluster

from raycp.testkit.clusters import EmbeddedHandle


@pytest.fixture(scope="module")
def e2e_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedHandle]:
    yield from living_cluster(tmp_path_factory.mktemp("e2e"))


@pytest.fixture
async def e2e(e2e_cluster: EmbeddedHandle) -> AsyncIterator[E2eClient]:
    async with e2e_client(e2e_cluster) as client:
        yield client
