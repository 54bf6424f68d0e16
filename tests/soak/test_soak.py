"""Random faults under load, then the invariants: ``make soak`` for ten minutes, and a short form of it with the other tests.

``RAYCP_SOAK_SEED`` plays the faults of an earlier run again, ``RAYCP_SOAK_SECONDS`` sets the length.
"""

import asyncio
import os
import random
from pathlib import Path

import pytest
from rayhouse import house
from soakrun import Scale, soak


def seed() -> int:
    return int(os.environ.get("RAYCP_SOAK_SEED") or random.SystemRandom().randrange(10**6))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_everything_goes_wrong_for_long(tmp_path: Path) -> None:
    seconds = float(os.environ.get("RAYCP_SOAK_SECONDS") or 600)
    with house(tmp_path) as at:
        asyncio.run(soak(Scale(seed(), seconds, ["hub", "east", "west", "north"]), at))


@pytest.mark.ray
@pytest.mark.timeout(150)
def test_everything_goes_wrong_for_a_moment(tmp_path: Path) -> None:
    with house(tmp_path) as at:
        scale = Scale(seed(), 12.0, ["hub", "east"], shards=1, keys=10, changes=10.0, jobs=0.5, quiet=60.0)
        asyncio.run(soak(scale, at))
