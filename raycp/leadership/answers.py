"""The boundary to the hub's API server: an answer becomes a value, or an error of this room, whatever it contains (law 12).

Between the hub and its fleet may stand proxies, gateways and login pages, which answer 200 with HTML, redirect, truncate, or answer
404 for everything. The client judges status and content type (``raycp.kube.answers``); here an answer counts only if it names the
object that was asked for, and an object counts as absent only if the answer says so by name.
"""

from typing import Any

from raycp.base.problems import first_words
from raycp.kube import ApiError, BadAnswer, ClusterClient, KubeError
from raycp.kube.connection import Response


class NamespaceMissing(KubeError):
    """An object could not be created, since its namespace does not exist."""


class NamespaceTerminating(KubeError):
    """An object could not be created, since its namespace is being deleted."""


async def ask(client: ClusterClient, verb: str, path: str, **more: Any) -> Response:
    """One request, with the arguments of ``ClusterClient.request``. Raises ``KubeError`` and ``TimeoutError``, and nothing else."""
    try:
        return await client.request(verb, path, **more)
    except (KubeError, TimeoutError):
        raise
    except Exception as error:
        raise BadAnswer(f"{verb} {path}: {first_words(error)}") from error


def check_object(name: str, found: str, version: str, uid: str, what: str) -> None:
    """Raises ``BadAnswer`` unless the answer is an object with that name, a resourceVersion and a uid."""
    if found != name or not version or not uid:
        answered = f"name {found!r}, version {version!r}, uid {uid!r}"
        raise BadAnswer(f"{what}: the answer is not the object {name}: it has {answered}")


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
