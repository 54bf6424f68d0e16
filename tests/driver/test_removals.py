"""What ``raycp uninstall`` removes of what it finds, as a pure function."""

from dataclasses import replace

from raycp.driver.removal.findings import ClusterFindings, FloorMark, HeldObject, LeftDefinition, LeftObject
from raycp.driver.removal.removals import removals

POD = HeldObject("Pod default/pi-0", "/api/v1/namespaces/default/pods/pi-0", "u1", "7", ("a.io/b", "x.io/y"), ("x.io/y",))
RECORD = LeftObject("ConfigMap s/raycp-t-leader", "/api/v1/namespaces/s/configmaps/raycp-t-leader", "u2")
KEYS = LeftObject("Secret s/raycp-t-marks", "/api/v1/namespaces/s/secrets/raycp-t-marks", "u3")
JOBS = LeftDefinition(LeftObject("CustomResourceDefinition jobs.x.io", "/crds/jobs.x.io", "u4"), 3)
FLOOR = FloorMark(LeftObject("CustomResourceDefinition epochs.raycp.io", "/crds/epochs", "u5"), "epoch.raycp.io/t.s", 1)
HUB = ClusterFindings("hub", records=(RECORD,), keys=KEYS, definitions=(JOBS,), floor=FLOOR)
WEST = ClusterFindings("west", held=(POD, replace(POD, path="/api/v1/namespaces/default/pods/pi-1")))


def test_the_whole_fleet_goes_and_definitions_stay() -> None:
    hub, west = removals([HUB, WEST])
    assert hub.deletes == (RECORD,)
    assert hub.keys == KEYS
    assert hub.floor == FLOOR
    assert hub.definitions == ()
    assert west.lines() == ["cluster west:", "  remove finalizer x.io/y from 2 Pods"]
    assert hub.lines() == [
        "cluster hub:",
        "  delete ConfigMap s/raycp-t-leader",
        "  delete Secret s/raycp-t-marks",
        "  remove annotation epoch.raycp.io/t.s from CustomResourceDefinition epochs.raycp.io",
        "  keep CustomResourceDefinition jobs.x.io and its 3 objects: --crds deletes them",
    ]


def test_definitions_go_when_asked_for_and_nobody_needs_them() -> None:
    (hub,) = removals([HUB], crds=True)
    assert hub.definitions == (JOBS,)
    assert hub.floor == FLOOR, "another fleet has its floor on that definition"
    assert "  delete CustomResourceDefinition jobs.x.io, and with it 3 objects" in hub.lines()
    (hub,) = removals([replace(HUB, floor=replace(FLOOR, others=0), definitions=(replace(JOBS, users=("other",)),))], crds=True)
    assert hub.definitions == (LeftDefinition(FLOOR.stored, 0),)
    assert hub.floor is None
    assert any("jobs.x.io: controller other needs it" in line for line in hub.lines())


def test_one_controller_leaves_what_is_the_fleets() -> None:
    hub, west = removals([HUB, WEST], controller="batchjob")
    assert hub.empty
    assert west.releases == WEST.held


def test_the_keys_stay_while_a_cluster_could_not_be_read() -> None:
    for west in (ClusterFindings("west", unreachable="no answer"), replace(WEST, unread=("no right to list Pods",))):
        hub, other = removals([HUB, west])
        assert hub.keys is None
        assert hub.deletes == (RECORD,)
        assert any("Secret s/raycp-t-marks" in line and "west" in line for line in hub.kept)
        assert other.problems


def test_an_embedded_cluster_ends_with_its_fleet() -> None:
    (removal,) = removals([ClusterFindings("hub", ends=True)])
    assert removal.empty
    assert not removal.problems
    assert "raycp down" in removal.lines()[1]
