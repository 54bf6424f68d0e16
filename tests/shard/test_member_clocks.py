"""A cluster's clock that is off, as its shard measures it: workers are told, and old children are known by it."""

from inprocess import stack, until

from raycp.base.keys import GVK
from raycp.base.objects import Meta, Obj
from raycp.base.owner_marks import MarkKeys
from raycp.sdk.owner import OWNER_UID
from raycp.shard.owned_objects import Claims

KEYS = MarkKeys({"key-1": bytes(32)}, "key-1", "2026-03-01T10:00:00Z")


async def test_the_measured_skew_is_part_of_the_clusters_state() -> None:
    async with stack(["tracked"]) as fleet:
        client = await until(lambda: (watched := fleet.shard().caches.cluster("here")) and watched.client)
        client.skew = -600.0
        assert [state.clock_ahead for state in fleet.shard().reporter.states()] == [-600.0]


def test_a_child_without_mark_is_judged_by_its_clusters_clock() -> None:
    created = "2026-03-01T10:05:00Z"

    def proven(ahead: float) -> bool:
        meta = Meta(name="p", namespace="default", uid="u", labels={OWNER_UID: "owner"}, creation_timestamp=created)
        obj = Obj(meta=meta, raw=b"{}", rv=1, version=1)
        return Claims("east", GVK("", "v1", "Pod"), KEYS, lambda: ahead).proven(obj)

    assert proven(600.0), "made before there was a key, by a clock that is ten minutes ahead"
    assert not proven(0.0)
