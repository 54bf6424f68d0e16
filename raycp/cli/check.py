"""``raycp check``: a fleet file, the clusters behind it, and the rights on them, before anything is started."""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from raycp.cli.console import put
from raycp.cli.errors import FAILED, BadInput
from raycp.cli.module_search import add_working_dir, search_of
from raycp.cli.output import Column, add_output, document, render
from raycp.cli.printer import say

COLLECTOR_WITHIN = 3.0
"""Seconds for the collector of traces to answer."""

_COLUMNS = [
    Column("CLUSTER", "cluster"),
    Column("ROLE", "role"),
    Column("MODE", "mode"),
    Column("VERSION", "version"),
    Column("MS", "milliseconds", right=True),
    Column("RIGHTS", lambda row: f"{row['granted']}/{row['asked']}" if row["asked"] else "", right=True),
    Column("STATUS", "status"),
    Column("PROBLEMS", lambda row: "; ".join([*row["problems"], *row["warnings"]]), wide=True),
]


def add_parser(subparsers: Any) -> None:
    """Declare the command."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "check",
        help="validate a fleet file, its controllers and its clusters",
        description="Validate the fleet file, import its controllers, connect to each cluster, and verify versions, "
        "kinds and rights, and whether the collector of traces answers. Starts and changes nothing. Exit code 0: all is well; "
        "1: a cluster has a problem; 2: the file has one.",
    )
    parser.add_argument("-c", "--config", type=Path, required=True, metavar="FLEET.yaml", help="the fleet file")
    add_working_dir(parser)
    parser.add_argument("--offline", action="store_true", help="validate the file and its controllers only, connect to no cluster")
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Check, print, and return the exit code."""
    from raycp.config.load import load_fleet
    from raycp.config.rayenv import local_ray_environments, missing_settings, unfit_python
    from raycp.config.units import format_percent
    from raycp.driver.fleet_builder import build_fleet

    doc = load_fleet(args.config, check_files=not args.offline)
    search = search_of(args)
    uses = _uses(args.config, doc, search)
    traces, refused = _traces(args.config, doc, probe=not args.offline)
    generation = build_fleet(doc, args.config, search).generation
    reports = [] if args.offline else asyncio.run(_probe_all(doc, uses))
    environments = local_ray_environments()
    lacking = sorted({setting for each in environments for setting in missing_settings(each)})
    warnings = [
        f"the Ray on this machine runs without {setting}: deaths of processes are noticed late (docs/install.md)"
        for setting in lacking
    ]
    if any(each.get("RAY_AUTH_MODE") != "token" for each in environments):
        warnings.append(
            "the Ray on this machine runs without RAY_AUTH_MODE=token: whoever reaches it runs code there and reads the "
            "credentials of all clusters (docs/security.md)"
        )
    if refused:
        warnings.append(f"the collector of traces takes nothing from this machine: {refused}")
    if why := unfit_python(sys.executable):
        warnings.append(f"{why}: no fleet comes up on a Ray of this machine")
    failed = any(report.problems for report in reports)
    if args.output in ("json", "yaml"):
        content = {
            "fleet": doc.name,
            "generation": generation,
            "controllers": [{"use": use.spec.use, "name": use.name, "kind": str(use.controller.kind)} for use in uses],
            "clusters": [report.row() for report in reports],
            "traces": None if traces is None else {"endpoint": traces.endpoint, "sample": traces.ratio, "errors": traces.errors},
            "warnings": warnings,
        }
        put(document(content, args.output))
        return FAILED if failed else 0
    say(f"fleet {doc.name}, generation {generation}: {args.config} is valid")
    say(f"controllers: {', '.join(f'{use.name} ({use.controller.kind})' for use in uses)}")
    if traces is not None:
        failures = ", and failures" if traces.errors else ""
        say(f"traces: {format_percent(traces.ratio)} of the changes{failures}, to {traces.endpoint}")
    if reports:
        put(render([report.row() for report in reports], _COLUMNS, args.output))
    for report in reports:
        for problem in report.problems:
            say(f"error: cluster {report.cluster} {problem}", error=True)
        for warning in report.warnings:
            say(f"warning: cluster {report.cluster}: {warning}", error=True)
    for warning in warnings:
        say(f"warning: {warning}", error=True)
    return FAILED if failed else 0


def _traces(file: Path, doc: Any, *, probe: bool) -> tuple[Any, str]:
    """The settings of traces, as actors of this environment would find them, and why the collector takes nothing from here. A file
    of headers is on the nodes: where it is not here too, the collector is not asked."""
    from raycp.metrics.traces import TraceSettingsError, trace_settings

    try:
        settings = trace_settings(doc.spec.traces, {**os.environ, **doc.spec.ray.env})
    except TraceSettingsError as error:
        raise BadInput(f"{file}: traces: {error}") from None
    if settings is None or not probe or (settings.headers_file and not Path(settings.headers_file).exists()):
        return settings, ""
    from raycp.metrics.traces.pipeline import probe as probed

    return settings, probed(settings, COLLECTOR_WITHIN)


def _uses(file: Path, doc: Any, search: list[Path]) -> list[Any]:
    """The controllers that the file names, imported as the fleet does."""
    from raycp.cli.rights import Use
    from raycp.config.names import nearest
    from raycp.sdk.loader import ControllerLoadError, load_controllers

    for folder in map(str, reversed([each.resolve() for each in search])):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    problems: list[str] = []
    uses: list[Any] = []
    for index, spec in enumerate(doc.spec.controllers):
        try:
            found = load_controllers([spec.use])
        except ControllerLoadError as error:
            problems.append(f"{file}: spec.controllers[{index}]: {error}")
            continue
        if spec.name is not None and len(found) > 1:
            choice = ", ".join(f"{spec.use}:{each.name}" for each in found)
            where = f"{file}: spec.controllers[{index}].name"
            problems.append(f"{where}: the module has several controllers; use one of {choice}")
        uses += [Use(spec, each) for each in found]
    names = {use.name for use in uses}
    for index, objective in enumerate(doc.spec.slo):
        if objective.controller != "*" and objective.controller not in names and not problems:
            close = nearest(objective.controller, names)
            hint = f"did you mean {close!r}?" if close else f"controllers are: {', '.join(sorted(names))}"
            problems.append(f"{file}: spec.slo[{index}].controller: {objective.controller!r} is not a controller; {hint}")
    for use in uses:
        if not doc.clusters_of(use.spec, use.controller.on):
            index = doc.spec.controllers.index(use.spec)
            side = "the hub" if use.controller.on == "hub" else "members"
            where = f"{file}: spec.controllers[{index}].clusters"
            problems.append(f"{where}: {use.name} runs on {side}, and this selector matches none of them")
    if problems:
        raise BadInput("\n".join(problems))
    return uses


async def _probe_all(doc: Any, uses: list[Any]) -> list[Any]:
    from raycp.base.clock import SystemClock
    from raycp.cli.probe import probe, same_clusters
    from raycp.cli.rights import needs

    installs = {}
    for use in uses:
        for crd in use.controller.crds:
            spec = crd["spec"]
            for version in spec["versions"]:
                installs[f"{spec['group']}/{version['name']}/{spec['names']['kind']}"] = spec["names"]["plural"]
    clock = SystemClock()
    reports = await asyncio.gather(
        *(
            probe(
                each,
                "hub" if each.name == doc.hub.name else "member",
                needs(doc, uses, each),
                installs,
                clock,
                _own(doc, uses, each),
            )
            for each in doc.spec.clusters
        )
    )
    same_clusters(reports)
    return reports


def _own(doc: Any, uses: list[Any], cluster: Any) -> dict[Any, list[Any]]:
    """The needs of the controllers that have credentials of their own there, by these."""
    from raycp.cli.rights import own_needs
    from raycp.kube.connect import UserSource

    found: dict[Any, list[Any]] = {}
    for use in uses:
        reference = use.spec.credentials.get(cluster.name)
        if reference is not None:
            found.setdefault(UserSource(reference.path, reference.context), []).extend(own_needs(doc, use, cluster))
    return found
