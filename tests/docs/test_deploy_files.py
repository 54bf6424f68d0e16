"""deploy/: each file parses, and says the same as the code on settings, rights, ports and labels."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from raycp.base.keys import GVK
from raycp.cli.rights import CRD, EVENT, Use, needs
from raycp.config import load_fleet, parse_fleet
from raycp.config.rayenv import RAY_ENV, missing_settings
from raycp.sdk.controller import controller, owned

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PLURALS = {
    "Queue": "queues",
    "PriorityClass": "priorityclasses",
    "BatchJob": "batchjobs",
    "Pod": "pods",
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "Namespace": "namespaces",
    "Event": "events",
}
PLURALS |= {"Lease": "leases", "CustomResourceDefinition": "customresourcedefinitions"}


def documents(name: str) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all((DEPLOY / name).read_text()) if each]


def of_kind(name: str, kind: str) -> dict[str, Any]:
    return next(each for each in documents(name) if each["kind"] == kind)


def containers(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    return [container for group in groups for container in group["template"]["spec"]["containers"]]


@pytest.mark.parametrize("file", sorted(DEPLOY.rglob("*.yaml")), ids=lambda file: str(file.relative_to(DEPLOY)))
def test_each_file_is_yaml_with_a_word_on_what_it_is(file: Path) -> None:
    assert list(yaml.safe_load_all(file.read_text()))
    assert file.read_text().startswith("#")


def test_every_ray_pod_has_the_settings() -> None:
    for container in containers(of_kind("kuberay/raycluster.yaml", "RayCluster")):
        environment = {each["name"]: each.get("value", "") for each in container["env"]}
        assert not missing_settings(environment), container["name"]


def test_flight_recordings_outlive_the_container() -> None:
    cluster = of_kind("kuberay/raycluster.yaml", "RayCluster")
    for group in (cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
        for container in pod["containers"]:
            home = next(each["value"] for each in container["env"] if each["name"] == "RAYCP_HOME")
            assert {mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == home} <= volumes
            assert home in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_ray_up_has_the_settings() -> None:
    content = documents("ray-up-local.yaml")[0]
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        start = content[key][-1]
        assert all(f"{name}={value} " in start for name, value in RAY_ENV.items()), key
        assert "RAY_AUTH_MODE=token" in start


def test_ray_takes_the_ray_up_file() -> None:
    import json

    import jsonschema
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(documents("ray-up-local.yaml")[0], schema)


def test_the_documentation_lists_the_settings() -> None:
    text = (ROOT / "docs/install.md").read_text()
    for name, value in RAY_ENV.items():
        assert f"{name}={value}" in text


def test_the_image_has_the_pinned_ray() -> None:
    pinned = re.search(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert pinned
    assert f"rayproject/ray:{pinned[1]}-" in (DEPLOY / "Dockerfile").read_text()
    assert of_kind("kuberay/raycluster.yaml", "RayCluster")["spec"]["rayVersion"] == pinned[1]


def test_the_fleet_of_the_job_fits_the_cluster() -> None:
    doc = parse_fleet(of_kind("kuberay/rayjob.yaml", "ConfigMap")["data"]["fleet.yaml"])
    cluster = of_kind("kuberay/raycluster.yaml", "RayCluster")
    labels = [group["labels"] for group in cluster["spec"]["workerGroupSpecs"]]
    assert doc.spec.shards.node_labels in labels
    assert doc.spec.workers.node_labels in labels
    mounts = {mount["mountPath"] for container in containers(cluster) for mount in container["volumeMounts"]}
    paths = {str(Path(each.kubeconfig.path).parent) for each in doc.spec.clusters if each.kubeconfig}
    assert paths <= mounts
    job = of_kind("kuberay/rayjob.yaml", "RayJob")
    assert "/etc/raycp-fleet" in mounts
    assert "/etc/raycp-fleet/fleet.yaml" in job["spec"]["entrypoint"]
    assert job["spec"]["clusterSelector"]["ray.io/cluster"] == cluster["metadata"]["name"]
    monitored = {each["portNumber"] for each in documents("kuberay/podmonitor.yaml")[0]["spec"]["podMetricsEndpoints"]}
    assert doc.spec.observer.port in monitored


def test_credentials_are_not_on_the_head() -> None:
    head = of_kind("kuberay/raycluster.yaml", "RayCluster")["spec"]["headGroupSpec"]["template"]["spec"]
    assert "raycp-kubeconfigs" not in str(head)
    assert head["automountServiceAccountToken"] is False


def allowed(rules: list[dict[str, Any]], kind: GVK, verb: str, subresource: str = "") -> bool:
    plural = "/".join(part for part in (PLURALS[kind.kind], subresource) if part)
    return any(kind.group in rule["apiGroups"] and plural in rule["resources"] and verb in rule["verbs"] for rule in rules)


@pytest.mark.parametrize(("name", "file"), [("hub", "rbac/hub.yaml"), ("east-1", "rbac/member.yaml")])
def test_the_roles_are_what_batchjob_needs_and_no_more(name: str, file: str) -> None:
    """Asked of the same function that ``raycp check`` asks."""

    @controller(
        "batch.raycp.io/v1alpha1/BatchJob",
        on="hub",
        owns=[owned("v1/Pod", on="members")],
        crds=[{"kind": "CustomResourceDefinition", "metadata": {"name": "batchjobs.batch.raycp.io"}}],
    )
    async def batchjob(ctx: Any, obj: dict[str, Any]) -> None: ...

    @controller(
        "apiextensions.k8s.io/v1/CustomResourceDefinition",
        name="batchjob-sweep",
        on="hub",
        fields={"metadata.name": "batchjobs.batch.raycp.io"},
    )
    async def sweep(ctx: Any, obj: dict[str, Any]) -> None: ...

    text = (ROOT / "configs/clusters.yaml").read_text()
    wanted: set[tuple[GVK, str]] = set()
    rules = [rule for each in documents(file) if each["kind"] in ("ClusterRole", "Role") for rule in each["rules"]]
    doc = parse_fleet(text)
    uses = [Use(doc.spec.controllers[0], batchjob), Use(doc.spec.controllers[0], sweep)]
    for need in needs(doc, uses, doc.cluster(name)):
        for verb in need.verbs:
            if not need.subresource:
                wanted.add((need.kind, verb))
            assert need.kind != CRD or need.name or verb == "create", "no right to the definitions of others"
            assert allowed(rules, need.kind, verb, need.subresource), f"{verb} {need.kind}: {need.why}"
    kinds = {PLURALS[kind.kind]: kind for kind, _ in wanted} | {"namespaces": GVK("", "v1", "Namespace")}
    for rule in rules:
        for resource in rule["resources"]:
            if "/" in resource or (rule.get("resourceNames") == ["kube-system"]):
                continue
            extra = {verb for verb in rule["verbs"] if (kinds[resource], verb) not in wanted}
            assert not extra, f"{resource}: nobody needs {extra}"
    assert "*" not in str(rules)
    assert {EVENT, CRD} & {kind for kind, _ in wanted} or name != "hub"


@pytest.mark.parametrize(("lock", "file"), [("configMap", "lock-configmap"), ("lease", "lock-lease")])
def test_the_role_of_each_lock_is_what_it_needs_and_no_more(lock: str, file: str) -> None:
    text = (ROOT / "configs/clusters.yaml").read_text().replace("ray: {}", f"{lock}: {{namespace: locks}}")
    doc = parse_fleet(text)
    assert doc.spec.leader.lock.kind == lock
    wanted = {(need.kind, verb) for need in needs(doc, [], doc.hub) if need.namespace == "locks" for verb in need.verbs}
    rules = [rule for each in documents(f"rbac/{file}.yaml") if each["kind"] == "Role" for rule in each["rules"]]
    assert wanted
    for kind, verb in wanted:
        assert allowed(rules, kind, verb), f"{verb} {kind}"
    for rule in rules:
        for resource in rule["resources"]:
            needed = {verb for kind, verb in wanted if PLURALS[kind.kind] == resource}
            assert set(rule["verbs"]) == needed, resource


def test_shipped_fleets_load() -> None:
    for file in (ROOT / "configs").glob("*.yaml"):
        if yaml.safe_load(file.read_text()).get("kind") == "Fleet":
            load_fleet(file)


def test_a_ray_of_our_own_has_the_settings_too() -> None:
    text = (ROOT / "raycp/runtime/local_ray.py").read_text()
    for name, value in RAY_ENV.items():
        assert f'"{name}": "{value}"' in text or "from raycp.config.rayenv import" in text
