"""Rules of ``metadata`` that hold for every kind (``apimachinery/pkg/api/validation/objectmeta.go``)."""

import random
from collections.abc import Callable
from typing import Any

from raycp.embedded.errors import FieldError
from raycp.embedded.strategy import names
from raycp.embedded.strategy.causes import Errors, forbidden, immutable, required, too_long, wrong

NameRule = Callable[[str], tuple[str, ...]]
ANNOTATIONS_LIMIT = 256 * 1024
STANDARD_FINALIZERS = frozenset({"kubernetes", "foregroundDeletion", "orphan"})
_BANNED_OWNERS = frozenset({("v1", "Event")})


def new_uid(rng: random.Random) -> str:
    """A random UUID (version 4), of a generator without system calls: a uid is an identity and no secret."""
    drawn = rng.getrandbits(128) & ~(0xF << 76) & ~(0b11 << 62) | 4 << 76 | 0b10 << 62
    text = f"{drawn:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def fresh(meta: dict[str, Any], now: str, namespace: str | None) -> None:
    """Prepare the ``metadata`` of a create: drop fields that clients may not set, set creationTimestamp and namespace."""
    for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"):
        meta.pop(key, None)
    meta["creationTimestamp"] = now
    if namespace:
        meta["namespace"] = namespace
    elif "namespace" in meta and not meta["namespace"]:
        del meta["namespace"]


def carry_over(new: dict[str, Any], old: dict[str, Any]) -> None:
    """Prepare the ``metadata`` of an update: keep uid and times if they are missing, and system fields always."""
    for key in ("uid", "creationTimestamp"):
        if not new.get(key) and key in old:
            new[key] = old[key]
    if "deletionTimestamp" in old:
        new["deletionTimestamp"] = old["deletionTimestamp"]
        if new.get("deletionGracePeriodSeconds") is None and "deletionGracePeriodSeconds" in old:
            new["deletionGracePeriodSeconds"] = old["deletionGracePeriodSeconds"]
    if "generation" in old:
        new["generation"] = old["generation"]
    else:
        new.pop("generation", None)
    new.pop("selfLink", None)


def validate(meta: dict[str, Any], namespaced: bool, name_rule: NameRule, errors: Errors, plain_finalizers: bool = False) -> None:
    """``ValidateObjectMeta``. ``plain_finalizers``: a finalizer needs no domain, which only kube-apiserver's own kinds ask for."""
    validate_name(meta, namespaced, name_rule, errors)
    validate_common(meta, errors, plain_finalizers)


def validate_name(meta: dict[str, Any], namespaced: bool, name_rule: NameRule, errors: Errors) -> None:
    """The part of ``validate`` that depends on the rule of names."""
    prefix = meta.get("generateName")
    if prefix:
        checked = prefix[:-1] + "a" if prefix.endswith("-") else prefix  # maskTrailingDash
        for text in name_rule(checked):
            errors.append(wrong("metadata.generateName", prefix, text))
    name = meta.get("name")
    if not name:
        errors.append(required("metadata.name", "name or generateName is required"))
    else:
        for text in name_rule(name):
            errors.append(wrong("metadata.name", name, text))
    namespace = meta.get("namespace")
    if namespaced:
        if not namespace:
            errors.append(required("metadata.namespace"))
        else:
            for text in names.dns_label(namespace):
                errors.append(wrong("metadata.namespace", namespace, text))
    elif namespace:
        errors.append(forbidden("metadata.namespace", "not allowed on this type"))


def validate_common(meta: dict[str, Any], errors: Errors, plain_finalizers: bool = False) -> None:
    """The rest of ``validate``."""
    labels = meta.get("labels")
    if labels:
        check_labels(labels, "metadata.labels", errors)
    annotations = meta.get("annotations")
    if annotations:
        check_annotations(annotations, "metadata.annotations", errors)
    owners = meta.get("ownerReferences")
    if owners:
        _owners(owners, errors)
    finalizers = meta.get("finalizers")
    if finalizers:
        _finalizers(finalizers, errors, plain_finalizers)
    if meta.get("managedFields"):
        _managed(meta["managedFields"], errors)


def check_labels(labels: dict[str, str], field: str, errors: Errors) -> None:
    """Validate label keys and values."""
    for key, value in labels.items():
        for text in names.qualified_name(key):
            errors.append(wrong(field, key, text))
        for text in names.label_value(value):
            errors.append(wrong(field, value, text))


def check_annotations(annotations: dict[str, str], field: str, errors: Errors) -> None:
    """Validate annotation keys and the annotations' total size."""
    size = 0
    for key, value in annotations.items():
        for text in names.qualified_name(key.lower()):
            errors.append(wrong(field, key, text))
        size += len(key) + len(value)
    if size > ANNOTATIONS_LIMIT // 4:
        size = sum(len(k.encode()) + len(v.encode()) for k, v in annotations.items())
        if size > ANNOTATIONS_LIMIT:
            errors.append(too_long(field, ANNOTATIONS_LIMIT))


def _owners(owners: list[dict[str, Any]], errors: Errors) -> None:
    controller = ""
    field = "metadata.ownerReferences"
    for owner in owners:
        version = owner.get("apiVersion", "")
        if not version or version.endswith("/") or version.count("/") > 1:
            errors.append(wrong(f"{field}.apiVersion", version, "version must not be empty"))
        if not owner.get("kind"):
            errors.append(wrong(f"{field}.kind", owner.get("kind", ""), "must not be empty"))
        if not owner.get("name"):
            errors.append(wrong(f"{field}.name", owner.get("name", ""), "must not be empty"))
        if not owner.get("uid"):
            errors.append(wrong(f"{field}.uid", owner.get("uid", ""), "must not be empty"))
        if (version, owner.get("kind")) in _BANNED_OWNERS:
            errors.append(wrong(field, owner, f"{version}, Kind={owner.get('kind')} is disallowed from being an owner"))
        if owner.get("controller"):
            if controller:
                errors.append(
                    wrong(
                        field,
                        owners,
                        'Only one reference can have Controller set to true. Found "true" in references for '
                        f"{controller} and {owner.get('name')}",
                    )
                )
            else:
                controller = str(owner.get("name"))


def finalizer_warnings(new: dict[str, Any], old: dict[str, Any] | None) -> list[str]:
    """What a write of a custom resource is warned of: new finalizers that others may use as well."""
    before = (old or {}).get("finalizers") or ()
    found = []
    for finalizer in sorted(set(new.get("finalizers") or ()).difference(before)):
        if "/" not in finalizer and finalizer not in STANDARD_FINALIZERS:
            path = " including a path (/)" if "." in finalizer else ""
            found.append(
                f'metadata.finalizers: "{finalizer}": prefer a domain-qualified finalizer name{path} to avoid accidental '
                "conflicts with other finalizer writers"
            )
    return found


def _finalizers(finalizers: list[str], errors: Errors, plain: bool) -> None:
    orphan = foreground = False
    for index, finalizer in enumerate(finalizers):
        texts = names.qualified_name(finalizer)
        for text in texts:
            errors.append(wrong("metadata.finalizers", finalizer, text))
        if not plain and not texts and "/" not in finalizer and finalizer not in STANDARD_FINALIZERS:
            errors.append(
                wrong(
                    f"metadata.finalizers[{index}]",
                    finalizer,
                    "name is neither a standard finalizer name nor is it fully qualified",
                )
            )
        orphan = orphan or finalizer == "orphan"
        foreground = foreground or finalizer == "foregroundDeletion"
    if orphan and foreground:
        errors.append(wrong("metadata.finalizers", finalizers, "finalizer orphan and foregroundDeletion cannot be both set"))


def _managed(entries: list[dict[str, Any]], errors: Errors) -> None:
    for index, entry in enumerate(entries):
        field = f"metadata.managedFields[{index}]"
        operation = entry.get("operation", "")
        if operation not in ("Apply", "Update"):
            errors.append(wrong(f"{field}.operation", operation, "must be `Apply` or `Update`"))
        if entry.get("fieldsType") and entry["fieldsType"] != "FieldsV1":
            errors.append(wrong(f"{field}.fieldsType", entry["fieldsType"], "must be `FieldsV1`"))
        manager = entry.get("manager", "")
        if len(manager) > 128:
            errors.append(too_long(f"{field}.manager", 128))


def validate_update(new: dict[str, Any], old: dict[str, Any], errors: Errors) -> None:
    """``ValidateObjectMetaUpdate``: immutable fields, and no new finalizers on a terminating object."""
    if "deletionTimestamp" in old:
        before = old.get("finalizers") or ()
        for finalizer in new.get("finalizers") or ():
            if finalizer not in before:
                errors.append(
                    FieldError(
                        "FieldValueForbidden",
                        "metadata.finalizers",
                        "Forbidden: no new finalizers can be added if the object "
                        "is being deleted, found new finalizers "
                        f'[]string{{"{finalizer}"}}',
                    )
                )
    for key in ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        if new.get(key) != old.get(key):
            errors.append(immutable(f"metadata.{key}", new.get(key)))
