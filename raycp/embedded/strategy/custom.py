"""The strategy of a custom resource: pruning, defaulting and validation by its version's structural schema."""

import contextlib
from typing import Any

from raycp.embedded.errors import FieldError, bad_request, unsupported_media_type
from raycp.embedded.resources import ResourceInfo
from raycp.embedded.strategy import decode, metadata, names, schema_checks, schema_nodes, schema_rules, structural
from raycp.embedded.strategy.budget import validation_budget
from raycp.embedded.strategy.causes import Errors, wrong
from raycp.embedded.strategy.convert import (
    DecodeStats,
    Mismatch,
    converter,
    count_keys,
    json_name,
    path_text,
    unknown_fields,
)
from raycp.embedded.strategy.shapes import OBJECT, STRING, Shape, object_meta

_BLOCKING = {f"FieldValue{kind}" for kind in ("NotSupported", "Required", "TooLong", "TooMany", "TypeInvalid")}
"""errors with which CEL rules are not evaluated (customresource_strategy.go, ``hasBlockingErr``)"""
_NOT_CHECKED = (
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)
_TYPE_META = ("apiVersion", "kind")


class CustomStrategy:
    """Implements ``Strategy`` for one version of a CRD."""

    def __init__(self, info: ResourceInfo) -> None:
        assert info.crd is not None
        self.info = info
        self.group, self.version, self.kind = info.group, info.version, info.kind
        self.api_version = info.api_version
        version = next(v for v in info.crd["spec"]["versions"] if v["name"] == info.version)
        self.schema: dict[str, Any] = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        self.keep_all = bool(info.crd["spec"].get("preserveUnknownFields"))
        self.shape = self._shape()
        self.has_status = "status" in info.subresource_table
        self.scale: dict[str, str] | None = (version.get("subresources") or {}).get("scale")
        self._meta = converter(object_meta())
        self._defaults = structural.has_defaults(self.schema)
        self._check = schema_checks.compile_check(self._without_metadata())
        self._rules = schema_rules.RuleSet(self.schema, root=True)

    def _without_metadata(self) -> dict[str, Any]:
        properties = {k: v for k, v in (self.schema.get("properties") or {}).items() if k not in (*_TYPE_META, "metadata")}
        return {**self.schema, "properties": properties}

    def _shape(self) -> Shape:
        shape = structural.shape_of({"type": "object", **self.schema}, self.kind)
        if shape.kind != OBJECT:
            shape = Shape(OBJECT, self.kind)
            shape.open = True
        shape.fields.update(apiVersion=Shape(STRING), kind=Shape(STRING), metadata=object_meta())
        shape.atomic = False
        return shape

    def decode(self, body: bytes, content_type: str, field_validation: str = "Warn") -> tuple[dict[str, Any], list[str]]:
        """See ``Strategy``."""
        kind = decode.media_type(content_type)
        problems: list[str] = []
        if kind == decode.JSON:
            obj = decode.parse_json(body, self.kind)
        elif kind == decode.YAML:
            obj, problems = decode.parse_yaml(body, self.kind)
        else:
            raise unsupported_media_type((decode.JSON, decode.YAML))
        if type(obj) is not dict:
            raise bad_request(
                "couldn't get version/kind; json parse error: json: cannot unmarshal "
                f"{json_name(obj)} into Go value of type struct {{ APIVersion string; Kind string }}"
            )
        if field_validation != "Ignore" and kind == decode.JSON and decode.may_have_duplicates(body, count_keys(obj)):
            problems = [f'duplicate field "{path}"' for path in decode.duplicate_fields(body)]
        for key in _TYPE_META:
            if not obj.get(key):
                raise bad_request(f"Object '{key}' is missing in '{body[:200].decode(errors='replace')}'")
        self.check_kind(obj)
        more: list[str] = []
        obj = self.convert(obj, "Ignore" if field_validation == "Ignore" else "Warn", more)
        problems += more
        if field_validation == "Ignore":
            return obj, []
        if problems and field_validation == "Strict":
            raise decode.cannot_handle(self.kind, self.version, "strict decoding error: " + ", ".join(problems))
        return obj, problems

    def check_kind(self, obj: dict[str, Any]) -> None:
        """See ``Strategy``."""
        version, kind = obj.get("apiVersion"), obj.get("kind")
        if version != self.api_version:
            raise bad_request(
                f"the API version in the data ({version}) does not match the expected API version ({self.api_version})"
            )
        if kind != self.kind:
            raise bad_request(f"the kind in the data ({kind}) does not match the expected kind ({self.kind})")

    def convert(
        self,
        obj: dict[str, Any],
        field_validation: str = "Ignore",
        warnings: list[str] | None = None,
        known: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Convert metadata, prune unknown fields and fill in defaults, in place."""
        obj = structural.deep_copy(obj)
        meta = obj.get("metadata")
        dropped: list[str] = []
        if meta is None:
            meta = obj["metadata"] = {}
        seen = DecodeStats()
        try:
            if field_validation != "Ignore":
                dropped += unknown_fields(object_meta(), meta, "metadata")
            try:
                self._meta(meta, seen)
            except Mismatch as error:
                error.path.append("metadata")
                raise
            if not self.keep_all:
                structural.prune(self.schema, obj, "", dropped, root=True)
        except Mismatch as error:
            path = path_text(error.path[::-1])
            raise decode.cannot_handle(self.kind, self.version, f"json: {error.message} (field {path})") from None
        if self._defaults:
            structural.default(self.schema, obj)
        problems = [f'unknown field "{path}"' for path in sorted(dropped)]
        if problems and field_validation == "Strict":
            raise bad_request("strict decoding error: " + ", ".join(problems))
        if warnings is not None and field_validation != "Ignore":
            warnings.extend(problems)
        return obj

    def normalize(self, obj: dict[str, Any], field_validation: str = "Ignore") -> dict[str, Any]:
        """See ``Strategy``."""
        return self.convert(obj, field_validation)

    def prepare_create(self, obj: dict[str, Any], now_iso: str, ns: str | None) -> dict[str, Any]:
        """See ``Strategy``."""
        meta = obj.setdefault("metadata", {})
        metadata.fresh(meta, now_iso, ns if self.info.namespaced else None)
        if self.has_status:
            obj.pop("status", None)
        meta["generation"] = 1
        return obj

    def prepare_update(self, new: dict[str, Any], old: dict[str, Any], subresource: str | None = None) -> dict[str, Any]:
        """See ``Strategy``."""
        if subresource == "status":
            managed = new.get("metadata", {}).get("managedFields")
            status = new.get("status")
            new.clear()
            new.update(old)
            new["metadata"] = dict(old["metadata"])
            if managed is not None:
                new["metadata"]["managedFields"] = managed
            if status is None:
                new.pop("status", None)
            else:
                new["status"] = status
            return new
        meta = new.setdefault("metadata", {})
        metadata.carry_over(meta, old["metadata"])
        if self.has_status:
            if "status" in old:
                new["status"] = old["status"]
            else:
                new.pop("status", None)
        skip = {"metadata", "apiVersion", "kind"} | ({"status"} if self.has_status else set())
        if {k: v for k, v in new.items() if k not in skip} != {k: v for k, v in old.items() if k not in skip}:
            meta["generation"] = old["metadata"].get("generation", 0) + 1
        return new

    def validate(self, new: dict[str, Any], old: dict[str, Any] | None = None, subresource: str | None = None) -> list[FieldError]:
        """See ``Strategy``."""
        errors: Errors = []
        meta = new["metadata"]
        if old is None:
            metadata.validate(meta, self.info.namespaced, names.dns_subdomain, errors, plain_finalizers=True)
        else:
            metadata.validate(meta, self.info.namespaced, names.path_segment, errors, plain_finalizers=True)
            changed: Errors = []
            metadata.validate_update(meta, old["metadata"], changed)
            errors += changed + changed
        before: Any = schema_nodes.NO_OLD if old is None else old
        found: Errors = []
        with validation_budget():
            self._check(new, before, "", found)
            if self.scale:
                self._check_scale(new, found)
            if self._rules and any(each.type in _BLOCKING for each in (*errors, *found)):
                found.append(FieldError("FieldValueInvalid", "<nil>", _NOT_CHECKED))
            elif self._rules:
                self._rules.check(new, before, "", found)
        return errors + found

    def _check_scale(self, obj: dict[str, Any], errors: Errors) -> None:
        assert self.scale is not None
        for key in ("specReplicasPath", "statusReplicasPath"):
            path = self.scale.get(key, "")
            value: Any = obj
            for part in path.lstrip(".").split("."):
                value = value.get(part) if type(value) is dict else None
            if value is None:
                continue
            if type(value) is not int:
                errors.append(wrong(path, value, "must be an integer"))
            elif value < 0:
                errors.append(wrong(path, value, "should be a non-negative integer"))
            elif value > 2**31 - 1:
                errors.append(wrong(path, value, "should be less than or equal to 2147483647"))

    def prune_and_default_read(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Prune and default a stored object by this version's schema, which may have changed since the write."""
        if not self.keep_all:
            with contextlib.suppress(Mismatch):  # metadata that an earlier schema did not know as such
                structural.prune(self.schema, obj, "", [], root=True)
        if self._defaults:
            structural.default(self.schema, obj)
        return obj
