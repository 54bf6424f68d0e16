"""helm: install, upgrade, rollback, uninstall of a small chart."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from raycp.testkit.clusters import EmbeddedHandle

FILES = {
    "Chart.yaml": "apiVersion: v2\nname: small\nversion: 0.1.0\nappVersion: '1'\n",
    "values.yaml": "greeting: hello\nreplicas: 1\n",
    "crds/knobs.yaml": """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: knobs.helm.raycp.io}
spec:
  group: helm.raycp.io
  scope: Namespaced
  names: {plural: knobs, kind: Knob}
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
""",
    "templates/all.yaml": """
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-settings}
data: {greeting: {{ .Values.greeting | quote }}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: {{ .Release.Name }}}
---
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}}
spec: {selector: {app: {{ .Release.Name }}}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec: {containers: [{name: c, image: nginx}]}
---
apiVersion: helm.raycp.io/v1
kind: Knob
metadata: {name: {{ .Release.Name }}}
spec: {turn: 1}
""",
    "templates/hook.yaml": """
apiVersion: v1
kind: Pod
metadata:
  name: {{ .Release.Name }}-check
  annotations: {helm.sh/hook: post-install, helm.sh/hook-delete-policy: hook-succeeded}
spec: {restartPolicy: Never, containers: [{name: c, image: busybox, command: [sleep, "0"]}]}
""",
}


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    home = tmp_path / "small"
    for name, text in FILES.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return home


def test_the_life_of_a_release(living: EmbeddedHandle, tool: Callable[[str], str], chart: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "KUBECONFIG": str(living.kubeconfig),
        "HELM_CACHE_HOME": str(tmp_path / "cache"),
        "HELM_CONFIG_HOME": str(tmp_path / "config"),
        "HELM_DATA_HOME": str(tmp_path / "data"),
        "HOME": str(tmp_path),
    }

    def helm(*arguments: str) -> str:
        done = subprocess.run(
            [tool("helm"), *arguments, "-n", "charts"], capture_output=True, text=True, timeout=90, env=environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def greeting() -> str:
        return living.kubectl("-n", "charts", "get", "cm", "r-settings", "-o", "jsonpath={.data.greeting}").stdout

    helm("install", "r", str(chart), "--create-namespace", "--timeout", "60s")
    assert greeting() == "hello"
    assert living.kubectl("-n", "charts", "get", "pods", "-o", "name").stdout == ""
    helm("upgrade", "r", str(chart), "--set", "greeting=bye", "--set", "replicas=2")
    assert greeting() == "bye"
    assert living.kubectl("-n", "charts", "get", "deploy", "r", "-o", "jsonpath={.spec.replicas}").stdout == "2"
    assert [r["revision"] for r in json.loads(helm("history", "r", "-o", "json"))] == [1, 2]
    helm("rollback", "r", "1")
    assert greeting() == "hello"
    assert json.loads(helm("status", "r", "-o", "json"))["info"]["status"] == "deployed"
    helm("uninstall", "r")
    assert json.loads(helm("list", "-o", "json")) == []
    left = living.kubectl("-n", "charts", "get", "deploy,svc,knobs.helm.raycp.io,sa", "-o", "name").stdout.split()
    assert left == ["serviceaccount/default"]
