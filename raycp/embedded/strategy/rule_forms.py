"""The form of one entry of ``x-kubernetes-validations``, apart from its expressions."""

import json
from typing import Any

from raycp.embedded.errors import FieldError
from raycp.embedded.strategy.causes import Errors, not_supported, required, wrong
from raycp.embedded.strategy.field_paths import field_path

_REASONS = ("FieldValueRequired", "FieldValueForbidden", "FieldValueInvalid", "FieldValueDuplicate")


def rule_form(rule: dict[str, Any], schema: dict[str, Any], field: str, errors: Errors) -> None:
    """Append the errors of a rule of ``schema``."""
    text, message, path = (str(rule.get(key) or "") for key in ("rule", "message", "fieldPath"))
    if not text.strip():
        errors.append(required(f"{field}.rule", "rule is not specified"))
    elif message and not message.strip():
        errors.append(wrong(f"{field}.message", message, "must be non-empty if specified"))
    elif _breaks(message.strip()):
        errors.append(wrong(f"{field}.message", message, "must not contain line breaks"))
    elif _breaks(text.strip()) and not message.strip():
        errors.append(required(f"{field}.message", "message must be specified if rule contains line breaks"))
    if rule.get("messageExpression") and not rule["messageExpression"].strip():
        errors.append(required(f"{field}.messageExpression", "messageExpression must be non-empty if specified"))
    if rule.get("reason") is not None and rule["reason"] not in _REASONS:
        errors.append(not_supported(f"{field}.reason", rule["reason"], _REASONS))
    if path and not path.strip():
        errors.append(wrong(f"{field}.fieldPath", path, "must be non-empty if specified"))
    if _breaks(path):
        errors.append(wrong(f"{field}.fieldPath", path, "must not contain line breaks"))
    if path and field_path(path, schema) is None:
        errors.append(wrong(f"{field}.fieldPath", path, "must be a valid path"))


def _breaks(text: str) -> bool:
    return "\n" in text or "\r" in text


def refused_rule(field: str, rule: dict[str, Any], detail: str) -> FieldError:
    """An expression that does not compile: the error shows the rule as Go prints its struct."""
    names = ("Rule", "Message", "MessageExpression")
    shown = [f"{name}:{json.dumps(rule.get(name[0].lower() + name[1:]) or '', ensure_ascii=False)}" for name in names]
    shown.append("Reason:(*apiextensions.FieldValueErrorReason)(nil)" if rule.get("reason") is None else f"Reason:{rule['reason']}")
    shown.append(f"FieldPath:{json.dumps(rule.get('fieldPath') or '', ensure_ascii=False)}")
    old = rule.get("optionalOldSelf")
    shown.append("OptionalOldSelf:(*bool)(nil)" if old is None else f"OptionalOldSelf:{str(old).lower()}")
    value = f"apiextensions.ValidationRule{{{', '.join(shown)}}}"
    return FieldError("FieldValueInvalid", field, f"Invalid value: {value}: {detail}")
