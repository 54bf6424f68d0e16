"""Reads kubeconfig files and a Pod's service account through the ``kubernetes`` package.

The package supports tokens, client certificates, exec plugins and OIDC. It is imported on first use, since that takes 0.4 s.
"""

import logging
import os
from typing import Any

from raycp.kube.connect import ConnectSpec
from raycp.kube.errors import ConnectError
from raycp.kube.tls import safe_text


class LoadedConfig:
    """The package's ``Configuration``, the files to ``watch`` for rotation, and the loader that renews a plugin's credential."""

    def __init__(self, config: Any, watched: list[str], loader: Any = None) -> None:
        self.config = config
        self.watched = watched
        self._loader = loader

    @property
    def authorization(self) -> str | None:
        """The value of the Authorization header, None for a client certificate."""
        token = (self.config.api_key or {}).get("BearerToken")
        if token and " " in token.strip():  # the package writes "Bearer x", "bearer x" or "Basic x"
            scheme, _, rest = token.strip().partition(" ")
            token = f"{scheme.capitalize()} {rest.strip()}"
        return token or None

    def expires_within(self, seconds: float, wall: float) -> bool:
        """Whether the credential must be renewed within ``seconds`` of Unix time ``wall``.

        As in client-go, an exec plugin's credential without an expiry is used until the server answers 401. Other providers check
        for themselves when they are read.
        """
        user = getattr(self._loader, "_user", None)
        if user is None:
            return False
        if "auth-provider" in user:
            return True
        expiry = getattr(self._loader, "exec_plugin_expiry", None)
        return expiry is not None and bool(expiry.timestamp() - wall < seconds)


async def read_in_cluster(cluster: str) -> LoadedConfig:
    """The service account of the Pod. Raises ``ConnectError``."""
    from kubernetes.aio import config as loaders
    from kubernetes.aio.client import Configuration
    from kubernetes.aio.config import incluster_config

    config = type.__call__(Configuration)
    try:
        loaders.load_incluster_config(client_configuration=config, try_refresh_token=False)
    except Exception as error:
        raise ConnectError(
            cluster,
            f"in-cluster credentials are missing: {error}",
            "inCluster works inside a Pod with a mounted service account token; elsewhere use kubeconfig",
        ) from None
    return LoadedConfig(config, [incluster_config.SERVICE_TOKEN_FILENAME, incluster_config.SERVICE_CERT_FILENAME])


async def read_kubeconfig(spec: ConnectSpec) -> LoadedConfig:
    """The context of ``spec`` from its kubeconfig files. Raises ``ConnectError``."""
    from kubernetes.aio.client import Configuration
    from kubernetes.aio.config import kube_config

    name, files = spec.name, spec.files()
    found = _existing(files)
    shown = os.pathsep.join(files)
    host = os.uname().nodename
    if not found:
        raise ConnectError(
            name,
            f"kubeconfig {shown} does not exist on {host}",
            "Paths are read on the node where the actor runs: put the file there, or correct `path`",
        )
    try:
        merged = kube_config.KubeConfigMerger(os.pathsep.join(found))
    except PermissionError:
        raise ConnectError(name, f"kubeconfig {shown} on {host} may not be read", "Let the user that runs Ray read it") from None
    except Exception as error:
        raise ConnectError(
            name,
            f"kubeconfig {shown} is not valid YAML ({type(error).__name__})",
            "Check it with `kubectl config view`",
        ) from None
    document = getattr(merged.config, "value", None)
    if not isinstance(document, dict):
        raise ConnectError(name, f"kubeconfig {shown} is empty", "Check it with `kubectl config view`")
    context = spec.context or document.get("current-context") or ""
    known = [getattr(entry, "value", entry).get("name", "") for entry in document.get("contexts") or []]
    if context not in known:
        problem = f"context {context!r} is not in {shown}" if context else f"{shown} has no current-context"
        raise ConnectError(name, problem, f"Known contexts: {', '.join(sorted(filter(None, known))) or 'none'}")
    config = type.__call__(Configuration)
    config.host = ""  # the package defaults to http://localhost
    failures = _Failures()
    kube_config.logger.addHandler(failures)
    try:
        loader = kube_config.KubeConfigLoader(config_dict=merged.config, config_base_path=None, active_context=context)
        await loader.load_and_set(config)
    except Exception as error:
        raise ConnectError(
            name,
            f"context {context!r} of {shown} cannot be used: {safe_text(error)}",
            "Check it with `kubectl --context ... get --raw /version`",
        ) from None
    finally:
        kube_config.logger.removeHandler(failures)
    user = loader._user
    if user is not None and "exec" in user and not (config.api_key.get("BearerToken") or config.cert_file):
        command = user["exec"].safe_get("command")
        raise ConnectError(
            name,
            f"exec plugin {command!r} gave no credential ({failures.text or 'it logged no reason'})",
            f"Run it by hand on {host}; it must be on PATH there",
        )
    if not config.host:
        raise ConnectError(name, f"the cluster of context {context!r} has no server", f"Add it to {shown}")
    token_file = user.safe_get("tokenFile") if user is not None else None
    watched = found + ([os.path.join(_directory(found[0]), token_file)] if token_file else [])
    return LoadedConfig(config, watched, loader)


def _existing(paths: list[str]) -> list[str]:
    return [path for path in paths if os.path.exists(path)]


def _directory(path: str) -> str:
    return os.path.dirname(os.path.abspath(path))


class _Failures(logging.Handler):
    """The package logs the failure of an exec plugin and goes on without credentials: keep the reason."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()[:200]
