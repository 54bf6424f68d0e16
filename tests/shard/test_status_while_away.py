"""Changes made while no shard watched: users' changes are separated from status writes (docs/head-of-line.md).

A property over histories of one kind: users and controllers write, the shard observes, reconciles and stores its watermark, dies;
they go on writing; the next shard lists.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import fleet_samples as samples
import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import CLOCK, Stack, holds, stack, until

from raycp.base.events import Event, EventType, Source
from raycp.base.keys import GVK, RequestKey
from raycp.base.objects import Meta, Obj
from raycp.classify import Known, Reason, classify
from raycp.protocol.plan import ControllerPlan
from raycp.shard import watermarks
from raycp.shard.watermarks import ClusterMarks, Watermarks

KIND = GVK("", "v1", "Pod")
PLAN = ControllerPlan("c", "m:c", "c", str(KIND), "members", ("here",), 0)


@dataclass
class Model:
    """One cluster with a few objects, and what a shard knows of it."""

    now: float = 1_000_000.0
    rv: int = 0
    objects: dict[str, Obj] = field(default_factory=dict)
    users: dict[str, float] = field(default_factory=dict)
    marks: Watermarks = field(default_factory=Watermarks)
    told_at: float = 0.0

    def write(self, name: str, by: str) -> Obj:
        """A user's write changes the version, a controller's the status."""
        self.rv += 1
        before = self.objects.get(name)
        if by == "user" or before is None:
            self.users[name] = self.now
            obj = Obj(Meta(name=name, namespace="n"), b"{}", self.rv, self.rv, float(math.floor(self.now)))
        else:
            obj = msgspec.structs.replace(before, rv=self.rv)
        self.objects[name] = obj
        return obj


def key(name: str) -> RequestKey:
    return RequestKey("c", "here", "n", name)


steps = st.lists(
    st.tuples(
        st.floats(0, 30),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["user", "status"]),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=300)
@given(watched=steps, away=steps, most=st.sampled_from([5000, 1]))
def test_the_classification_after_a_restart_separates_status_noise_from_changes(
    watched: list[tuple[float, str, str, bool]], away: list[tuple[float, str, str, bool]], most: int
) -> None:
    model = Model()
    marks = model.marks
    marks.begin([PLAN], "here", 0)
    for seconds, name, by, reconciled in watched:
        model.now += seconds
        obj = model.write(name, by)
        marks.due(key(name), "here", KIND, obj.rv)
        model.told_at = model.now
        marks.observe("here", KIND, model.rv)
        if reconciled:
            marks.settled(key(name))
    due = {name for name in model.objects if marks.due_of(key(name))}
    told_at = model.told_at
    text = msgspec.json.encode(marks.export("here", most, {KIND: told_at} if told_at else None))

    after = Watermarks()
    after.restore("here", msgspec.json.decode(text, type=ClusterMarks), {"c"})
    touched: dict[str, set[str]] = {}
    model.now += 0.01
    for seconds, name, by, _ in away:
        model.now += seconds
        touched.setdefault(name, set()).add("user" if name not in model.objects else by)
        model.write(name, by)

    for name, obj in model.objects.items():
        seen = after.seen(key(name), PLAN, "here", KIND, obj.rv, obj.changed_at)
        known = Known(None, seen.covered, seen.has_watermark, first_start=seen.first_start, only_status=seen.only_status)
        verdict = classify(Event(EventType.ADDED, Source.INITIAL, None, obj, 1.0), known)
        changes = touched.get(name, set())
        if "user" in changes or name in due:
            if seen.has_watermark:
                assert verdict.reason in (Reason.AWAY, Reason.BACKLOG), "a user's change is never taken for noise"
        elif changes and seen.has_watermark and len(due) <= most:
            settled = told_at - model.users[name] > watermarks.MARGIN + watermarks.RESOLUTION + 0.1
            assert verdict.reason is Reason.STATUS if settled else verdict.reason in (Reason.STATUS, Reason.AWAY)
            assert verdict.enqueue
        elif seen.has_watermark and len(due) <= most:
            assert verdict.reason is Reason.EXISTING


def ran() -> Counter[str]:
    return Counter(name for _, _, name in samples.RAN)


async def pod(fleet: Stack, name: str) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    meta: dict[str, Any] = {"name": name, "namespace": "default", "labels": {"app": "tracked"}}
    if name == "deleted":
        meta["finalizers"] = ["example.com/stays"]
    await fleet.clusters["here"].api.create("pods", {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})


async def test_a_restarted_shard_separates_status_noise_from_changes(monkeypatch: Any) -> None:
    monkeypatch.setattr("raycp.shard.watermarks.MARGIN", 0.2)
    state = {"namespace": "default", "watermark": "50ms"}
    async with stack(["pods"], state=state, timeouts={"spread": "60s"}) as fleet:
        for name in ("quiet", "status", "user", "deleted"):
            await pod(fleet, name)
        await until(lambda: len(ran()) == 4)
        # The watch has to receive something later than the users' changes, at the times' resolution of a second.
        made = CLOCK.now()
        await until(lambda: CLOCK.now() - made > 2.3)
        await pod(fleet, "later")
        await until(lambda: ran()["later"])
        core = fleet.shard()
        await until(lambda: core.watermarks.stored and not core.ledger.marks.due_keys())
        await fleet.kill("shard", "0")
        samples.RAN.clear()
        api = fleet.clusters["here"].api
        for name in ("status", "deleted"):
            await api.patch_merge("pods", "default", name, b'{"status":{"message":"noise"}}', subresource="status")
        await api.patch_merge("pods", "default", "user", b'{"metadata":{"annotations":{"a":"b"}}}')
        await api.delete("pods", "default", "deleted")
        await fleet.new_shard("0")
        await fleet.configure()
        await fleet.synced()
        await until(lambda: {"user", "status", "deleted"} <= set(ran()))
        timelines = fleet.shard().ledger.timelines
        reasons = {
            name: [step.detail["reason"] for _, found in timelines.of("here", "default", name, {"pods"})
                   for step in found if step.what == "received"]
            for name in ("quiet", "status", "user", "deleted")
        }  # fmt: skip
        assert reasons["status"] == ["status"], reasons
        assert reasons["user"] == ["away"], reasons
        assert reasons["deleted"][0] == "away", reasons
        assert reasons["quiet"] == ["existing"], reasons
        await holds(lambda: not ran()["quiet"], 0.1)
