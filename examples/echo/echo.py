"""For each ConfigMap with the label app=echo, one Pod that prints its message. When the message changes, a new Pod.

    PYTHONPATH=examples/echo raycp run -c examples/echo/fleet.yaml

The fleet has two embedded members; the function runs over both.
"""

import hashlib
from typing import Any

from raycp import Context, Permanent, Result, controller


@controller("v1/ConfigMap", labels={"app": "echo"}, owns=["v1/Pod"], resync="1h")
async def echo(ctx: Context, cm: dict[str, Any]) -> Result | None:
    message = cm.get("data", {}).get("message")
    if message is None:
        raise Permanent("data.message is missing")

    # The name says what the Pod prints: creating it again is success, and another message is another name.
    digest = hashlib.sha256(message.encode()).hexdigest()[:8]
    wanted = f"{cm['metadata']['name']}-{digest}"
    for pod in ctx.children("v1/Pod"):
        if pod["metadata"]["name"] != wanted and not pod["metadata"].get("deletionTimestamp"):
            await ctx.delete(pod)
    if all(pod["metadata"]["name"] != wanted for pod in ctx.children("v1/Pod")):
        await ctx.create(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": wanted, "labels": {"app": "echo"}},
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "echo", "image": "busybox", "command": ["echo", message]}],
                },
            }
        )
        ctx.event("Echoed", f"Pod {wanted} prints the message")
        ctx.log.info("created %s", wanted)
    return None
