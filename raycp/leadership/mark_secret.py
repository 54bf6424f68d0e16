"""The Secret in the hub that keeps the fleet's keys for owner marks (``raycp.base.owner_marks``).

Each entry of its data is a key. It is created once and never written again by raycp: a create is atomic, so of two leaders that
find none, one makes it and the other reads what the first has made. People rotate it: they add a key, and later remove the old one.
"""

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from raycp.base.owner_marks import MarkKeys
from raycp.kube import ApiError, ClusterClient, decode_answer
from raycp.leadership.answers import ask, check_object, creation_refused, is_absent

FIRST_KEY = "key-1"
KEY_BYTES = 32

UNMARKED_BEFORE = "raycp.io/accept-unmarked-before"
"""Annotation: children that were created before this time (``metav1.Time``) need no mark."""


class KeptKeys(msgspec.Struct, frozen=True):
    """What the Secret says. Its text shows no key."""

    keys: dict[str, bytes]
    unmarked_before: str

    def __repr__(self) -> str:
        return f"KeptKeys({', '.join(sorted(self.keys))})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("keys", sorted(self.keys))]


class _Meta(msgspec.Struct, rename="camel"):
    name: str
    resource_version: str
    uid: str
    annotations: dict[str, str] | None = None


class _Secret(msgspec.Struct):
    metadata: _Meta
    data: dict[str, bytes] | None = None


class MarkSecret:
    """One fleet's, in one namespace of its hub."""

    def __init__(self, client: ClusterClient, fleet: str, namespace: str) -> None:
        self._client = client
        self._fleet = fleet
        self._namespace = namespace
        self.name = f"raycp-{fleet}-marks"

    @property
    def where(self) -> str:
        """For people."""
        return f"Secret {self._namespace}/{self.name}"

    async def read(self) -> KeptKeys | None:
        """The keys; None where there is no Secret. Raises ``KubeError``."""
        try:
            answer = await ask(self._client, "GET", f"{self._path}/{self.name}")
        except ApiError as error:
            if is_absent(error, self.name):
                return None
            raise
        return self._decode(answer.body)

    async def create(self, keys: Mapping[str, bytes], unmarked_before: str) -> KeptKeys:
        """Create it with these keys; where another leader has been faster, what that one has put in.

        Raises ``KubeError``, such as ``NamespaceMissing``.
        """
        meta = {
            "name": self.name,
            "namespace": self._namespace,
            "labels": {"app.kubernetes.io/managed-by": "raycp", "raycp.io/fleet": self._fleet},
            "annotations": {UNMARKED_BEFORE: unmarked_before} if unmarked_before else {},
        }
        body = msgspec.json.encode({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": dict(keys)})
        try:
            return self._decode((await ask(self._client, "POST", self._path, body=body)).body)
        except ApiError as error:
            if error.already_exists and (found := await self.read()) is not None:
                return found
            raise creation_refused(error, self._namespace) from error

    @property
    def _path(self) -> str:
        return f"/api/v1/namespaces/{self._namespace}/secrets"

    def _decode(self, body: bytes) -> KeptKeys:
        found = decode_answer(body, _Secret, self.where)
        meta = found.metadata
        check_object(self.name, meta.name, meta.resource_version, meta.uid, self.where)
        return KeptKeys(dict(found.data or {}), (meta.annotations or {}).get(UNMARKED_BEFORE, ""))


def first_keys(known: MarkKeys | None) -> dict[str, bytes]:
    """What a Secret is created with: a new key; or, where it was deleted under a living fleet, the keys that this has."""
    return dict(known.keys) if known is not None else {FIRST_KEY: secrets.token_bytes(KEY_BYTES)}
