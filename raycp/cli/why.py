"""``raycp why``: the last steps of an object, and what it waits for now."""

import argparse
import datetime
import urllib.parse
from typing import Any

from raycp.base.plaintext import one_line
from raycp.cli.console import put
from raycp.cli.errors import BadInput, CliError
from raycp.cli.observer import add_observer, fetch, observer_url
from raycp.cli.output import Page, Row, add_output, document

_MEANING = {
    "handed_out": "handed out to a worker",
    "gave_up": "failed for good",
    "returned": "returned without a result",
    "succeeded": "reconciled",
}


def add_parser(subparsers: Any) -> None:
    """``raycp why CLUSTER/KIND/NAMESPACE/NAME``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "why",
        help="what happened to an object, and what it waits for",
        description="Print the timeline of an object's last changes: what was received, why in this lane, delays, items ahead, "
        "attempts, API calls with status and duration, and what it waits for now.",
    )
    parser.add_argument(
        "object",
        metavar="CLUSTER/KIND/NAMESPACE/NAME",
        help="KIND is ConfigMap, v1/ConfigMap or GROUP/VERSION/Kind; NAMESPACE is - for objects without one",
    )
    add_observer(parser)
    add_output(parser)


def parse_object(text: str) -> tuple[str, str, str, str]:
    """(cluster, kind, namespace, name). Raises ``BadInput``."""
    parts = text.split("/")
    if not 4 <= len(parts) <= 6 or not all(parts):
        raise BadInput(f"{text!r} is not CLUSTER/KIND/NAMESPACE/NAME", "such as hub/BatchJob/default/train or east/v1/Node/-/n0")
    return parts[0], "/".join(parts[1:-2]), parts[-2], parts[-1]


def run(args: argparse.Namespace) -> int:
    """Print it; 1 when no step of the object is known."""
    cluster, kind, namespace, name = parse_object(args.object)
    url = observer_url(args)
    path = "/".join(urllib.parse.quote(part, safe="/") for part in (cluster, kind, namespace, name))
    found = fetch(url, f"/api/v1/timeline/{path}")
    if found is None:
        known = [str(row["name"]) for row in (fetch(url, "/api/v1/clusters") or {}).get("clusters", ())]
        if known and cluster not in known:
            raise BadInput(f"the fleet has no cluster {cluster!r}", f"its clusters are {', '.join(sorted(known))}")
        raise CliError(
            f"no recent step of {args.object} is known: no controller has received it since its shard started",
            "check cluster, kind, namespace and name, and the cluster's state with `raycp status`",
        )
    if "controllers" not in found:
        raise CliError(f"{url} answers with no timeline", "it is no raycp observer: name the right one with --url")
    put(document(found, args.output) if args.output in ("json", "yaml") else show(found))
    return 0


def show(found: Row) -> Page:
    """The timeline, oldest step first, the current state last."""
    page = Page()
    for row in found["controllers"]:
        lines = [f"controller {row['controller']}"]
        lines += [line for step in row["steps"] for line in _step(step)]
        if suspicion := row.get("suspicion"):
            deaths = f"workers that died with it in flight: {suspicion['deaths']}"
            lines.append(f"  {suspicion['level']:<14} {suspicion['reason']}; {deaths}")
        lines.append(f"  now            {_now(row.get('queue'))}")
        page.add("\n".join(one_line(line) for line in lines))
    return page


def _step(step: Row) -> list[str]:
    at = datetime.datetime.fromtimestamp(step["at"], datetime.UTC).strftime("%H:%M:%S.%f")[:-3]
    what = str(step["what"])
    text = _MEANING.get(what, what)
    if what == "received":
        text = f"{step['reason']} ({step['source']}, version {step['resource_version'] or '-'}): lane {step['tier']}"
        text += f", {step['why']}" if step.get("why") else ""
        text += f"; ready in {_time(step['delay'])}" if step.get("delay") else ""
    elif what == "handed_out":
        text = f"to worker {step['worker']}, attempt {step['attempt']}, after {_time(step['waited'])} in the queue"
    elif what == "delayed":
        text = f"for {_time(step['seconds'])}: {step['reason']}"
    elif "seconds" in step:
        text += f" after {_time(step['seconds'])} of work"
        text += f": {step['error']}" if step.get("error") else ""
        text += f"; waits for {step['waiting']}" if step.get("waiting") else ""
    else:
        text += "".join(f", {key} {value}" for key, value in step.items() if key not in ("at", "what") and value not in ("", None))
    lines = [f"  {at}   {what:<11} {text}"]
    for call in step.get("calls") or ():
        status = {0: "no answer", -1: "not sent"}.get(call["status"], call["status"])
        lines.append(f"{'':28}{call['verb']} {call['path']} in {call['cluster']}: {status}, {_time(call['seconds'])}")
    return lines


def _now(why: Row | None) -> str:
    if why is None:
        return "not queued"
    text = f"{why['state']} in lane {why['tier']} ({why['reason']})"
    if why["state"] == "ready":
        text += f" for {_time(why['ready_for'])}, {why['ahead']} items ahead"
    if why["delay_left"]:
        text += f", ready in {_time(why['delay_left'])}"
    if why["attempts"]:
        text += f", {why['attempts']} failed attempts"
    if why["waits_for"]:
        text += f"; waits for {why['waits_for']}"
    return text + (f"; last error: {why['error']}" if why["error"] else "")


def _time(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
