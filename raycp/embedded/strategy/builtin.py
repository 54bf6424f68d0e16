"""The strategy of a built-in kind: decoding by its schema, common rules, and the kind's own rules."""

from typing import Any

from raycp.embedded.errors import FieldError, bad_request, unsupported_media_type
from raycp.embedded.resources import ResourceInfo
from raycp.embedded.strategy import decode, metadata, names
from raycp.embedded.strategy.convert import DecodeStats, Mismatch, converter, json_name, path_text, unknown_fields, zero
from raycp.embedded.strategy.kinds import pod_parts, rules_for
from raycp.embedded.strategy.rules import KindRules
from raycp.embedded.strategy.shapes import OBJECT, Shape, builtin_shape

_OTHER_SERVERS = frozenset({"apiextensions.k8s.io", "apiregistration.k8s.io"})
"""groups of apiextensions-apiserver and kube-aggregator, which validate metadata as apimachinery does"""


def body_shape(group: str, version: str, kind: str) -> Shape:
    """The shape of a kind. Kinds without a schema (PodExecOptions) are not converted."""
    found = builtin_shape(group, version, kind)
    if found is None:
        found = Shape(OBJECT, kind)
        found.open = True
    return found


class BodyDecoder:
    """Decodes bodies of one kind (also of those that are no resources: Binding, Scale, DeleteOptions)."""

    def __init__(self, group: str, version: str, kind: str) -> None:
        self.rules: KindRules = rules_for(group, kind)
        self.defaults = self.rules.defaults
        self.group, self.version, self.kind = group, version, kind
        self.api_version = f"{group}/{version}" if group else version
        self.shape = body_shape(group, version, kind)
        self._convert = converter(self.shape)

    def decode(self, body: bytes, content_type: str, field_validation: str = "Warn") -> tuple[dict[str, Any], list[str]]:
        """The object, and warnings of unknown and duplicate fields. Raises 400 and 415."""
        kind = decode.media_type(content_type)
        if kind == decode.JSON:
            obj = decode.parse_json(body, self.kind)
            twice: list[str] | None = None
        elif kind == decode.YAML:
            obj, twice = decode.parse_yaml(body, self.kind)
        elif kind == decode.PROTOBUF:
            from raycp.embedded.strategy.protobuf import decode_protobuf

            obj, twice = decode_protobuf(body, self.group, self.version, self.kind), []
        else:
            raise unsupported_media_type(decode.ACCEPTED)
        if obj is None:
            obj = {}
        if type(obj) is not dict:
            raise bad_request(
                "couldn't get version/kind; json parse error: json: cannot unmarshal "
                f"{json_name(obj)} into Go value of type struct {{ APIVersion string; Kind string }}"
            )
        self.check_kind(obj)
        seen = DecodeStats(counts=twice is None and field_validation != "Ignore")
        self.typed(obj, seen)
        self.defaults(obj)
        if field_validation == "Ignore":
            return obj, []
        problems: list[str] = []
        if twice is None:
            if seen.unknown:
                problems += self._unknown(decode.parse_json(body))
            if decode.may_have_duplicates(body, seen.keys):
                problems += [f'duplicate field "{path}"' for path in decode.duplicate_fields(body)]
        else:
            problems += twice
            if seen.unknown:
                problems += self._unknown(decode.parse(body, content_type, self.kind))
        if problems and field_validation == "Strict":
            raise decode.cannot_handle(self.kind, self.version, "strict decoding error: " + ", ".join(problems))
        return obj, problems

    def convert(
        self,
        obj: dict[str, Any],
        field_validation: str = "Ignore",
        warnings: list[str] | None = None,
        known: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Convert the result of a patch to Go's types, in place. Unknown fields are warnings, or 400 if strict. ``known``: the
        object before the patch, which has them."""
        problems: list[str] = []
        if field_validation != "Ignore":
            problems = self._unknown(obj)
        self.typed(obj, DecodeStats(counts=False), known)
        self.defaults(obj)
        if problems:
            if field_validation == "Strict":
                raise bad_request("strict decoding error: " + ", ".join(problems))
            if warnings is not None:
                warnings.extend(problems)
        return obj

    def normalize(self, obj: dict[str, Any], field_validation: str = "Ignore") -> dict[str, Any]:
        """``convert`` without warnings."""
        return self.convert(obj, field_validation)

    def _unknown(self, original: Any) -> list[str]:
        return [f'unknown field "{path}"' for path in unknown_fields(self.shape, original)]

    def check_kind(self, obj: dict[str, Any]) -> None:
        """Fill in a missing apiVersion or kind from the path; refuse another one (400)."""
        version, kind = obj.get("apiVersion"), obj.get("kind")
        if kind == self.kind and (version == self.api_version or kind == "DeleteOptions"):
            return  # every group version registers DeleteOptions
        if (version is not None and type(version) is not str) or (kind is not None and type(kind) is not str):
            raise bad_request("couldn't get version/kind; json parse error: json: cannot unmarshal into Go struct")
        if version and version != self.api_version:
            raise bad_request(
                f"the API version in the data ({version}) does not match the expected API version ({self.api_version})"
            )
        if kind and kind != self.kind:
            raise bad_request(
                f'{kind} in version "{self.version}" cannot be handled as a {self.kind}: converting '
                f"({self.group}.{kind}) to ({self.group}.{self.kind}): unknown conversion"
            )
        obj["apiVersion"], obj["kind"] = self.api_version, self.kind

    def typed(self, obj: dict[str, Any], seen: DecodeStats, known: dict[str, Any] | None = None) -> dict[str, Any]:
        """``obj`` with Go's types (in place). Raises 400."""
        try:
            self._convert(obj, seen, known)
        except Mismatch as error:
            path = path_text(error.path[::-1])
            raise decode.cannot_handle(self.kind, self.version, f"json: {error.message} (field {self.kind}.{path})") from None
        return obj


class BuiltinStrategy(BodyDecoder):
    """Implements ``Strategy`` for kinds of the API server itself."""

    def __init__(self, info: ResourceInfo) -> None:
        super().__init__(info.group, info.version, info.kind)
        self.info = info
        self.has_status = "status" in info.subresources
        self._has_metadata = "metadata" in self.shape.fields

    def prepare_create(self, obj: dict[str, Any], now_iso: str, ns: str | None) -> dict[str, Any]:
        """Drop fields that a create may not set, and add those that the server sets, in place. The caller sets uid and name."""
        meta = obj.get("metadata")
        if type(meta) is not dict:
            meta = obj["metadata"] = {}
        rules = self.rules
        metadata.fresh(meta, now_iso, ns if self.info.namespaced else None)
        if self.has_status and not rules.keeps_status:
            status = self.shape.fields.get("status")
            if status is not None and obj.get("status"):
                obj["status"] = zero(status)
        if rules.generation:
            meta["generation"] = 1
        rules.create(obj)
        return obj

    def prepare_update(self, new: dict[str, Any], old: dict[str, Any], subresource: str | None = None) -> dict[str, Any]:
        """Prepare ``new`` to replace ``old``. ``old`` is not changed; ``new`` may share parts of it."""
        meta, before = new.setdefault("metadata", {}), old["metadata"]
        rules = self.rules
        metadata.carry_over(meta, before)
        if subresource == "status":
            for key in old:
                if key not in ("status", "metadata", "apiVersion", "kind"):
                    new[key] = old[key]
            for key in [k for k in new if k not in old and k not in ("status", "metadata", "apiVersion", "kind")]:
                del new[key]
            rules.status_update(new, old)
            return new
        if subresource is None and self.has_status:
            if "status" in old:
                new["status"] = old["status"]
            else:
                new.pop("status", None)
        if subresource is not None and subresource in pod_parts.PARTS:
            new["spec"] = pod_parts.only_the_part(new, old, subresource)
            if "status" in old:
                new["status"] = old["status"]
        rules.update(new, old)
        if rules.generation and self._wanted(new) != self._wanted(old):
            meta["generation"] = before.get("generation", 0) + 1
        return new

    def _wanted(self, obj: dict[str, Any]) -> Any:
        if self.rules.generation_of is not None:
            return self.rules.generation_of(obj)
        return obj.get("spec")

    def validate(self, new: dict[str, Any], old: dict[str, Any] | None = None, subresource: str | None = None) -> list[FieldError]:
        """All errors of ``new``, in the order of a real server."""
        errors: list[FieldError] = []
        meta = new["metadata"]
        rules = self.rules
        namespaced = self.info.namespaced
        plain = self.info.group in _OTHER_SERVERS
        if old is None:
            if self._has_metadata:
                metadata.validate(meta, namespaced, rules.name, errors, plain)
            rules.validate(new, errors)
            return errors
        before = old["metadata"]
        of_every_name: list[FieldError] = []
        metadata.validate_common(meta, of_every_name, plain)
        metadata.validate_name(meta, namespaced, names.path_segment, errors)
        errors += of_every_name
        changed: list[FieldError] = []
        metadata.validate_update(meta, before, changed)
        errors += changed + changed  # both validateCommonFields and the kind's ValidateUpdate report it
        if subresource == "status":
            rules.validate_status(new, old, errors)
            return errors
        if subresource is not None and subresource in pod_parts.PARTS:
            pod_parts.validate_part(new, old, subresource, errors)
            return errors
        if rules.metadata_again:
            metadata.validate_name(meta, namespaced, rules.name, errors)
            errors += of_every_name
        rules.validate_update(new, old, errors)
        return errors

    def prune_and_default_read(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Nothing to do: built-in kinds are served as they are stored."""
        return obj
