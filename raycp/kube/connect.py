"""How to reach one cluster: a value that is sent to actors by actor call, and whose repr contains no secret."""

import os
from typing import Literal

import msgspec

from raycp.config.kubeconfig import split_paths
from raycp.kube.breaker import BreakerPolicy
from raycp.kube.limits import AnswerLimits

Mode = Literal["kubeconfig", "inCluster", "direct"]

_SECRET = ("token", "client_key_pem", "client_cert_pem")


class UserSource(msgspec.Struct, frozen=True):
    """The user of a context (None: the current one) of kubeconfig files, to take the place of the one that ``ConnectSpec`` names:
    the server stays. Read like ``ConnectSpec.path``.
    """

    path: str
    context: str | None = None

    def files(self) -> list[str]:
        """The kubeconfig files, expanded."""
        return [os.path.expanduser(part) for part in split_paths(self.path)]


class ConnectSpec(msgspec.Struct, kw_only=True):
    """``mode`` decides which fields are used:

    - ``direct``: ``server``, ``ca_pem``, and ``token`` or ``client_cert_pem`` with ``client_key_pem``;
    - ``kubeconfig``: ``path`` (``~`` is expanded on the node where the actor runs; None: ``$KUBECONFIG`` or ``~/.kube/config``;
      several paths joined by ``:`` are merged) and ``context`` (None: the current one);
    - ``inCluster``: the Pod's service account.

    ``user``: another user than that of ``mode``.

    ``qps`` 0 means no client limit (API priority and fairness applies on the server); ``burst`` 0 means twice ``qps``.
    ``timeout`` in seconds is the default deadline of a request.
    """

    name: str
    mode: Mode = "kubeconfig"
    path: str | None = None
    context: str | None = None
    server: str = ""
    ca_pem: str | None = None
    token: str | None = None
    client_cert_pem: str | None = None
    client_key_pem: str | None = None
    user: UserSource | None = None
    tls_server_name: str | None = None
    proxy: str | None = None
    insecure: bool = False
    qps: float = 0.0
    burst: int = 0
    max_in_flight: int = 256
    timeout: float = 30.0
    user_agent: str = "raycp"
    breaker: BreakerPolicy = BreakerPolicy()
    limits: AnswerLimits = AnswerLimits()

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{field}={'<hidden>' if field in _SECRET else value!r}"
            for field in self.__struct_fields__
            if (value := getattr(self, field)) and field not in ("ca_pem", "proxy")
        )
        return f"ConnectSpec({shown})"

    __str__ = __repr__

    def files(self) -> list[str]:
        """The kubeconfig files that ``kubeconfig`` mode reads, expanded."""
        given = self.path or os.environ.get("KUBECONFIG") or "~/.kube/config"
        return [os.path.expanduser(part) for part in split_paths(given)]
