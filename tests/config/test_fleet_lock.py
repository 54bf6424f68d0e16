"""The lock of a running fleet can't be moved."""

import pytest

from raycp.config import parse_fleet

TEXT = """
apiVersion: raycp.io/v1alpha1
kind: Fleet
metadata: {name: x}
spec:
  clusters: [{name: hub, role: hub, embedded: {}}, {name: east, embedded: {}}]
  controllers: [{use: m}]
  state: {namespace: one}
  leader: {lock: LOCK, permit: 6s}
"""


@pytest.mark.parametrize(
    ("lock", "before", "after", "field"),
    [
        ("ray: {}", "LOCK", "LOCK", ""),
        ("ray: {}", "permit: 6s", "permit: 9s", ""),
        ("lease: {}", "duration: 6s", "duration: 9s", ""),
        ("configMap: {}", "configMap: {}", "configMap: {namespace: one}", ""),
        ("ray: {}", "ray: {}", "lease: {}", "spec.leader.lock is 'ray' in the running fleet, and 'lease' here"),
        ("lease: {}", "lease: {}", "lease: {namespace: two}", "spec.leader.lock.lease.namespace is 'one'"),
        ("ray: {}", "namespace: one", "namespace: two", "spec.state.namespace is 'one'"),
        ("ray: {}", "name: hub,", "name: other,", "the hub"),
    ],
)
def test_moved_lock_names_fields_that_a_running_fleet_can_not_change(lock: str, before: str, after: str, field: str) -> None:
    text = TEXT.replace("LOCK", "{" + lock + "}")
    moved = parse_fleet(text).moved_lock(parse_fleet(text.replace(before, after)))
    assert moved.startswith(field) if field else moved == ""
    assert not moved or "raycp down" in moved
