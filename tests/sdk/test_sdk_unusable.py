"""A reconcile reports the clusters that it has found unusable: it is run again when they are usable (law 13)."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from raycp.base.clock import VirtualClock
from raycp.base.keys import RequestKey
from raycp.base.tasks import Child, Task
from raycp.kube.errors import ApiError, CircuitOpen, Throttled, Unreachable
from raycp.sdk import Answer, ApiRequest, CacheRead, ClusterInfo, Context, Session, controller, run_reconcile

Work = Callable[[Context], Awaitable[Any]]


class Fleet:
    """A ``Backend``: ``west`` is unreachable, ``north`` is not synced; each request ends in ``error``."""

    clusters = {
        "hub": ClusterInfo("hub", "hub"),
        "east": ClusterInfo("east"),
        "west": ClusterInfo("west", reachable=False),
        "north": ClusterInfo("north", synced=False),
    }

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def namespaced(self, cluster: str, kind: Any) -> bool:
        return True

    async def read(self, task: Task, query: CacheRead) -> list[Child]:
        raise self.error

    async def request(self, task: Task, call: ApiRequest) -> Answer:
        raise self.error

    def event(self, task: Task, cluster: str, event: bytes) -> None: ...


async def found_unusable(work: Work, error: Exception, cluster: str = "hub", unknown: tuple[str, ...] = ()) -> list[str]:
    @controller("v1/ConfigMap")
    async def sample(ctx: Context, obj: dict[str, Any]) -> None:
        await work(ctx)

    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n", "namespace": "ns", "uid": "u"}}
    key = RequestKey("sample", cluster, "ns", "n")
    task = Task(1, key, "standard", "update", 1, 1, "0", 1, 1, 0.0, msgspec.json.encode(obj), [], list(unknown))
    done = await run_reconcile(Session(sample, task, Fleet(error), VirtualClock()))  # type: ignore[arg-type]
    return done.unusable


async def nothing(ctx: Context) -> None: ...


async def members(ctx: Context) -> Any:
    return ctx.members


async def own(ctx: Context) -> Any:
    return ctx.cluster


async def write(ctx: Context) -> Any:
    return await ctx.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}, cluster="east")


async def get(ctx: Context) -> Any:
    return await ctx.get("v1/Secret", "s", cluster="east")


REFUSED = Unreachable("refused", sent=False)


@pytest.mark.parametrize(
    ("work", "error", "found"),
    [
        (nothing, REFUSED, []),
        (members, REFUSED, ["north", "west"]),
        (own, REFUSED, []),
        (write, REFUSED, ["east"]),
        (write, CircuitOpen("east", "it failed", 9.0), ["east"]),
        (write, Throttled("east", 1.0), []),
        (get, REFUSED, ["east"]),
        (write, ApiError(401), ["east"]),
        (write, ApiError(503), ["east"]),
        (write, ApiError(500), []),
        (write, ApiError(409), []),
    ],
)
async def test_what_a_reconcile_has_found_unusable_is_reported(work: Work, error: Exception, found: list[str]) -> None:
    assert await found_unusable(work, error) == found


async def test_its_own_cluster_and_those_of_its_children_count() -> None:
    assert await found_unusable(own, REFUSED, cluster="west") == ["west"]
    assert await found_unusable(nothing, REFUSED, unknown=("south",)) == ["south"]
