"""The floor of the epochs, on an object that no deletion of the state's namespace removes.

The record of epochs lives in the fleet's namespace. If that namespace is deleted, or restored from a backup, the record says too
little; a candidate that knew no more would begin again at epoch 1 while the last leader's permits are valid. So the highest epoch
and incarnation also stand in an annotation of a cluster-scoped object: the CustomResourceDefinition ``epochs.raycp.io``, which has
no objects and exists for its annotations alone. A CustomResourceDefinition, since fleets read and patch those of their controllers
already, the right can be narrowed to this one name, and nothing else acts on its annotations.
"""

import hashlib
from typing import Any

import msgspec

from raycp.kube import MERGE_PATCH, ApiError, ClusterClient, decode_answer
from raycp.leadership.answers import ask, check_object, is_absent
from raycp.leadership.epoch import HIGHEST, LONGEST_PERMIT
from raycp.leadership.locks.types import EpochFloor, LockProblem
from raycp.leadership.records import Conflict

CRD = "epochs.raycp.io"
COLLECTION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PREFIX = "epoch.raycp.io/"
LONGEST_KEY = 63
"""Characters of an annotation's name after its prefix (API doc, "Annotations")."""

TRIES = 5
"""Of a write that conflicts."""


class _Meta(msgspec.Struct, rename="camel"):
    name: str = ""
    resource_version: str = ""
    uid: str = ""
    annotations: dict[str, str] | None = None


class _Crd(msgspec.Struct):
    metadata: _Meta


class CrdFloor:
    """``FloorStore`` of one fleet, in its hub."""

    def __init__(self, client: ClusterClient, fleet: str, namespace: str) -> None:
        self._client = client
        self._key = annotation(fleet, namespace)
        self._last: _Crd | None = None
        """The object as it was last read; a write over an older version conflicts."""

    async def read(self) -> EpochFloor | None:
        """See ``FloorStore``."""
        found = self._last = await self._get()
        return self._floor(found) if found is not None else None

    async def raise_to(self, floor: EpochFloor) -> EpochFloor | None:
        """See ``FloorStore``. One request where nobody has written since the last ``read``: an acquisition waits for it."""
        for _ in range(TRIES):
            found = self._last
            known = self._floor(found) if found is not None else None
            wanted = floor.raised(known)
            if wanted == known:
                return known
            text = msgspec.json.encode(wanted).decode()
            try:
                if found is None:
                    body = msgspec.json.encode(definition({self._key: text}))
                    answer = await self._request("POST", COLLECTION, body=body)
                else:
                    meta = {"resourceVersion": found.metadata.resource_version, "annotations": {self._key: text}}
                    body = msgspec.json.encode({"metadata": meta})
                    answer = await self._request("PATCH", f"{COLLECTION}/{CRD}", body=body, content_type=MERGE_PATCH)
            except ApiError as error:
                if error.status != 409 and not is_absent(error, CRD):
                    raise
                await self.read()
                continue
            self._last = _decoded(answer)
            return known
        raise Conflict(f"CustomResourceDefinition {CRD} is written by other clients all the time")

    async def _get(self) -> _Crd | None:
        try:
            answer = await self._request("GET", f"{COLLECTION}/{CRD}")
        except ApiError as error:
            if is_absent(error, CRD):
                return None
            raise
        return _decoded(answer)

    def _floor(self, found: _Crd) -> EpochFloor | None:
        text = (found.metadata.annotations or {}).get(self._key)
        if text is None:
            return None
        try:
            floor = msgspec.json.decode(text, type=EpochFloor)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return EpochFloor(0, 0)  # somebody has led; the numbers are lost
        sane = 0 <= floor.epoch <= HIGHEST and 0 <= floor.incarnation <= HIGHEST and 0.0 <= floor.permit <= LONGEST_PERMIT
        return floor if sane else EpochFloor(0, 0)

    async def _request(self, verb: str, path: str, **more: Any) -> bytes:
        try:
            return (await ask(self._client, verb, path, **more)).body
        except ApiError as error:
            if error.status != 403:
                raise
            if verb == "POST":
                why = f"CustomResourceDefinition {CRD} does not exist, and there is no right to create it"
            else:
                right = {"GET": "get", "PATCH": "patch"}[verb]
                why = f"no right to {right} CustomResourceDefinition {CRD}"
            raise LockProblem(
                f"{why} ({error.message}): apply deploy/rbac/hub.yaml. Without it, deleting the state's namespace while no fleet "
                "runs sets the epoch back"
            ) from error


def _decoded(answer: bytes) -> _Crd:
    """Raises ``BadAnswer``."""
    what = f"CustomResourceDefinition {CRD}"
    found = decode_answer(answer, _Crd, what)
    check_object(CRD, found.metadata.name, found.metadata.resource_version, found.metadata.uid, what)
    return found


def annotation(fleet: str, namespace: str) -> str:
    """The annotation of a fleet whose state is in ``namespace``."""
    name = f"{fleet}.{namespace}"
    if len(name) > LONGEST_KEY:
        name = f"{name[: LONGEST_KEY - 17]}.{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return PREFIX + name


def definition(annotations: dict[str, str]) -> dict[str, Any]:
    """The CustomResourceDefinition; ``deploy/rbac/hub.yaml`` has the same."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD, "annotations": annotations, "labels": {"app.kubernetes.io/managed-by": "raycp"}},
        "spec": {
            "group": "raycp.io",
            "scope": "Cluster",
            "names": {"plural": "epochs", "singular": "epoch", "kind": "Epoch", "listKind": "EpochList"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "description": "Has no objects: see the annotations."}},
                }
            ],
        },
    }
