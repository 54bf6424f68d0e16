"""A create that finds our own object: others may have changed it since, so the cache takes it from its own watch."""

from collections.abc import Mapping
from typing import Any

import msgspec

from raycp import Context
from raycp.base.clock import SystemClock
from raycp.base.keys import GVK, RequestKey
from raycp.base.tasks import Outcome, Task
from raycp.kube import ApiError
from raycp.sdk.backend import Answer, ApiRequest, ClusterInfo
from raycp.sdk.controller import controller
from raycp.sdk.run import run_reconcile
from raycp.sdk.session import Session

OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n", "namespace": "ns", "uid": "o"}}
FOUND: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "9",
        "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "n", "uid": "o", "controller": True}],
    },
    "status": {"phase": "Succeeded"},
}  # fmt: skip


class Taken:
    """A ``Backend`` where our own object has the name already, and has ended since."""

    marks = None
    clusters: Mapping[str, ClusterInfo] = {}

    async def namespaced(self, cluster: str, kind: GVK) -> bool:
        return True

    async def request(self, task: Task, call: ApiRequest) -> Answer:
        if call.verb == "create":
            raise ApiError(409, "AlreadyExists", "it is there")
        return Answer(200, msgspec.json.encode(FOUND))


async def test_an_existing_object_is_awaited_and_not_folded() -> None:
    got = []

    @controller("v1/ConfigMap", name="c", owns=["v1/Pod"])
    async def fn(ctx: Context, obj: dict[str, Any]) -> None:
        got.append(await ctx.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}))

    key = RequestKey("c", "a", "ns", "n")
    task = Task(3, key, "high", "user", 1, 1, "s", 1, 9, 0.0, msgspec.json.encode(OWNER), [])
    backend: Any = Taken()
    done = await run_reconcile(Session(fn, task, backend, SystemClock()))
    assert done.outcome is Outcome.OK, done.error
    assert got[0]["status"] == {"phase": "Succeeded"}
    (write,) = done.writes
    assert (write.name, write.uid, write.rv, write.deleted) == ("p", "u", 9, False)
    assert write.raw is None, "folded as our own, the Pod's end would be silent"
