"""The credential of an exec plugin (client-go credential plugins, API doc of ``client.authentication.k8s.io/v1``)."""

import base64
import datetime
import os
import re
import shutil
from typing import Any

import msgspec

from raycp.config.kubeconfig_model import KubeconfigCluster, KubeconfigExec
from raycp.config.kubeconfig_yaml import parse_kubectl_yaml
from raycp.config.yamltree import BadYaml
from raycp.kube.exec_plugin import PluginError, run_plugin

_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_CLUSTER_EXTENSION = "client.authentication.k8s.io/exec"
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")  # without a zone: another time on each node
_SHORTEST = 4  # characters of a value that is hidden wherever it occurs; a shorter one only as a word of its own


class ExecCredential(msgspec.Struct, frozen=True):
    """A token, a client certificate with its key, or both. ``expires`` is a Unix time."""

    token: str = ""
    cert: str = ""
    key: str = ""
    expires: float | None = None

    def __repr__(self) -> str:
        return "ExecCredential(<hidden>)"


class _Status(msgspec.Struct, rename="camel"):
    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: str | None = None


class _Printed(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str = "ExecCredential"
    status: _Status | None = None


def exec_problem(entry: KubeconfigExec) -> str:
    """Why kubectl refuses the entry before it runs anything; empty if it does not."""
    if not entry.command:
        return "exec needs a command"
    if entry.api_version not in _VERSIONS:
        return f"exec.apiVersion must be one of {', '.join(_VERSIONS)}"
    if any(not variable.name for variable in entry.env):
        return "a variable in exec.env has no name"
    mode = entry.interactive_mode or ("IfAvailable" if entry.api_version == _VERSIONS[1] else "")
    return "" if mode in ("Never", "IfAvailable", "Always") else "exec.interactiveMode must be Never or IfAvailable"


async def exec_credential(entry: KubeconfigExec, cluster: KubeconfigCluster, ca: str | None) -> ExecCredential:
    """What the plugin gives. ``cluster`` and its ``ca`` (PEM) are passed on to it if it asks. Raises ``PluginError``."""
    if entry.interactive_mode == "Always":
        raise PluginError("its interactiveMode is Always, but there is no terminal: use Never or IfAvailable")
    command = entry.command
    if os.sep not in command:
        found = shutil.which(command)
        if found is None:
            hint = " ".join(entry.install_hint.split())
            hint = "".join(each for each in hint if each.isprintable())[:200]
            raise PluginError("it is not on PATH" + (f": {hint}" if hint else ""))
        if not os.path.isabs(found):  # a "." in PATH: as in Go, whoever can write where we stand is not run
            raise PluginError("it is on PATH only where that names the working directory: write ./ before it, or its whole path")
        command = found
    env = {**os.environ, **{variable.name: variable.value for variable in entry.env}}
    info: dict[str, Any] = {"interactive": False}
    if entry.provide_cluster_info:
        info["cluster"] = _cluster_info(cluster, ca)
    request = {"apiVersion": entry.api_version, "kind": "ExecCredential", "spec": info}
    env["KUBERNETES_EXEC_INFO"] = msgspec.json.encode(request).decode()
    try:
        printed = await run_plugin([command, *entry.args], env)
    except PluginError as error:
        raise PluginError(_without_values(str(error), entry)) from None
    return _credential(printed, entry.api_version)


def _cluster_info(cluster: KubeconfigCluster, ca: str | None) -> dict[str, Any]:
    extension = next((each.extension for each in cluster.extensions if each.name == _CLUSTER_EXTENSION), None)
    info = {
        "server": cluster.server,
        "tls-server-name": cluster.tls_server_name,
        "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
        "certificate-authority-data": base64.b64encode(ca.encode()).decode() if ca else "",
        "proxy-url": cluster.proxy_url,
        "disable-compression": cluster.disable_compression,
        "config": extension,
    }
    return {key: value for key, value in info.items() if value or key == "config"}


def _credential(printed: bytes, version: str) -> ExecCredential:
    try:
        found = _parsed(printed)
        if found.kind != "ExecCredential" or found.status is None:
            raise ValueError
        status, expires = found.status, None
        if status.expiration_timestamp is not None:
            if not _RFC3339.fullmatch(status.expiration_timestamp):
                raise ValueError
            expires = datetime.datetime.fromisoformat(status.expiration_timestamp).timestamp()
        token = status.token or ""
        cert, key = status.client_certificate_data or "", status.client_key_data or ""
        if bool(cert) != bool(key) or not (token or cert):
            raise ValueError
    except (msgspec.MsgspecError, ValueError, RecursionError, BadYaml):  # its text may quote the credential
        raise PluginError("it printed no ExecCredential with a token, or a client certificate and its key") from None
    if found.api_version != version:
        raise PluginError(f"it printed no ExecCredential of {version}, but of another version: correct exec.apiVersion")
    return ExecCredential(token, cert, key, expires)


def _parsed(printed: bytes) -> _Printed:
    """client-go takes JSON and YAML."""
    if printed.lstrip().startswith(b"{"):
        return msgspec.json.decode(printed, type=_Printed)
    return msgspec.convert(parse_kubectl_yaml(printed), type=_Printed)


def _without_values(text: str, entry: KubeconfigExec) -> str:
    """What a plugin says of its environment may be a secret."""
    for variable in sorted(entry.env, key=lambda each: len(each.value), reverse=True):
        shown = f"<{variable.name}>"
        for value in filter(None, (variable.value, *variable.value.splitlines())):
            found = re.escape(value)
            text = re.sub(found if len(value) >= _SHORTEST else rf"(?<!\w){found}(?!\w)", lambda _: shown, text)  # noqa: B023
    return text
