"""The credentials of one cluster: loading them, and renewing them once they have rotated or expired."""

import asyncio
import logging
import os
import ssl
from collections.abc import Callable

from raycp.base.clock import Clock
from raycp.kube.connect import ConnectSpec
from raycp.kube.errors import ConnectError, NoCredentials
from raycp.kube.in_cluster import read_in_cluster
from raycp.kube.kubeconfig import as_user, read_kubeconfig
from raycp.kube.login import Login
from raycp.kube.oidc import OidcTokens
from raycp.kube.target import Target
from raycp.kube.tls import TlsPem, tls_context

log = logging.getLogger("raycp.kube")

_RECHECK_SECONDS = 60.0  # the interval at which client-go re-reads token files
_PATIENCE = 2.0  # seconds that a request waits for new credentials while the current ones may still do
_RETRY_MIN = 1.0  # seconds between two attempts to renew, doubled with each that brought nothing new
_RETRY_MAX = 60.0
_ACCEPTED = 10.0  # seconds without a 401 after which the next one is no sequel of the last
_INSECURE = (
    "TLS certificates of cluster %r are NOT verified (insecureSkipTlsVerify): "
    "anyone on the network path can read and change everything sent to it, the credentials included"
)


class Credentials:
    """The current ``target``, ``authorization`` header value and further ``headers``; ``generation`` counts their changes.

    ``stale(now)`` is cheap and is checked once ``now`` has reached ``recheck_at``. ``on_change`` is called after each change,
    before any request that waits for the renewal continues. Renewing has a deadline (``exec_plugin``) and a backoff: a plugin that
    fails is run again after 1 s, 2 s, and so on up to 60 s, however many requests get a 401; a file that has changed is read at
    once, and so is everything after a 401 that follows 10 s without one: the server had accepted the credentials meanwhile.
    """

    def __init__(self, spec: ConnectSpec, clock: Clock) -> None:
        self._spec = spec
        self._clock = clock
        self._oidc = OidcTokens()
        self._login: Login | None = None
        self._watched: list[str] = []
        self._stamp: tuple[object, ...] = ()
        self._tls_source: tuple[TlsPem, bool] | None = None
        self._warned = False
        self._reloading: asyncio.Task[bool] | None = None
        self._retry = _RETRY_MIN
        self._not_before = float("-inf")
        self._refused_at = float("-inf")
        self.problem = ""
        """why the last attempt to renew them failed; empty after one that did not"""
        self.target = Target("", 0)
        self.authorization: str | None = None
        self.headers: tuple[tuple[str, str], ...] = ()
        self.generation = 0
        self.recheck_at = float("inf")
        self.on_change: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"Credentials({self._spec.name!r}, {self._spec.mode}, {self._spec.user!r})"

    async def load(self) -> None:
        """Read everything from its source. Raises ``ConnectError``."""
        spec, wall = self._spec, self._clock.wall()
        if spec.mode == "kubeconfig":
            login = await read_kubeconfig(spec, self._oidc, wall)
        else:
            login = self._direct() if spec.mode == "direct" else read_in_cluster(spec.name)
            if spec.user is not None:
                login = await as_user(spec.name, spec.user, login, self._oidc, wall)
        self._use(login)
        if spec.mode == "direct" and spec.user is None:
            return
        self.recheck_at = self._clock.now() + _RECHECK_SECONDS

    def stale(self, now: float) -> bool:
        """Whether to ``reload`` before the next request: a file has changed or a plugin's credential expires soon. Sets the next
        ``recheck_at``.
        """
        self.recheck_at = now + _RECHECK_SECONDS
        if _stamp(self._watched) != self._stamp:
            return True
        return self._login is not None and self._login.expires_within(2 * _RECHECK_SECONDS, self._clock.wall())

    async def refreshed(self, within: float) -> None:
        """Renew stale credentials, waiting at most ``within`` seconds; the current ones stay in use unless they are known to have
        expired. Those that their source has just given again are not: one of two clocks may be off, and the server decides, as in
        client-go.

        Raises ``NoCredentials`` for expired ones that were not renewed in time.
        """
        expired = self._expired()
        await self._reloaded(within if expired else min(_PATIENCE, within / 2))
        renewing = self._reloading is not None and not self._reloading.done()
        if self._expired() and (self.problem or renewing):
            why = self.problem or "they are being renewed"
            raise NoCredentials(f"the credentials have expired: {why}")

    async def renewed(self, since: int, within: float) -> bool:
        """After a 401: whether the credentials differ from those of generation ``since``, renewing them if they do not yet. Waits
        at most ``within`` seconds.
        """
        now, before = self._clock.now(), self._refused_at
        self._refused_at = now
        if now - before > _ACCEPTED and not self.problem:
            self._retry, self._not_before = _RETRY_MIN, float("-inf")
        return self.generation != since or await self._reloaded(within)

    async def _reloaded(self, within: float) -> bool:
        """Re-read the credentials, once for all concurrent callers; True if they have changed by then.

        A failure is logged and leaves the current credentials in use, since they may still be valid.
        """
        if self._reloading is None or self._reloading.done():
            if self._clock.now() < self._not_before and _stamp(self._watched) == self._stamp:
                return False
            self._reloading = asyncio.create_task(self._reload())
        try:
            async with asyncio.timeout(within):
                return await asyncio.shield(self._reloading)
        except TimeoutError:
            return False

    async def _reload(self) -> bool:
        before = (self.authorization, self.headers, self.target)
        try:
            await self.load()
            self.problem = ""
        except ConnectError as error:
            self._failed(error.problem)
            return False
        except Exception as error:  # a request must not fail, nor this end, for what no one foresaw
            log.exception("credentials of cluster %r", self._spec.name)
            self._failed(repr(error))
            return False
        if before == (self.authorization, self.headers, self.target):
            self._back_off()
            return False
        self._retry, self._not_before = _RETRY_MIN, float("-inf")
        # Before the task ends: a request between its end and the resumption of its waiters must not reload again.
        self.generation += 1
        if self.on_change is not None:
            self.on_change()
        log.info("credentials of cluster %r were renewed", self._spec.name)
        return True

    def _failed(self, problem: str) -> None:
        if self.problem != problem:
            log.warning("credentials of cluster %r could not be renewed: %s", self._spec.name, problem)
        self.problem = problem
        self._back_off()
        self.recheck_at = min(self.recheck_at, self._not_before)

    def _back_off(self) -> None:
        self._not_before = self._clock.now() + self._retry
        self._retry = min(_RETRY_MAX, 2 * self._retry)

    def _expired(self) -> bool:
        return self._login is not None and self._login.expired(self._clock.wall())

    def _direct(self) -> Login:
        spec = self._spec
        if not spec.server:
            raise ConnectError(spec.name, "no server is given", "Set the API server's URL")
        return Login(
            server=spec.server,
            pem=TlsPem(spec.ca_pem, spec.client_cert_pem, spec.client_key_pem),
            authorization=f"Bearer {spec.token}" if spec.token else None,
        )

    def _use(self, login: Login) -> None:
        """Nothing changes if it cannot be used."""
        spec = self._spec
        verify = login.verify and not spec.insecure
        source = (login.pem, verify)
        # Unchanged: keep the context, and with it the open connections.
        tls = self._tls(*source) if source != self._tls_source or self.target.tls is None else self.target.tls
        target = self._make_target(login.server, tls, spec.tls_server_name or login.server_name, spec.proxy or login.proxy)
        self.authorization = self._checked(login.authorization)
        self.headers = login.headers
        self._tls_source = source
        if target != self.target:
            self.target = target
        self._login = login
        self._watched = sorted(set(login.watched))
        self._stamp = _stamp(self._watched)

    def _make_target(self, server: str, tls: ssl.SSLContext | None, server_name: str | None, proxy: str | None) -> Target:
        try:
            return Target.parse(server, tls, server_name, proxy)
        except ValueError as error:
            raise ConnectError(self._spec.name, str(error), "Give server and proxy as https://HOST:PORT") from None

    def _checked(self, authorization: str | None) -> str | None:
        """As a header may have it: a line break would begin another header."""
        if authorization is not None and not (authorization.isascii() and authorization.isprintable()):
            problem = "the token contains characters that an HTTP header may not have"
            raise ConnectError(self._spec.name, problem, "Is it a token, and in one line?")
        return authorization

    def _tls(self, pem: TlsPem, verify: bool) -> ssl.SSLContext:
        if not verify and not self._warned:
            log.warning(_INSECURE, self._spec.name)
            self._warned = True
        return tls_context(self._spec.name, pem, verify=verify)


def _stamp(paths: list[str]) -> tuple[object, ...]:
    found: list[object] = []
    for path in paths:
        try:
            stat = os.stat(path)
            found.append((path, stat.st_mtime_ns, stat.st_size, stat.st_ino))
        except OSError:
            found.append((path, None))
    return tuple(found)
