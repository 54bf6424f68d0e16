"""Certificates that raycp signs itself, with P-256 keys."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any


def signed(
    subject: Any,
    issuer: Any,
    key: Any,
    by: Any,
    during: tuple[datetime, datetime],
    *,
    authority: bool = False,
    path_length: int | None = None,
    usages: Sequence[Any] = (),
    alternative: Any = None,
) -> Any:
    """A certificate of ``key``, signed with the key ``by`` (RFC 5280, sections 4.2.1.1 to 4.2.1.12). An ``authority`` signs others,
    through ``path_length`` more authorities at most."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(during[0])
        .not_valid_after(during[1])
        .add_extension(x509.BasicConstraints(ca=authority, path_length=path_length), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, authority, authority, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    if alternative is not None:
        builder = builder.add_extension(alternative, critical=False)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(by, SHA256())
