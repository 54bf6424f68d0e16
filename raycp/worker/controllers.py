"""``LoadedControllers``: the controllers of the plan, imported."""

import asyncio
import dataclasses
import json
import logging
from collections.abc import Mapping
from typing import Any

from raycp.base.keys import GVK
from raycp.protocol.plan import ControllerPlan, Plan
from raycp.sdk.controller import Controller
from raycp.sdk.loader import ControllerLoadError, load_controllers

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class LoadedController:
    """A controller with what the plan says of it. ``timeout`` in seconds; ``member_kinds`` are the kinds of its children in
    member clusters, as ``str(GVK)``; ``code`` is what the plan called its source when it was imported."""

    controller: Controller
    timeout: float
    config: Mapping[str, Any]
    member_kinds: tuple[str, ...]
    code: str


class LoadedControllers:
    """``known`` is replaced as a whole with each plan; ``failed`` says why a controller's module could not be imported;
    ``outdated`` names the controllers of which the plan has newer code than this process, which can't import it again."""

    def __init__(self) -> None:
        self.known: dict[str, LoadedController] = {}
        self.failed: dict[str, str] = {}
        self.outdated: tuple[str, ...] = ()
        self.kinds: dict[str, GVK] = {}
        """Of all controllers of the plan, those too that are not known."""
        self._planned = False

    @property
    def problem(self) -> str:
        """Why some of them, or all, are not known."""
        return "; ".join(dict.fromkeys(self.failed.values())) if self._planned else "waiting for the fleet's plan"

    async def update(self, plan: Plan) -> None:
        """Import the modules of controllers that are not known yet, off the loop: they are user code."""
        known: dict[str, LoadedController] = {}
        failed: dict[str, str] = {}
        outdated: list[str] = []
        for planned in plan.fleet.controllers:
            try:
                controller = await self._controller(planned)
            except ControllerLoadError as error:
                failed[planned.name] = str(error)
                if self.failed.get(planned.name) != str(error):
                    log.error("%s", error)
                continue
            if controller is not None:
                member_kinds = tuple(str(owned.kind) for owned in controller.owns if owned.on == "members")
                before = self.known.get(planned.name)
                code = before.code if before is not None else planned.code
                if code != planned.code:
                    outdated.append(planned.name)
                known[planned.name] = LoadedController(
                    controller, planned.timeout, json.loads(planned.config), member_kinds, code
                )
        self.kinds = {planned.name: GVK.parse(planned.kind) for planned in plan.fleet.controllers}
        self.known, self.outdated = known, tuple(outdated)
        self.failed = failed
        self._planned = True

    async def _controller(self, planned: ControllerPlan) -> Controller | None:
        before = self.known.get(planned.name)
        # The plan has decided between the fleet file's time limit and the controller's own.
        if before is not None:
            return dataclasses.replace(before.controller, timeout=planned.timeout)
        for found in await asyncio.to_thread(load_controllers, [planned.use]):
            if found.name == planned.original:
                return dataclasses.replace(found, name=planned.name, timeout=planned.timeout)
        return None
