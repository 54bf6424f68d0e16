"""kubectl in its usual use."""

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from raycp.testkit.clusters import EmbeddedHandle, kubectl

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.test.raycp.io}
spec:
  group: test.raycp.io
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wd]}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
      additionalPrinterColumns: [{name: Colour, type: string, jsonPath: .spec.colour}]
      schema:
        openAPIV3Schema:
          type: object
          description: Something to turn.
          properties:
            spec:
              type: object
              properties:
                colour: {type: string, description: What it looks like., enum: [red, blue]}
                replicas: {type: integer}
            status: {type: object, x-kubernetes-preserve-unknown-fields: true}
"""

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "nginx:1"}]},
        },
    },
}


class Kubectl:
    def __init__(self, cluster: EmbeddedHandle, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def __call__(self, *arguments: str, stdin: str = "", check: bool = True) -> "subprocess.CompletedProcess[str]":
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin, check=check)

    def out(self, *arguments: str, stdin: str = "") -> str:
        return self(*arguments, stdin=stdin).stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.out(*arguments, "-o", "json"))


@pytest.fixture
def kc(living: EmbeddedHandle, request: pytest.FixtureRequest) -> Kubectl:
    name = "t-" + "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[:50].strip("-")
    living.kubectl("create", "namespace", name)
    return Kubectl(living, name)


def test_get_create_and_delete(kc: Kubectl) -> None:
    assert kc.out("create", "configmap", "a", "--from-literal=k=v") == "configmap/a created\n"
    listed = kc.out("get", "configmap", "a").splitlines()
    assert listed[0].split() == ["NAME", "DATA", "AGE"]
    assert listed[1].split()[:2] == ["a", "1"]
    assert kc.json("get", "cm/a")["data"] == {"k": "v"}
    assert kc.out("get", "cm", "-o", "name").splitlines() == ["configmap/a", "configmap/kube-root-ca.crt"]
    assert "deleted" in kc.out("delete", "cm", "a")
    missing = kc("get", "cm", "a", check=False)
    assert missing.returncode == 1
    assert '"a" not found' in missing.stderr


def test_kubectl_create_sends_protobuf_for_generated_objects(kc: Kubectl) -> None:
    kc("create", "secret", "generic", "s", "--from-literal=k=v")
    assert kc.json("get", "secret", "s")["data"] == {"k": "dg=="}
    kc("create", "job", "j", "--image=busybox", "--", "sleep", "1")
    assert kc.json("get", "job", "j")["spec"]["template"]["spec"]["containers"][0]["command"] == ["sleep", "1"]
    kc("create", "serviceaccount", "sa")
    kc("create", "deployment", "d", "--image=nginx")
    kc("create", "service", "clusterip", "svc", "--tcp=80:80")
    kc("create", "quota", "q", "--hard=pods=10")
    kc("create", "role", "r", "--verb=get", "--resource=pods")
    kc("create", "rolebinding", "rb", "--role=r", "--serviceaccount=default:sa")
    assert kc.out("get", "deployment", "d", "-o", "jsonpath={.spec.template.spec.containers[0].image}") == "nginx"


def test_apply_from_the_client(kc: Kubectl) -> None:
    manifest = yaml.safe_dump(DEPLOYMENT)
    assert kc.out("apply", "-f", "-", stdin=manifest) == "deployment.apps/web created\n"
    assert kc.out("apply", "-f", "-", stdin=manifest) == "deployment.apps/web unchanged\n"
    changed = manifest.replace("nginx:1", "nginx:2")
    diff = kc("diff", "-f", "-", stdin=changed, check=False)
    assert diff.returncode == 1
    assert "+" in diff.stdout
    assert "nginx:2" in diff.stdout
    assert kc.out("apply", "-f", "-", stdin=changed) == "deployment.apps/web configured\n"
    assert kc.json("get", "deployment", "web")["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:2"
    assert kc.json("get", "deployment", "web")["metadata"]["generation"] == 2


def test_apply_at_the_server(kc: Kubectl) -> None:
    manifest = yaml.safe_dump(DEPLOYMENT)
    assert "serverside-applied" in kc.out("apply", "--server-side", "-f", "-", stdin=manifest)
    changed = manifest.replace("nginx:1", "nginx:2")
    refused = kc("apply", "--server-side", "--field-manager=other", "-f", "-", stdin=changed, check=False)
    assert refused.returncode != 0
    assert "conflict with" in refused.stderr
    assert ".spec.template.spec.containers" in refused.stderr
    kc("apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-", stdin=changed)
    assert kc.json("get", "deployment", "web")["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:2"


def test_invalid_manifests_are_refused_with_the_field(kc: Kubectl) -> None:
    wrong = yaml.safe_dump(DEPLOYMENT).replace("replicas: 1", "replicaz: 1")
    refused = kc("apply", "-f", "-", stdin=wrong, check=False)
    assert refused.returncode != 0
    assert 'unknown field "spec.replicaz"' in refused.stderr


def test_a_kind_that_is_not_served_is_told_as_such(kc: Kubectl) -> None:
    stray = {"apiVersion": "example.com/v1", "kind": "Stray", "metadata": {"name": "a"}, "spec": {"x": 1}}
    refused = kc("apply", "-f", "-", stdin=json.dumps(stray), check=False)
    assert refused.returncode == 1
    assert 'no matches for kind "Stray" in version "example.com/v1"' in refused.stderr
    assert "error validating" not in refused.stderr


def test_patch_label_annotate_scale_replace(kc: Kubectl) -> None:
    kc("apply", "-f", "-", stdin=yaml.safe_dump(DEPLOYMENT))
    kc("patch", "deployment", "web", "-p", '{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"x"}]}}}}')
    kc("patch", "deployment", "web", "--type=json", "-p", '[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]')
    kc("patch", "deployment", "web", "--type=merge", "-p", '{"spec":{"paused":true}}')
    assert "labeled" in kc.out("label", "deployment", "web", "c=d")
    assert "annotated" in kc.out("annotate", "deployment", "web", "e=f")
    assert "scaled" in kc.out("scale", "deployment", "web", "--replicas=3")
    found = kc.json("get", "deployment", "web")
    assert found["metadata"]["labels"] == {"a": "b", "c": "d"}
    assert found["metadata"]["annotations"]["e"] == "f"
    assert (found["spec"]["replicas"], found["spec"]["paused"]) == (3, True)
    assert kc.out("get", "deployment", "-l", "a=b,c in (d)", "-o", "name") == "deployment.apps/web\n"
    found["spec"]["replicas"] = 7
    assert "replaced" in kc.out("replace", "-f", "-", stdin=json.dumps(found))
    stale = kc("replace", "-f", "-", stdin=json.dumps(found), check=False)
    assert "the object has been modified" in stale.stderr


def test_edit_by_an_editor(kc: Kubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kc("create", "configmap", "a", "--from-literal=k=before")
    editor = tmp_path / "editor.sh"
    editor.write_text('#!/bin/sh\nsed -i s/before/after/ "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("KUBE_EDITOR", str(editor))
    assert "edited" in kc.out("edit", "configmap", "a")
    assert kc.json("get", "cm", "a")["data"] == {"k": "after"}


def test_a_pod_from_run_to_its_log(kc: Kubectl) -> None:
    kc("run", "p", "--image=busybox", "--restart=Never", "--", "sh", "-c", "echo hello; sleep 1")
    kc("wait", "pod/p", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=20s")
    assert kc.out("logs", "p") == "hello\n"
    told = kc.out("describe", "pod", "p")
    assert re.search(r"^Status: +Succeeded$", told, re.MULTILINE)
    assert re.search(r"Exit Code: +0$", told, re.MULTILINE)
    wide = kc.out("get", "pod", "p", "-o", "wide").splitlines()
    assert wide[0].split()[:5] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert wide[1].split()[:3] == ["p", "0/1", "Completed"]


def test_wait_for_a_condition_and_for_deletion(kc: Kubectl) -> None:
    kc("run", "p", "--image=busybox")
    assert "condition met" in kc.out("wait", "--for=condition=Ready", "pod/p", "--timeout=20s")
    began = time.monotonic()
    kc("delete", "pod", "p")
    assert time.monotonic() - began < 15
    assert kc("get", "pod", "p", check=False).returncode == 1


@pytest.mark.parametrize(("mode", "left"), [("background", []), ("foreground", []), ("orphan", ["child"])])
def test_cascades(kc: Kubectl, mode: str, left: list[str]) -> None:
    kc("create", "configmap", "owner")
    uid = kc.json("get", "cm", "owner")["metadata"]["uid"]
    child = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "child",
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid, "blockOwnerDeletion": True}],
        },
    }
    kc("create", "-f", "-", stdin=json.dumps(child))
    kc("delete", "cm", "owner", f"--cascade={mode}")
    end = time.monotonic() + 10
    names: list[str] = ["?"]
    while names != left and time.monotonic() < end:
        names = [i["metadata"]["name"] for i in kc.json("get", "cm")["items"] if i["metadata"]["name"] != "kube-root-ca.crt"]
    assert names == left


def test_deleting_a_namespace_deletes_its_objects(kc: Kubectl) -> None:
    kc("create", "configmap", "a")
    kc.cluster.kubectl("delete", "namespace", kc.namespace)
    assert kc.cluster.kubectl("get", "namespace", kc.namespace, check=False).returncode == 1


def test_custom_resources(kc: Kubectl) -> None:
    kc("apply", "-f", "-", stdin=CRD)
    kc("wait", "--for=condition=Established", "crd/widgets.test.raycp.io", "--timeout=20s")
    widget = "apiVersion: test.raycp.io/v1\nkind: Widget\nmetadata: {name: w}\nspec: {colour: red, replicas: 1}\n"
    assert "created" in kc.out("apply", "-f", "-", stdin=widget)
    assert kc.out("get", "wd").split()[:3] == ["NAME", "COLOUR", "w"]
    assert "scaled" in kc.out("scale", "widget", "w", "--replicas=4")
    assert kc.json("get", "widget", "w")["spec"]["replicas"] == 4
    refused = kc("apply", "-f", "-", stdin=widget.replace("red", "green"), check=False)
    assert "Unsupported value" in refused.stderr
    explained = kc.out("explain", "widget.spec.colour")
    assert "What it looks like." in explained
    kc("delete", "crd", "widgets.test.raycp.io")
    assert kc("get", "widgets", check=False).returncode == 1


def test_explain_and_api_resources(kc: Kubectl) -> None:
    assert "KIND:       Pod" in kc.out("explain", "pod.spec.containers")
    listed = kc.out("api-resources")
    assert any(line.split()[:3] == ["pods", "po", "v1"] for line in listed.splitlines())
    assert any(line.startswith("leases ") and "coordination.k8s.io/v1" in line for line in listed.splitlines())
    assert "batch/v1" in kc.out("api-versions").splitlines()


def test_explain_of_a_custom_kind_named_like_a_built_in_one(kc: Kubectl, tmp_path: Path) -> None:
    """e2e "kubectl explain works for CR with the same resource name as built-in object"."""
    crd = yaml.safe_load(CRD)
    crd["metadata"]["name"] = "services.test.raycp.io"
    crd["spec"]["names"] = {"plural": "services", "singular": "service", "kind": "Service", "shortNames": ["csvc"]}
    kc("create", "-f", "-", stdin=yaml.safe_dump(crd))
    kc("wait", "--for=condition=Established", "crd", "services.test.raycp.io")
    explain = ("--cache-dir", str(tmp_path), "explain")  # kubectl looks for a new short name in what it has cached only
    assert "What it looks like." in kc.out(*explain, "csvc.spec")
    assert "Standard object's metadata" in kc.out(*explain, "csvc.metadata")
    assert "externalTrafficPolicy" in kc.out(*explain, "services.spec")
    assert 'field "none" does not exist' in kc(*explain, "csvc.spec.none", check=False).stderr
    kc("delete", "crd", "services.test.raycp.io")


def test_auth_can_i_and_whoami(kc: Kubectl) -> None:
    assert kc.out("auth", "can-i", "create", "pods") == "yes\n"
    assert "kubernetes-admin" in kc.out("auth", "whoami")


def test_get_watch(kc: Kubectl, tool: Callable[[str], str]) -> None:
    command = [tool("kubectl"), f"--kubeconfig={kc.cluster.kubeconfig}", "-n", kc.namespace, "get", "cm", "-w", "-o", "name"]
    command.append(f"--cache-dir={kc.cluster.kubeconfig.parent / 'kubectl-cache'}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        try:
            assert watching.stdout.readline() == "configmap/kube-root-ca.crt\n"
            kc("create", "configmap", "a")
            assert watching.stdout.readline() == "configmap/a\n"
            kc("label", "cm", "a", "x=y")
            assert watching.stdout.readline() == "configmap/a\n"
        finally:
            watching.kill()


def test_nodes(kc: Kubectl) -> None:
    lines = kc.out("get", "nodes").splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["node-0", "Ready"], ["node-1", "Ready"]]
    assert "KubeletReady" in kc.out("describe", "node", "node-0")
    assert "cordoned" in kc.out("cordon", "node-1")
    assert "SchedulingDisabled" in kc.out("get", "node", "node-1")
    assert "uncordoned" in kc.out("uncordon", "node-1")


def test_events_are_listed(kc: Kubectl) -> None:
    kc("run", "big", "--image=x", "--overrides", json.dumps({"spec": {"containers": [
        {"name": "big", "image": "x", "resources": {"requests": {"cpu": "1000"}}}]}}))  # fmt: skip
    end = time.monotonic() + 10
    while "FailedScheduling" not in (told := kc.out("events")) and time.monotonic() < end:
        pass
    assert "Insufficient cpu" in told
    assert "FailedScheduling" in kc.out("describe", "pod", "big")


def test_dry_run_and_server_side_dry_run(kc: Kubectl) -> None:
    kc("create", "configmap", "a", "--dry-run=server")
    assert kc("get", "cm", "a", check=False).returncode == 1


def test_version_and_health_endpoints(kc: Kubectl) -> None:
    assert "Server Version: v1.36" in kc.out("version")
    assert kc.out("get", "--raw", "/readyz") == "ok"
    assert "running at https://127.0.0.1" in kc.out("cluster-info")


def test_kubectl_of_the_test_kit_reports_errors(living: EmbeddedHandle, tool: Callable[[str], str]) -> None:
    with pytest.raises(AssertionError, match="exit 1"):
        kubectl(tool("kubectl"), living.kubeconfig, "get", "cm", "none")
