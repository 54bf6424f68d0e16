"""Pod Security Standards by namespace labels. Messages are those of k8s.io/pod-security-admission (policy, admission)."""

import logging
from typing import Any

import pytest

from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.embedded.auth import User
from raycp.embedded.cluster import EmbeddedCluster
from raycp.embedded.errors import StatusError
from raycp.embedded.options import WriteOptions
from raycp.embedded.podsecurity.checks import findings

GOOD = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {"name": "a", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}},
    ],
}


def told(level: str, spec: dict[str, Any], minor: int = 36, annotations: dict[str, str] | None = None) -> list[str]:
    found = findings(level, minor, {"annotations": annotations or {}}, spec)
    return [f"{reason} ({detail})" for reason, detail in found]


def one(**context: Any) -> dict[str, Any]:
    return {"containers": [{"name": "a", "securityContext": context}]}


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (one(privileged=True), 'privileged (container "a" must not set securityContext.privileged=true)'),
        (
            {"hostNetwork": True, "hostPID": True, "containers": []},
            "host namespaces (hostNetwork=true, hostPID=true)",
        ),
        (
            one(capabilities={"add": ["SYS_ADMIN", "NET_RAW", "CHOWN"]}),
            'non-default capabilities (container "a" must not include "NET_RAW", "SYS_ADMIN" in securityContext.capabilities.add)',
        ),
        ({"containers": [], "volumes": [{"name": "v", "hostPath": {}}]}, 'hostPath volumes (volume "v")'),
        (
            {"containers": [{"name": n, "ports": [{"hostPort": p}]} for n, p in (("a", 80), ("b", 81))]},
            'hostPort (containers "a", "b" use hostPorts 80, 81)',
        ),
        (
            {"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "h", "port": 1}}}]},
            'probe or lifecycle host (container "a" uses probe or lifecycle host "h")',
        ),
        (one(procMount="Unmasked"), 'procMount (container "a" must not set securityContext.procMount to "Unmasked")'),
        (
            {**one(seccompProfile={"type": "Unconfined"}), "securityContext": {"seccompProfile": {"type": "Unconfined"}}},
            'seccompProfile (pod and container "a" must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
        (
            {"containers": [], "securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}},
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            one(seLinuxOptions={"type": "x_t", "user": "u"}),
            'seLinuxOptions (container "a" set forbidden securityContext.seLinuxOptions: type "x_t"; user may not be set)',
        ),
        (
            one(appArmorProfile={"type": "Unconfined"}),
            'forbidden AppArmor profile (container "a" must not set AppArmor profile type to "Unconfined")',
        ),
        (
            one(windowsOptions={"hostProcess": True}),
            'hostProcess (container "a" must not set securityContext.windowsOptions.hostProcess=true)',
        ),
    ],
)
def test_baseline(spec: dict[str, Any], why: str) -> None:
    assert told("baseline", spec) == [why]
    assert told("privileged", spec) == []


def test_restricted() -> None:
    assert told("restricted", GOOD) == []
    plain = {"containers": [{"name": "a"}, {"name": "b"}], "volumes": [{"name": "v", "hostPath": {}}]}
    assert told("restricted", plain) == [
        'allowPrivilegeEscalation != false (containers "a", "b" must set securityContext.allowPrivilegeEscalation=false)',
        'unrestricted capabilities (containers "a", "b" must set securityContext.capabilities.drop=["ALL"])',
        'restricted volume types (volume "v" uses restricted volume type "hostPath")',
        'runAsNonRoot != true (pod or containers "a", "b" must set securityContext.runAsNonRoot=true)',
        'seccompProfile (pod or containers "a", "b" must set securityContext.seccompProfile.type to '
        '"RuntimeDefault" or "Localhost")',
    ]
    root = {**GOOD, "securityContext": {**GOOD["securityContext"], "runAsUser": 0}}  # type: ignore[dict-item]
    assert told("restricted", root) == ["runAsUser=0 (pod must not set runAsUser=0)"]


def test_versions() -> None:
    host = {"containers": [{"name": "a", "livenessProbe": {"tcpSocket": {"host": "h", "port": 1}}}]}
    assert told("baseline", host, 33) == []
    assert len(told("baseline", host, 34)) == 1
    own = {**one(procMount="Unmasked"), "hostUsers": False}
    assert len(told("baseline", own, 34)) == 1
    assert told("baseline", own, 35) == []
    annotation = {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}
    assert told("baseline", {"containers": []}, 18, annotation) == [
        'seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod="unconfined")'
    ]
    windows = {"os": {"name": "windows"}, "containers": [{"name": "a", "securityContext": {"runAsNonRoot": True}}]}
    assert len(told("restricted", windows, 24)) == 3
    assert told("restricted", windows, 25) == []


@pytest.fixture
def cluster() -> EmbeddedCluster:
    return EmbeddedCluster("security", EmbeddedSpec(controllers=EmbeddedControllers.none()))


async def namespace(cluster: EmbeddedCluster, **labels: str) -> None:
    given = {f"pod-security.kubernetes.io/{key.replace('_', '-')}": value for key, value in labels.items()}
    await cluster.api.create("namespaces", {"metadata": {"name": "ns", "labels": given}})


def write(cluster: EmbeddedCluster, resource: str, kind: str, spec: dict[str, Any], name: str = "x") -> list[str]:
    """The warnings of a create. Raises ``StatusError``."""
    served = cluster.registry.named(resource)
    assert served is not None
    obj = served.strategy.normalize(
        {"apiVersion": served.info.api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}
    )
    warnings: list[str] = []
    draft = cluster.pipeline.draft_create(served, "ns", obj, WriteOptions(manager="test"))
    cluster.pipeline.finish(cluster.verbs.guarded(draft, User("a"), warnings))
    return warnings


PRIVILEGED = {"containers": [{"name": "a", "image": "i", "securityContext": {"privileged": True}}]}
WHY = 'violate{} PodSecurity "baseline:latest": privileged (container "a" must not set securityContext.privileged=true)'


async def test_an_enforced_level(cluster: EmbeddedCluster) -> None:
    await namespace(cluster, enforce="baseline")
    with pytest.raises(StatusError) as refused:
        write(cluster, "pods", "Pod", PRIVILEGED)
    assert (refused.value.code, refused.value.message) == (403, f'pods "x" is forbidden: {WHY.format("s")}')
    labels = {"app": "a"}
    template = {"metadata": {"labels": labels}, "spec": PRIVILEGED}
    warned = write(cluster, "deployments.apps", "Deployment", {"selector": {"matchLabels": labels}, "template": template})
    assert warned == [f"would {WHY.format('')}"]
    assert write(cluster, "pods", "Pod", {"containers": [{"name": "a", "image": "i"}]}) == []


async def test_warnings_and_audit(cluster: EmbeddedCluster, caplog: pytest.LogCaptureFixture) -> None:
    await namespace(cluster, warn="baseline", audit="restricted", audit_version="v1.24")
    with caplog.at_level(logging.INFO, logger="raycp.embedded.podsecurity.admission"):
        assert write(cluster, "pods", "Pod", PRIVILEGED) == [f"would {WHY.format('')}"]
    assert 'would violate PodSecurity "restricted:v1.24"' in caplog.text


async def test_without_labels_no_write_is_looked_at(cluster: EmbeddedCluster) -> None:
    await namespace(cluster)
    assert write(cluster, "pods", "Pod", PRIVILEGED) == []
    assert not cluster.verbs.security.any


async def test_labels_of_a_namespace(cluster: EmbeddedCluster) -> None:
    with pytest.raises(StatusError) as refused:
        await namespace(cluster, enforce="strict", warn_version="1.2")
    assert refused.value.code == 422
    assert [each["message"] for each in (refused.value.details or {})["causes"]] == [
        'Invalid value: "strict": must be one of privileged, baseline, restricted',
        'Invalid value: "1.2": must be "latest" or "v1.x"',
    ]
    await namespace(cluster)
    for name in ("p", "q"):
        write(cluster, "pods", "Pod", PRIVILEGED, name)
    namespaces = cluster.registry.named("namespaces")
    assert namespaces is not None
    found = cluster.api.get("namespaces", "", "ns")
    assert found is not None
    found["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "baseline"}
    draft = cluster.pipeline.draft_update(namespaces, "", "ns", found, WriteOptions(manager="test"))
    warnings: list[str] = []
    cluster.pipeline.finish(cluster.verbs.guarded(draft, User("a"), warnings))
    assert warnings == [
        'existing pods in namespace "ns" violate the new PodSecurity enforce level "baseline:latest"',
        "p (and 1 other pod): privileged",
    ]


async def test_only_updates_of_containers_are_judged(cluster: EmbeddedCluster) -> None:
    await namespace(cluster)
    write(cluster, "pods", "Pod", PRIVILEGED)
    found = cluster.api.get("namespaces", "", "ns")
    assert found is not None
    found["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "baseline"}
    await cluster.api.update("namespaces", found)
    pod = cluster.api.get("pods", "ns", "x")
    assert pod is not None
    pod["metadata"]["labels"] = {"a": "b"}
    pod = await cluster.api.update("pods", pod)
    pod["spec"]["containers"][0]["image"] = "other"
    with pytest.raises(StatusError, match="violates PodSecurity"):
        await cluster.api.update("pods", pod)
