"""What Ray's memory monitor has ended. It kills processes of a node that runs low on memory, and who waits for an actor that Ray
restarts for that is told nothing of it (https://docs.ray.io/en/latest/ray-core/scheduling/ray-oom-prevention.html)."""

import re
import time

import ray
from ray.core.generated import common_pb2, gcs_pb2

_NODE = re.compile(r"Memory on the node \(IP: ([^,)]+)[^)]*\) was (\S+) used / (\S+) limit")
_THRESHOLD = re.compile(r"exceeded threshold of \d+B \(([\d.]+%)")


def kills(within: float) -> list[str]:
    """Ray's accounts of the processes that the memory monitor has ended in so many seconds up to now, the last one last.
    Blocks. Empty without a connection to Ray, or where it does not answer."""
    if not ray.is_initialized():
        return []
    since = (time.time() - within) * 1000
    try:
        rows = ray._private.state.state._connect_and_get_accessor().get_worker_table()
    except Exception:  # Ray's own, of any type: there is another error to report already
        return []
    ended = [gcs_pb2.WorkerTableData.FromString(row) for row in rows]
    killed = [each for each in ended if each.exit_type == common_pb2.NODE_OUT_OF_MEMORY and each.end_time_ms >= since]
    return [str(each.exit_detail) for each in sorted(killed, key=lambda each: int(each.end_time_ms))]


def explain(accounts: list[str]) -> str:
    """What ``kills`` has found in a sentence with the remedy; empty if nothing."""
    if not accounts:
        return ""
    node, threshold = _NODE.search(accounts[-1]), _THRESHOLD.search(accounts[-1])
    where = f" on node {node[1]} ({node[2]} of {node[3]} used)" if node else ""
    limit = f", at {threshold[1]} of the limit" if threshold else ""
    return (
        f"Ray's memory monitor has ended {len(accounts)} processes{where}{limit}: free memory there, give the node more, or start "
        "its Ray with a higher RAY_memory_usage_threshold"
    )
