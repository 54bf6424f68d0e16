"""CustomResourceDefinitions: defaults, preparation and validation.

Follows ``apiextensions-apiserver/pkg/apis/apiextensions`` (validation, defaults) and ``pkg/apiserver/schema``
(structural schemas). Where all versions share one schema, paths start at
``spec.validation.openAPIV3Schema``, as the real server's internal form has it.
"""

import re
from typing import Any

from raycp.embedded.crdconditions import is_true
from raycp.embedded.strategy import names, schema_checks, schema_nodes
from raycp.embedded.strategy.budget import validation_budget
from raycp.embedded.strategy.causes import (
    Errors,
    duplicate,
    forbidden,
    immutable,
    not_supported,
    required,
    wrong,
)
from raycp.embedded.strategy.expressions import Expressions
from raycp.embedded.strategy.rule_costs import exceeds_rule_budget

Object = dict[str, Any]
Schema = dict[str, Any]
_SCHEMA_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_COLUMN_TYPES = ("integer", "number", "string", "boolean", "date")
_COLUMN_FORMATS = ("int32", "int64", "float", "double", "byte", "date", "date-time", "password")


def defaults(crd: Object) -> None:
    """Versioned defaults."""
    spec = crd.get("spec")
    if not spec:
        return
    given = spec.get("names") or {}
    if not given.get("singular") and given.get("kind"):
        given["singular"] = given["kind"].lower()
    if not given.get("listKind") and given.get("kind"):
        given["listKind"] = given["kind"] + "List"
    conversion = spec.get("conversion")
    if not conversion:
        spec["conversion"] = {"strategy": "None"}


def prepare_create(crd: Object) -> None:
    """``PrepareForCreate``: status.storedVersions starts with the storage version."""
    stored = [v["name"] for v in (crd.get("spec") or {}).get("versions") or () if v.get("storage")]
    crd["status"] = {
        "conditions": None,
        "acceptedNames": {"plural": "", "kind": ""},
        "storedVersions": stored or None,
    }


def prepare_update(new: Object, old: Object) -> None:
    """``PrepareForUpdate``: append a new storage version to status.storedVersions."""
    status = new["status"] = dict(new.get("status") or {})
    stored = list(status.get("storedVersions") or ())
    for version in (new.get("spec") or {}).get("versions") or ():
        if version.get("storage") and version["name"] not in stored:
            stored.append(version["name"])
    status["storedVersions"] = stored


def validate(crd: Object, errors: Errors) -> None:
    """``ValidateCustomResourceDefinition`` without ``metadata``."""
    spec = crd.get("spec") or {}
    group, given = spec.get("group", ""), spec.get("names") or {}
    wanted = f"{given.get('plural', '')}.{group}"
    if crd["metadata"].get("name") != wanted:
        errors.append(wrong("metadata.name", crd["metadata"].get("name", ""), 'must be spec.names.plural+"."+spec.group'))
    if not group:
        errors.append(required("spec.group"))
    else:
        texts = names.dns_subdomain(group)
        errors.extend(wrong("spec.group", group, text) for text in texts)
        if not texts and "." not in group:
            errors.append(wrong("spec.group", group, "should be a domain with at least one dot"))
    scope = spec.get("scope", "")
    if not scope:
        errors.append(required("spec.scope"))
    elif scope not in ("Cluster", "Namespaced"):
        errors.append(not_supported("spec.scope", scope, ("Cluster", "Namespaced")))
    _versions(spec, errors)
    _names(given, "spec.names", errors)
    _conversion(spec.get("conversion") or {}, errors)
    versions = spec.get("versions") or []
    hoisted = _same(versions, "schema")
    expressions = Expressions()
    for index, version in enumerate(versions):
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        here = f"spec.versions[{index}]"
        if schema is None:
            errors.append(required(f"{here}.schema.openAPIV3Schema", "schemas are required"))
            continue
        if index and hoisted:
            continue
        field = "spec.validation.openAPIV3Schema" if hoisted else f"{here}.schema.openAPIV3Schema"
        with validation_budget():
            root(schema, field, errors, expressions)
    if not spec.get("preserveUnknownFields", False):
        return
    errors.append(
        wrong(
            "spec.preserveUnknownFields",
            True,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        )
    )


def _same(versions: list[Object], key: str) -> bool:
    return all(version.get(key) == versions[0].get(key) for version in versions)


def _versions(spec: Object, errors: Errors) -> None:
    versions = spec.get("versions") or []
    if not versions:
        errors.append(required("spec.versions", "must have exactly one version marked as storage version"))
        return
    seen: set[str] = set()
    for index, version in enumerate(versions):
        here = f"spec.versions[{index}]"
        name = version.get("name", "")
        if name in seen:
            errors.append(duplicate(f"{here}.name", name))
        seen.add(name)
        errors.extend(wrong(f"{here}.name", name, text) for text in names.dns_1035_label(name))
        for number, column in enumerate(version.get("additionalPrinterColumns") or ()):
            base = "spec" if _same(versions, "additionalPrinterColumns") else here
            _column(column, f"{base}.additionalPrinterColumns[{number}]", errors)
        for number, field in enumerate(version.get("selectableFields") or ()):
            if not re.fullmatch(r"\.[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)*", field.get("jsonPath", "")):
                errors.append(wrong(f"{here}.selectableFields[{number}].jsonPath", field.get("jsonPath", ""), "is an invalid path"))
        scale = (version.get("subresources") or {}).get("scale")
        if scale is not None:
            base = "spec" if _same(versions, "subresources") else here
            _scale(scale, f"{base}.subresources.scale", errors)
    if sum(1 for version in versions if version.get("storage")) != 1:
        errors.append(wrong("spec.versions", versions, "must have exactly one version marked as storage version"))
    if not any(version.get("served") for version in versions):
        return


def _scale(scale: Object, field: str, errors: Errors) -> None:
    for key, start in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        path = scale.get(key, "")
        if not path:
            errors.append(required(f"{field}.{key}"))
        elif not path.startswith(start):
            errors.append(wrong(f"{field}.{key}", path, f"should be a json path under {start[:-1]}"))
    selector = scale.get("labelSelectorPath")
    if selector and not selector.startswith((".spec.", ".status.")):
        errors.append(wrong(f"{field}.labelSelectorPath", selector, "should be a json path under either .spec or .status"))


def _column(column: Object, field: str, errors: Errors) -> None:
    if not column.get("name"):
        errors.append(required(f"{field}.name"))
    kind = column.get("type", "")
    if not kind:
        errors.append(required(f"{field}.type", "must be one of " + ",".join(_COLUMN_TYPES)))
    elif kind not in _COLUMN_TYPES:
        errors.append(wrong(f"{field}.type", kind, "must be one of " + ",".join(_COLUMN_TYPES)))
    if column.get("format") and column["format"] not in _COLUMN_FORMATS:
        errors.append(wrong(f"{field}.format", column["format"], "must be one of " + ",".join(_COLUMN_FORMATS)))
    if not column.get("jsonPath"):
        errors.append(required(f"{field}.JSONPath"))


def _names(given: Object, field: str, errors: Errors) -> None:
    for key in ("plural", "singular"):
        value = given.get(key, "")
        if not value:
            if key == "plural":
                errors.append(required(f"{field}.plural"))
            continue
        errors.extend(wrong(f"{field}.{key}", value, text) for text in names.dns_1035_label(value))
    for key in ("kind", "listKind"):
        value = given.get(key, "")
        if not value:
            errors.append(required(f"{field}.{key}"))
            continue
        texts = names.dns_1035_label(value.lower())
        errors.extend(wrong(f"{field}.{key}", value, "may have mixed case, but should otherwise match: " + text) for text in texts)
    for key in ("shortNames", "categories"):
        for index, value in enumerate(given.get(key) or ()):
            errors.extend(wrong(f"{field}.{key}[{index}]", value, text) for text in names.dns_1035_label(value))
    if given.get("kind") and given.get("kind") == given.get("listKind"):
        errors.append(wrong(f"{field}.listKind", given["listKind"], "kind and listKind may not be the same"))


def _conversion(conversion: Object, errors: Errors) -> None:
    strategy = conversion.get("strategy", "")
    if strategy == "Webhook":
        # embedded clusters call no conversion webhooks; a refused CRD is better than objects that are not converted
        errors.append(forbidden("spec.conversion.strategy", "conversion webhooks are not served by an embedded cluster"))
    elif strategy != "None":
        errors.append(not_supported("spec.conversion.strategy", strategy, ("None", "Webhook")))


def root(schema: Schema, field: str, errors: Errors, expressions: Expressions) -> None:
    """A version's whole schema. ``expressions`` are those of the whole CRD."""
    if schema.get("type") != "object":
        if not schema.get("type"):
            errors.append(required(f"{field}.type", "must not be empty at the root"))
        else:
            errors.append(wrong(f"{field}.type", schema["type"], "must be object at the root"))
    before = len(errors)
    expressions.patterns(schema, field, errors)
    if len(errors) == before:
        _node(schema, field, errors, at_root=True)
    if len(errors) == before:
        expressions.rules(schema, field, errors)


_FORBIDDEN_WORDS = ("$ref", "definitions", "dependencies", "patternProperties", "additionalItems", "id")


def _node(schema: Schema, field: str, errors: Errors, *, at_root: bool = False) -> None:
    kind = schema.get("type", "")
    int_or_string = schema.get("x-kubernetes-int-or-string")
    keep = schema.get("x-kubernetes-preserve-unknown-fields")
    for word in _FORBIDDEN_WORDS:
        if schema.get(word):
            errors.append(forbidden(f"{field}.{word}", f"{word} is not supported"))
    if schema.get("uniqueItems"):
        errors.append(
            forbidden(
                f"{field}.uniqueItems",
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            )
        )
    if schema.get("additionalProperties") is False:
        errors.append(forbidden(f"{field}.additionalProperties", "additionalProperties cannot be set to false"))
    if schema.get("additionalProperties") and schema.get("properties"):
        errors.append(forbidden(f"{field}.additionalProperties", "additionalProperties and properties are mutual exclusive"))
    if kind and kind not in _SCHEMA_TYPES:
        errors.append(not_supported(f"{field}.type", kind, _SCHEMA_TYPES))
    if not kind and not int_or_string and not keep and not at_root:
        errors.append(required(f"{field}.type", "must not be empty for specified object fields"))
    if kind and int_or_string:
        errors.append(wrong(f"{field}.type", kind, "must be empty if x-kubernetes-int-or-string is true"))
    if keep is False:
        errors.append(wrong(f"{field}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined"))
    if isinstance(schema.get("items"), list) and schema["items"]:
        errors.append(forbidden(f"{field}.items", "items must be a schema object and not an array"))
    elif kind == "array" and not isinstance(schema.get("items"), dict):
        errors.append(required(f"{field}.items", "must be specified"))
    if at_root:
        meta = (schema.get("properties") or {}).get("metadata")
        if meta and set(meta) - {"type", "description", "properties"}:
            errors.append(
                forbidden(
                    f"{field}.properties[metadata]",
                    "must not specify anything other than name and generateName, but metadata is implicitly specified",
                )
            )
    if schema.get("x-kubernetes-embedded-resource"):
        if kind != "object":
            errors.append(wrong(f"{field}.type", kind, "must be object if x-kubernetes-embedded-resource is true"))
        if not schema.get("properties") and not keep:
            errors.append(
                required(
                    f"{field}.properties",
                    "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
                )
            )
    _list(schema, field, errors)
    for key, one in (schema.get("properties") or {}).items():
        if isinstance(one, dict):
            _node(one, f"{field}.properties[{key}]", errors)
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        _node(extra, f"{field}.additionalProperties", errors)
    if isinstance(schema.get("items"), dict):
        _node(schema["items"], f"{field}.items", errors)
    if "default" in schema and not errors:
        if at_root:
            errors.append(forbidden(f"{field}.default", "must not be set at the root"))
            return
        found: Errors = []
        schema_checks.compile_check(schema)(schema["default"], schema_nodes.NO_OLD, f"{field}.default", found)
        errors.extend(found)


def _list(schema: Schema, field: str, errors: Errors) -> None:
    kind, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys") or []
    if kind is not None:
        if schema.get("type") != "array":
            errors.append(wrong(f"{field}.type", schema.get("type", ""), "must be array if x-kubernetes-list-type is specified"))
        if kind not in ("atomic", "set", "map"):
            errors.append(not_supported(f"{field}.x-kubernetes-list-type", kind, ("atomic", "map", "set")))
    if kind == "map":
        items = schema["items"] if isinstance(schema.get("items"), dict) else {}
        if not keys:
            errors.append(required(f"{field}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map"))
        if items.get("type") != "object":
            errors.append(
                wrong(
                    f"{field}.items.type",
                    items.get("type", ""),
                    "must be object if parent array's x-kubernetes-list-type is map",
                )
            )
        for key in keys:
            own = (items.get("properties") or {}).get(key)
            if own is None:
                errors.append(wrong(f"{field}.x-kubernetes-list-map-keys", keys, "entries must all be names of item properties"))
            elif key not in (items.get("required") or ()) and "default" not in own:
                errors.append(
                    required(
                        f"{field}.items.properties[{key}].default",
                        "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                    )
                )
    elif keys:
        errors.append(
            wrong(f"{field}.x-kubernetes-list-type", kind or "", "must be map if x-kubernetes-list-map-keys is non-empty")
        )


def validate_update(new: Object, old: Object, errors: Errors) -> None:
    """``ValidateCustomResourceDefinitionUpdate``: names, group and scope of an established CRD are immutable."""
    found: Errors = []
    validate(new, found)
    if any(exceeds_rule_budget(one.message) for one in found):
        # a stored CRD whose rules cost too much may go on so (``suppressPerExpressionCost``)
        before_now: Errors = []
        validate(old, before_now)
        if any(exceeds_rule_budget(one.message) for one in before_now):
            found = [one for one in found if not exceeds_rule_budget(one.message)]
    errors.extend(found)
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    if is_true(old, "Established"):
        for key in ("group", "scope"):
            if spec.get(key) != before.get(key):
                errors.append(immutable(f"spec.{key}", spec.get(key)))
        for key in ("kind", "plural"):
            value = (spec.get("names") or {}).get(key)
            if value != (before.get("names") or {}).get(key):
                errors.append(immutable(f"spec.names.{key}", value))
    stored = (new.get("status") or {}).get("storedVersions") or ()
    there = {version.get("name") for version in spec.get("versions") or ()}
    for index, name in enumerate(stored):
        if name not in there:
            errors.append(
                wrong(
                    f"status.storedVersions[{index}]",
                    name,
                    "missing from spec.versions; " + f"{name} was previously a storage version, and must remain in "
                    f"spec.versions until a storage migration "
                    f"ensures no data remains persisted in {name} and removes {name} from status.storedVersions",
                )
            )
