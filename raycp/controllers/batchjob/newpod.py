"""``new_pod``: the Pod that a job creates for an index."""

from copy import deepcopy
from typing import Any

from raycp.controllers.batchjob.job import Create
from raycp.controllers.batchjob.pods import ATTEMPT, GIVEN_UP, INDEX, QUEUE, TRACKING, pod_name
from raycp.controllers.batchjob.types import BatchJobSpec

_JOB_NAME = ("batch.kubernetes.io/job-name", "job-name")
_CONTROLLER_UID = ("batch.kubernetes.io/controller-uid", "controller-uid")
_COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
_INDEX_FAILURES = "batch.kubernetes.io/job-index-failure-count"
_INDEX_IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"
_ENV = "JOB_COMPLETION_INDEX"


def new_pod(job: dict[str, Any], spec: BatchJobSpec, create: Create) -> dict[str, Any]:
    """The Pod to create, labelled as the Job controller and the API server label a Job's. The template is taken from the object as
    the user wrote it, so that no field is lost; an admitted job's Pods ask for the nodes of its flavor too."""
    meta = job["metadata"]
    template = deepcopy(job["spec"]["template"])
    wanted = template.get("metadata") or {}
    label = meta["name"] if len(meta["name"]) <= 63 else pod_name(meta["name"], 0, 0)
    labels = {
        **(wanted.get("labels") or {}),
        **dict.fromkeys(_JOB_NAME, label),
        **dict.fromkeys(_CONTROLLER_UID, meta["uid"]),
        INDEX: str(create.index),
        ATTEMPT: str(create.attempt),
    }
    labels.pop(QUEUE, None)  # of a template made of an admitted job's Pod: nobody would count the room of these
    annotations = dict(wanted.get("annotations") or {})
    annotations.pop(GIVEN_UP, None)  # of a template made of one of our own Pods: it would never run
    pod_spec = template["spec"]
    if spec.indexed:
        labels[_COMPLETION_INDEX] = annotations[_COMPLETION_INDEX] = str(create.index)
        if create.failures is not None:
            annotations[_INDEX_FAILURES] = str(create.failures)
            if create.ignored:
                annotations[_INDEX_IGNORED] = str(create.ignored)
        host = f"{meta['name']}-{create.index}"
        # only a job that has grown, or one of a server without the rule of names, has hosts that are too long
        pod_spec["hostname"] = host if len(host) <= 63 else pod_name(meta["name"], create.index, 0).rpartition("-")[0]
        for part in ("initContainers", "containers"):
            for container in pod_spec.get(part) or ():
                _name_index(container)
    if admission := (job.get("status") or {}).get("admission"):
        labels[QUEUE] = admission.get("queue") or ""
        if flavor := admission.get("nodeSelector"):
            pod_spec["nodeSelector"] = {**(pod_spec.get("nodeSelector") or {}), **flavor}
    pod_meta: dict[str, Any] = {
        "name": pod_name(meta["name"], create.index, create.attempt),
        "namespace": meta["namespace"],
        "labels": labels,
        "finalizers": [*(name for name in wanted.get("finalizers") or () if name != TRACKING), TRACKING],
    }
    if annotations:
        pod_meta["annotations"] = annotations
    return {"apiVersion": "v1", "kind": "Pod", "metadata": pod_meta, "spec": pod_spec}


def _name_index(container: dict[str, Any]) -> None:
    """The container's index in its environment, unless the user has set that variable."""
    env = container.get("env") or []
    if not any(entry.get("name") == _ENV for entry in env):
        source = {"fieldRef": {"fieldPath": f"metadata.labels['{_COMPLETION_INDEX}']"}}
        container["env"] = [*env, {"name": _ENV, "valueFrom": source}]
