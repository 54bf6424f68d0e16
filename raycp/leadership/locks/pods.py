"""The Pod that owns a configMap lock: does it exist, and when has it ended?

A lock is owned by its holder's Pod only where the garbage collector of the hub knows that Pod: in the lock's own namespace. An
owner that does not exist there would get the lock collected at once (API doc, "Owners and Dependents").
"""

import os
from collections.abc import Mapping

import msgspec

from raycp.kube import ApiError, BadAnswer, ClusterClient, decode_answer
from raycp.leadership.answers import ask, check_object, is_absent
from raycp.leadership.locks.types import LockProblem, PodRef

ENDED = ("Failed", "Succeeded")
WATCH_FOR = 300


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    uid: str = ""
    resource_version: str = ""


class _Status(msgspec.Struct):
    phase: str = ""


class _Pod(msgspec.Struct):
    metadata: _Meta
    status: _Status = msgspec.field(default_factory=_Status)


class _List(msgspec.Struct):
    kind: str
    metadata: _Meta
    items: list[_Pod]


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


def pod_of(env: Mapping[str, str] | None = None) -> PodRef | None:
    """The Pod of this process, by the downward API: ``POD_NAMESPACE``, ``POD_NAME``, ``POD_UID``."""
    env = os.environ if env is None else env
    found = [env.get(key, "") for key in ("POD_NAMESPACE", "POD_NAME", "POD_UID")]
    return PodRef(*found) if all(found) else None


class KubePods:
    """The Pods of the lock's namespace."""

    def __init__(self, client: ClusterClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def mine(self, pod: PodRef | None) -> PodRef | None:
        """``pod`` if it can own the lock: it exists, in this cluster and the lock's namespace. Raises ``KubeError``;
        ``LockProblem`` without the right to look."""
        if pod is None or pod.namespace != self._namespace:
            return None
        try:
            answer = await ask(self._client, "GET", f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}")
        except ApiError as error:
            if is_absent(error, pod.name):
                return None
            raise self._problem(error) from error
        meta = decode_answer(answer.body, _Pod, f"Pod {pod}").metadata
        check_object(pod.name, meta.name, meta.resource_version, meta.uid, f"Pod {pod}")
        return pod if meta.uid == pod.uid else None

    async def until_ended(self, pod: PodRef) -> None:
        """See ``PodWatch``."""
        path = f"/api/v1/namespaces/{pod.namespace}/pods"
        only = f"metadata.name={pod.name}"
        try:
            answer = await ask(self._client, "GET", path, query={"fieldSelector": only})
            found = decode_answer(answer.body, _List, f"the Pods {only} of {pod.namespace}")
            if found.kind != "PodList":
                raise BadAnswer(f"the Pods {only} of {pod.namespace}: the answer is a {found.kind!r}")
            if not any(_lives(each, pod) for each in found.items):
                return
            query: Mapping[str, str | int | bool] = {
                "watch": True,
                "fieldSelector": only,
                "resourceVersion": found.metadata.resource_version,
                "timeoutSeconds": WATCH_FOR,
            }
            async with self._client.stream(path, query, idle_timeout=WATCH_FOR + 30.0) as batches:
                async for lines in batches:
                    for line in lines:
                        event = decode_answer(line, _Event, f"the watch of Pod {pod}")
                        if event.type == "ERROR":
                            raise TimeoutError("the watch has to be reopened")
                        if event.type not in ("DELETED", "MODIFIED"):
                            continue
                        seen = decode_answer(event.object, _Pod, f"the watch of Pod {pod}")
                        if seen.metadata.uid == pod.uid and (event.type == "DELETED" or not _lives(seen, pod)):
                            return
        except ApiError as error:
            raise self._problem(error) from error
        raise TimeoutError("the watch has ended")

    def _problem(self, error: ApiError) -> Exception:
        if error.status == 403:
            return LockProblem(f"no right to get, list, watch pods in namespace {self._namespace}: grant it (deploy/rbac)")
        return error


def _lives(found: _Pod, pod: PodRef) -> bool:
    return found.metadata.uid == pod.uid and found.status.phase not in ENDED
