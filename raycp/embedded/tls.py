"""Certificates of an embedded cluster: a CA of its own and the certificates that it signs, with P-256 keys."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from raycp.base.certificates import signed
from raycp.base.memory_files import memory_file
from raycp.embedded.files import write_whole


class Authority:
    """A certificate authority. ``pem`` is its certificate."""

    def __init__(self, directory: Path | None = None) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        self._x509, self._serialization, self._ec = x509, serialization, ec
        key_file = directory / "ca.key" if directory is not None else None
        pem_file = directory / "ca.crt" if directory is not None else None
        if key_file is not None and pem_file is not None and key_file.exists():
            self._key: Any = serialization.load_pem_private_key(key_file.read_bytes(), None)
            self._cert = x509.load_pem_x509_certificate(pem_file.read_bytes())
        else:
            self._key = ec.generate_private_key(ec.SECP256R1())
            name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "raycp-embedded-ca")])
            self._cert = self._sign(name, name, self._key, authority=True)
        self.pem = self._cert.public_bytes(serialization.Encoding.PEM).decode()
        if key_file is not None and pem_file is not None and not key_file.exists():
            write_whole(pem_file, self.pem.encode())
            write_whole(key_file, self._pem_of(self._key))  # the last: it says that both are there

    def server(self, host: str) -> tuple[str, str]:
        """Certificate and key, PEM, for ``host``, localhost and the names that Pods use."""
        x509 = self._x509
        in_cluster = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
        names: list[Any] = [x509.DNSName(n) for n in ("localhost", *in_cluster)]
        addresses = {"127.0.0.1", "::1"}
        try:
            addresses.add(str(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
        names += [x509.IPAddress(ipaddress.ip_address(a)) for a in sorted(addresses)]
        return self._issue("kube-apiserver", (), x509.SubjectAlternativeName(names), x509.oid.ExtendedKeyUsageOID.SERVER_AUTH)

    def client(self, user: str, groups: tuple[str, ...] = ()) -> tuple[str, str]:
        """Certificate and key, PEM, of a client: its common name is the user, its organizations are the groups."""
        return self._issue(user, groups, None, self._x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH)

    def _issue(self, common: str, organizations: tuple[str, ...], alternative: Any, usage: Any) -> tuple[str, str]:
        x509 = self._x509
        key = self._ec.generate_private_key(self._ec.SECP256R1())
        parts = [x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, o) for o in organizations]
        name = x509.Name([*parts, x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])
        cert = self._sign(name, self._cert.subject, key, alternative=alternative, usages=[usage])
        return cert.public_bytes(self._serialization.Encoding.PEM).decode(), self._pem_of(key).decode()

    def _sign(self, subject: Any, issuer: Any, key: Any, **more: Any) -> Any:
        """See ``signed``."""
        now = datetime.now(UTC)
        return signed(subject, issuer, key, self._key, (now - timedelta(hours=1), now + timedelta(days=3650)), **more)

    def _pem_of(self, key: Any) -> bytes:
        s = self._serialization
        pem: bytes = key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
        return pem


def server_context(authority: Authority, host: str) -> ssl.SSLContext:
    """A context that serves a new certificate and accepts optional client certificates of the CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=authority.pem)
    # no session resumption: a ticket would carry the identity of a certificate without checking it again
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    load_chain(context, *authority.server(host))
    return context


def load_chain(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Serve a new certificate from the next handshake on."""
    with memory_file(certificate) as chain_file, memory_file(key) as key_file:
        context.load_cert_chain(chain_file, key_file)
