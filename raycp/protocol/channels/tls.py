"""TLS of connections between nodes, both ends with the fleet's certificate."""

import ssl

from raycp.base.memory_files import memory_file
from raycp.protocol.certificate import ChannelCertificate


def caller_context(certificate: ChannelCertificate) -> ssl.SSLContext:
    """TLS for those who call. The name in the certificate is not checked: it is the fleet's, not a host's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return _loaded(context, certificate)


def receiver_context(certificate: ChannelCertificate) -> ssl.SSLContext:
    """TLS for those who are called: without a certificate of this fleet there is no connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # nothing is resumed
    return _loaded(context, certificate)


def _loaded(context: ssl.SSLContext, certificate: ChannelCertificate) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificate.authority)
    with memory_file(certificate.certificate) as chain, memory_file(certificate.key) as key:  # ssl loads them by file name only
        context.load_cert_chain(chain, key)
    return context
