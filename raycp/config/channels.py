"""``spec.channels``: the connections between the fleet's processes."""

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from raycp.config.strict import InvalidValue, Strict

FEWEST_PORTS = 16
"""Ports of the smallest range: a process needs one, and its successor should not get the one of a process that has just died."""

_RANGE = re.compile(r"(\d{1,5})-(\d{1,5})")
_REMEDY = f'write "FIRST-LAST" with {FEWEST_PORTS} ports or more between 1024 and 65535, such as "42000-42999"'


def _numbers(text: str) -> range:
    found = _RANGE.fullmatch(text)
    return range(int(found[1]), int(found[2]) + 1) if found is not None else range(0)


def _port_range(text: str) -> str:
    numbers = _numbers(text)
    if not numbers or numbers[0] < 1024 or numbers[-1] > 65535:
        raise InvalidValue("is not a range of ports", _REMEDY)
    if len(numbers) < FEWEST_PORTS:
        raise InvalidValue(f"is a range of only {len(numbers)} ports", _REMEDY)
    return text


PortRange = Annotated[str, AfterValidator(_port_range), WithJsonSchema({"type": "string", "pattern": r"^\d{4,5}-\d{4,5}$"})]
"""Ports such as ``42000-42999``."""


class ChannelsSpec(Strict):
    """The connections between the fleet's processes."""

    ports: PortRange | None = None
    """Ports on which shards, workers and the observer listen for one another, as `FIRST-LAST`: what a firewall has to let
    through between the nodes. By default the kernel chooses. Each process takes a free one when it starts: give a node at
    least four times as many as it has processes. A change applies to processes that start later."""

    @property
    def numbers(self) -> range:
        """The ports; empty where the kernel chooses."""
        return _numbers(self.ports or "")
