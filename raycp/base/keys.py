"""Names of kinds and of reconcile requests."""

from typing import NamedTuple


class GVK(NamedTuple):
    """Group, version and kind. ``group`` is empty for the core API."""

    group: str
    version: str
    kind: str

    @classmethod
    def parse(cls, text: str) -> "GVK":
        """``"v1/Pod"`` or ``"batch.raycp.io/v1alpha1/BatchJob"``.

        Raises ``ValueError`` for anything else.
        """
        parts = text.split("/")
        if len(parts) == 2 and all(parts):
            return cls("", parts[0], parts[1])
        if len(parts) == 3 and all(parts):
            return cls(*parts)
        raise ValueError(f"{text!r} is not VERSION/Kind (core API) or GROUP/VERSION/Kind")

    @property
    def api_version(self) -> str:
        """As in an object's ``apiVersion``: ``v1`` or ``group/version``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return f"{self.api_version}/{self.kind}"


class RequestKey(NamedTuple):
    """The object and controller of a reconcile: ``controller`` is a name; cluster-scoped kinds have an empty ``namespace``."""

    controller: str
    cluster: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.controller}:{self.cluster}/{self.namespace}/{self.name}"
