"""The representations of an object in an answer: the object, a Table, or its metadata alone.

A ``Form`` is the representation that Accept asked for; ``one`` renders an object, ``many`` a list, ``table`` rows of
either.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from raycp.base.text_cache import cached_by_text
from raycp.embedded.errors import StatusError, not_acceptable
from raycp.embedded.lists import Listed, list_body
from raycp.embedded.registry import ServedResource
from raycp.embedded.store import StoredObject
from raycp.embedded.strategy.decode import PROTOBUF as MEDIA_TYPE

ACCEPTED = (
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/cbor",
)
STREAMED = ("application/json", "application/vnd.kubernetes.protobuf")
META = "meta.k8s.io"
WATCH_TYPE = MEDIA_TYPE + ";stream=watch"


@dataclass(frozen=True, slots=True)
class Form:
    """``kind`` is "" (the object itself), Table or PartialObjectMetadata; ``group_version`` is the requested one."""

    kind: str = ""
    version: str = "v1"
    is_list: bool = False
    yaml: bool = False
    pretty: bool = False
    protobuf: bool = False
    """the answer is made as JSON, and ``protobuf_answer`` makes it protobuf"""

    @property
    def content_type(self) -> str:
        """The media type of a stream in this form."""
        return WATCH_TYPE if self.protobuf else "application/json"


PLAIN = Form()


@cached_by_text(512)
def negotiate(accept: str, plain: bool = False, tables: bool = True) -> Form:
    """The first acceptable form; with ``plain``, of those that are the object itself; without ``tables``, of all but Tables, which
    a streamed list can't be (kubernetes/kubernetes#126996). Raises ``StatusError`` 406.

    Objects are sent as protobuf where nothing else is accepted, since JSON costs less here; metadata alone where it is preferred,
    since the items of a list in JSON have a kind, which client-go's metadata client does not expect.
    """
    if not accept:
        return PLAIN
    ranges = []
    for order, part in enumerate(accept.split(",")):
        media, *raw_params = [piece.strip() for piece in part.split(";")]
        params = dict(piece.split("=", 1) for piece in raw_params if "=" in piece)
        try:
            quality = float(params.get("q", "1"))
        except ValueError:
            quality = 1.0
        ranges.append((-quality, order, media.lower(), params))
    last = None
    for _, _, media, params in sorted(ranges, key=lambda r: r[:2]):
        found = _form(media, params)
        if found is None or (plain and found.kind) or (found.kind == "Table" and not tables):
            continue
        if not found.protobuf or found.kind:
            return found
        last = last or found
    if last is not None:
        return last
    raise not_acceptable(ACCEPTED)


def check_plain(accept: bytes | None) -> None:
    """Refuse (406) what accepts an answer in other forms only, such as a Table of a review: it has but one."""
    if accept is not None:
        negotiate(accept.decode("latin-1"), True)


def _form(media: str, params: dict[str, str]) -> Form | None:
    if media not in ("application/json", "application/yaml", "*/*", "application/*", MEDIA_TYPE):
        return None
    wanted = params.get("as", "")
    pretty = params.get("pretty", "") not in ("", "0", "false")
    protobuf = media == MEDIA_TYPE
    if not wanted:
        return Form(yaml=media == "application/yaml", pretty=pretty, protobuf=protobuf)
    if params.get("g") != META or params.get("v") not in ("v1", "v1beta1"):
        return None
    if wanted == "Table" and not protobuf:
        return Form("Table", params["v"], pretty=pretty)
    if wanted in ("PartialObjectMetadata", "PartialObjectMetadataList"):
        return Form("PartialObjectMetadata", params["v"], wanted.endswith("List"), pretty=pretty, protobuf=protobuf)
    return None


def wants_protobuf(accept: bytes | None) -> bool:
    """Whether an answer is to be protobuf."""
    return accept is not None and b"protobuf" in accept and _protobuf(accept, plain=False)


def error_in_protobuf(accept: bytes | None) -> bool:
    """Whether an error is to be protobuf: it has but one form."""
    return accept is not None and b"protobuf" in accept and _protobuf(accept, plain=True)


def _protobuf(accept: bytes, plain: bool) -> bool:
    try:
        return negotiate(accept.decode("latin-1"), plain).protobuf
    except StatusError:  # which is answered as JSON
        return False


def protobuf_answer(body: bytes) -> bytes:
    """An answer, given as JSON, in protobuf. Raises ``StatusError`` 406 for kinds without it."""
    from raycp.embedded.strategy.protobuf_writer import encode_protobuf  # on demand: most clients accept JSON

    return encode_protobuf(msgspec.json.decode(body))


def partial(obj: dict[str, Any], version: str) -> dict[str, Any]:
    """``PartialObjectMetadata`` of an object."""
    return {"kind": "PartialObjectMetadata", "apiVersion": f"{META}/{version}", "metadata": obj["metadata"]}


def one(resource: ServedResource, form: Form, record: StoredObject, include: str, now: float) -> bytes:
    """One object in ``form``. ``include`` is the parameter includeObject; ``now`` is wall time, for ages."""
    if not form.kind:
        return resource.present(record)
    obj = resource.read(record)
    if form.kind == "Table":
        meta = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        return msgspec.json.encode(table(resource, form, [obj], meta, include, now))
    return msgspec.json.encode(partial(obj, form.version))


def many(resource: ServedResource, form: Form, listed: Listed, include: str, now: float) -> bytes:
    """A list in ``form``."""
    if not form.kind:
        return list_body(resource, listed)
    meta: dict[str, Any] = {"resourceVersion": str(listed.revision)}
    if listed.token:
        meta["continue"] = listed.token
    if listed.remaining:
        meta["remainingItemCount"] = listed.remaining
    objects = [resource.read(record) for record in listed.records]
    if form.kind == "Table":
        return msgspec.json.encode(table(resource, form, objects, meta, include, now))
    return msgspec.json.encode(
        {
            "kind": "PartialObjectMetadataList",
            "apiVersion": f"{META}/{form.version}",
            "metadata": meta,
            # null for an empty list: a nil slice in the real server
            "items": [partial(obj, form.version) for obj in objects] or None,
        }
    )


def table(
    resource: ServedResource,
    form: Form,
    objects: list[dict[str, Any]],
    meta: dict[str, Any],
    include: str,
    now: float,
) -> dict[str, Any]:
    """``meta.k8s.io Table``."""
    from raycp.embedded.table import table_columns, table_row  # on demand: most clients ask for no tables

    rows = []
    for obj in objects:
        shown: dict[str, Any] | None = None
        if include == "Object":
            shown = obj
        elif include != "None":
            shown = partial(obj, form.version)
        rows.append({"cells": table_row(resource.info, obj, now), "object": shown})
    return {
        "kind": "Table",
        "apiVersion": f"{META}/{form.version}",
        "metadata": meta,
        "columnDefinitions": table_columns(resource.info),
        "rows": rows,
    }
