"""A typed client of an embedded cluster, as client-go's are: protobuf bodies, answers in protobuf or JSON, blocking watches."""

import contextlib
import http.client
import json
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

from e2e_driver import JSON, PROTOBUF, Object

from raycp.embedded.strategy.protobuf import decode_protobuf
from raycp.embedded.strategy.protobuf_writer import encode_protobuf
from raycp.testkit.clusters import EmbeddedHandle

BOTH = f"{PROTOBUF},{JSON}"
PATCHES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
DEADLINE = 30.0
"""Seconds that a request, an event or a condition may take."""


class Refused(Exception):
    """The server answered with an error. ``status`` is its Status."""

    def __init__(self, status: Object) -> None:
        super().__init__(str(status.get("message")))
        self.status = status
        self.code = int(status.get("code", 0))
        self.reason = str(status.get("reason"))


class TypedClient:
    """Requests of one cluster on one connection. ``accept`` and ``sends`` are media types: a dynamic client's are JSON."""

    def __init__(self, handle: EmbeddedHandle, accept: str = BOTH, sends: str = PROTOBUF) -> None:
        self.handle = handle
        self.accept = accept
        self.sends = sends
        self._connection = self._connect()

    def _connect(self) -> http.client.HTTPSConnection:
        host, _, port = self.handle.server.removeprefix("https://").rpartition(":")
        context = ssl.create_default_context(cadata=self.handle.ca_pem)
        return http.client.HTTPSConnection(host, int(port), timeout=DEADLINE, context=context)

    def close(self) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: bytes | None = None, media: str = JSON, accept: str = "") -> Any:
        """The answer. Raises ``Refused``."""
        headers = {"Authorization": f"Bearer {self.handle.token}", "Accept": accept or self.accept, "Content-Type": media}
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        data = answer.read()
        obj = json.loads(data) if answer.headers.get_content_type() == JSON else opened(data)
        if answer.status >= 400:
            raise Refused(obj)
        return obj

    def _send(self, method: str, path: str, obj: Object) -> Object:
        body = encode_protobuf(obj) if self.sends == PROTOBUF else json.dumps(obj).encode()
        found: Object = self.ask(method, path, body, self.sends)
        return found

    def create(self, path: str, obj: Object) -> Object:
        return self._send("POST", path, obj)

    def update(self, path: str, obj: Object) -> Object:
        """``path`` is the collection's."""
        return self._send("PUT", f"{path}/{obj['metadata']['name']}", obj)

    def change(self, own: str, edit: Callable[[Object], None]) -> Object:
        """Read, edit and write the object at ``own``; see ``E2eClient.change``."""
        for _ in range(10):
            wanted = self.get(own)
            edit(wanted)
            try:
                return self._send("PUT", own, wanted)
            except Refused as refused:
                if refused.code != 409:
                    raise
        raise AssertionError(f"each update of {own} had a conflict")

    def get(self, path: str, accept: str = "") -> Object:
        found: Object = self.ask("GET", path, accept=accept)
        return found

    def patch(self, path: str, kind: str, body: Any) -> Object:
        found: Object = self.ask("PATCH", path, json.dumps(body).encode(), PATCHES[kind])
        return found

    def delete(self, path: str, **options: Any) -> Object:
        body = json.dumps({"apiVersion": "v1", "kind": "DeleteOptions", **options}).encode()
        found: Object = self.ask("DELETE", path, body)
        return found

    @contextlib.contextmanager
    def watch(self, path: str, accept: str = "") -> Iterator[Iterator[tuple[str, Object]]]:
        """The events of a watch that has begun, each within the deadline. Raises ``Refused``."""
        connection = self._connect()
        headers = {"Authorization": f"Bearer {self.handle.token}", "Accept": accept or self.accept}
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            framed = answer.headers.get_content_type() == PROTOBUF
            if answer.status >= 400:
                data = answer.read()
                raise Refused(opened(data) if framed else json.loads(data))
            yield _frames(answer) if framed else _lines(answer)
        finally:
            connection.close()


def opened(envelope: bytes) -> Object:
    """The object in a protobuf envelope, whatever its kind."""
    api_version, kind = _type_meta(envelope)
    group, _, version = api_version.rpartition("/")
    if group == "meta.k8s.io":  # which the published schemas lack; metadata, and items with metadata, are those of any kind
        return decode_protobuf(envelope, "", version, kind.replace("PartialObjectMetadata", "ConfigMap"))
    return decode_protobuf(envelope, group, version, kind)


def _type_meta(envelope: bytes) -> tuple[str, str]:
    # k8s\0, then field 1 of runtime.Unknown: a message of two strings, each shorter than 128 bytes
    assert envelope[:5] == b"k8s\x00\x0a", envelope[:20]
    at = 6
    size = envelope[at + 1]
    api_version = envelope[at + 2 : at + 2 + size]
    at += 2 + size
    return api_version.decode(), envelope[at + 2 : at + 2 + envelope[at + 1]].decode()


def _lines(answer: http.client.HTTPResponse) -> Iterator[tuple[str, Object]]:
    while line := answer.readline():
        event = json.loads(line)
        yield event["type"], event["object"]


def _frames(answer: http.client.HTTPResponse) -> Iterator[tuple[str, Object]]:
    while head := answer.read(4):
        event = answer.read(struct.unpack(">I", head)[0])
        # metav1.WatchEvent: a string, then a RawExtension with the object's own envelope
        size = event[1]
        yield event[2 : 2 + size].decode(), opened(event[event.index(b"k8s\x00") :])


def until(check: Callable[[], Any], what: str) -> Any:
    """What ``check`` returns once that is true."""
    end = time.monotonic() + DEADLINE
    while not (found := check()):
        assert time.monotonic() < end, what
        time.sleep(0.02)
    return found
