"""Two fleets of one name in two Ray namespaces, on a real Ray: the second stands by, says so, and follows."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from rayhouse import house, until

from raycp.testkit import EmbeddedHost
from raycp.testkit.plugin import kubectl_binary

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


def fleet_file(home: Path, name: str, kubeconfig: Path, namespace: str) -> Path:
    spec: dict[str, Any] = {
        "ray": {"namespace": namespace},
        "clusters": [{"name": "hub", "kubeconfig": {"path": str(kubeconfig)}, "requestTimeout": "1s"}],
        "controllers": [{"use": "fleet_samples:tracked"}],
        "observer": {"port": 0},
        "shards": {"standby": 0},
        "tiers": {"standard": {"workers": {"min": 1, "max": 1}}},
        "leader": {"lock": {"lease": {"duration": "2s", "renew": "500ms"}}, "permit": "2s"},
    }
    path = home / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"apiVersion": "raycp.io/v1alpha1", "kind": "Fleet", "metadata": {"name": "two"}, "spec": spec}))
    return path


def test_the_second_fleet_stands_by_and_follows(tmp_path: Path) -> None:
    host = EmbeddedHost(tmp_path / "clusters", binary=kubectl_binary())
    try:
        hub = host.start("hub")
        with house(tmp_path) as ray:
            one = fleet_file(tmp_path, "one", hub.kubeconfig, "raycp-two")
            other = fleet_file(tmp_path, "other", hub.kubeconfig, "raycp-other")
            assert "fleet two is ready: epoch 1" in (told := ray.raycp("run", "-c", str(one), "--address", ray.address)), told
            second = ray.popen("run", "-c", str(other), "--address", ray.address)
            try:
                shown: list[str] = []

                def waits() -> bool:
                    shown[:] = [ray.output_of("status", "-c", str(other))]
                    return "waiting for the lock: Lease raycp-system/raycp-two is held by" in shown[0]

                until(waits, 30.0, "its status tells why")
                assert "a candidate" in shown[0]
                assert hub.kubectl(
                    "get", "lease", "-n", "raycp-system", "raycp-two", "-o", "jsonpath={.spec.holderIdentity}"
                ).stdout
                assert "two" in ray.raycp("down", "-c", str(one), "--address", ray.address)
                output, _ = second.communicate(timeout=40)
                assert "fleet two is ready: epoch 2" in output, output
            finally:
                second.kill()
            assert "lock lease" in ray.output_of("status", "-c", str(other))
            ray.raycp("down", "-c", str(other), "--address", ray.address)
            transitions = hub.kubectl("get", "lease", "-n", "raycp-system", "raycp-two", "-o", "jsonpath={.spec.leaseTransitions}")
            assert transitions.stdout == "1"
    finally:
        host.close()
