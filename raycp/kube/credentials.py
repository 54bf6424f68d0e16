"""Credentials of one cluster: loading, and noticing that they rotated.

``direct`` needs nothing but this file. ``kubeconfig`` and ``inCluster`` go through the ``kubernetes`` package, which
knows tokens, client certificates, exec plugins and OIDC; it is imported on first use, since that takes 0.4 s.
"""

import contextlib
import logging
import os
import ssl
import tempfile
from typing import Any

from raycp.base.clock import Clock
from raycp.kube.connect import ConnectSpec
from raycp.kube.errors import ConnectError
from raycp.kube.transport import Target

log = logging.getLogger("raycp.kube")

_RECHECK_SECONDS = 60.0  # as client-go re-reads token files
_INSECURE = (
    "TLS certificates of cluster %r are NOT verified (insecureSkipTlsVerify): "
    "anyone on the network path can read and change everything sent to it, the credentials included"
)


class Credentials:
    """The current ``target`` and ``authorization`` header value. ``due(now)`` is cheap and tells when ``reload`` is
    called for.
    """

    def __init__(self, spec: ConnectSpec, clock: Clock) -> None:
        self._spec = spec
        self._clock = clock
        self._recheck_at = float("inf")
        self._stamp: tuple[object, ...] = ()
        self._loader: Any = None
        self._watched: list[str] = []
        self._tls_stamp: tuple[object, ...] = ()
        self._warned = False
        self.target = Target("", 0)
        self.authorization: str | None = None

    def __repr__(self) -> str:
        return f"Credentials({self._spec.name!r}, {self._spec.mode})"

    async def load(self) -> None:
        """Read everything anew. Raises ``ConnectError``."""
        if self._spec.mode == "direct":
            self._load_direct()
        elif self._spec.mode == "inCluster":
            await self._load_package(in_cluster=True)
        else:
            await self._load_package(in_cluster=False)
        if self._spec.mode != "direct":
            self._recheck_at = self._clock.now() + _RECHECK_SECONDS

    def due(self, now: float) -> bool:
        """Whether to ``reload`` before the next request: files have changed or a plugin's credential is about to expire. Looked at
        once in a while, so cheap.
        """
        if now < self._recheck_at:
            return False
        self._recheck_at = now + _RECHECK_SECONDS
        return _stamp(self._watched) != self._stamp or self._expires_soon()

    async def reload(self) -> bool:
        """Re-read at once; True when the credentials differ now. A failure is logged and leaves the old ones in use: they may
        well be valid still.
        """
        before = (self.authorization, self.target)
        try:
            await self.load()
        except ConnectError as error:
            log.warning("credentials of cluster %r could not be reloaded: %s", self._spec.name, error.problem)
            return False
        return before != (self.authorization, self.target)

    def _expires_soon(self) -> bool:
        """An exec plugin's credential is kept until shortly before it expires, for ever where it names no expiry (a
        401 ends it then), as client-go does; other providers know for themselves.
        """
        user = getattr(self._loader, "_user", None)
        if user is None:
            return False
        if "auth-provider" in user:
            return True
        expiry = getattr(self._loader, "exec_plugin_expiry", None)
        return expiry is not None and bool(expiry.timestamp() - self._clock.wall() < 2 * _RECHECK_SECONDS)

    def _load_direct(self) -> None:
        spec = self._spec
        if not spec.server:
            raise ConnectError(spec.name, "no server is given", "Set the API server's URL")
        tls = self._tls(spec.ca_pem, None, spec.client_cert_pem, spec.client_key_pem, verify=not spec.insecure)
        self.target = self._make_target(spec.server, tls, spec.tls_server_name, spec.proxy)
        self.authorization = f"Bearer {spec.token}" if spec.token else None

    async def _load_package(self, *, in_cluster: bool) -> None:
        spec = self._spec
        config = await (self._read_in_cluster() if in_cluster else self._read_kubeconfig())
        token = (config.api_key or {}).get("BearerToken")
        if token and " " in token.strip():  # the package writes "Bearer x", "bearer x" or "Basic x"
            scheme, _, rest = token.strip().partition(" ")
            token = f"{scheme.capitalize()} {rest.strip()}"
        verify = bool(config.verify_ssl) and not spec.insecure
        certificates = (config.ssl_ca_cert, config.cert_file, config.key_file)
        tls_stamp = (certificates, verify, _stamp([path for path in certificates if path]))
        if tls_stamp != self._tls_stamp or not self.target.host:
            tls: ssl.SSLContext | None = self._tls(None, config.ssl_ca_cert, config.cert_file, config.key_file, verify=verify)
            self._tls_stamp = tls_stamp
        else:
            tls = self.target.tls  # unchanged: keep the context, and with it the open connections
        server_name = spec.tls_server_name or getattr(config, "tls_server_name", None)
        proxy = spec.proxy or (config.proxy if isinstance(config.proxy, str) else None)
        target = self._make_target(config.host, tls, server_name, proxy)
        if target != self.target:
            self.target = target
        self.authorization = token or None
        self._watched = sorted({*self._watched, *(path for path in certificates if path)})
        self._stamp = _stamp(self._watched)

    async def _read_in_cluster(self) -> Any:
        from kubernetes.aio import config as loaders
        from kubernetes.aio.client import Configuration
        from kubernetes.aio.config import incluster_config

        config = type.__call__(Configuration)
        try:
            loaders.load_incluster_config(client_configuration=config, try_refresh_token=False)
        except Exception as error:
            raise ConnectError(
                self._spec.name,
                f"in-cluster credentials are not there: {error}",
                "inCluster works inside a Pod with a mounted service account token; elsewhere use kubeconfig",
            ) from None
        self._watched = [incluster_config.SERVICE_TOKEN_FILENAME, incluster_config.SERVICE_CERT_FILENAME]
        return config

    async def _read_kubeconfig(self) -> Any:
        from kubernetes.aio.client import Configuration
        from kubernetes.aio.config import kube_config

        name, files = self._spec.name, self._spec.files()
        found = [path for path in files if _exists(path)]
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
            raise ConnectError(
                name, f"kubeconfig {shown} on {host} may not be read", "Let the user that runs Ray read it"
            ) from None
        except Exception as error:
            raise ConnectError(
                name,
                f"kubeconfig {shown} is not valid YAML ({type(error).__name__})",
                "Check it with `kubectl config view`",
            ) from None
        document = getattr(merged.config, "value", None)
        if not isinstance(document, dict):
            raise ConnectError(name, f"kubeconfig {shown} is empty", "Check it with `kubectl config view`")
        context = self._spec.context or document.get("current-context") or ""
        known = [getattr(entry, "value", entry).get("name", "") for entry in document.get("contexts") or []]
        if context not in known:
            problem = f"context {context!r} is not in {shown}" if context else f"{shown} has no current-context"
            raise ConnectError(name, problem, f"Known contexts: {', '.join(sorted(filter(None, known))) or 'none'}")
        config = type.__call__(Configuration)
        config.host = ""  # not the package's default, http://localhost
        failures = _Failures()
        kube_config.logger.addHandler(failures)
        try:
            loader = kube_config.KubeConfigLoader(config_dict=merged.config, config_base_path=None, active_context=context)
            await loader.load_and_set(config)
        except Exception as error:
            raise ConnectError(
                name,
                f"context {context!r} of {shown} cannot be used: {_safe(error)}",
                "Check it with `kubectl --context ... get --raw /version`",
            ) from None
        finally:
            kube_config.logger.removeHandler(failures)
        user = loader._user
        if user is not None and "exec" in user and not (config.api_key.get("BearerToken") or config.cert_file):
            command = user["exec"].safe_get("command")
            raise ConnectError(
                name,
                f"exec plugin {command!r} gave no credential ({failures.text or 'no reason told'})",
                f"Run it by hand on {host}; it must be on PATH there",
            )
        if not config.host:
            raise ConnectError(name, f"the cluster of context {context!r} has no server", f"Add it to {shown}")
        self._loader = loader
        token_file = user.safe_get("tokenFile") if user is not None else None
        base = _directory(found[0])
        self._watched = found + ([os.path.join(base, token_file)] if token_file else [])
        return config

    def _make_target(self, server: str, tls: ssl.SSLContext | None, server_name: str | None, proxy: str | None) -> Target:
        try:
            return Target.parse(server, tls, server_name, proxy)
        except ValueError as error:
            raise ConnectError(self._spec.name, str(error), "A server is given as https://HOST:PORT") from None

    def _tls(self, ca_pem: str | None, ca_file: str | None, cert: str | None, key: str | None, *, verify: bool) -> ssl.SSLContext:
        """``cert`` and ``key`` are PEM text in direct mode, file names otherwise."""
        name = self._spec.name
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if not verify:
            if not self._warned:
                log.warning(_INSECURE, name)
                self._warned = True
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        try:
            if ca_pem or ca_file:
                context.load_verify_locations(cafile=ca_file or None, cadata=ca_pem or None)
            elif verify:
                context.load_default_certs()
        except (ssl.SSLError, OSError, ValueError) as error:
            raise ConnectError(
                name,
                f"the CA certificate cannot be read: {_safe(error)}",
                "It must be PEM, as in certificate-authority-data decoded",
            ) from None
        if cert and key:
            try:
                if self._spec.mode == "direct":
                    _load_pair(context, cert, key)
                else:
                    context.load_cert_chain(cert, key)
            except (ssl.SSLError, OSError, ValueError) as error:
                raise ConnectError(
                    name,
                    f"the client certificate cannot be used: {_safe(error)}",
                    "Certificate and key must be PEM and belong together",
                ) from None
        return context


def _load_pair(context: ssl.SSLContext, cert_pem: str, key_pem: str) -> None:
    """OpenSSL takes a key only from a file: one that nobody else can read, gone when this returns."""
    handle, path = tempfile.mkstemp(prefix="raycp-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(cert_pem.rstrip() + "\n" + key_pem)
        context.load_cert_chain(path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _exists(path: str) -> bool:
    return os.path.exists(path)


def _directory(path: str) -> str:
    return os.path.dirname(os.path.abspath(path))


def _stamp(paths: list[str]) -> tuple[object, ...]:
    found: list[object] = []
    for path in paths:
        try:
            stat = os.stat(path)
            found.append((path, stat.st_mtime_ns, stat.st_size, stat.st_ino))
        except OSError:
            found.append((path, None))
    return tuple(found)


def _safe(error: BaseException) -> str:
    """An error's text, cut: loaders quote documents, and a document may hold a secret."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    text = text.split("{", 1)[0]
    if any(word in text.lower() for word in ("token", "key-data", "password", "secret")) and ":" in text:
        text = text.split(":", 1)[0]
    return text[:160]


class _Failures(logging.Handler):
    """The package logs an exec plugin's failure and goes on without credentials: keep the reason."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()[:200]
