"""The boundary to the hub's API server: an answer becomes a value, or an error of this room, whatever it contains (law 12).

Between the hub and its fleet may stand proxies, gateways and login pages, which answer 200 with HTML, redirect, truncate, or answer
404 for everything. So an answer counts only if its status is a success, its body can be decoded, and it names the object that was
asked for; an object counts as absent only if the answer says so by name.
"""

from typing import Any, TypeVar

import msgspec

from raycp.base.problems import first_words
from raycp.kube import ApiError, ClusterClient, KubeError
from raycp.kube.connection import Response

T = TypeVar("T")

_QUOTED = 80
"""Bytes of a body that an error quotes."""


class UnusableAnswer(KubeError):
    """The hub's answer is not what an API server answers to this request: nothing can be concluded from it."""


class NamespaceMissing(KubeError):
    """An object could not be created, since its namespace does not exist."""


class NamespaceTerminating(KubeError):
    """An object could not be created, since its namespace is being deleted."""


async def ask(client: ClusterClient, verb: str, path: str, **more: Any) -> Response:
    """One request, with the arguments of ``ClusterClient.request``. Raises ``KubeError`` and ``TimeoutError``, and nothing else."""
    try:
        answer = await client.request(verb, path, **more)
    except (KubeError, TimeoutError):
        raise
    except Exception as error:
        raise UnusableAnswer(f"{verb} {path}: {first_words(error)}") from error
    if not 200 <= answer.status < 300:
        raise UnusableAnswer(f"{verb} {path}: answered {answer.status}, which no API server does: a proxy or login page?")
    return answer


def decoded(raw: bytes | msgspec.Raw, kind: type[T], what: str) -> T:
    """The body of an answer. Raises ``UnusableAnswer``."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        quoted = bytes(raw)[:_QUOTED].decode("utf-8", "replace").split("\n")[0].strip()
        raise UnusableAnswer(f"{what}: the answer can't be decoded ({first_words(error)}): {quoted!r}") from error


def check_object(name: str, found: str, version: str, uid: str, what: str) -> None:
    """Raises ``UnusableAnswer`` unless the answer is an object with that name, a resourceVersion and a uid."""
    if found != name or not version or not uid:
        answered = f"name {found!r}, version {version!r}, uid {uid!r}"
        raise UnusableAnswer(f"{what}: the answer is not the object {name}: it has {answered}")


def is_absent(error: ApiError, name: str) -> bool:
    """Whether the server says that the object ``name`` does not exist. A 404 that does not name it says nothing
    (apimachinery's NewNotFound names it in the details)."""
    return error.status == 404 and error.details.get("name") == name


def creation_refused(error: ApiError, namespace: str) -> KubeError:
    """What a refused creation means; ``error`` itself where it is not about the namespace."""
    if is_absent(error, namespace):
        return NamespaceMissing(f"namespace {namespace} does not exist")
    causes = error.details.get("causes") or ()
    if error.status == 403 and any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return NamespaceTerminating(f"namespace {namespace} is being deleted: it is made again when its deletion has ended")
    return error


def version_number(text: str) -> int:
    """A protocol version as records store it; 0 for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
