"""The fleet's certificate for connections between its nodes: the leader makes it, and the plan carries it."""

import msgspec


class ChannelCertificate(msgspec.Struct, frozen=True):
    """PEM texts: the authority whose certificates are accepted, a certificate of it, and its key. The authority's own key does not
    exist any more: there is no other certificate. All members have the same one; who a member is, it proves by the challenge."""

    authority: str
    certificate: str
    key: str

    def __repr__(self) -> str:
        return "ChannelCertificate(<hidden>)"

    __str__ = __repr__
