"""Priority admission: PriorityClasses are followed as they come, change and go."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from raycp.config.embedded import EmbeddedControllers, EmbeddedSpec
from raycp.embedded.cluster import EmbeddedCluster
from raycp.embedded.errors import StatusError

CLASSES = "priorityclasses.scheduling.k8s.io"
NS = "default"


def bare(directory: Path | None = None) -> EmbeddedCluster:
    return EmbeddedCluster("t", EmbeddedSpec(controllers=EmbeddedControllers.none(), data_dir=directory and str(directory)))


@pytest.fixture
async def cluster() -> AsyncIterator[EmbeddedCluster]:
    made = bare()
    await made.start()
    yield made
    await made.stop()


async def declare(cluster: EmbeddedCluster, name: str, value: int, **more: Any) -> None:
    await cluster.api.create(CLASSES, {"metadata": {"name": name}, "value": value, **more})


async def given(cluster: EmbeddedCluster, **spec: Any) -> tuple[Any, Any, Any]:
    """Class, value and policy of a new Pod."""
    pod = {"metadata": {"generateName": "p-"}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}
    made = (await cluster.api.create("pods", pod, NS))["spec"]
    return made.get("priorityClassName"), made["priority"], made["preemptionPolicy"]


NONE = (None, 0, "PreemptLowerPriority")


async def test_the_global_default_is_followed(cluster: EmbeddedCluster) -> None:
    assert await given(cluster) == NONE
    await declare(cluster, "usual", 7, globalDefault=True, preemptionPolicy="Never")
    assert await given(cluster) == ("usual", 7, "Never")
    await cluster.api.patch_merge(CLASSES, "", "usual", b'{"globalDefault":false}')
    assert await given(cluster) == NONE
    await cluster.api.patch_merge(CLASSES, "", "usual", b'{"globalDefault":true}')
    assert await given(cluster) == ("usual", 7, "Never")
    await cluster.api.delete(CLASSES, "", "usual")
    assert await given(cluster) == NONE


async def test_only_one_class_is_the_default_but_of_several_the_lowest_counts(cluster: EmbeddedCluster) -> None:
    await declare(cluster, "usual", 7, globalDefault=True)
    with pytest.raises(StatusError, match="PriorityClass usual is already marked as default"):
        await declare(cluster, "other", 5, globalDefault=True)
    await declare(cluster, "other", 5)
    await cluster.api.patch_merge(CLASSES, "", "other", b'{"globalDefault":true}')
    assert (await given(cluster))[:2] == ("other", 5)
    await cluster.api.delete(CLASSES, "", "other")
    assert (await given(cluster))[:2] == ("usual", 7)


async def test_a_named_class_is_followed(cluster: EmbeddedCluster) -> None:
    with pytest.raises(StatusError, match="no PriorityClass with name mine was found"):
        await given(cluster, priorityClassName="mine")
    await declare(cluster, "mine", 3)
    assert await given(cluster, priorityClassName="mine") == ("mine", 3, "PreemptLowerPriority")
    assert (await given(cluster, priorityClassName="system-node-critical"))[1] == 2_000_001_000
    with pytest.raises(StatusError, match=r"the integer value of priority \(4\) must not be provided in pod spec"):
        await given(cluster, priorityClassName="mine", priority=4)
    with pytest.raises(StatusError, match=r"the string value of PreemptionPolicy \(Never\) must not be provided in pod spec"):
        await given(cluster, priorityClassName="mine", preemptionPolicy="Never")
    await cluster.api.delete(CLASSES, "", "mine")
    with pytest.raises(StatusError, match="no PriorityClass with name mine was found"):
        await given(cluster, priorityClassName="mine")


async def test_classes_of_an_earlier_run_count(tmp_path: Path) -> None:
    first = bare(tmp_path / "d")
    await first.start()
    await declare(first, "usual", 7, globalDefault=True)
    await first.stop()
    second = bare(tmp_path / "d")
    await second.start()
    assert (await given(second))[:2] == ("usual", 7)
    await second.stop()
