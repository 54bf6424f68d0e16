"""Reads kubeconfig files and a Pod's service account through the ``kubernetes`` package.

The package supports tokens, client certificates, exec plugins and OIDC. It is imported on first use, since that takes 0.4 s.
Plugins are run by ``exec_plugin``, since the package waits for them without a deadline; whatever the package raises becomes a
``ConnectError`` (law 12).
"""

import asyncio
import functools
import os
import shlex
from types import SimpleNamespace
from typing import Any

import msgspec

from raycp.kube.connect import ConnectSpec
from raycp.kube.errors import ConnectError
from raycp.kube.exec_plugin import PLUGIN_SECONDS, PluginError, run_plugin
from raycp.kube.tls import safe_text

_PROVIDER_SECONDS = PLUGIN_SECONDS + 5.0  # a plugin's own deadline has the better message


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

    def expired(self, wall: float) -> bool:
        """Whether the credential is known to be of no use at Unix time ``wall``."""
        expiry = getattr(self._loader, "exec_plugin_expiry", None)
        return expiry is not None and bool(expiry.timestamp() <= wall)


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
    shown = os.pathsep.join(spec.files())
    remedy = "Check it with `kubectl --context ... get --raw /version`"
    try:
        async with asyncio.timeout(_PROVIDER_SECONDS):
            return await _read(spec, shown)
    except ConnectError:
        raise
    except TimeoutError:
        problem = f"the identity provider in {shown} gave no credential within {_PROVIDER_SECONDS:g} s"
        raise ConnectError(spec.name, problem, remedy) from None
    except Exception as error:
        raise ConnectError(spec.name, f"kubeconfig {shown} cannot be used: {safe_text(error)}", remedy) from None


async def _read(spec: ConnectSpec, shown: str) -> LoadedConfig:
    from kubernetes.aio.client import Configuration
    from kubernetes.aio.config import kube_config

    name, files = spec.name, spec.files()
    found = _existing(files)
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
    loader = kube_config.KubeConfigLoader(config_dict=merged.config, config_base_path=None, active_context=context)
    loader.load_from_exec_plugin = functools.partial(_run_exec_plugin, loader)
    loader._get_google_credentials = functools.partial(_run_gcp_helper, loader)
    try:
        await loader.load_and_set(config)
    except PluginError as error:
        raise ConnectError(
            name,
            f"{_plugin(loader)} gave no credential: {error}",
            f"Run it by hand on {host}, without a terminal; it must be on PATH there",
        ) from None
    except Exception as error:
        raise ConnectError(
            name,
            f"context {context!r} of {shown} cannot be used: {safe_text(error)}",
            "Check it with `kubectl --context ... get --raw /version`",
        ) from None
    if not config.host:
        raise ConnectError(name, f"the cluster of context {context!r} has no server", f"Add it to {shown}")
    user = loader._user
    token_file = user.safe_get("tokenFile") if user is not None else None
    watched = found + ([os.path.join(_directory(found[0]), token_file)] if token_file else [])
    return LoadedConfig(config, watched, loader)


async def _run_exec_plugin(loader: Any) -> bool:
    """Replaces the loader's method of this purpose. Raises ``PluginError``."""
    from kubernetes.aio.config import dateutil, exec_provider, kube_config

    try:
        plugin = exec_provider.ExecProvider(loader._user["exec"])  # its arguments and environment
        info = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": {"interactive": False}}
        env = {name: str(value) for name, value in plugin.env.items()}
        env["KUBERNETES_EXEC_INFO"] = msgspec.json.encode(info).decode()
        command = [str(part) for part in plugin.args]
    except Exception as error:
        raise PluginError(f"its entry is malformed: {safe_text(error)}") from None
    printed = await run_plugin(command, env)
    try:
        status = msgspec.json.decode(printed, type=dict[str, Any])["status"]
        if status.get("token"):
            loader.token = f"Bearer {status['token']}"
            if status.get("expirationTimestamp"):
                loader.exec_plugin_expiry = dateutil.parse_rfc3339(status["expirationTimestamp"])
        else:
            parts = {"cert_file": "clientCertificateData", "key_file": "clientKeyData"}
            for ours, theirs in parts.items():
                found = kube_config.FileOrData(status, None, data_key_name=theirs, base64_file_content=False)
                setattr(loader, ours, found.as_file())
            if not (loader.cert_file and loader.key_file):
                raise ValueError
    except Exception:  # its text may quote the credential
        raise PluginError("it printed no ExecCredential with a token, or a client certificate and its key") from None
    return True


async def _run_gcp_helper(loader: Any) -> SimpleNamespace:
    """The credential of auth-provider ``gcp``. Raises ``PluginError``."""
    config = loader._user["auth-provider"]["config"]
    printed = await run_plugin([config["cmd-path"], *shlex.split(config["cmd-args"])], os.environ)
    try:
        credential = msgspec.json.decode(printed, type=dict[str, Any])["credential"]
        return SimpleNamespace(token=credential["access_token"], expiry=credential["token_expiry"])
    except Exception:
        raise PluginError("it printed no credential") from None


def _plugin(loader: Any) -> str:
    user = loader._user
    if "exec" in user:
        return f"exec plugin {user['exec'].safe_get('command')!r}"
    return f"auth provider {user['auth-provider'].safe_get('name')!r}"


def _existing(paths: list[str]) -> list[str]:
    return [path for path in paths if os.path.exists(path)]


def _directory(path: str) -> str:
    return os.path.dirname(os.path.abspath(path))
