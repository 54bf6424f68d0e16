"""Children in clusters of other shards: which shards are asked is known from the plan, not searched for at each reconcile."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from inprocess import plan_of

from raycp.base.keys import RequestKey
from raycp.base.tasks import Child, Task
from raycp.kube import Unreachable
from raycp.protocol.frames import Message, Read, Reply
from raycp.worker.cluster_table import ClusterTable
from raycp.worker.questions import ShardQuestions
from raycp.worker.shard_reads import ShardReads
from raycp.worker.task_memory import TaskMemory

HOMES = {"hub": "0", "near": "0", "east": "1", "west": "1", "far": "2"}


class Searched(dict[str, Any]):
    """A mapping that is looked up, and never searched."""

    def items(self) -> Any:
        raise AssertionError("every cluster is looked at")

    values = keys = __iter__ = items


class Link:
    """A shard that has one child in each of its clusters, or does not answer."""

    def __init__(self, answers: bool = True) -> None:
        self.answers = answers
        self.asked: list[Read] = []
        self.states: Mapping[str, Any] = {}

    async def call(self, make: Callable[[int], Message], timeout: float) -> Reply:
        read = make(1)
        assert isinstance(read, Read)
        self.asked.append(read)
        if not self.answers:
            raise Unreachable("silent", sent=True)
        return Reply(1, [Child(cluster, "v1/Secret", b"{}") for cluster in read.clusters])

    def send(self, message: Message) -> None: ...


async def test_the_members_of_each_other_shard_are_asked_for_at_once() -> None:
    links = {"0": Link(), "1": Link(), "2": Link(answers=False)}
    table = ClusterTable(links)
    table.update(plan_of(HOMES, "tracked"))
    assert table.members == {"0": ("near",), "1": ("east", "west"), "2": ("far",)}
    table.infos, table.shards = Searched(table.infos), Searched(table.shards)
    reads = ShardReads(table, ShardQuestions(table, links), Any, TaskMemory())  # type: ignore[arg-type]
    raw = msgspec.json.encode({"metadata": {"uid": "u"}})
    task = Task(1, RequestKey("c", "hub", "d", "n"), "standard", "", 1, 1, "0", 1, 7, 0.0, raw, [], [])
    await reads.complete(task, ["v1/Secret"])
    assert [child.cluster for child in task.children] == ["east", "west"]
    assert task.unknown_clusters == ["far"]
    assert [len(link.asked) for link in links.values()] == [0, 1, 1]
    assert links["1"].asked[0].name == "u"
