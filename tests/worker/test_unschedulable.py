"""``clusters[].unschedulable`` and ``drain`` reach those who place: such a cluster has no room for new Pods, or is to be left."""

from types import SimpleNamespace

from raycp.config import parse_fleet
from raycp.protocol.frames import ClusterState
from raycp.protocol.plan import ClusterPlan, Fleet, Plan
from raycp.scheduling import Candidate, Demand, place
from raycp.worker.cluster_table import ClusterTable

TEXT = """
apiVersion: raycp.io/v1alpha1
kind: Fleet
metadata: {name: f}
spec:
  clusters:
    - {name: hub, role: hub, embedded: {}}
    - {name: open, embedded: {}}
    - {name: closed, embedded: {}, unschedulable: true}
    - {name: drained, embedded: {}, drain: true}
  controllers: [{use: raycp.controllers.batchjob}]
"""


def test_an_unschedulable_cluster_gets_no_new_pods() -> None:
    doc = parse_fleet(TEXT)
    names = ("hub", "open", "closed", "drained")
    clusters = tuple(ClusterPlan(name, "hub" if name == "hub" else "member", {}, "0", None) for name in names)
    plan = Plan(Fleet("f", doc.canonical(), "g", 1, ()), 1, 1, 1, "t", clusters, ())
    states = {name: ClusterState(name, "member", {}, True, True) for name in names}
    table = ClusterTable({"0": SimpleNamespace(states=states)})
    table.update(plan)
    infos = [info for info in table.infos.values() if info.role == "member"]
    assert all(info.reachable and info.synced for info in infos)
    assert {info.name: info.draining for info in infos} == {"open": False, "closed": False, "drained": True}
    assert {info.permit for info in infos} == {doc.spec.leader.permit}
    infos = [info for info in infos if not info.draining]
    fleet = [Candidate(info.name, info.labels, info.reachable, info.reason, info.free_pods) for info in infos]
    assert place(Demand("uid", 5), fleet, 0.0).assigned == {"open": 5}
