"""``raycp demo``: brings up an embedded fleet, runs 200 jobs with progress and a report, some of them through queues, and takes it
down."""

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

from raycp.cli.console import progress, put
from raycp.cli.end_signals import Ending
from raycp.cli.errors import CliError
from raycp.cli.fleets import at_ray, claim, run_async
from raycp.cli.output import Column, Page, render
from raycp.cli.ports import check_ports, refusal
from raycp.cli.printer import say
from raycp.cli.run import foreground, readiness, summary
from raycp.cli.seconds import seconds
from raycp.config import FleetDoc, load_fleet
from raycp.protocol.control import Series, Slo
from raycp.runtime.fleet_home import forget_ray

DEFAULT = Path(__file__).with_name("quickstart.yaml")
"""``configs/quickstart.yaml``, as it is installed."""


def add_parser(subparsers: Any) -> None:
    """``raycp demo [-c FLEET.yaml] [--jobs N] [--keep]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "demo", help="bring up an embedded fleet, submit jobs, report, take it down"
    )
    parser.add_argument(
        "-c", "--config", type=Path, default=DEFAULT, metavar="FLEET.yaml", help="the fleet (default: configs/quickstart.yaml)"
    )
    parser.add_argument("--jobs", type=int, default=200, help="BatchJobs to submit (default: 200)")
    parser.add_argument("--timeout", type=seconds, default=180.0, metavar="SECONDS", help="how long the jobs may take")
    parser.add_argument("--keep", action="store_true", help="stay up afterwards, for your own kubectl")


def run(args: argparse.Namespace) -> int:
    """0 when every job completed and no Pod was created twice."""
    from raycp.driver.fleet_builder import build_fleet
    from raycp.driver.fleet_client import FleetClient, up

    doc = _beside_others(load_fleet(args.config), args.config == DEFAULT)
    if any(cluster.embedded is None for cluster in doc.spec.clusters):
        raise CliError("the demo needs embedded clusters", "for others use `raycp run`, and submit jobs with kubectl")
    fleet = build_fleet(doc, args.config, [Path.cwd(), args.config.resolve().parent])
    check_ports(doc, args.config)
    say(f"Starting Ray and the fleet {doc.name}: {', '.join(cluster.name for cluster in doc.spec.clusters)} (embedded clusters)")
    begin = time.monotonic()
    with at_ray("local", doc.spec.ray.num_cpus) as at_hand:
        claim(doc, at_hand)
        client = FleetClient(doc.ray_namespace)
        with Ending("the demo is being taken down") as ending:
            try:
                ray_up = time.monotonic()
                with readiness(doc.name) as waits:
                    status = run_async(up(client, fleet, lambda now: waits(now.get("reasons") or [])))
                say(f"Ray up in {ray_up - begin:.1f} s, fleet ready {time.monotonic() - ray_up:.1f} s later\n{summary(status)}")
                good = run_async(_jobs(client, doc, args.jobs, args.timeout))
                if args.keep:
                    say(
                        "\nThe fleet stays up. Submit a job of your own:\n  kubectl --kubeconfig "
                        f"{_kubeconfig(status, doc.hub.name)} apply -f examples/batchjob.yaml"
                    )
                    foreground(ending, ours=True)
            finally:
                ending.ends()
                run_async(client.down(5.0))
                forget_ray(doc.name, at_hand.address)
    say("The fleet is down." if good else "The fleet is down. The demo FAILED, see above.")
    return 0 if good else 1


def _beside_others(doc: FleetDoc, quickstart: bool) -> FleetDoc:
    """The fleet as it runs beside others: under a name of its own, where it is ``configs/quickstart.yaml``, which may run too, and
    with any free port for the observer, where the file's port is taken."""
    observer = doc.spec.observer
    if refusal(observer.host, observer.port):
        observer = observer.model_copy(update={"port": 0})
    metadata = doc.metadata.model_copy(update={"name": "demo"}) if quickstart else doc.metadata
    return doc.model_copy(update={"metadata": metadata, "spec": doc.spec.model_copy(update={"observer": observer})})


def _kubeconfig(status: dict[str, Any], cluster: str) -> str:
    return next((str(row["kubeconfig"]) for row in status["clusters"] if row["name"] == cluster), "")


async def _jobs(client: Any, doc: FleetDoc, count: int, timeout: float) -> bool:
    from raycp.cli.demojobs import DemoJobs
    from raycp.cli.observer_access import use_files_of

    use_files_of(doc.spec.observer)
    plan = await client.plan()
    connections = {cluster.name: cluster.connect for cluster in plan.clusters}
    jobs = await DemoJobs.connect(connections, doc.hub.name)
    try:
        await jobs.prepare(count)
        say(f"\nSubmitting {count} BatchJobs in bursts through the API of {doc.hub.name}")
        submitting = asyncio.create_task(jobs.submit(count))
        deadline = time.monotonic() + timeout
        explaining = asyncio.create_task(_explain_one(jobs, client, count))
        with progress("submitting", total=count) as report:
            while True:
                found = await jobs.progress()
                status = await client.status()
                report(_line(found, status, await _share(client)), found.finished)
                if submitting.done() and found.finished == count:
                    break
                for task in (submitting, explaining):
                    if task.done():
                        task.result()
                if time.monotonic() > deadline:
                    submitting.cancel()
                    break
                await asyncio.sleep(1.0)
        explaining.cancel()
        await asyncio.sleep(1.2)  # members report to the observer once a second
        findings = await jobs.findings(count)
        put(_report(findings, await client.ask_observer(Series()), await client.ask_observer(Slo()), await client.status()))
        for problem in findings.problems:
            say(f"PROBLEM: {problem}")
        return not findings.problems
    finally:
        await jobs.close()


async def _explain_one(jobs: Any, client: Any, count: int) -> None:
    """Show the queues and why a job waits, once, when one does; the last in line, which waits longest."""
    from raycp.cli.demojobs import NAMESPACE
    from raycp.cli.demoqueues import waiting_page

    url = str(((await client.status()).get("observer") or {}).get("url") or "")
    page = None
    while url and page is None:
        waiting = await jobs.waiting(count)
        page = await asyncio.to_thread(waiting_page, url, NAMESPACE, waiting[::-1])
        await asyncio.sleep(0.3)
    if page is not None:
        put(page)


async def _share(client: Any) -> str:
    """The share of users' changes that met their objective so far."""
    from raycp.driver.fleet_client import FleetError

    try:
        objectives = await client.ask_observer(Slo())
    except FleetError:
        return "-"
    total = sum(row["total"] for row in objectives)
    bad = sum(row["bad"] for row in objectives)
    return f"{100 * (total - bad) / total:.1f} % of {total:.0f}" if total else "-"


def _line(found: Any, status: dict[str, Any], share: str) -> str:
    lanes = " ".join(f"{lane['tier']} {lane['ready']}" for lane in status.get("lanes", []))
    pods = " ".join(f"{name} {number}" for name, number in sorted(found.pods.items()))
    return (
        f"jobs {found.finished}/{found.submitted} done, {found.running} running, {found.waiting} wait for quota | Pods: {pods} "
        f"| ready in lanes: {lanes} | SLI kept by {share}"
    )


def _report(findings: Any, series: list[dict[str, Any]], objectives: list[dict[str, Any]], status: dict[str, Any]) -> Page:
    rows = []
    for row in series:
        if row["kind"] == "user" and row["count"]:
            latency = {name: f"{1000 * row['latency'][name]:.1f} ms" for name in ("p50", "p99", "p999")}
            rows.append({"controller": row["controller"], "tier": row["tier"], "n": row["count"], **latency})
    columns = [Column("CONTROLLER", "controller"), Column("TIER", "tier"), Column("CHANGES", "n", right=True),
               Column("P50", "p50", right=True), Column("P99", "p99", right=True), Column("P99.9", "p999", right=True)]  # fmt: skip
    page = Page("\nReconcile latency (a user's change received, until a reconcile that saw it succeeded):")
    page.add(render(sorted(rows, key=lambda row: str(row["tier"])), columns, "table"))
    lines = []
    for row in objectives:
        kept = "-" if row["ratio"] is None else f"{100 * row['ratio']:.2f} %"
        lines.append(
            f"Objective {row['controller']}/{row['tier']}: {kept} of {row['total']:.0f} changes within {row['within_seconds']:g} s "
            f"(objective: {100 * row['objective']:g} %)"
        )
    lines += ["", "Pods per cluster: " + ", ".join(f"{name} {number}" for name, number in sorted(findings.pods.items()))]
    lines.append(f"Jobs: {findings.complete} complete, {findings.failed} failed; Pods created twice: {findings.duplicates}")
    leader = status["leader"]
    lines.append(f"Leader: {leader['holder']}, epoch {leader['epoch']}, incarnation {leader['incarnation']}, lock {leader['lock']}")
    page.add("\n".join(lines))
    return page
