"""Evictions: deletions of Pods that PodDisruptionBudgets may refuse (``pkg/registry/core/pod/storage/eviction.go``)."""

from collections.abc import Coroutine
from typing import Any

import msgspec

from raycp.embedded.errors import StatusError, bad_request, forbidden, not_found, too_many_requests
from raycp.embedded.httpio import Answer, HttpResponse
from raycp.embedded.options import DeleteOptions, delete_options, write_options
from raycp.embedded.policies.constraints import AdmissionRequest
from raycp.embedded.registry import ServedResource
from raycp.embedded.selectors import parse_label_dict
from raycp.embedded.store import StoredObject
from raycp.embedded.strategy import body_decoder
from raycp.embedded.verbs import ResourceRequest, Verbs, warning_headers

Object = dict[str, Any]
SUCCESS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
_EVICTION = {"group": "policy", "version": "v1", "kind": "Eviction"}
_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
_MAX_DISRUPTED = 2_000
"""Pods of a budget that are being disrupted (``MaxDisruptedPodSize``)"""


class Evictions:
    """The subresource ``eviction``."""

    def __init__(self, verbs: Verbs) -> None:
        self._verbs = verbs
        self._pipeline = verbs.pipeline
        found = verbs.pipeline.registry.find("policy", "v1", "poddisruptionbudgets")
        assert found is not None
        self._budgets = found

    def create(self, call: ResourceRequest, record: StoredObject) -> Answer | Coroutine[Any, Any, Answer]:
        """POST of an Eviction. Raises ``StatusError``, 429 if a budget allows no disruption."""
        request = call.request
        asked = write_options(request.query, request.header(b"user-agent"), "CreateOptions", False)
        eviction, _ = body_decoder("policy", "v1", "Eviction").decode(request.body, call.media_type(), asked.validation)
        meta = eviction.setdefault("metadata", {})
        self._pipeline.match_namespace(call.resource, call.ns, meta)
        if meta.setdefault("name", call.name) != call.name:
            raise bad_request("name in URL does not match name in Eviction object")
        options = delete_options({}, b"", eviction.get("deleteOptions") or {})
        options.dry_run = options.dry_run or asked.dry_run
        # admission is of the eviction; the deletion that follows is under none (``rest.ValidateAllObjectFunc``)
        wish = AdmissionRequest(call.resource, "CREATE", "eviction", eviction, None, call.user, options.dry_run, _EVICTION)
        webhooks = self._verbs.webhooks
        if webhooks.any and webhooks.wanted(wish):
            return self._by_webhooks(call, wish, options)
        return self._evict(call, record, wish, options, [])

    async def _by_webhooks(self, call: ResourceRequest, wish: AdmissionRequest, options: DeleteOptions) -> Answer:
        warnings: list[str] = []
        await self._verbs.webhooks.ask(wish, warnings)
        record = call.resource.table.get(call.ns, call.name)
        if record is None:
            raise not_found(call.resource.info, call.name)
        return self._evict(call, record, wish, options, warnings)

    def _evict(
        self, call: ResourceRequest, record: StoredObject, wish: AdmissionRequest, options: DeleteOptions, warnings: list[str]
    ) -> Answer:
        if self._verbs.policies.any:
            self._verbs.policies.admit(wish, warnings)
        pod = record.decode()
        disrupted = None
        if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed", "Pending") and (
            "deletionTimestamp" not in pod["metadata"]
        ):
            disrupted = self._disrupted(call.ns, record, pod)
        # what may refuse comes before all writes: a refused eviction costs no budget and marks no Pod
        self._verbs.deletion.check_preconditions(call.resource, record, options)
        if disrupted is not None:
            self._pipeline.commit_update(self._budgets, *disrupted, options.dry_run)
        if not options.dry_run:
            self._mark(call.resource, record, pod)
            options.resource_version = ""  # that was of the Pod without the mark
        removed, _ = self._verbs.deletion.delete(call.resource, call.ns, call.name, options)
        if not options.dry_run:
            self._verbs.record(call, removed)
        return HttpResponse(201, msgspec.json.encode({**SUCCESS, "code": 201}), headers=warning_headers(warnings))

    def _mark(self, pods: ServedResource, record: StoredObject, pod: Object) -> None:
        """The Pod's condition ``DisruptionTarget``."""
        condition = {"reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"}
        disruption_target(pod, condition, self._pipeline.times.now())
        self._pipeline.commit_update(pods, record, pod)

    def _disrupted(self, ns: str, record: StoredObject, pod: Object) -> tuple[StoredObject, Object] | None:
        """The PodDisruptionBudget that covers the Pod, and its state with one disruption more. Raises ``StatusError``."""
        budgets = self._budgets
        found = []
        for each in budgets.table.records(ns):
            budget = budgets.read(each)
            selector = (budget.get("spec") or {}).get("selector")
            if selector is not None and parse_label_dict(selector)(record.labels):
                found.append((each, budget))
        if len(found) > 1:
            text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            raise StatusError(500, "InternalError", text, {"causes": [{"message": text}]})
        for each, budget in found:
            status = budget.setdefault("status", {})
            if not _ready(pod) and _spares_unready(budget):
                continue
            self._check(budgets, budget)
            status["disruptionsAllowed"] -= 1
            status.setdefault("disruptedPods", {})[record.name] = self._pipeline.times.now()
            return each, budget
        return None

    @staticmethod
    def _check(budgets: ServedResource, budget: Object) -> None:
        name, status = budget["metadata"]["name"], budget["status"]
        allowed = status.get("disruptionsAllowed") or 0
        if (status.get("observedGeneration") or 0) < (budget["metadata"].get("generation") or 0):
            error = too_many_requests(_REFUSED, 10)
            told = f"The disruption budget {name} is still being processed by the server."
            error.details = {"causes": [{"reason": "DisruptionBudget", "message": told}], "retryAfterSeconds": 10}
            raise error
        if allowed < 0:
            raise forbidden(budgets.info, name, "pdb disruptions allowed is negative")
        if len(status.get("disruptedPods") or ()) > _MAX_DISRUPTED:
            raise forbidden(budgets.info, name, "DisruptedPods map too big - too many evictions not confirmed by PDB controller")
        if not allowed:
            error = too_many_requests(_REFUSED, 10)
            needs, has = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
            told = f"The disruption budget {name} needs {needs} healthy pods and has {has} currently"
            error.details, error.headers = {"causes": [{"reason": "DisruptionBudget", "message": told}]}, {}
            raise error


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _spares_unready(budget: Object) -> bool:
    """Whether a Pod that is not ready may go whatever the budget allows: it does not count as healthy."""
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    needs, has = (budget["status"].get(key) or 0 for key in ("desiredHealthy", "currentHealthy"))
    return bool(has >= needs > 0)


def disruption_target(pod: Object, condition: Object, now: str) -> None:
    """Set the condition ``DisruptionTarget``, with reason and message of ``condition``."""
    status = pod.setdefault("status", {})
    others = [one for one in status.get("conditions") or () if one.get("type") != "DisruptionTarget"]
    made = {"type": "DisruptionTarget", "status": "True", "lastProbeTime": None, "lastTransitionTime": now, **condition}
    if "generation" in pod["metadata"]:
        made["observedGeneration"] = pod["metadata"]["generation"]
    status["conditions"] = [*others, made]
