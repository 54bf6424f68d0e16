"""The TLS context of a cluster's client. Certificates and keys stay in memory."""

import re
import ssl

import msgspec

from raycp.base.memory_files import memory_file
from raycp.kube.errors import ConnectError

CREDENTIAL_BYTES = 1 << 20
"""The largest file with a token, a certificate or a key; a bundle of all public CAs has about 200 KB."""

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


class TlsPem(msgspec.Struct, frozen=True):
    """Certificates and a key as PEM text."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def __repr__(self) -> str:
        return "TlsPem(<hidden>)"


def pem_text(content: bytes) -> str:
    """The text of a PEM file; what stands around its blocks may be in any encoding."""
    return content.decode("latin-1")


def tls_context(cluster: str, pem: TlsPem, *, verify: bool) -> ssl.SSLContext:
    """A client context with the system's CAs where ``pem`` names none.

    Trusts what Go's crypto/x509 trusts, which kubectl uses: a certificate in the bundle that is an intermediate CA or the server's
    own is enough, and a common name is no host name. Raises ``ConnectError``.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.hostname_checks_common_name = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif pem.ca:
        _load_bundle(cluster, context, pem.ca)
    else:
        context.load_default_certs()
    if pem.cert is not None or pem.key is not None:
        try:
            with memory_file(pem.cert or "") as cert, memory_file(pem.key or "") as key:
                context.load_cert_chain(cert, key, password=_no_passphrase)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise ConnectError(
                cluster,
                f"the client certificate cannot be used: {safe_text(error)}",
                "Certificate and key must be PEM, without a passphrase, and belong together",
            ) from None
    return context


def safe_text(error: BaseException) -> str:
    """The text of an error, cut: loaders quote documents, and a document may contain a secret."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    text = text.split("{", 1)[0]
    if any(word in text.lower() for word in ("token", "key-data", "password", "secret")) and ":" in text:
        text = text.split(":", 1)[0]
    return text[:160]


def _load_bundle(cluster: str, context: ssl.SSLContext, bundle: str) -> None:
    """Each certificate by itself: one that cannot be read does not spoil the others."""
    problem = "it has no CERTIFICATE block"
    for block in _CERTIFICATE.findall(bundle):
        try:
            context.load_verify_locations(cadata=block)
        except (ssl.SSLError, ValueError) as error:
            problem = safe_text(error)
    if not context.cert_store_stats()["x509"]:
        raise ConnectError(
            cluster,
            f"the CA certificate cannot be read: {problem}",
            "It must be PEM, as in certificate-authority-data decoded",
        )


def _no_passphrase() -> str:
    raise ValueError("the key is encrypted")
