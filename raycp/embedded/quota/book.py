"""The account of one ResourceQuota: its limits, and what the objects of its namespace use of them."""

from collections.abc import Callable
from typing import Any

from raycp.embedded.quota.podtotals import Amounts, quantities
from raycp.embedded.quota.scopes import in_scope, scopes_of
from raycp.embedded.quota.usage import NONE, WEIGHED, home, usage
from raycp.embedded.store import StoreChange, StoredObject, Table, TableKey
from raycp.embedded.strategy.scalars import Quantity


def listed(amounts: Amounts) -> str:
    """``cpu=1,pods=2``, as the quota admission of apiserver prints amounts."""
    return ",".join(f"{name}={amounts[name]}" for name in sorted(amounts))


class QuotaBook:
    """What is used of one quota. ``count`` takes in the objects that exist, ``change`` each later change."""

    def __init__(self, quota: dict[str, Any]) -> None:
        self.name = quota["metadata"]["name"]
        self.spec = quota.get("spec") or {}
        self.hard = quantities(self.spec.get("hard"))
        self.names: dict[TableKey, frozenset[str]] = {}
        """the resources that objects of a table use"""
        for name in self.hard:
            key = home(name)
            if key is not None:
                self.names[key] = self.names.get(key, frozenset()) | {name}
        self.used: Amounts = {}
        self.tables: dict[TableKey, Table] = {}
        """the tables that are counted"""
        self.undo: list[Callable[[], None]] = []
        """the unsubscribers of those tables"""
        self._scopes = scopes_of(self.spec)

    def count(self, key: TableKey, table: Table, ns: str) -> None:
        """Add all objects of a table."""
        self.tables[key] = table
        for name in self.names[key]:
            self.used[name] = NONE
        for record in table.records(ns):
            self._add(self._of(key, record), 1)

    def change(self, key: TableKey, change: StoreChange) -> bool:
        """Take in one change of a counted table. Returns whether more or less is used."""
        before = dict(self.used)
        self._add(self._of(key, change.prev), -1)
        if change.type != "DELETED":
            self._add(self._of(key, change.record), 1)
        return self.used != before

    def uses(self, key: TableKey, obj: dict[str, Any]) -> Amounts:
        """What an object uses of this quota; empty if the quota does not count it."""
        if not in_scope(self._scopes, key, obj):
            return {}
        names = self.names[key]
        return {name: amount for name, amount in usage(key, obj).items() if name in names}

    def counts(self, key: TableKey, obj: dict[str, Any]) -> bool:
        """Whether the quota counts the object."""
        return key in self.names and in_scope(self._scopes, key, obj)

    def status(self) -> dict[str, Any]:
        """The quota's status."""
        hard = {name: str(amount) for name, amount in self.hard.items()}
        return {"hard": hard, "used": {name: str(self.used[name]) for name in self.hard if name in self.used}}

    def excess(self, more: Amounts) -> str:
        """The message that refuses ``more``; empty if there is room for it."""
        over = {}
        for name, amount in more.items():
            used = self.used.get(name, NONE)
            if amount.value > 0 and used.value + amount.value > self.hard[name].value:
                over[name] = amount
        if not over:
            return ""
        reached = listed({name: self.used.get(name, NONE) for name in over})
        limited = listed({name: self.hard[name] for name in over})
        return f"exceeded quota: {self.name}, requested: {listed(over)}, used: {reached}, limited: {limited}"

    def _of(self, key: TableKey, record: StoredObject | None) -> Amounts:
        if record is None:
            return {}
        return self.uses(key, record.decode() if key in WEIGHED else {})

    def _add(self, amounts: Amounts, sign: int) -> None:
        for name, amount in amounts.items():
            before = self.used[name]
            self.used[name] = Quantity(before.value + sign * amount.value, before.form if before.value else amount.form)
