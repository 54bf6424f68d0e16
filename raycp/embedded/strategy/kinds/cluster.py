"""Node, Lease, RBAC, PriorityClass, CRD, webhooks, storage, policy: cluster-level kinds."""

from raycp.embedded import crds
from raycp.embedded.strategy import names
from raycp.embedded.strategy.causes import Errors, duplicate, forbidden, immutable, not_supported, required, wrong
from raycp.embedded.strategy.kinds.placement_validation import label_selector
from raycp.embedded.strategy.kinds.policies import ExpressionChecks
from raycp.embedded.strategy.kinds.shares import share
from raycp.embedded.strategy.metadata import check_labels
from raycp.embedded.strategy.rules import Object, register

_NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def _node_defaults(obj: Object) -> None:
    status = obj.get("status")
    if status and status.get("capacity") and not status.get("allocatable"):
        status["allocatable"] = dict(status["capacity"])


def _node_create(obj: Object) -> None:
    """Admission plugin TaintNodesByCondition: a new node is tainted until it reports Ready."""
    spec = obj["spec"] = dict(obj.get("spec") or {})
    taints = spec.get("taints") or []
    if not any(t.get("key") == _NOT_READY["key"] and t.get("effect") == "NoSchedule" for t in taints):
        spec["taints"] = [*taints, dict(_NOT_READY)]


def _node(obj: Object, errors: Errors) -> None:
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate((obj.get("spec") or {}).get("taints") or ()):
        field = f"spec.taints[{index}]"
        key, value, effect = taint.get("key", ""), taint.get("value", ""), taint.get("effect", "")
        errors.extend(wrong(f"{field}.key", key, text) for text in names.qualified_name(key))
        errors.extend(wrong(f"{field}.value", value, text) for text in names.label_value(value))
        if not effect:
            errors.append(required(f"{field}.effect"))
        elif effect not in _EFFECTS:
            errors.append(not_supported(f"{field}.effect", effect, _EFFECTS))
        if (key, effect) in seen:
            errors.append(duplicate(field, taint))
        seen.add((key, effect))


def _node_update(new: Object, old: Object, errors: Errors) -> None:
    _node(new, errors)
    before, after = (old.get("spec") or {}), (new.get("spec") or {})
    if before.get("providerID") and before.get("providerID") != after.get("providerID"):
        errors.append(forbidden("spec.providerID", 'node updates may not change providerID except from "" to valid'))
    if before.get("podCIDRs") and before.get("podCIDRs") != after.get("podCIDRs"):
        errors.append(forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid'))


# a create of a node keeps status, because kubelets register with it
register(
    "",
    "Node",
    defaults=_node_defaults,
    create=_node_create,
    validate=_node,
    validate_update=_node_update,
    keeps_status=True,
)


def _lease(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if duration is not None and duration <= 0:
        errors.append(wrong("spec.leaseDurationSeconds", duration, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        errors.append(wrong("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
    if spec.get("holderIdentity") == "":
        errors.append(wrong("spec.holderIdentity", "", "must not be empty"))


register("coordination.k8s.io", "Lease", validate=_lease, validate_update=lambda new, old, errors: _lease(new, errors))

_RBAC = "rbac.authorization.k8s.io"


def _role_rules(obj: Object, errors: Errors) -> None:
    for index, rule in enumerate(obj.get("rules") or ()):
        field = f"rules[{index}]"
        if not rule.get("verbs"):
            errors.append(required(f"{field}.verbs", "verbs must contain at least one value"))
        if rule.get("nonResourceURLs"):
            if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
                text = "rules cannot apply to both regular resources and non-resource URLs"
                errors.append(wrong(f"{field}.nonResourceURLs", rule["nonResourceURLs"], text))
            if obj["kind"] == "Role":
                text = "namespaced rules cannot apply to non-resource URLs"
                errors.append(wrong(f"{field}.nonResourceURLs", rule["nonResourceURLs"], text))
            continue
        if not rule.get("apiGroups"):
            errors.append(required(f"{field}.apiGroups", "resource rules must supply at least one api group"))
        if not rule.get("resources"):
            errors.append(required(f"{field}.resources", "resource rules must supply at least one resource"))


def _cluster_role(obj: Object, errors: Errors) -> None:
    _role_rules(obj, errors)
    for index, selector in enumerate((obj.get("aggregationRule") or {}).get("clusterRoleSelectors") or ()):
        label_selector(selector, f"aggregationRule.clusterRoleSelectors[{index}]", errors)


def _binding_defaults(obj: Object) -> None:
    ref = obj.get("roleRef")
    if ref is not None and not ref.get("apiGroup"):
        ref["apiGroup"] = _RBAC
    for subject in obj.get("subjects") or ():
        if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
            subject["apiGroup"] = _RBAC


def _binding(obj: Object, errors: Errors) -> None:
    ref = obj.get("roleRef") or {}
    if ref.get("apiGroup") != _RBAC:
        errors.append(not_supported("roleRef.apiGroup", ref.get("apiGroup", ""), (_RBAC,)))
    kinds = ("Role", "ClusterRole") if obj["kind"] == "RoleBinding" else ("ClusterRole",)
    if ref.get("kind") not in kinds:
        errors.append(not_supported("roleRef.kind", ref.get("kind", ""), kinds))
    if not ref.get("name"):
        errors.append(required("roleRef.name"))
    else:
        errors.extend(wrong("roleRef.name", ref["name"], text) for text in names.path_segment(ref["name"]))
    for index, subject in enumerate(obj.get("subjects") or ()):
        field = f"subjects[{index}]"
        if not subject.get("name"):
            errors.append(required(f"{field}.name"))
        kind = subject.get("kind", "")
        if kind == "ServiceAccount":
            if subject.get("apiGroup"):
                errors.append(not_supported(f"{field}.apiGroup", subject["apiGroup"], ("",)))
            if not subject.get("namespace") and obj["kind"] == "ClusterRoleBinding":
                errors.append(required(f"{field}.namespace"))
        elif kind in ("User", "Group"):
            if subject.get("apiGroup") != _RBAC:
                errors.append(not_supported(f"{field}.apiGroup", subject.get("apiGroup", ""), (_RBAC,)))
        else:
            errors.append(not_supported(f"{field}.kind", kind, ("ServiceAccount", "User", "Group")))


def _binding_update(new: Object, old: Object, errors: Errors) -> None:
    _binding(new, errors)
    if new.get("roleRef") != old.get("roleRef"):
        errors.append(wrong("roleRef", new.get("roleRef"), "cannot change roleRef"))


for _kind, _check in (("Role", _role_rules), ("ClusterRole", _cluster_role)):
    register(
        _RBAC,
        _kind,
        name=names.path_segment,
        validate=_check,
        validate_update=lambda new, old, errors, check=_check: check(new, errors),
        metadata_again=True,
    )
for _kind in ("RoleBinding", "ClusterRoleBinding"):
    register(
        _RBAC,
        _kind,
        name=names.path_segment,
        defaults=_binding_defaults,
        validate=_binding,
        validate_update=_binding_update,
        metadata_again=True,
    )

_MAX_USER_PRIORITY = 1_000_000_000


def _priority_defaults(obj: Object) -> None:
    if obj.get("preemptionPolicy") is None:
        obj["preemptionPolicy"] = "PreemptLowerPriority"


def _priority(obj: Object, errors: Errors) -> None:
    name, value = obj["metadata"].get("name", ""), obj.get("value", 0)
    if name.startswith("system-"):
        if name not in ("system-cluster-critical", "system-node-critical"):
            text = "priority class names with 'system-' prefix are reserved for system use only"
            errors.append(forbidden("metadata.name", text))
    elif value > _MAX_USER_PRIORITY:
        text = f"maximum allowed value of a user defined priority is {_MAX_USER_PRIORITY}"
        errors.append(forbidden("value", text))
    policies = ("PreemptLowerPriority", "Never")
    if obj.get("preemptionPolicy") not in policies:
        errors.append(not_supported("preemptionPolicy", obj.get("preemptionPolicy"), policies))


def _priority_update(new: Object, old: Object, errors: Errors) -> None:
    if new.get("value") != old.get("value"):
        errors.append(forbidden("value", "may not be changed in an update."))
    if new.get("preemptionPolicy") != old.get("preemptionPolicy"):
        errors.append(immutable("preemptionPolicy", new.get("preemptionPolicy")))


register(
    "scheduling.k8s.io",
    "PriorityClass",
    generation=True,
    generation_of=lambda obj: None,
    defaults=_priority_defaults,
    validate=_priority,
    validate_update=_priority_update,
)

register(
    "apiextensions.k8s.io",
    "CustomResourceDefinition",
    generation=True,
    defaults=crds.defaults,
    create=crds.prepare_create,
    update=crds.prepare_update,
    validate=crds.validate,
    validate_update=crds.validate_update,
    keeps_status=True,
)


def _webhook_defaults(obj: Object) -> None:
    for hook in obj.get("webhooks") or ():
        for key, value in (("failurePolicy", "Fail"), ("matchPolicy", "Equivalent"), ("timeoutSeconds", 10)):
            if hook.get(key) is None:
                hook[key] = value
        for key in ("namespaceSelector", "objectSelector"):
            if hook.get(key) is None:
                hook[key] = {}
        if obj["kind"] == "MutatingWebhookConfiguration" and hook.get("reinvocationPolicy") is None:
            hook["reinvocationPolicy"] = "Never"
        for rule in hook.get("rules") or ():
            if rule.get("scope") is None:
                rule["scope"] = "*"
        service = (hook.get("clientConfig") or {}).get("service")
        if service is not None and service.get("port") is None:
            service["port"] = 443


def _webhooks(obj: Object, errors: Errors) -> None:
    seen: set[str] = set()
    for index, hook in enumerate(obj.get("webhooks") or ()):
        field = f"webhooks[{index}]"
        name = hook.get("name", "")
        texts = names.dns_subdomain(name)
        errors.extend(wrong(f"{field}.name", name, text) for text in texts)
        if not texts and name.count(".") < 2:
            errors.append(wrong(f"{field}.name", name, "should be a domain with at least three segments separated by dots"))
        if name in seen:
            errors.append(duplicate(f"{field}.name", name))
        seen.add(name)
        if hook.get("failurePolicy") not in ("Ignore", "Fail"):
            errors.append(not_supported(f"{field}.failurePolicy", hook.get("failurePolicy"), ("Ignore", "Fail")))
        effects = ("None", "NoneOnDryRun")
        if hook.get("sideEffects") is None:
            errors.append(required(f"{field}.sideEffects", "must specify one of None, NoneOnDryRun"))
        elif hook["sideEffects"] not in effects:
            errors.append(not_supported(f"{field}.sideEffects", hook["sideEffects"], effects))
        if not hook.get("admissionReviewVersions"):
            errors.append(required(f"{field}.admissionReviewVersions", "must specify one of v1, v1beta1"))
        timeout = hook.get("timeoutSeconds", 10)
        if not 1 <= timeout <= 30:
            text = "the timeout value must be between 1 and 30 seconds"
            errors.append(wrong(f"{field}.timeoutSeconds", timeout, text))
        config = hook.get("clientConfig") or {}
        if (config.get("url") is None) == (config.get("service") is None):
            errors.append(required(f"{field}.clientConfig", "exactly one of url or service is required"))
        ExpressionChecks({}, errors).conditions(hook, field)


for _kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
    register(
        "admissionregistration.k8s.io",
        _kind,
        generation=True,
        generation_of=lambda obj: obj.get("webhooks"),
        defaults=_webhook_defaults,
        validate=_webhooks,
        validate_update=lambda new, old, errors: _webhooks(new, errors),
    )


def _budget(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        errors.append(wrong("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
    for key in ("minAvailable", "maxUnavailable"):
        share(spec.get(key), f"spec.{key}", errors, of_all=True)
    if spec.get("selector"):
        label_selector(spec["selector"], "spec.selector", errors)


register(
    "policy",
    "PodDisruptionBudget",
    generation=True,
    validate=_budget,
    validate_update=lambda new, old, errors: _budget(new, errors),
)


def _class_defaults(obj: Object) -> None:
    for key, value in (("reclaimPolicy", "Delete"), ("volumeBindingMode", "Immediate")):
        if obj.get(key) is None:
            obj[key] = value


def _storage_class_update(new: Object, old: Object, errors: Errors) -> None:
    for key in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"):
        if new.get(key) != old.get(key):
            errors.append(forbidden(key, "updates to " + key + " are forbidden."))


register(
    "storage.k8s.io",
    "StorageClass",
    defaults=_class_defaults,
    validate=lambda obj, errors: None if obj.get("provisioner") else errors.append(required("provisioner")),
    validate_update=_storage_class_update,
)


def _runtime_class(obj: Object, errors: Errors) -> None:
    handler = obj.get("handler", "")
    errors.extend(wrong("handler", handler, text) for text in names.dns_label(handler))
    selector = (obj.get("scheduling") or {}).get("nodeSelector")
    if selector:
        check_labels(selector, "scheduling.nodeSelector", errors)


register(
    "node.k8s.io",
    "RuntimeClass",
    validate=_runtime_class,
    validate_update=lambda new, old, errors: (
        errors.append(immutable("handler", new.get("handler"))) if new.get("handler") != old.get("handler") else None
    ),
)
for _group, _kind in (
    ("resource.k8s.io", "DeviceClass"),
    ("resource.k8s.io", "ResourceSlice"),
):
    register(_group, _kind, generation=True)
