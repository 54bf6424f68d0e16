"""Objects that end the process of each worker that they meet, on a real Ray (law 11): real processes, real deaths."""

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from rayhouse import Cluster, House, clusters_of, house, until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

CLUSTERS = ["hub", "east", "west"]
SAMPLES = ["fleet_samples:deadly", "fleet_samples:parent"]
MAPS = "/api/v1/namespaces/default/configmaps"
POOL = {"standard": {"workers": {"min": 3, "max": 3}}}
OBJECT = "east/v1/ConfigMap/default/bad"


@pytest.fixture(scope="module")
def ray_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("home")) as made:
        yield made


def config_map(name: str, app: str, **data: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", "labels": {"app": app}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


async def users(west: Cluster, names: list[str], every: float) -> None:
    for name in names:
        await west.request("POST", MAPS, config_map(name, "parent"))
        await asyncio.sleep(every)


@pytest.mark.parametrize(
    ("how", "reasons", "seconds"),
    [
        ("exit", ["ended the process of the worker in which it ran alone"], 60.0),
        # Where it was the only one in work, the first worker that ends itself names it; else the second one, alone.
        pytest.param(
            "gil",
            ["ended the process of the worker in which it ran alone", "blocked the worker's process, alone"],
            120.0,
            marks=pytest.mark.wide,
        ),
    ],
)
def test_a_poisonous_object_is_found_alone_and_backed_off_while_others_go_on(
    ray_house: House, how: str, reasons: list[str], seconds: float
) -> None:
    waits = {"drain": "5s", "ready": "110s"}  # eight processes start at once
    path = ray_house.file(f"p{how}", CLUSTERS, SAMPLES, shards={"standby": 0}, tiers=POOL, timeouts=waits)
    ray_house.raycp("run", "-c", str(path), "--address", ray_house.address)
    try:
        _found(ray_house, f"p{how}", how, reasons, seconds)
    finally:
        ray_house.raycp("down", "--fleet", f"p{how}", "--address", ray_house.address)


def _found(ray_house: House, name: str, how: str, reasons: list[str], seconds: float) -> None:
    status = ray_house.status(name)
    clusters = clusters_of(status)
    names = [f"good-{number}" for number in range(100)]

    async def poison_and_others() -> None:
        await clusters["east"].request("POST", MAPS, config_map("bad", "deadly", do=how))
        await users(clusters["west"], names, 0.05)

    asyncio.run(poison_and_others())

    def convicted() -> Any:
        found = ray_house.status(name)
        return found if [row for row in found["suspects"] if row["convicted"]] else None

    status = until(convicted, seconds, "the culprit is found")
    (row,) = status["suspects"]
    assert row["object"] == OBJECT
    assert any(reason in row["reason"] for reason in reasons), row
    assert OBJECT in [row["owner"].get("object") for row in status["problems"]]

    def served() -> bool:
        made = asyncio.run(clusters["west"].created("secrets"))
        return {f"default/{each}-child" for each in names} <= set(made)

    until(served, 20.0, "every change of the others is reconciled")

    def told() -> bool:
        listed = asyncio.run(clusters["east"].request("GET", "/apis/events.k8s.io/v1/namespaces/default/events"))
        return ("Warning", "WorkerDied", "bad") in [(e["type"], e["reason"], e["regarding"]["name"]) for e in listed["items"]]

    until(told, 20.0, "an event tells it")
    why = ray_house.output_of("why", "east/ConfigMap/default/bad", "--fleet", name)
    assert "workers that died with it in flight" in why
    told_why = ray_house.output_of("why", "east/ConfigMap/default/bad", "--fleet", name, "-o", "json")
    steps = [step for each in json.loads(told_why[told_why.index("{") :])["controllers"] for step in each["steps"]]
    first = next(step for step in steps if step["what"] == "convicted")
    assert first["deaths"] <= 3, "found then; it may have ended more workers since, alone"
    url = status["observer"]["url"]

    def counted() -> bool:
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as page:
            return b'raycp_poison_convictions_total{cluster="east",controller="deadly"}' in page.read()

    until(counted, 20.0, "a metric counts it")
    # Its author mends it: it runs at once, alone, and is cleared.
    asyncio.run(clusters["east"].request("DELETE", f"{MAPS}/bad"))
    until(lambda: not ray_house.status(name)["suspects"], 30.0, "it is cleared")
