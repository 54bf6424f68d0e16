"""What a worker is told of the clusters' clocks."""

from types import SimpleNamespace

from raycp.config import parse_fleet
from raycp.protocol.frames import ClusterState
from raycp.protocol.plan import ClusterPlan, Fleet, Plan
from raycp.worker.cluster_table import ClusterTable

TEXT = """
apiVersion: raycp.io/v1alpha1
kind: Fleet
metadata: {name: f}
spec:
  clusters:
    - {name: hub, role: hub, embedded: {}}
    - {name: east, embedded: {}}
  controllers: [{use: raycp.controllers.batchjob}]
"""


def test_how_far_a_clock_is_off_is_as_its_shard_reports_it() -> None:
    doc = parse_fleet(TEXT)
    clusters = tuple(ClusterPlan(name, role, {}, "0", None) for name, role in (("hub", "hub"), ("east", "member")))
    states = {"east": ClusterState("east", "member", {}, True, True, clock_ahead=-600.0)}
    table = ClusterTable({"0": SimpleNamespace(states=states)})
    table.update(Plan(Fleet("f", doc.canonical(), "g", 1, ()), 1, 1, 1, "t", clusters, ()))
    assert table.infos["east"].clock_ahead == -600.0
    assert table.infos["hub"].clock_ahead == 0.0, "not known"
