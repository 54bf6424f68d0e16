"""The parties beside raycp, when they play, and what makes the naive fleet naive."""

import argparse
from pathlib import Path

import pytest

import raycp.bench.neighbours
import raycp.bench.storms
import raycp.bench.switch  # noqa: F401 - registers its scenario
from raycp.bench.fleets import NAIVE_QUEUE, NEVER, fleet_doc, naive
from raycp.bench.ground import Ground
from raycp.bench.naive_queue import NaiveQueue
from raycp.bench.runner import Request, _parties
from raycp.bench.scenario import SCENARIOS
from raycp.cli.bench import _request, add_parser
from raycp.driver.fleet_builder import build_fleet
from raycp.runtime.cores import QUEUE, queue_factory


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    names = ("hub", "a", "b")
    for name in names:
        (tmp_path / name).write_text("")
    return Ground({name: tmp_path / name for name in names}, {}, tmp_path)


def test_the_naive_fleet_is_the_same_but_naive(ground: Ground) -> None:
    doc = fleet_doc(ground, slots=8)
    other = naive(doc)
    assert other.spec.ray.env[QUEUE] == NAIVE_QUEUE
    assert queue_factory(other.spec.ray.env[QUEUE]) is NaiveQueue
    assert all(c.breaker.failures == NEVER for c in other.spec.clusters)
    assert [c.name for c in other.spec.clusters] == [c.name for c in doc.spec.clusters]
    assert other.spec.workers == doc.spec.workers
    ours, theirs = build_fleet(doc, Path("fleet.yaml"), []), build_fleet(other, Path("fleet.yaml"), [])
    assert [c.spread for c in theirs.controllers] == [0.0]
    assert ours.controllers[0].spread > 0.0
    assert QUEUE not in doc.spec.ray.env  # the other fleet's file stays as it is


def test_a_queue_factory_that_does_not_exist_is_named() -> None:
    assert queue_factory("") is None
    for name in ("raycp.bench.naive_queue:Nothing", "raycp.nowhere:NaiveQueue", "nonsense", ":"):
        with pytest.raises(ValueError, match=f"RAYCP_QUEUE={name}: no such queue factory"):
            queue_factory(name)


def played(scenario: str, *arguments: str) -> list[list[str]]:
    """The parties of the first run and of the second."""
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    wanted = SCENARIOS[scenario]
    request: Request = _request(parser.parse_args(["bench", scenario, "--quiet", *arguments]), wanted, [])
    return [[party for party, _ in _parties(request, number)] for number in (0, 1)]


def test_the_naive_plays_once() -> None:
    assert played("resync-storm") == [["raycp", "fifo"], ["raycp"]]
    assert played("resync-storm", "--policy", "both") == played("resync-storm", "--policy", "fifo") == played("resync-storm")
    assert played("resync-storm", "--policy", "raycp") == [["raycp"], ["raycp"]]
    assert played("resync-storm", "--policy", "fifo", "--alone") == [["fifo"], ["fifo"]]
    assert played("switch", "--policy", "seed") == [["raycp", "seed"], ["raycp"]]
    assert played("switch", "--policy", "seed", "--alone") == [["seed"], ["seed"]]


def test_every_storm_has_the_naive_beside_it() -> None:
    for name in ("init-storm", "resync-storm", "noisy-tenant", "dead-cluster", "joining-cluster", "starvation", "tiers"):
        assert SCENARIOS[name].policies == ("raycp", "fifo"), name
