"""Tables from the JSON objects of scenarios: for the terminal, and as Markdown for ``docs/benchmarks.md``."""

from collections.abc import Mapping, Sequence
from typing import Any

from raycp.base.plaintext import grid_text
from raycp.bench.bounds import judge


def causes_table(result: Mapping[str, Any]) -> str:
    """A switch of several causes, one row per cause and system."""
    return grid_text(SWITCH_TITLES, _switch_rows(result))


SWITCH_TITLES = (
    "cause", "system", "repetitions", "gap p50", "gap p99", "gap max", "drain", "leaderless", "ramp-up", "backlog", "total",
    "missing", "duplicates",
)  # fmt: skip


def _switch_rows(result: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for cause, found in (result.get("causes") or {result.get("cause", ""): result}).items():
        if "failed" in found:
            rows.append([cause, "raycp", f"failed: {found['failed'][:80]}"])
            continue
        for party, figures in {found["policy"]: found, **found.get("peers", {})}.items():
            row = [cause, party, _number(figures.get("repetitions"))]
            row += [_time(figures.get(key)) for key in ("gap_p50_ms", "gap_p99_ms", "max_gap_ms")]
            row += [_time(figures.get(f"{phase}_p50_ms")) for phase in ("drain", "leaderless", "ramp_up", "backlog", "total")]
            rows.append([*row, _number(figures.get("missing")), _number(figures.get("duplicates"))])
    return rows


def verdict_rows(found: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Each bound of each step that has figures: the measured value, the bound, whether it is kept."""
    rows = []
    for step, result in found.items():
        for bound, kept, value in judge(str(result.get("scenario", step)), result):
            side = "≤" if bound.kind == "max" else "≥"
            word = {True: "kept", False: "BROKEN", None: "no figure"}[kept]
            name = bound.scenario if " " in bound.scenario else step
            rows.append([name, bound.figure, _number(value), f"{side} {bound.value:g}", word])
    return rows


VERDICT_TITLES = ("step", "figure", "found", "promised", "")


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """For a document."""
    lines = [titles, ["---"] * len(titles), *(list(row) + [""] * (len(titles) - len(row)) for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# the tables of docs/benchmarks.md: name of the mark → text


def tables(found: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """All tables for which ``found`` has the steps, by the name of their mark. ``found``: JSON objects by step."""
    made = {"machine": _machine(found), "bounds": markdown(VERDICT_TITLES, verdict_rows(found)), "seed": _seed(found)}
    if rows := [row for step in found if step.startswith("switch") for row in _switch_rows(found[step])]:
        made["switch"] = markdown(SWITCH_TITLES, rows)
    if rows := _policy_rows(found):
        made["policies"] = markdown(("scenario", "figure", "fifo", "raycp", "change"), rows)
    if rows := _latency_rows(found):
        made["latencies"] = markdown(("step", "system", "runs", "n", "p50", "p90", "p99", "p99.9", "max", "missing"), rows)
    return made


def replace_marked(document: str, made: Mapping[str, str]) -> tuple[str, list[str]]:
    """``document`` with the text between ``<!-- bench:NAME -->`` and ``<!-- /bench:NAME -->`` replaced; and the names of marks
    without a table."""
    lines: list[str] = []
    empty: list[str] = []
    skipping = ""
    for line in document.splitlines():
        mark = line.strip()
        if mark == f"<!-- /bench:{skipping} -->":
            skipping = ""
        if not skipping:
            lines.append(line)
        if mark.startswith("<!-- bench:"):
            name = mark.removeprefix("<!-- bench:").removesuffix(" -->")
            if name in made:
                lines += ["", made[name], ""]
                skipping = name
            else:
                empty.append(name)
    if skipping:
        raise ValueError(f"the mark <!-- bench:{skipping} --> has no end <!-- /bench:{skipping} -->")
    return "\n".join(lines) + "\n", empty


def _machine(found: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for step, result in found.items():
        machine = result.get("machine") or {}
        where = (
            f"{machine.get('cpus')} cores, {machine.get('memory_gib')} GiB, {machine.get('arch')}, Python {machine.get('python')}"
        )
        scale = f" (scale {result['scale']})" if "scale" in result else ""
        rows.append([step + scale, where, _number(machine.get("load_before")), str(result.get("date", ""))])
    return markdown(("step", "machine", "load before", "date"), rows)


COMPARED = {
    "init-storm": ("away_max_ms", "depth_mean", "depth_peak", "p50_ms", "p999_ms"),
    "init-storm-first": ("away_max_ms", "depth_mean", "depth_peak", "p50_ms", "p999_ms"),
    "resync-storm": ("depth_mean", "depth_peak", "p50_ms", "p999_ms"),
    "noisy-tenant": ("p999_ratio", "p99_ms", "p999_ms"),
    "dead-cluster": ("p99_ratio", "p99_ms", "missing"),
    "joining-cluster": ("p99_ratio", "p99_ms", "p999_ms"),
    "starvation": ("background_share", "max_wait_s"),
    "tiers": ("critical_p99_ms", "high_p99_ms", "standard_p99_ms", "background_p99_ms"),
}
"""The figures compared between the policies fifo and raycp."""


def _policy_rows(found: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    rows = []
    for step, keys in COMPARED.items():
        result = found.get(step)
        before = ((result or {}).get("peers") or {}).get("fifo")
        if result is None or before is None:
            continue
        for key in keys:
            rows.append(
                [step, f"`{key}`", _number(before.get(key)), _number(result.get(key)), _change(before.get(key), result.get(key))]
            )
    return rows


def _latency_rows(found: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    rows = []
    for step, result in found.items():
        if not result.get("n") or step.startswith("switch"):
            continue
        for party, figures in {str(result.get("policy", "")): result, **(result.get("peers") or {})}.items():
            times = [_time(figures.get(key)) for key in ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")]
            counts = [_number(figures.get("runs")), _number(figures.get("n"))]
            rows.append([step, party, *counts, *times, _number(figures.get("missing"))])
    return rows


def _seed(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Pinterest's published results, such a system measured here (``fifo``, ``seed``), and raycp."""
    titles = ("", "Pinterest, before → after", "such a system, here", "raycp, here")
    rows = []
    resync, init = found.get("resync-storm"), found.get("init-storm")
    for name, result, said in (
        ("mean queue depth, resync", resync, "1 000 → 30 (−97 %)"),
        ("peak queue depth, start", init, "10 000 → no spike"),
    ):
        if result is not None:
            key = "depth_mean" if result is resync else "depth_peak"
            before, after = ((result.get("peers") or {}).get("fifo") or {}).get(key), result.get(key)
            rows.append([name, said, _number(before), f"{_number(after)} ({_change(before, after)})"])
            sli = [((result.get("peers") or {}).get("fifo") or {}).get("within_objective"), result.get("within_objective")]
            rows.append([f"{name.split(', ')[1]}: changes within 1 s", "dips → none", _percent(sli[0]), _percent(sli[1])])
    for step, result in found.items():
        if not step.startswith("switch"):
            continue
        for cause, figures in (result.get("causes") or {result.get("cause", ""): result}).items():
            seed = (figures.get("peers") or {}).get("seed")
            if seed:
                ours, theirs = figures.get("total_mean_ms"), seed.get("total_mean_ms")
                rows.append(
                    [
                        f"leadership switch, {cause}, mean",
                        "64 s → 10 s (−85 %)",
                        _time(theirs),
                        f"{_time(ours)} ({_change(theirs, ours)})",
                    ]
                )
                gaps = seed.get("max_gap_ms"), figures.get("max_gap_ms")
                rows.append([f"longest extra wait of a user, {cause}", "", _time(gaps[0]), f"{_time(gaps[1])} ({_change(*gaps)})"])
    return markdown(titles, rows)


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,.0f}".replace(",", " ") if abs(value) >= 1000 else f"{value:.4g}"


def _time(milliseconds: Any) -> str:
    if milliseconds is None:
        return "–"
    return f"{milliseconds / 1000:.1f} s" if milliseconds >= 1000 else f"{milliseconds:.3g} ms"


def _percent(share: Any) -> str:
    return "–" if share is None else f"{share * 100:.5g} %"


def _change(before: Any, after: Any) -> str:
    """The relative change, in percent."""
    if not isinstance(before, (int, float)) or not isinstance(after, (int, float)) or not before:
        return "–"
    change = (after - before) / before * 100
    return f"{'−' if change < 0 else '+'}{abs(change):.{0 if abs(change) < 99 else 2}f} %"
