"""Patches: ``json_patch`` (RFC 6902), ``merge_patch`` (RFC 7386), ``strategic``; server-side apply is in ``managed``.

``apply_patch`` applies a request's patch and returns a new object with Go's types and defaults. The current object is not
changed; the two share the parts that the patch does not name.
"""

from typing import Any

import msgspec

from raycp.embedded.errors import FieldError, StatusError, bad_request, invalid_kind, unsupported_media_type
from raycp.embedded.patches import json_patch, merge_patch, strategic
from raycp.embedded.resources import ResourceInfo
from raycp.embedded.strategy import BodyDecoder, Strategy, strategy
from raycp.embedded.strategy.causes import wrong
from raycp.embedded.strategy.convert import count_keys, unknown_fields
from raycp.embedded.strategy.decode import duplicate_fields, may_have_duplicates, media_type, parse_yaml
from raycp.embedded.strategy.depth import TOO_DEEP, json_too_deep, too_deep

__all__ = [
    "APPLY",
    "APPLY_CBOR",
    "JSON_PATCH",
    "MERGE_PATCH",
    "STRATEGIC",
    "apply_patch",
    "duplicates_text",
    "parse_apply",
    "patch_types",
]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
APPLY_CBOR = "application/apply-patch+cbor"


def patch_types(info: ResourceInfo) -> tuple[str, ...]:
    """The content types that PATCH of this resource accepts."""
    return (JSON_PATCH, MERGE_PATCH, APPLY) if info.crd is not None else (JSON_PATCH, MERGE_PATCH, STRATEGIC, APPLY)


def unsupported_patch(info: ResourceInfo, content_type: str) -> StatusError:
    """415, without details for a strategic patch of a custom resource, which is a known type."""
    if media_type(content_type) == STRATEGIC and info.crd is not None:
        error = unsupported_media_type(patch_types(info))
        error.details = None
        return error
    return unsupported_media_type(patch_types(info))


def _parse(patch: bytes, field_validation: str) -> tuple[Any, list[str]]:
    try:
        found = msgspec.json.decode(patch)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_request(f"error decoding patch: {error}") from None
    if json_too_deep(patch, found):
        raise bad_request(f"error decoding patch: {TOO_DEEP}")
    problems: list[str] = []
    if field_validation != "Ignore" and may_have_duplicates(patch, count_keys(found)):
        problems = [f'duplicate field "{path}"' for path in duplicate_fields(patch)]
    return found, problems


def parse_apply(body: bytes) -> tuple[dict[str, Any], list[str]]:
    """The body of a server-side apply (YAML or JSON) and its duplicate fields. Raises 400."""
    duplicates: list[str] = []
    try:
        found = msgspec.json.decode(body)
        if may_have_duplicates(body, count_keys(found)):
            duplicates = [f'duplicate field "{path}"' for path in duplicate_fields(body)]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        found, duplicates = parse_yaml(body, "patch")
    if json_too_deep(body, found):
        raise bad_request(f"error decoding YAML: {TOO_DEEP}")
    if type(found) is not dict:
        raise bad_request("error decoding YAML: expected an object")
    return found, duplicates


def duplicates_text(duplicates: list[str]) -> str:
    """What sigs.k8s.io/yaml says of duplicate keys."""
    return "\n  ".join(["error converting YAML to JSON: yaml: unmarshal errors:", *duplicates])


def apply_patch(
    info: ResourceInfo,
    content_type: str,
    current: dict[str, Any],
    patch: bytes,
    field_validation: str = "Ignore",
    warnings: list[str] | None = None,
    into: "Strategy | BodyDecoder | None" = None,
) -> dict[str, Any]:
    """The patched object; ``metadata`` is always a copy. ``into`` decodes another kind than the resource's (Scale).

    Raises 400 (malformed patch), 413 (too many operations), 415, and 422 for an operation that fails or an invalid result.
    """
    kind = media_type(content_type)
    if kind not in patch_types(info) or kind == APPLY:
        raise unsupported_patch(info, content_type)
    decoder = into if into is not None else strategy(info)
    parsed, problems = _parse(patch, field_validation)
    if kind == JSON_PATCH:
        made = _json(current, parsed)
    elif type(parsed) is not dict:
        raise bad_request("error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}")
    elif kind == MERGE_PATCH:
        made = merge_patch.apply(current, parsed)
    else:
        try:
            made = strategic.apply(current, parsed, decoder.shape)
        except strategic.MalformedStrategicPatch as error:
            raise bad_request(str(error)) from None
    if type(made) is not dict:
        raise _unusable(made, "the patch gives no object")
    if kind == JSON_PATCH and too_deep(made):  # others are no deeper than the deeper of patch and object
        raise _unusable("", TOO_DEEP)
    if type(made.get("metadata")) is dict:
        made = {**made, "metadata": dict(made["metadata"])}
    elif made is current:
        made = dict(made)
    more: list[str] = []
    try:
        decoder.check_kind(made)
        quiet = field_validation == "Ignore"
        if kind in (MERGE_PATCH, STRATEGIC) and info.crd is None:
            # stored objects have known fields only, so check the patch, which is small
            quiet = quiet or not unknown_fields(decoder.shape, parsed)
        # an object in another kind (Scale) is made up here, one of the resource is as conversion has left it
        made = decoder.convert(made, "Ignore" if quiet else "Warn", more, current if into is None else None)
    except StatusError as error:
        if error.code == 400:
            raise _unusable(made, error.message) from None
        raise
    problems += more
    if problems:
        if field_validation == "Strict":
            raise _unusable(made, "strict decoding error: " + ", ".join(problems))
        if warnings is not None:
            warnings.extend(problems)
    return made


def _json(current: dict[str, Any], patch: Any) -> Any:
    try:
        if type(patch) is list and len(patch) > json_patch.LIMIT:
            raise StatusError(
                413,
                "RequestEntityTooLarge",
                f"The allowed maximum operations in a JSON patch is {json_patch.LIMIT}, got {len(patch)}",
            )
        return json_patch.apply(current, patch)
    except json_patch.MalformedJsonPatch as error:
        raise bad_request(str(error)) from None
    except json_patch.JsonPatchFailed:  # which operation failed, and why, kube-apiserver keeps to itself
        raise StatusError(422, "Invalid", "the server rejected our request due to an error in our request", {}) from None


def _unusable(made: Any, why: str) -> StatusError:
    shown: FieldError = wrong("patch", made, why)
    return invalid_kind("", "", "", [shown])
