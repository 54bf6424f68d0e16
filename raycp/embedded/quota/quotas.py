"""The ResourceQuotas of a cluster: asked before a write, kept by the changes of the store.

The server is one thread, and a write is checked and committed in one step: however many clients create at once, no quota is
exceeded.
Wording and order of the checks are those of ``k8s.io/apiserver/pkg/admission/plugin/resourcequota``.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from raycp.embedded.errors import forbidden
from raycp.embedded.quota.book import QuotaBook
from raycp.embedded.quota.podtotals import Amounts
from raycp.embedded.quota.usage import CLAIMS, NONE, PODS, SERVICES, missing
from raycp.embedded.registry import Registry, ServedResource
from raycp.embedded.store import ObjectStore, StoreChange, StoredObject, TableKey
from raycp.embedded.strategy.scalars import Quantity

Write = Callable[[ServedResource, StoredObject, dict[str, Any]], StoredObject]
"""commits a quota with a new status"""


class Quotas:
    """The accounts of all quotas. ``stale`` are the quotas, by namespace and name, whose status is to be written."""

    def __init__(self, store: ObjectStore, registry: Registry) -> None:
        found = registry.find("", "v1", "resourcequotas")
        assert found is not None
        self._quotas = found
        self._store = store
        self._registry = registry
        self._books: dict[str, dict[str, QuotaBook]] = {}
        self.stale: set[tuple[str, str]] = set()
        for record in found.table.records(""):
            self._open(record)
        found.table.subscribe("", self._quota_changed)
        registry.crds.table.subscribe("", lambda change: self._tables_changed())

    def admit(self, resource: ServedResource, obj: dict[str, Any], old: dict[str, Any] | None, subresource: str) -> None:
        """Refuse (403) a create, or an update of ``old``, for which a quota has no room."""
        meta = obj["metadata"]
        books = self._books.get(meta.get("namespace", ""))
        if not books:
            return
        key = TableKey(resource.info.group, resource.info.plural)
        if not _checked(key, old is not None, subresource):
            return
        concerned = [books[name] for name in sorted(books) if books[name].counts(key, obj)]
        name = meta.get("name") or meta.get("generateName") or ""
        if key == PODS:
            for book in concerned:
                lacking = missing(obj["spec"], book.names[key])
                if lacking:
                    raise forbidden(resource.info, name, f"failed quota: {book.name}: {lacking}")
        for book in concerned:
            more = book.uses(key, obj)
            if old is not None:
                more = _grown(more, book.uses(key, old))
            excess = book.excess(more)
            if excess:
                raise forbidden(resource.info, name, excess)

    def settle(self, write: Write) -> None:
        """Write the status of the stale quotas. What ``write`` raises leaves the quota stale."""
        while self.stale:
            ns, name = key = next(iter(self.stale))
            record = self._quotas.table.get(ns, name)
            book = self._books.get(ns, {}).get(name)
            if record is not None and book is not None:
                quota = self._quotas.read(record)
                status = book.status()
                if quota.get("status") != status:
                    quota["status"] = status
                    write(self._quotas, record, quota)
            self.stale.discard(key)

    # ---- what the store tells

    def _quota_changed(self, change: StoreChange) -> None:
        record = change.record
        if change.type == "DELETED":
            self._close(record)
            return
        book = self._books.get(record.ns, {}).get(record.name)
        if book is None or book.spec != (record.decode().get("spec") or {}):
            self._close(record)
            self._open(record)
        self.stale.add((record.ns, record.name))

    def _tables_changed(self) -> None:
        """Count again where a custom resource has appeared, or another one of the same name has."""
        for ns, books in list(self._books.items()):
            for book in list(books.values()):
                if any(self._store.tables.get(key) is not book.tables.get(key) for key in book.names):
                    record = self._quotas.table.get(ns, book.name)
                    assert record is not None
                    self._close(record)
                    self._open(record)

    def _open(self, record: StoredObject) -> None:
        book = QuotaBook(record.decode())
        revision = self._store.revision
        for key in book.names:
            table = self._store.tables.get(key)
            if table is None:
                continue
            book.count(key, table, record.ns)
            book.undo.append(table.subscribe(record.ns, partial(self._counted_changed, book, record.ns, key, revision)))
        self._books.setdefault(record.ns, {})[record.name] = book
        self.stale.add((record.ns, record.name))

    def _close(self, record: StoredObject) -> None:
        books = self._books.get(record.ns, {})
        book = books.pop(record.name, None)
        if book is not None:
            for undo in book.undo:
                undo()
            if not books:
                del self._books[record.ns]

    def _counted_changed(self, book: QuotaBook, ns: str, key: TableKey, since: int, change: StoreChange) -> None:
        # The change that opened the book is counted already: a quota that counts quotas hears of itself.
        if change.rv > since and book.change(key, change):
            self.stale.add((ns, book.name))


def _checked(key: TableKey, update: bool, subresource: str) -> bool:
    """Whether quotas are asked: for creates, and for updates that may use more."""
    if not update:
        return True
    return subresource == "resize" if key == PODS else not subresource and key in (SERVICES, CLAIMS)


def _grown(new: Amounts, old: Amounts) -> Amounts:
    """What ``new`` uses beyond ``old``."""
    grown = {}
    for name, amount in new.items():
        more = amount.value - old.get(name, NONE).value
        if more > 0:
            grown[name] = Quantity(more, amount.form)
    return grown
