"""A controller that freezes its own worker at the moment that its object's ``data.freeze`` names. For the tests of law 6 only.

``send``: SIGSTOP after the permit of a write was checked and before its first byte is sent. ``renewal``: SIGSTOP when the
response to a request for a permit has arrived and has not been processed. Only a worker on the node with the configured address
freezes, once per name; the log has an entry for it.
"""

import asyncio
import contextlib
import os
import signal
import threading
from pathlib import Path
from typing import Any

import ray
from diary import note

from raycp import Context, controller
from raycp.kube import Fenced
from raycp.kube import connection as connections
from raycp.member import permits
from raycp.sdk.session import Revoked


def _stop(file: str, name: str) -> None:
    note(file, what="frozen", key=name)
    # To this thread: a signal to the process stops other threads first, and this one runs on for some microseconds.
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
    note(file, what="thawed", key=name)


def _freeze_at_send(file: str, name: str) -> None:
    send = connections.HttpChannel.send

    def frozen(self: Any, payload: bytes, *arguments: Any, **more: Any) -> Any:
        if payload.startswith(b"P") and b'"by"' in payload and name.encode() in payload:
            connections.HttpChannel.send = send  # type: ignore[method-assign]
            _stop(file, name)
            answer = send(self, payload, *arguments, **more)
            answer.add_done_callback(lambda done: _note_answer(file, name, done))
            return answer
        return send(self, payload, *arguments, **more)

    connections.HttpChannel.send = frozen  # type: ignore[method-assign]


def _note_answer(file: str, name: str, done: "asyncio.Future[Any]") -> None:
    """Record the response of the API server, even if the reconcile was revoked."""
    lost = done.cancelled() or done.exception() is not None
    note(file, what="answered", key=name, status=0 if lost else done.result().status)


def _freeze_at_renewal(file: str, name: str) -> None:
    pull = permits.PermitKeeper.pull

    async def frozen(self: permits.PermitKeeper) -> bool:
        ask = self.ask
        assert ask is not None

        async def asked(*arguments: Any) -> Any:
            permits.PermitKeeper.pull = pull  # type: ignore[method-assign]
            self.ask = ask
            answer = await ask(*arguments)
            _stop(file, name)
            return answer

        self.ask = asked
        return await pull(self)

    permits.PermitKeeper.pull = frozen  # type: ignore[method-assign]


async def _opened(directory: Path, name: str) -> None:
    """Wait for the gate and ignore a revocation meanwhile, like a reconciler that cannot be stopped."""
    while not (directory / f"open-{name}").exists():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.01)


@controller("v1/ConfigMap", labels={"app": "frozen"})
async def frozen(ctx: Context, cm: dict[str, Any]) -> None:
    """Write the pid into ``by`` of a ConfigMap ``NAME-made`` (``send``) or of the object itself, once ``open-NAME`` exists."""
    file, data, name = ctx.config["diary"], cm.get("data") or {}, cm["metadata"]["name"]
    directory, how, there = Path(file).parent, data.get("freeze", ""), ray.util.get_node_ip_address() == ctx.config["address"]
    first = directory / f"first-{name}"
    if data.get("by") == data.get("n"):
        return
    mine = False
    if how and there and not first.exists():
        first.touch()
        mine = True
    note(file, what="begin", key=name, id=f"{os.getpid()}-{ctx.request.attempt}", there=there)
    try:
        if mine:
            (_freeze_at_send if how in ("send", "create") else _freeze_at_renewal)(file, name)
        if (mine and how == "renewal") or data.get("gate"):
            await _opened(directory, name)
        if how == "create":
            body = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": "default"},
                "data": {"by": "YQ=="},
            }
            await ctx.create(ctx.own(body))
        await ctx.patch(cm, {"data": {"by": data.get("n"), "process": str(os.getpid())}})
        note(file, what="wrote", key=name, there=there)
    except (Fenced, Revoked) as error:
        note(file, what="fenced", key=name, error=str(error), there=there)
        raise
    finally:
        note(file, what="end", key=name, id=f"{os.getpid()}-{ctx.request.attempt}", there=there)
