"""``PodTemplate``: ``core/v1`` PodTemplateSpec, as far as the hub checks it: the types of all fields of a PodSpec, and the content
of those that a job's rules read. The member's API server checks all of it."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from raycp.controllers.crdmodel import CrdModel

LabelValue = Annotated[str, Field(max_length=63)]
Text = Annotated[str, Field(max_length=253)]
"""Names and enumerations. A bound lets the API server tell what a rule on them may cost."""

Obj = dict[str, Any]


_BY_NAME: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


class _Open(CrdModel):
    model_config = ConfigDict(extra="allow")


class JobContainer(_Open):
    """A container that runs in the Pod."""

    name: LabelValue = Field(
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", description="Name of the container: a DNS label, unique in the Pod."
    )
    image: str = Field(min_length=1, description="The image that it runs.")
    env: list[Obj] | None = Field(
        default=None, description="Its environment. An Indexed job adds JOB_COMPLETION_INDEX, unless it is here."
    )


class PodMetadata(_Open):
    """Metadata of the Pods: labels and annotations."""

    labels: dict[str, LabelValue] | None = Field(default=None, max_length=256, description="Labels of the Pods, beside the job's.")
    annotations: dict[str, str] | None = Field(default=None, description="Annotations of the Pods, beside the job's.")
    finalizers: list[str] | None = Field(default=None, description="Finalizers of the Pods, beside the job's.")
    creation_timestamp: str | None = Field(
        default=None, description="Of no effect. Tools write a null here, which the server leaves out of a field that it knows."
    )


class PodAffinity(_Open):
    """Constraints on the node, and on the Pods beside it."""

    node_affinity: Obj | None = Field(default=None, description="Labels of the node.")
    pod_affinity: Obj | None = Field(default=None, description="Pods to be beside.")
    pod_anti_affinity: Obj | None = Field(default=None, description="Pods not to be beside.")


class JobPodSpec(_Open):
    """What the Pods run: the PodSpec of core/v1."""

    restart_policy: Literal["Never", "OnFailure"] = Field(
        description="Never: a failed container fails its Pod. OnFailure: it is restarted in the Pod, and its restarts count towards"
        " backoffLimit."
    )
    containers: list[JobContainer] = Field(
        min_length=1, max_length=256, description="The containers of the Pod.", json_schema_extra=_BY_NAME
    )
    init_containers: list[JobContainer] | None = Field(
        default=None,
        max_length=256,
        description="Containers that run one after the other before the others start.",
        json_schema_extra=_BY_NAME,
    )
    ephemeral_containers: list[Obj] | None = None
    active_deadline_seconds: int | None = None
    affinity: PodAffinity | None = None
    automount_service_account_token: bool | None = None
    dns_config: Obj | None = None
    dns_policy: Text | None = None
    enable_service_links: bool | None = None
    host_aliases: list[Obj] | None = None
    host_ipc: bool | None = Field(default=None, alias="hostIPC")
    host_network: bool | None = None
    host_pid: bool | None = Field(default=None, alias="hostPID")
    host_users: bool | None = None
    hostname: Text | None = Field(default=None, description="Host name of the Pod. An Indexed job sets its own.")
    hostname_override: Text | None = None
    image_pull_secrets: list[Obj] | None = None
    node_name: Text | None = None
    node_selector: dict[str, str] | None = Field(default=None, description="Labels that the node must have.")
    os: Obj | None = None
    overhead: Obj | None = None
    preemption_policy: Text | None = None
    priority: int | None = None
    priority_class_name: Text | None = None
    readiness_gates: list[Obj] | None = None
    resource_claims: list[Obj] | None = None
    resources: Obj | None = None
    runtime_class_name: Text | None = None
    scheduler_name: Text | None = None
    scheduling_gates: list[Obj] | None = None
    security_context: Obj | None = None
    service_account: Text | None = None
    service_account_name: Text | None = None
    set_hostname_as_fqdn: bool | None = Field(default=None, alias="setHostnameAsFQDN")
    share_process_namespace: bool | None = None
    subdomain: Text | None = None
    termination_grace_period_seconds: int | None = None
    tolerations: list[Obj] | None = Field(default=None, description="Taints of nodes that the Pod tolerates.")
    topology_spread_constraints: list[Obj] | None = None
    volumes: list[Obj] | None = None


class PodTemplate(CrdModel):
    """The Pod to run: the PodTemplateSpec of core/v1."""

    metadata: PodMetadata | None = None
    spec: JobPodSpec


SCHEDULING = ("nodeSelector", "tolerations", "affinity", "schedulingGates")
"""Fields of a PodSpec that may change while a job is suspended. Of ``affinity`` only ``nodeAffinity`` may."""

FIXED = tuple(
    field.alias or to_camel(name)
    for name, field in JobPodSpec.model_fields.items()
    if (field.alias or to_camel(name)) not in SCHEDULING
)
"""The others, as in the object."""
