"""From a fleet file to a ``Fleet``: the driver loads the controllers' modules, so that no other process has to trust them."""

import hashlib
import json
import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raycp.base.release import is_importable
from raycp.config import ConfigError, ControllerSpec, FleetDoc, Problem
from raycp.kube.connect import UserSource
from raycp.protocol.amendments import fleet_generation
from raycp.protocol.plan import ControllerPlan, Fleet, OwnedPlan, WatchedPlan
from raycp.sdk.controller import Controller
from raycp.sdk.loader import ControllerLoadError, load_controllers


def build_fleet(doc: FleetDoc, file: Path, search: list[Path], working_dir_uri: str = "") -> Fleet:
    """Load the modules that the fleet file names and resolve where each controller runs.

    ``search`` are directories in which users' modules are looked for, before installed ones. ``working_dir_uri`` is the Ray
    working directory that holds them, empty where workers find them by path. Raises ``ConfigError``; ``StageError`` for a stage
    file of an embedded cluster.
    """
    for directory in reversed(search):
        path = str(directory.resolve())
        if path not in sys.path:
            sys.path.insert(0, path)
    problems: list[Problem] = []
    plans: list[ControllerPlan] = []
    roots: set[Path] = set()
    digest = hashlib.sha256()
    taken: dict[str, int] = {}
    for number, spec in enumerate(doc.spec.controllers):
        where = f"spec.controllers[{number}].use"
        try:
            found = load_controllers([spec.use])
        except ControllerLoadError as error:
            message = str(error).removeprefix(f"controllers: {spec.use!r} ")
            remedy = "put the module in the working directory, install it, or correct the name"
            problems.append(Problem(str(file), where, spec.use, message, remedy))
            continue
        if spec.name and len(found) > 1:
            names = ", ".join(controller.name for controller in found)
            remedy = f"pick one: use: {spec.use}:NAME"
            problems.append(
                Problem(str(file), f"spec.controllers[{number}].name", spec.name, f"the module has several: {names}", remedy)
            )
            continue
        for controller in found:
            source = _source_of(controller)
            plan = _plan(doc, spec, number, controller, source.digest)
            if plan.name in taken:
                message = f"spec.controllers[{taken[plan.name]}] is called {plan.name!r} already"
                problems.append(Problem(str(file), where, spec.use, message, "give one of them another name:"))
                continue
            if not plan.clusters:
                message = "none of the fleet's clusters has these labels"
                remedy = "correct spec.controllers[].clusters or the clusters' labels"
                problems.append(
                    Problem(str(file), f"spec.controllers[{number}].clusters", json.dumps(spec.clusters), message, remedy)
                )
                continue
            taken[plan.name] = number
            plans.append(plan)
            if source.root is not None:
                roots.add(source.root)
                digest.update(source.digest.encode())
    for number, name in enumerate(doc.spec.paused.controllers):
        if name not in taken and not problems:  # one that can't be loaded may be the one
            where, remedy = f"spec.paused.controllers[{number}]", f"its controllers are: {', '.join(taken)}"
            problems.append(Problem(str(file), where, name, "is no controller of this fleet", remedy))
    if problems:
        raise ConfigError(problems)
    _check_stage_files(doc)
    runtime: dict[str, Any] = {}
    if roots and working_dir_uri:
        runtime["working_dir"] = working_dir_uri
    elif roots:
        runtime["env_vars"] = {"PYTHONPATH": os.pathsep.join(str(root) for root in sorted(roots))}
    if roots:
        runtime.setdefault("env_vars", {})["RAYCP_CODE"] = digest.hexdigest()[:12]
    text = json.dumps(runtime, sort_keys=True)
    return Fleet(doc.name, doc.canonical(), fleet_generation(doc, text, plans), 0, tuple(plans), text)


def _check_stage_files(doc: FleetDoc) -> None:
    """Read the stage files of embedded clusters that this machine has. Raises ``StageError``."""
    if any(cluster.embedded is not None and cluster.embedded.stages for cluster in doc.spec.clusters):
        from raycp.embedded.life.stageset import check_stages  # the whole simulation: only where it is needed

        check_stages(doc)


def _plan(doc: FleetDoc, spec: ControllerSpec, number: int, controller: Controller, code: str) -> ControllerPlan:
    return ControllerPlan(
        name=spec.name or controller.name,
        use=spec.use,
        original=controller.name,
        kind=str(controller.kind),
        on=controller.on,
        clusters=tuple(cluster.name for cluster in doc.clusters_of(spec, controller.on)),
        spec=number,
        selector=controller.selector,
        fields=controller.fields,
        owns=tuple(OwnedPlan(str(owned.kind), owned.on, owned.selector) for owned in controller.owns),
        resync=doc.resync(spec, controller.resync),
        spread=doc.spread(spec, controller.resync),
        timeout=doc.reconcile_timeout(spec, controller.timeout),
        concurrency=spec.concurrency or controller.concurrency or 0,
        deleted=controller.deleted,
        config=json.dumps(spec.config, sort_keys=True),
        crds=tuple(json.dumps(crd, sort_keys=True) for crd in controller.crds),
        watches=tuple(
            WatchedPlan(str(each.kind), each.on, each.selector, each.field, each.namespace_field) for each in controller.watches
        ),
        reachability=controller.reachability,
        reachability_of=controller.reachability_of,
        code=code,
        credentials=tuple((name, UserSource(each.path, each.context)) for name, each in sorted(spec.credentials.items())),
    )


@dataclass(frozen=True)
class _Source:
    """The sources of a controller: ``root`` is the directory from which a user's module was imported, None for installed code;
    ``digest`` is of the files' names and contents."""

    root: Path | None
    digest: str


def _source_of(controller: Controller) -> _Source:
    """The sources of the controller's top-level package or module; of installed code, of its module's own directory."""
    module = sys.modules.get(controller.module)
    origin = getattr(module, "__file__", None)
    if origin is None:
        return _Source(None, "")
    file = Path(origin).resolve()
    installed = [Path(sysconfig.get_paths()[name]).resolve() for name in ("purelib", "platlib", "stdlib")]
    package = Path(__file__).resolve().parent.parent
    parts = controller.module.split(".")
    is_package = file.name == "__init__.py"
    root: Path | None = None
    if any(file.is_relative_to(place) for place in [*installed, package]):
        top = file.parent if len(parts) > 1 or is_package else file
        base = top.parent
    else:
        base = root = file.parents[len(parts) - (0 if is_package else 1)]
        top = root / parts[0]
    digest = hashlib.sha256()
    sources = sorted(each for each in top.rglob("*.py") if is_importable(each.relative_to(base))) if top.is_dir() else [file]
    for source in sources[:2000]:
        digest.update(str(source.relative_to(base)).encode())
        digest.update(source.read_bytes())
    return _Source(root, digest.hexdigest()[:12])
