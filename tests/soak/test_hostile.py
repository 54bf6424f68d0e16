"""Hostile answers under load, then the invariants: 600 s in ``make soak``, 90 s in ``make test-wide``.

``RAYCP_SOAK_SEED`` repeats the faults of an earlier run, ``RAYCP_SOAK_SECONDS`` sets the length of the long run.
"""

import asyncio
import os
from pathlib import Path

import pytest
from hostilerun import CLUSTERS, hostile_soak
from rayhouse import house
from soakrun import Scale
from test_soak import seed

WIDE_SEED = 1817
"""The seed of ``make test-wide``: fixed, so that two runs of CI play the same faults."""
JOB = {"activeDeadlineSeconds": 300}
"""More than any job takes, less than a clock may be wrong."""


def scale(chosen: int, seconds: float) -> Scale:
    return Scale(chosen, seconds, CLUSTERS, keys=10, changes=9.0, jobs=1.0, job=JOB)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_hostile_answers_for_long(tmp_path: Path) -> None:
    seconds = float(os.environ.get("RAYCP_SOAK_SECONDS") or 600)
    with house(tmp_path) as at:
        asyncio.run(hostile_soak(scale(seed(), seconds), at))


@pytest.mark.wide
@pytest.mark.timeout(400)
def test_hostile_answers_for_a_moment(tmp_path: Path) -> None:
    with house(tmp_path) as at:
        asyncio.run(hostile_soak(scale(seed(WIDE_SEED), 90.0), at))
