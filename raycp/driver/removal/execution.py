"""Carries out the removal from one cluster. Each step may be repeated: what is gone already counts as done."""

import asyncio
import json
from collections.abc import Awaitable, Sequence

import msgspec

from raycp.driver.removal.findings import HeldObject, LeftObject
from raycp.driver.removal.removals import ClusterRemoval
from raycp.kube import MERGE_PATCH, ApiError, ClusterClient, KubeError, decode_answer

AT_ONCE = 16
"""Requests to a cluster at the same time."""

TRIES = 5
"""Of a write that conflicts with those of other clients."""


class _Meta(msgspec.Struct, rename="camel"):
    uid: str
    resource_version: str
    finalizers: list[str] | None = None


class _Object(msgspec.Struct):
    metadata: _Meta


async def carry_out(removal: ClusterRemoval, client: ClusterClient) -> list[str]:
    """What could not be done, as messages. First the finalizers, since they hold what goes next; last the fleet's own objects."""
    problems = await _all([(held.what, _release(client, held)) for held in removal.releases])
    stored = [definition.stored for definition in removal.definitions]
    problems += await _all([(each.what, _delete(client, each)) for each in stored])
    problems += await _all([(each.what, _delete(client, each)) for each in removal.deletes])
    if removal.floor is not None:
        body = json.dumps({"metadata": {"annotations": {removal.floor.annotation: None}}}).encode()
        floor = removal.floor.stored
        problems += await _all([(floor.what, _patch(client, floor.path, body))])
    if removal.keys is not None and not problems:  # it tells whose the rest is, for the next try
        problems += await _all([(removal.keys.what, _delete(client, removal.keys))])
    return problems


async def _all(work: Sequence[tuple[str, Awaitable[None]]]) -> list[str]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(what: str, step: Awaitable[None]) -> str:
        async with gate:
            try:
                await step
            except (KubeError, TimeoutError) as error:
                return f"{what}: {str(error) or 'no answer'}"
        return ""

    return [problem for problem in await asyncio.gather(*(one(*each) for each in work)) if problem]


async def _release(client: ClusterClient, held: HeldObject) -> None:
    """Remove our finalizers over the very version that was read; one that others have changed since is read again."""
    version, names = held.version, list(held.all)
    for last in range(TRIES):
        kept = [name for name in names if name not in held.ours]
        meta = {"uid": held.uid, "resourceVersion": version, "finalizers": kept or None}
        try:
            await _patch(client, held.path, json.dumps({"metadata": meta}).encode())
            return
        except ApiError as error:
            if error.status != 409 or last == TRIES - 1:
                raise
        try:
            found = decode_answer((await client.request("GET", held.path)).body, _Object, f"GET {held.path}").metadata
        except ApiError as error:
            if error.status == 404:
                return
            raise
        if found.uid != held.uid:
            return  # another object of the same name
        version, names = found.resource_version, found.finalizers or []


async def _patch(client: ClusterClient, path: str, body: bytes) -> None:
    try:
        await client.request("PATCH", path, body=body, content_type=MERGE_PATCH)
    except ApiError as error:
        if error.status != 404:
            raise


async def _delete(client: ClusterClient, stored: LeftObject) -> None:
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": stored.uid}}
    try:
        await client.request("DELETE", stored.path, body=json.dumps(options).encode())
    except ApiError as error:
        if error.status not in (404, 409):  # 409: another object of that name by now
            raise
